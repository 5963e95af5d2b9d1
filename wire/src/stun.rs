//! STUN Binding messages: RFC 8489, with NAT behaviour discovery (RFC 5780) and the classic dialect (RFC 3489).
//!
//! ```text
//!  0        2        4             8                     20
//!  | type   | length | magic cookie | transaction id 12   | attributes: type=2 length=2 value, padded to 4 …
//!  | type   | length |  transaction id 16 (RFC 3489)      |
//! ```
//!
//! This file holds what both sides share: header, attributes, addresses, FINGERPRINT. [`Request`] is what a server
//! decodes and a client encodes; [`Success`] and [`ErrorResponse`] go the other way. Which dialect is spoken follows
//! from the [`TransactionId`] alone. Whether a request is served, from which address, and how often, is left to the
//! server. MESSAGE-INTEGRITY is passed over: a public server shares no secrets with its clients.

mod request;
mod response;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use request::{ChangeRequest, REQUEST_MAX, Request, RequestError};
pub use response::{ErrorCode, ErrorResponse, Outcome, RESPONSE_MAX, Response, SOFTWARE_MAX, Success};

use crate::codec::{DecodeError, Reader, Writer};

/// Bytes before the attributes.
pub const HEADER_LEN: usize = 20;
/// Bytes 4 to 8 of every message since RFC 5389.
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
/// Attributes looked at in one message; a message with more is malformed.
pub const ATTRIBUTES_MAX: usize = 32;
/// Attributes named in one UNKNOWN-ATTRIBUTES; further ones are left out.
pub const UNKNOWN_MAX: usize = 8;

const BINDING: u16 = 0x001;
const FINGERPRINT_LEN: usize = 8;
const FINGERPRINT_XOR: u32 = 0x5354_554E;

/// Attribute types (RFC 8489, 18.3; RFC 5780, 9.1; RFC 3489, 11.2).
pub mod attribute {
    /// The client's address in clear.
    pub const MAPPED_ADDRESS: u16 = 0x0001;
    /// RFC 3489: send the response to a third party. Refused.
    pub const RESPONSE_ADDRESS: u16 = 0x0002;
    /// Answer from another address or port.
    pub const CHANGE_REQUEST: u16 = 0x0003;
    /// RFC 3489: where the response comes from.
    pub const SOURCE_ADDRESS: u16 = 0x0004;
    /// RFC 3489: where it would come from, were address and port changed.
    pub const CHANGED_ADDRESS: u16 = 0x0005;
    /// Credentials; passed over.
    pub const USERNAME: u16 = 0x0006;
    /// RFC 3489, shared secrets; passed over.
    pub const PASSWORD: u16 = 0x0007;
    /// HMAC-SHA1; passed over. Nothing after it counts but FINGERPRINT.
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    /// Code and reason of an error response.
    pub const ERROR_CODE: u16 = 0x0009;
    /// The attributes a 420 is about.
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    /// RFC 3489: whose RESPONSE-ADDRESS was followed.
    pub const REFLECTED_FROM: u16 = 0x000B;
    /// Credentials; passed over.
    pub const REALM: u16 = 0x0014;
    /// Credentials; passed over.
    pub const NONCE: u16 = 0x0015;
    /// HMAC-SHA256; passed over. Nothing after it counts but FINGERPRINT.
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    /// Credentials; passed over.
    pub const PASSWORD_ALGORITHM: u16 = 0x001D;
    /// Credentials; passed over.
    pub const USERHASH: u16 = 0x001E;
    /// The client's address, hidden from NATs that rewrite addresses in payloads.
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    /// RFC 5780: make the response as long as the request. Refused.
    pub const PADDING: u16 = 0x0026;
    /// RFC 5780: send the response to another port. Refused.
    pub const RESPONSE_PORT: u16 = 0x0027;
    /// What the sender runs.
    pub const SOFTWARE: u16 = 0x8022;
    /// CRC-32 of the message; always the last attribute.
    pub const FINGERPRINT: u16 = 0x8028;
    /// RFC 5780: where the response comes from.
    pub const RESPONSE_ORIGIN: u16 = 0x802B;
    /// RFC 5780: where it would come from, were address and port changed.
    pub const OTHER_ADDRESS: u16 = 0x802C;

    /// Whether a receiver that does not know the attribute must not go on.
    #[must_use]
    pub const fn is_comprehension_required(kind: u16) -> bool {
        kind < 0x8000
    }
}

/// Whether `datagram` is long enough for a header and carries the magic cookie.
#[must_use]
pub fn has_magic_cookie(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_LEN && datagram[4..8] == MAGIC_COOKIE
}

/// What a response repeats of its request: bytes 4 to 20 of the header, magic cookie included.
///
/// Without the cookie it is the 128-bit id of RFC 3489, and the whole exchange is in that dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId([u8; 16]);

impl TransactionId {
    /// The id of an RFC 8489 request, from 12 random bytes.
    #[must_use]
    pub fn new(random: [u8; 12]) -> Self {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&MAGIC_COOKIE);
        bytes[4..].copy_from_slice(&random);
        Self(bytes)
    }

    /// The id in these 16 bytes of a header. They are of the classic dialect unless they start with the cookie.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Bytes 4 to 20 of the header.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Whether the exchange is in the dialect of RFC 3489.
    #[must_use]
    pub fn is_classic(&self) -> bool {
        self.0[..4] != MAGIC_COOKIE
    }
}

/// What kind of message it is (RFC 8489, 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Expects a response.
    Request,
    /// Expects none.
    Indication,
    /// The request was served.
    Success,
    /// The request was refused.
    Error,
}

/// The first 20 bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Request, response or indication.
    pub class: Class,
    /// The method, 12 bits; 1 is Binding.
    pub method: u16,
    /// Bytes of attributes after the header; a multiple of 4.
    pub length: u16,
    /// Ties the response to the request.
    pub transaction: TransactionId,
}

impl Header {
    /// Decodes the header of a datagram that holds one message and nothing else.
    ///
    /// # Errors
    /// [`DecodeError::UnknownType`] where the two top bits are not zero, [`DecodeError::Truncated`] for a datagram
    /// shorter than its length field says, [`DecodeError::Invalid`] for one that is longer or not a multiple of 4.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(datagram);
        let (kind, length) = (reader.u16()?, reader.u16()?);
        let transaction = TransactionId(*reader.array()?);
        if kind & 0xC000 != 0 {
            return Err(DecodeError::UnknownType(u32::from(kind)));
        }
        if length % 4 != 0 {
            return Err(DecodeError::Invalid("STUN length; a multiple of 4 expected"));
        }
        reader.bytes(usize::from(length))?;
        if !reader.rest().is_empty() {
            return Err(DecodeError::Invalid("STUN length; shorter than the datagram"));
        }
        let (class, method) = split_type(kind);
        Ok(Self { class, method, length, transaction })
    }
}

/// The 14 type bits are `MMMMM C MMM C MMMM`, most significant first: the class sits between the method's bits.
const fn split_type(kind: u16) -> (Class, u16) {
    let class = match (kind & 0x0100 != 0, kind & 0x0010 != 0) {
        (false, false) => Class::Request,
        (false, true) => Class::Indication,
        (true, false) => Class::Success,
        (true, true) => Class::Error,
    };
    (class, (kind & 0x3E00) >> 2 | (kind & 0x00E0) >> 1 | kind & 0x000F)
}

const fn join_type(class: Class, method: u16) -> u16 {
    let class = match class {
        Class::Request => 0x0000,
        Class::Indication => 0x0010,
        Class::Success => 0x0100,
        Class::Error => 0x0110,
    };
    (method & 0x0F80) << 2 | (method & 0x0070) << 1 | method & 0x000F | class
}

/// One attribute, borrowed from its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// One of [`attribute`]'s numbers, or any other.
    pub kind: u16,
    /// The value without its padding.
    pub value: &'a [u8],
}

/// The attributes that count in a message: those before the first integrity check, and FINGERPRINT, which is verified
/// on the way. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    datagram: &'a [u8],
    reader: Reader<'a>,
    seen: usize,
    sealed: bool,
}

impl<'a> Attributes<'a> {
    /// The attributes of a datagram whose [`Header`] was decoded.
    #[must_use]
    pub fn of(datagram: &'a [u8]) -> Self {
        let body = datagram.get(HEADER_LEN..).unwrap_or_default();
        Self { datagram, reader: Reader::new(body), seen: 0, sealed: false }
    }

    fn read(&mut self) -> Result<Attribute<'a>, DecodeError> {
        self.seen += 1;
        if self.seen > ATTRIBUTES_MAX {
            return Err(DecodeError::TooLong { length: self.seen, limit: ATTRIBUTES_MAX });
        }
        let (kind, length) = (self.reader.u16()?, usize::from(self.reader.u16()?));
        let value = self.reader.bytes(length)?;
        self.reader.bytes(padding(length))?;
        if kind == attribute::FINGERPRINT {
            self.verify_fingerprint(value)?;
        }
        Ok(Attribute { kind, value })
    }

    fn verify_fingerprint(&self, value: &[u8]) -> Result<(), DecodeError> {
        let value: [u8; 4] = value.try_into().map_err(|_| DecodeError::Invalid("FINGERPRINT length"))?;
        if !self.reader.rest().is_empty() {
            return Err(DecodeError::Invalid("FINGERPRINT; it must be the last attribute"));
        }
        let covered = &self.datagram[..self.datagram.len() - FINGERPRINT_LEN];
        if u32::from_be_bytes(value) != fingerprint(covered) {
            return Err(DecodeError::Checksum);
        }
        Ok(())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.reader.rest().is_empty() {
            let read = self.read();
            match read {
                Ok(Attribute { kind, .. }) if self.sealed && kind != attribute::FINGERPRINT => {}
                Ok(Attribute { kind, .. }) => {
                    self.sealed |= matches!(kind, attribute::MESSAGE_INTEGRITY | attribute::MESSAGE_INTEGRITY_SHA256);
                    return Some(read);
                }
                Err(_) => {
                    self.reader = Reader::new(&[]);
                    return Some(read);
                }
            }
        }
        None
    }
}

const fn padding(length: usize) -> usize {
    length.next_multiple_of(4) - length
}

fn fingerprint(covered: &[u8]) -> u32 {
    crc32fast::hash(covered) ^ FINGERPRINT_XOR
}

/// Up to [`UNKNOWN_MAX`] attribute types, for UNKNOWN-ATTRIBUTES.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttributeList {
    kinds: [u16; UNKNOWN_MAX],
    len: u8,
}

impl AttributeList {
    /// Adds a type, unless it is there already or the list is full.
    pub fn push(&mut self, kind: u16) {
        let len = usize::from(self.len);
        if len < UNKNOWN_MAX && !self.as_slice().contains(&kind) {
            self.kinds[len] = kind;
            self.len += 1;
        }
    }

    /// The types, in the order they were added.
    #[must_use]
    pub fn as_slice(&self) -> &[u16] {
        &self.kinds[..usize::from(self.len)]
    }
}

impl FromIterator<u16> for AttributeList {
    fn from_iter<I: IntoIterator<Item = u16>>(kinds: I) -> Self {
        let mut list = Self::default();
        kinds.into_iter().for_each(|kind| list.push(kind));
        list
    }
}

/// Writes one Binding message attribute by attribute; the encoders are made of it, and tests make bad messages with it.
///
/// Panics when the buffer is too small, so give it [`REQUEST_MAX`] or [`RESPONSE_MAX`] bytes, or what else you need.
#[derive(Debug)]
pub struct MessageWriter<'a> {
    out: Writer<'a>,
    transaction: TransactionId,
}

impl<'a> MessageWriter<'a> {
    /// A Binding message without attributes.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], class: Class, transaction: &TransactionId) -> Self {
        let mut out = Writer::new(buffer);
        out.u16(join_type(class, BINDING)).u16(0).bytes(transaction.as_bytes());
        Self { out, transaction: *transaction }
    }

    /// Appends an attribute with this value and its padding.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len()).expect("an attribute value is shorter than 64 KiB");
        self.out.u16(kind).u16(length).bytes(value).bytes(&[0; 3][..padding(value.len())]);
        self
    }

    /// Appends an address attribute. IPv4-mapped IPv6 addresses are written as IPv4.
    pub fn address(&mut self, kind: u16, address: SocketAddr) -> &mut Self {
        self.address_masked(kind, address, &[0; 16])
    }

    /// Appends an address attribute masked with magic cookie and transaction id (RFC 8489, 14.2).
    pub fn xor_address(&mut self, kind: u16, address: SocketAddr) -> &mut Self {
        let mask = *self.transaction.as_bytes();
        self.address_masked(kind, address, &mask)
    }

    fn address_masked(&mut self, kind: u16, address: SocketAddr, mask: &[u8; 16]) -> &mut Self {
        let mut value = [0; 20];
        let mut out = Writer::new(&mut value);
        let port = address.port() ^ u16::from_be_bytes([mask[0], mask[1]]);
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => out.u16(1).u16(port).bytes(&masked(ip.octets(), mask)),
            IpAddr::V6(ip) => out.u16(2).u16(port).bytes(&masked(ip.octets(), mask)),
        };
        let len = out.len();
        self.attribute(kind, &value[..len])
    }

    /// Appends FINGERPRINT; nothing may follow it.
    pub fn fingerprint(&mut self) -> &mut Self {
        self.write_length(FINGERPRINT_LEN);
        let value = fingerprint(self.out.written());
        self.attribute(attribute::FINGERPRINT, &value.to_be_bytes())
    }

    /// Completes the header; returns the length of the message.
    #[must_use]
    pub fn finish(&mut self) -> usize {
        self.write_length(0);
        self.out.len()
    }

    fn write_length(&mut self, to_come: usize) {
        let length = self.out.len() - HEADER_LEN + to_come;
        let length = u16::try_from(length).expect("a message is shorter than 64 KiB");
        self.out.written_mut()[2..4].copy_from_slice(&length.to_be_bytes());
    }
}

fn read_address(value: &[u8]) -> Result<SocketAddr, DecodeError> {
    read_address_masked(value, &[0; 16])
}

fn read_xor_address(value: &[u8], transaction: &TransactionId) -> Result<SocketAddr, DecodeError> {
    read_address_masked(value, transaction.as_bytes())
}

/// The first byte is reserved and not looked at.
fn read_address_masked(value: &[u8], mask: &[u8; 16]) -> Result<SocketAddr, DecodeError> {
    let mut reader = Reader::new(value);
    let [_, family] = *reader.array()?;
    let port = reader.u16()? ^ u16::from_be_bytes([mask[0], mask[1]]);
    let ip = match family {
        1 => IpAddr::V4(Ipv4Addr::from(masked(*reader.array()?, mask))),
        2 => IpAddr::V6(Ipv6Addr::from(masked(*reader.array()?, mask))),
        _ => return Err(DecodeError::Invalid("address family; 1 or 2 expected")),
    };
    if !reader.rest().is_empty() {
        return Err(DecodeError::Invalid("address length"));
    }
    Ok(SocketAddr::new(ip, port))
}

fn masked<const N: usize>(mut bytes: [u8; N], mask: &[u8; 16]) -> [u8; N] {
    for (byte, mask) in bytes.iter_mut().zip(mask) {
        *byte ^= mask;
    }
    bytes
}
