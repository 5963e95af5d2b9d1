//! Sends messages: one frame, one acknowledgement.

use tokio::io::{AsyncRead, AsyncWrite};
use wire::DecodeError;
use wire::services::exchange::{Content, Frame, PAYLOAD_MAX, PAYLOAD_MAX_OLD, Tag};

use super::STEP_MAX;
use super::frames::{self, Frames};

/// How a receiver of an old release answers a tagged frame.
const TAG_UNKNOWN: &str = "ACK UNKNOWN(10)";

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

impl Error {
    pub(super) fn of_frames(error: frames::Error) -> Self {
        match error {
            frames::Error::Stream(error) => Self::Stream(error),
            frames::Error::Malformed(error) => Self::Malformed(error),
            frames::Error::Silent | frames::Error::Busy => Self::Silent(STEP_MAX.as_secs()),
        }
    }
}

/// Sends `message` and awaits the acknowledgement. With a tag, which a receiver of an old release does not understand,
/// the message is sent once more without.
///
/// # Errors
/// [`Error`].
pub async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    message: Message<'_>,
    tag: Option<Tag<'_>>,
) -> Result<Acknowledged, Error> {
    if tag.is_some() {
        let text = exchange(stream, message, tag, PAYLOAD_MAX).await?;
        if !text.starts_with(TAG_UNKNOWN) {
            return accepted(text).map(|text| Acknowledged { text, is_tagged: true });
        }
    }
    // Whoever does not know tags may be so old that it takes less at once.
    let payload_max = if tag.is_some() { PAYLOAD_MAX_OLD } else { PAYLOAD_MAX };
    let text = exchange(stream, message, None, payload_max).await?;
    accepted(text).map(|text| Acknowledged { text, is_tagged: false })
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    message: Message<'_>,
    tag: Option<Tag<'_>>,
    payload_max: usize,
) -> Result<String, Error> {
    let content = match message {
        Message::Text(text) => Content::Text(text.as_bytes()),
        Message::Binary(bytes) => Content::Binary(bytes),
        Message::Json(text) => Content::Json(text.as_bytes()),
    };
    let mut bytes = Vec::new();
    Frame { tag, content }.encode(&mut bytes, payload_max).map_err(Error::NotSendable)?;
    frames::write(stream, &bytes).await.map_err(Error::of_frames)?;
    drop(bytes);
    let mut frames = Frames::new(stream, None);
    loop {
        let len = frames.next(STEP_MAX).await.map_err(Error::of_frames)?.ok_or(Error::Closed)?;
        if let Some(text) = acknowledgement(&frames) {
            return Ok(text);
        }
        frames.consume(len);
    }
}

/// The frame at hand, where it is a text.
pub(super) fn acknowledgement<R: AsyncRead + Unpin>(frames: &Frames<'_, R>) -> Option<String> {
    match frames.frame()?.content {
        Content::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

pub(super) fn accepted(text: String) -> Result<String, Error> {
    if text.starts_with("ACK ") && !text.starts_with("ACK UNKNOWN") { Ok(text) } else { Err(Error::Refused(text)) }
}
