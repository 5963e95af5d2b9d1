//! What the built-in services say on their streams (section 9).
//!
//! A stream delivers bytes in pieces of any size. Each `decode` looks at what has come so far and returns the first
//! message with the number of bytes it took, or `None` when more bytes have to come, or what is wrong; then the stream
//! cannot be followed any further.
//!
//! | module | port | says |
//! |---|---|---|
//! | [`exchange`] | 1001 | texts, files and their acknowledgements |
//! | [`events`] | 1002 | subscriptions and publications |
//! | [`handshake`] | 444 | who trusts whom |
//! | [`secure`] | 443 | sealed records, and who seals them |

pub mod events;
pub mod exchange;
pub mod handshake;
pub mod secure;

use crate::codec::DecodeError;

/// Turns "too few bytes" into "not yet": on a stream the rest may still come.
fn awaited<T>(decoded: Result<T, DecodeError>) -> Result<Option<T>, DecodeError> {
    match decoded {
        Ok(decoded) => Ok(Some(decoded)),
        Err(DecodeError::Truncated { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A length field that may be at most `limit`.
fn within(length: usize, limit: usize) -> Result<usize, DecodeError> {
    if length > limit { Err(DecodeError::TooLong { length, limit }) } else { Ok(length) }
}
