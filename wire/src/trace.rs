//! The context of a trace, which ties what several programs did to one cause (W3C Trace Context, level 1).
//!
//! ```text
//! 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01      as text: version, trace, span, flags
//! ```
//!
//! On our own wire it is 25 bytes: `trace=16, span=8, flags=1`.

use std::fmt;
use std::str::FromStr;

use crate::codec::{DecodeError, Reader, Writer};

/// Bytes of a context.
pub const LEN: usize = 25;

/// A span of a trace, as its children name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace; never all zero.
    pub trace_id: [u8; 16],
    /// The span that goes on elsewhere; never all zero.
    pub span_id: [u8; 8],
    /// Bit 0: whoever began the trace records it, and so should we.
    pub flags: u8,
}

impl TraceContext {
    /// The flag of a trace that is recorded.
    pub const SAMPLED: u8 = 1;

    /// Whether spans of this trace are to be recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// The same trace, at another span.
    #[must_use]
    pub const fn child(&self, span_id: [u8; 8]) -> Self {
        Self { span_id, ..*self }
    }

    /// Reads [`LEN`] bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], or [`DecodeError::Invalid`] for an id of zeros.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let context = Self { trace_id: *reader.array()?, span_id: *reader.array()?, flags: reader.u8()? };
        context.checked()
    }

    /// Appends [`LEN`] bytes.
    pub fn write(&self, out: &mut Writer<'_>) {
        out.bytes(&self.trace_id).bytes(&self.span_id).u8(self.flags);
    }

    fn checked(self) -> Result<Self, DecodeError> {
        if self.trace_id == [0; 16] || self.span_id == [0; 8] {
            return Err(DecodeError::Invalid("trace context"));
        }
        Ok(self)
    }
}

/// A `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// Reads a `traceparent`. Versions after 00 may have more behind it, which is ignored; version ff is none.
impl FromStr for TraceContext {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let wrong = || DecodeError::Invalid("traceparent, such as 00-<32 hex digits>-<16 hex digits>-01");
        let mut parts = text.trim().split('-');
        let version: [u8; 1] = parts.next().and_then(hex).ok_or_else(wrong)?;
        let trace_id = parts.next().and_then(hex).ok_or_else(wrong)?;
        let span_id = parts.next().and_then(hex).ok_or_else(wrong)?;
        let [flags] = parts.next().and_then(hex).ok_or_else(wrong)?;
        if version == [0xFF] || (version == [0] && parts.next().is_some()) {
            return Err(wrong());
        }
        Self { trace_id, span_id, flags }.checked()
    }
}

/// Exactly `N` bytes in lower-case hex.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != N * 2 || !text.bytes().all(is_hex) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_recommendation() {
        let context: TraceContext = TEXT.parse().unwrap();
        assert!(context.is_sampled());
        assert_eq!(context.trace_id[..4], [0x4b, 0xf9, 0x2f, 0x35]);
        assert_eq!(context.to_string(), TEXT);
        let mut bytes = [0; LEN];
        context.write(&mut Writer::new(&mut bytes));
        assert_eq!(TraceContext::read(&mut Reader::new(&bytes)), Ok(context));
    }

    #[test]
    fn what_is_no_context_is_refused() {
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert!(wrong.parse::<TraceContext>().is_err(), "{wrong:?}");
        }
        assert!("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more".parse::<TraceContext>().is_ok());
        assert!(TraceContext::read(&mut Reader::new(&[0; LEN])).is_err());
    }
}
