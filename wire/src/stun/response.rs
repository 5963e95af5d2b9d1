//! Binding responses: what a server encodes and what a client decodes.
//!
//! Decides which attributes stand for an address in which dialect. The addresses themselves are the server's knowledge.

use std::net::SocketAddr;

use super::{
    Attribute, AttributeList, Attributes, BINDING, Class, HEADER_LEN, Header, MessageWriter, TransactionId,
    UNKNOWN_MAX, attribute, read_address, read_xor_address,
};
use crate::codec::{DecodeError, Reader, Writer};

/// Bytes of SOFTWARE that are sent; what is longer is cut.
pub const SOFTWARE_MAX: usize = 64;
/// Room for any response of this module, success or error.
pub const RESPONSE_MAX: usize = HEADER_LEN + 4 * ADDRESS_ATTRIBUTE_MAX + (4 + SOFTWARE_MAX) + 8;

const ADDRESS_ATTRIBUTE_MAX: usize = 4 + 20;
const REASON_MAX: usize = 20;
const _: () = assert!(HEADER_LEN + (8 + REASON_MAX) + (4 + 2 * UNKNOWN_MAX) + 8 <= RESPONSE_MAX);

/// A success response. `origin` and `other` are RESPONSE-ORIGIN and OTHER-ADDRESS (RFC 5780), in the classic dialect
/// SOURCE-ADDRESS and CHANGED-ADDRESS, which old clients insist on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Success<'a> {
    /// The client's address as the server saw it: XOR-MAPPED-ADDRESS, classic MAPPED-ADDRESS.
    pub mapped: SocketAddr,
    /// Whether MAPPED-ADDRESS is there too. Always so in the classic dialect.
    pub mapped_in_clear: bool,
    /// The server's address and port that this response comes from.
    pub origin: Option<SocketAddr>,
    /// The server's other address and other port.
    pub other: Option<SocketAddr>,
    /// What the server runs.
    pub software: Option<&'a str>,
    /// Whether FINGERPRINT ends the message. Never so in the classic dialect.
    pub fingerprint: bool,
}

impl Success<'_> {
    /// A response that says only what the client's address is.
    #[must_use]
    pub const fn new(mapped: SocketAddr) -> Self {
        Self { mapped, mapped_in_clear: false, origin: None, other: None, software: None, fingerprint: false }
    }

    /// Writes the response to `transaction`, in its dialect; returns the length, at most [`RESPONSE_MAX`], which `out`
    /// must have room for.
    #[must_use]
    pub fn encode(&self, transaction: &TransactionId, out: &mut [u8]) -> usize {
        let mut message = MessageWriter::new(out, Class::Success, transaction);
        if transaction.is_classic() {
            self.write_classic(&mut message);
        } else {
            self.write(&mut message);
        }
        message.finish()
    }

    fn write(&self, message: &mut MessageWriter<'_>) {
        message.xor_address(attribute::XOR_MAPPED_ADDRESS, self.mapped);
        if self.mapped_in_clear {
            message.address(attribute::MAPPED_ADDRESS, self.mapped);
        }
        if let Some(origin) = self.origin {
            message.address(attribute::RESPONSE_ORIGIN, origin);
        }
        if let Some(other) = self.other {
            message.address(attribute::OTHER_ADDRESS, other);
        }
        if let Some(software) = self.software {
            let end = software.floor_char_boundary(SOFTWARE_MAX);
            message.attribute(attribute::SOFTWARE, &software.as_bytes()[..end]);
        }
        if self.fingerprint {
            message.fingerprint();
        }
    }

    fn write_classic(&self, message: &mut MessageWriter<'_>) {
        message.address(attribute::MAPPED_ADDRESS, self.mapped);
        if let Some(origin) = self.origin {
            message.address(attribute::SOURCE_ADDRESS, origin);
        }
        if let Some(other) = self.other {
            message.address(attribute::CHANGED_ADDRESS, other);
        }
    }
}

/// Error codes a Binding server gives (RFC 8489, 14.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// 400: the request is malformed.
    BadRequest,
    /// 420: the request needs what the server does not do; UNKNOWN-ATTRIBUTES says what.
    UnknownAttribute,
    /// 500: try again later.
    ServerError,
}

impl ErrorCode {
    /// The number, 300 to 699.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::UnknownAttribute => 420,
            Self::ServerError => 500,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad Request",
            Self::UnknownAttribute => "Unknown Attribute",
            Self::ServerError => "Server Error",
        }
    }
}

/// An error response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorResponse {
    /// That of the request.
    pub transaction: TransactionId,
    /// What is wrong.
    pub code: ErrorCode,
    /// What a 420 is about; empty otherwise.
    pub unknown: AttributeList,
    /// Whether FINGERPRINT ends the message. Never so in the classic dialect.
    pub fingerprint: bool,
}

impl ErrorResponse {
    /// Writes the response; returns its length, at most [`RESPONSE_MAX`], which `out` must have room for.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let mut message = MessageWriter::new(out, Class::Error, &self.transaction);
        self.write_code(&mut message);
        if !self.unknown.as_slice().is_empty() {
            self.write_unknown(&mut message);
        }
        if self.fingerprint && !self.transaction.is_classic() {
            message.fingerprint();
        }
        message.finish()
    }

    fn write_code(&self, message: &mut MessageWriter<'_>) {
        let (number, reason) = (self.code.number(), self.code.reason());
        let mut value = [0; 4 + REASON_MAX];
        let mut out = Writer::new(&mut value);
        out.u16(0).u16(number / 100 * 256 + number % 100).bytes(reason.as_bytes());
        // RFC 3489 knows no padding: the reason itself is a multiple of 4 long, filled up with blanks.
        while self.transaction.is_classic() && !out.len().is_multiple_of(4) {
            out.u8(b' ');
        }
        message.attribute(attribute::ERROR_CODE, out.written());
    }

    fn write_unknown(&self, message: &mut MessageWriter<'_>) {
        let mut value = [0; 2 * UNKNOWN_MAX];
        let mut out = Writer::new(&mut value);
        let kinds = self.unknown.as_slice();
        for kind in kinds {
            out.u16(*kind);
        }
        // RFC 3489, 11.2.10: an odd list repeats one of its members.
        if self.transaction.is_classic() && kinds.len() % 2 == 1 {
            out.u16(kinds[0]);
        }
        message.attribute(attribute::UNKNOWN_ATTRIBUTES, out.written());
    }
}

/// A response as a client reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// That of the request, or it is not for us.
    pub transaction: TransactionId,
    /// How the request went.
    pub outcome: Outcome<'a>,
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Served.
    Success(Success<'a>),
    /// Refused.
    Error {
        /// 300 to 699.
        code: u16,
        /// The attributes that a 420 is about.
        unknown: AttributeList,
    },
}

impl<'a> Response<'a> {
    /// Decodes a datagram in either dialect.
    ///
    /// # Errors
    /// Those of [`Header::decode`]; [`DecodeError::Checksum`] for a wrong FINGERPRINT; [`DecodeError::Invalid`] for
    /// what is no Binding response, lacks the mapped address or the error code, or contains a comprehension-required
    /// attribute that is unknown (RFC 8489, 6.3.3).
    pub fn decode(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        let Header { class, method, transaction, .. } = Header::decode(datagram)?;
        let outcome = match (class, method) {
            (Class::Success, BINDING) => Outcome::Success(decode_success(datagram, &transaction)?),
            (Class::Error, BINDING) => decode_error(datagram)?,
            _ => return Err(DecodeError::Invalid("STUN message; a Binding response expected")),
        };
        Ok(Self { transaction, outcome })
    }
}

fn decode_success<'a>(datagram: &'a [u8], transaction: &TransactionId) -> Result<Success<'a>, DecodeError> {
    let (mut mapped, mut clear, mut origin, mut other) = (None, None, None, None);
    let (mut software, mut fingerprint) = (None, false);
    for attribute in Attributes::of(datagram) {
        let Attribute { kind, value } = attribute?;
        match kind {
            attribute::XOR_MAPPED_ADDRESS => set_first(&mut mapped, read_xor_address(value, transaction)?),
            attribute::MAPPED_ADDRESS => set_first(&mut clear, read_address(value)?),
            attribute::RESPONSE_ORIGIN | attribute::SOURCE_ADDRESS => set_first(&mut origin, read_address(value)?),
            attribute::OTHER_ADDRESS | attribute::CHANGED_ADDRESS => set_first(&mut other, read_address(value)?),
            attribute::SOFTWARE => set_first(&mut software, read_text(value)?),
            attribute::FINGERPRINT => fingerprint = !transaction.is_classic(),
            kind => refuse_unknown(kind)?,
        }
    }
    let mapped_in_clear = clear.is_some();
    let mapped = mapped.or(clear).ok_or(DecodeError::Invalid("Binding response without a mapped address"))?;
    Ok(Success { mapped, mapped_in_clear, origin, other, software, fingerprint })
}

fn decode_error(datagram: &[u8]) -> Result<Outcome<'_>, DecodeError> {
    let (mut code, mut unknown) = (None, AttributeList::default());
    for attribute in Attributes::of(datagram) {
        let Attribute { kind, value } = attribute?;
        match kind {
            attribute::ERROR_CODE => set_first(&mut code, read_code(value)?),
            attribute::UNKNOWN_ATTRIBUTES => {
                let (kinds, _) = value.as_chunks::<2>();
                unknown = kinds.iter().map(|kind| u16::from_be_bytes(*kind)).collect();
            }
            kind => refuse_unknown(kind)?,
        }
    }
    let code = code.ok_or(DecodeError::Invalid("error response without an error code"))?;
    Ok(Outcome::Error { code, unknown })
}

/// Of an attribute that comes twice only the first counts (RFC 8489, 14).
fn set_first<T>(slot: &mut Option<T>, value: T) {
    slot.get_or_insert(value);
}

fn refuse_unknown(kind: u16) -> Result<(), DecodeError> {
    match kind {
        attribute::MESSAGE_INTEGRITY | attribute::MESSAGE_INTEGRITY_SHA256 => Ok(()),
        attribute::REALM | attribute::NONCE | attribute::REFLECTED_FROM => Ok(()),
        kind if attribute::is_comprehension_required(kind) => Err(DecodeError::UnknownType(u32::from(kind))),
        _ => Ok(()),
    }
}

fn read_text(value: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(value).map_err(|_| DecodeError::Invalid("text; UTF-8 expected"))
}

fn read_code(value: &[u8]) -> Result<u16, DecodeError> {
    let mut reader = Reader::new(value);
    let [_, _, hundreds, rest] = *reader.array()?;
    match (hundreds & 0x07, rest) {
        (hundreds @ 3..=6, rest @ 0..=99) => Ok(u16::from(hundreds) * 100 + u16::from(rest)),
        _ => Err(DecodeError::Invalid("error code; 300 to 699 expected")),
    }
}
