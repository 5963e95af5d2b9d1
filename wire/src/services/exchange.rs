//! Data exchange, port 1001: `type=4, length=4, payload`.
//!
//! ```text
//! 1 text   2 binary   3 json   4 file: namelen=2 name data   5 trace   7 file stream   10 tagged
//! tagged:       hlen=2, JSON header {message_id?, reply_to?}, type=4, payload (of any other type)
//! file stream:  kind=1, id=16, body
//!   01 init      size=8 sha256=32 chunk=4 namelen=2 name     05 init-ack  offset=8 (where to go on)
//!   02 chunk     offset=8 data                               06 complete  status=1 (0 ok) text
//!   03 ack       offset=8                                    07 abort     text
//!   04 done
//! ```
//!
//! The receiver answers each frame with a text frame, see [`acknowledgement`].

use serde::Deserialize;

use super::{awaited, within};
use crate::codec::{DecodeError, Reader};

/// Bytes of a payload between today's programs.
pub const PAYLOAD_MAX: usize = 64 << 20;
/// Bytes of a payload an old receiver (1.2) takes.
pub const PAYLOAD_MAX_OLD: usize = 16 << 20;
/// Bytes of a tag's JSON.
pub const TAG_MAX: usize = 1024;
/// Characters of an id in a tag.
pub const ID_MAX: usize = 128;

mod kind {
    pub const TEXT: u32 = 1;
    pub const BINARY: u32 = 2;
    pub const JSON: u32 = 3;
    pub const FILE: u32 = 4;
    pub const TRACE: u32 = 5;
    pub const FILE_STREAM: u32 = 7;
    pub const TAGGED: u32 = 10;
}

mod step {
    pub const INIT: u8 = 1;
    pub const CHUNK: u8 = 2;
    pub const ACK: u8 = 3;
    pub const DONE: u8 = 4;
    pub const INIT_ACK: u8 = 5;
    pub const COMPLETE: u8 = 6;
    pub const ABORT: u8 = 7;
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which message it is, and which it answers, where it says so.
    pub tag: Option<Tag<'a>>,
    /// What it carries.
    pub content: Content<'a>,
}

/// What a frame carries. Texts are the sender's bytes; nobody has checked them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// A text.
    Text(&'a [u8]),
    /// Anything.
    Binary(&'a [u8]),
    /// A JSON document.
    Json(&'a [u8]),
    /// A whole file.
    File {
        /// What the sender calls it; only its last component may ever be used.
        name: &'a str,
        /// What is in it.
        data: &'a [u8],
    },
    /// A frame wrapped with timings.
    Trace(&'a [u8]),
    /// A part of a file transfer.
    FileStream {
        /// First half of the content's SHA-256.
        id: &'a [u8; 16],
        /// Which part.
        step: Step<'a>,
    },
    /// Of a type that is not known here.
    Unknown {
        /// Its type.
        kind: u32,
        /// Its bytes.
        payload: &'a [u8],
    },
}

/// A part of a file transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The sender announces a file.
    Init {
        /// Its bytes.
        size_bytes: u64,
        /// Of the whole.
        sha256: &'a [u8; 32],
        /// Bytes of every chunk but the last.
        chunk_bytes: u32,
        /// What the sender calls it.
        name: &'a str,
    },
    /// A chunk.
    Chunk {
        /// Where it belongs.
        offset: u64,
        /// Its bytes.
        data: &'a [u8],
    },
    /// The receiver has everything before this.
    Ack {
        /// Where the next chunk belongs.
        offset: u64,
    },
    /// The sender has sent all.
    Done,
    /// The receiver is ready.
    InitAck {
        /// Where to go on: what is before it is there already.
        offset: u64,
    },
    /// The receiver has checked the whole.
    Complete {
        /// 0 for success.
        status: u8,
        /// Why not.
        text: &'a [u8],
    },
    /// Either side gives up.
    Abort {
        /// Why.
        text: &'a [u8],
    },
}

/// Ids of a message: letters, digits and `-_.:`, at most [`ID_MAX`] of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Tag<'a> {
    /// Its own.
    #[serde(borrow, default)]
    pub message_id: Option<&'a str>,
    /// That of the message it answers.
    #[serde(borrow, default)]
    pub reply_to: Option<&'a str>,
}

impl<'a> Frame<'a> {
    /// The first frame in `bytes`, and how many of them it took; `None` when more have to come.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] as soon as the length exceeds `payload_max`; otherwise what is wrong inside a whole frame.
    pub fn decode(bytes: &'a [u8], payload_max: usize) -> Result<Option<(Self, usize)>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let Some((kind, payload)) = awaited(read_envelope(&mut reader, payload_max))? else { return Ok(None) };
        Ok(Some((Self::read(kind, payload)?, bytes.len() - reader.rest().len())))
    }

    fn read(kind: u32, payload: &'a [u8]) -> Result<Self, DecodeError> {
        if kind != kind::TAGGED {
            return Ok(Self { tag: None, content: Content::read(kind, payload)? });
        }
        let mut reader = Reader::new(payload);
        let header_len = within(usize::from(reader.u16()?), TAG_MAX)?;
        let tag: Tag<'_> =
            serde_json::from_slice(reader.bytes(header_len)?).map_err(|_| DecodeError::Invalid("tag of a frame"))?;
        tag.check()?;
        match reader.u32()? {
            kind::TAGGED => Err(DecodeError::Invalid("tag within a tag")),
            kind => Ok(Self { tag: Some(tag), content: Content::read(kind, reader.rest())? }),
        }
    }

    /// Appends it to `out`.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] above `payload_max` or for a name beyond its length field, [`DecodeError::Invalid`] for ids of
    /// other characters. `out` is as before then.
    pub fn encode(&self, out: &mut Vec<u8>, payload_max: usize) -> Result<(), DecodeError> {
        let start = out.len();
        let written = self.write(out, start, payload_max);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn write(&self, out: &mut Vec<u8>, start: usize, payload_max: usize) -> Result<(), DecodeError> {
        let kind = if self.tag.is_some() { kind::TAGGED } else { self.content.kind() };
        out.extend(kind.to_be_bytes());
        out.extend([0; 4]);
        if let Some(tag) = &self.tag {
            tag.check()?;
            let header = tag.to_json();
            out.extend((within(header.len(), TAG_MAX)? as u16).to_be_bytes());
            out.extend(header.as_bytes());
            out.extend(self.content.kind().to_be_bytes());
        }
        self.content.write(out)?;
        let length = within(out.len() - start - 8, payload_max)? as u32;
        out[start + 4..start + 8].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

fn read_envelope<'a>(reader: &mut Reader<'a>, payload_max: usize) -> Result<(u32, &'a [u8]), DecodeError> {
    let kind = reader.u32()?;
    let length = within(reader.u32()? as usize, payload_max)?;
    Ok((kind, reader.bytes(length)?))
}

fn read_name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let length = usize::from(reader.u16()?);
    str::from_utf8(reader.bytes(length)?).map_err(|_| DecodeError::Invalid("file name"))
}

fn write_name(out: &mut Vec<u8>, name: &str) -> Result<(), DecodeError> {
    out.extend((within(name.len(), usize::from(u16::MAX))? as u16).to_be_bytes());
    out.extend(name.as_bytes());
    Ok(())
}

impl<'a> Content<'a> {
    fn read(kind: u32, payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        Ok(match kind {
            kind::TEXT => Self::Text(payload),
            kind::BINARY => Self::Binary(payload),
            kind::JSON => Self::Json(payload),
            kind::FILE => Self::File { name: read_name(&mut reader)?, data: reader.rest() },
            kind::TRACE => Self::Trace(payload),
            kind::FILE_STREAM => {
                let step = reader.u8()?;
                Self::FileStream { id: reader.array()?, step: Step::read(step, &mut reader)? }
            }
            kind => Self::Unknown { kind, payload },
        })
    }

    const fn kind(&self) -> u32 {
        match self {
            Self::Text(_) => kind::TEXT,
            Self::Binary(_) => kind::BINARY,
            Self::Json(_) => kind::JSON,
            Self::File { .. } => kind::FILE,
            Self::Trace(_) => kind::TRACE,
            Self::FileStream { .. } => kind::FILE_STREAM,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) | Self::Json(bytes) | Self::Trace(bytes) => out.extend(*bytes),
            Self::File { name, data } => {
                write_name(out, name)?;
                out.extend(*data);
            }
            Self::FileStream { id, step } => {
                out.push(step.kind());
                out.extend(*id);
                step.write(out)?;
            }
            Self::Unknown { payload, .. } => out.extend(*payload),
        }
        Ok(())
    }

    /// The name of its type in an acknowledgement.
    fn type_name(&self) -> String {
        match self {
            Self::Text(_) => "TEXT".to_owned(),
            Self::Binary(_) => "BINARY".to_owned(),
            Self::Json(_) => "JSON".to_owned(),
            Self::File { .. } => "FILE".to_owned(),
            Self::Trace(_) => "TRACE".to_owned(),
            Self::FileStream { .. } => "FILESTREAM".to_owned(),
            Self::Unknown { kind, .. } => format!("UNKNOWN({kind})"),
        }
    }
}

impl<'a> Step<'a> {
    fn read(kind: u8, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match kind {
            step::INIT => Self::Init {
                size_bytes: reader.u64()?,
                sha256: reader.array()?,
                chunk_bytes: reader.u32()?,
                name: read_name(reader)?,
            },
            step::CHUNK => Self::Chunk { offset: reader.u64()?, data: reader.rest() },
            step::ACK => Self::Ack { offset: reader.u64()? },
            step::DONE => Self::Done,
            step::INIT_ACK => Self::InitAck { offset: reader.u64()? },
            step::COMPLETE => Self::Complete { status: reader.u8()?, text: reader.rest() },
            step::ABORT => Self::Abort { text: reader.rest() },
            kind => return Err(DecodeError::UnknownType(u32::from(kind))),
        })
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Init { .. } => step::INIT,
            Self::Chunk { .. } => step::CHUNK,
            Self::Ack { .. } => step::ACK,
            Self::Done => step::DONE,
            Self::InitAck { .. } => step::INIT_ACK,
            Self::Complete { .. } => step::COMPLETE,
            Self::Abort { .. } => step::ABORT,
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        match self {
            Self::Init { size_bytes, sha256, chunk_bytes, name } => {
                out.extend(size_bytes.to_be_bytes());
                out.extend(*sha256);
                out.extend(chunk_bytes.to_be_bytes());
                write_name(out, name)?;
            }
            Self::Chunk { offset, data } => {
                out.extend(offset.to_be_bytes());
                out.extend(*data);
            }
            Self::Ack { offset } | Self::InitAck { offset } => out.extend(offset.to_be_bytes()),
            Self::Done => {}
            Self::Complete { status, text } => {
                out.push(*status);
                out.extend(*text);
            }
            Self::Abort { text } => out.extend(*text),
        }
        Ok(())
    }
}

impl Tag<'_> {
    fn check(&self) -> Result<(), DecodeError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        let is_id = |id: &str| id.len() <= ID_MAX && id.bytes().all(is_allowed);
        if self.message_id.is_none_or(is_id) && self.reply_to.is_none_or(is_id) {
            Ok(())
        } else {
            Err(DecodeError::Invalid("message id"))
        }
    }

    /// The characters of ids need no escapes.
    fn to_json(self) -> String {
        let field = |name: &str, id: Option<&str>| id.map(|id| format!("\"{name}\":\"{id}\""));
        let fields = [field("message_id", self.message_id), field("reply_to", self.reply_to)];
        format!("{{{}}}", fields.into_iter().flatten().collect::<Vec<_>>().join(","))
    }
}

/// The text with which a receiver answers a frame whose payload had `payload_len` bytes.
#[must_use]
pub fn acknowledgement(content: &Content<'_>, payload_len: usize) -> String {
    format!("ACK {} {payload_len} bytes", content.type_name())
}
