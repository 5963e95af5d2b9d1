//! Sends messages.

use tokio::io::{AsyncRead, AsyncWrite};
use wire::DecodeError;
use wire::services::exchange::Tag;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text.
    Text(&'a str),
    /// Anything.
    Binary(&'a [u8]),
    /// A JSON document; its syntax is the caller's affair.
    Json(&'a str),
}

/// The receiver's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// As the receiver says it: `ACK TEXT 5 bytes`.
    pub text: String,
    /// The receiver knows the message's id.
    pub is_tagged: bool,
}

/// Why something is not delivered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke and could not be had again.
    #[error("the connection broke: {0}")]
    Stream(std::io::Error),
    /// It was closed before the answer; the peer may have it all the same.
    #[error("the peer closed the connection before it answered; it may or may not have taken this")]
    Closed,
    /// The peer says nothing.
    #[error("the peer gave no answer for {0} s")]
    Silent(u64),
    /// The peer refuses.
    #[error("the peer refuses: {0}")]
    Refused(String),
    /// The peer does not speak the protocol.
    #[error("the peer's answer makes no sense: {0}")]
    Malformed(#[from] DecodeError),
    /// Ours: too long, or ids of other characters.
    #[error("this cannot be sent: {0}")]
    NotSendable(DecodeError),
    /// Our file.
    #[error("cannot read the file: {0}")]
    File(std::io::Error),
    /// Our file is another than it was at first.
    #[error("the file changed while it was being sent; try again")]
    Changed,
}

/// Sends `message` and awaits the acknowledgement. With a tag, which a receiver of an old release does not understand,
/// the message is sent once more without.
///
/// # Errors
/// [`Error`].
#[expect(clippy::unimplemented, reason = "the shape first")]
pub async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    _stream: &mut S,
    _message: Message<'_>,
    _tag: Option<Tag<'_>>,
) -> Result<Acknowledged, Error> {
    unimplemented!()
}
