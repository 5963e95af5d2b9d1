//! Binding requests: what a server decodes and what a client encodes.
//!
//! Decides which datagrams are requests at all, and which of those get an error response. CHANGE-REQUEST is decoded,
//! because serving it depends on the sockets a server has. PADDING, RESPONSE-PORT and RESPONSE-ADDRESS are refused like
//! attributes nobody knows: each would let a forged source aim larger or redirected responses at a third party.

use super::{
    Attribute, AttributeList, Attributes, BINDING, Class, ErrorCode, ErrorResponse, HEADER_LEN, Header, MessageWriter,
    TransactionId, attribute,
};
use crate::codec::DecodeError;

/// Room for any request [`Request::encode`] writes.
pub const REQUEST_MAX: usize = HEADER_LEN + 8 + 8;

/// A Binding request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// To be repeated in the response; tells the dialect.
    pub transaction: TransactionId,
    /// Where the response shall come from.
    pub change: ChangeRequest,
    /// Whether FINGERPRINT ends the message; if so the response should have one. Never so in the classic dialect.
    pub fingerprint: bool,
}

/// CHANGE-REQUEST (RFC 5780, 7.2): from where else the response shall come. Without the attribute both are false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeRequest {
    /// From the other address.
    pub address: bool,
    /// From the other port.
    pub port: bool,
}

/// Why a datagram is not a request that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is no Binding request, or damaged: no answer.
    #[error("no STUN Binding request: {0}")]
    Drop(DecodeError),
    /// It is a Binding request that gets this error response.
    #[error("STUN error {}", .0.code.number())]
    Refuse(ErrorResponse),
}

impl Request {
    /// A request without attributes.
    #[must_use]
    pub fn new(transaction: TransactionId) -> Self {
        Self { transaction, change: ChangeRequest::default(), fingerprint: false }
    }

    /// Decodes a datagram in either dialect.
    ///
    /// # Errors
    /// [`RequestError::Drop`] for another method or class, a length that contradicts the datagram, and a FINGERPRINT
    /// that is wrong or not the last attribute (RFC 8489, 6.3). [`RequestError::Refuse`] with 400 for attributes that
    /// run past the end, are more than [`super::ATTRIBUTES_MAX`] or have the wrong size, and with 420 for
    /// comprehension-required ones that are unknown or refused.
    pub fn decode(datagram: &[u8]) -> Result<Self, RequestError> {
        let Header { class, method, transaction, .. } = Header::decode(datagram).map_err(RequestError::Drop)?;
        if (class, method) != (Class::Request, BINDING) {
            return Err(RequestError::Drop(DecodeError::Invalid("STUN message; a Binding request expected")));
        }
        let mut request = Self::new(transaction);
        let mut unknown = AttributeList::default();
        let mut change = None;
        for attribute in Attributes::of(datagram) {
            let Attribute { kind, value } = attribute.map_err(|error| request.malformed(error))?;
            match kind {
                attribute::FINGERPRINT => request.fingerprint = !transaction.is_classic(),
                attribute::CHANGE_REQUEST if change.is_none() => {
                    change = Some(ChangeRequest::decode(value).map_err(|error| request.malformed(error))?);
                }
                kind if attribute::is_comprehension_required(kind) && !is_known(kind, &transaction) => {
                    unknown.push(kind);
                }
                _ => {}
            }
        }
        request.change = change.unwrap_or_default();
        if unknown.as_slice().is_empty() { Ok(request) } else { Err(RequestError::Refuse(request.refuse(unknown))) }
    }

    /// Writes the request; returns its length, at most [`REQUEST_MAX`], which `out` must have room for.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let mut message = MessageWriter::new(out, Class::Request, &self.transaction);
        if self.change != ChangeRequest::default() {
            message.attribute(attribute::CHANGE_REQUEST, &self.change.encode());
        }
        if self.fingerprint && !self.transaction.is_classic() {
            message.fingerprint();
        }
        message.finish()
    }

    /// The 420 of a server that cannot answer from the address or port asked for (RFC 5780, 6.1).
    #[must_use]
    pub fn refuse_change(&self) -> ErrorResponse {
        self.refuse([attribute::CHANGE_REQUEST].into_iter().collect())
    }

    fn refuse(&self, unknown: AttributeList) -> ErrorResponse {
        let Self { transaction, fingerprint, .. } = *self;
        ErrorResponse { transaction, code: ErrorCode::UnknownAttribute, unknown, fingerprint }
    }

    /// A bad FINGERPRINT means that it may be no STUN at all, so it stays without answer.
    fn malformed(&self, error: DecodeError) -> RequestError {
        match error {
            DecodeError::Checksum | DecodeError::Invalid(_) => RequestError::Drop(error),
            _ => RequestError::Refuse(ErrorResponse {
                transaction: self.transaction,
                code: ErrorCode::BadRequest,
                unknown: AttributeList::default(),
                fingerprint: false,
            }),
        }
    }
}

impl ChangeRequest {
    const ADDRESS: u32 = 0x4;
    const PORT: u32 = 0x2;

    fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let flags = value.try_into().map(u32::from_be_bytes);
        let flags = flags.map_err(|_| DecodeError::TooLong { length: value.len(), limit: 4 })?;
        Ok(Self { address: flags & Self::ADDRESS != 0, port: flags & Self::PORT != 0 })
    }

    fn encode(self) -> [u8; 4] {
        let address = if self.address { Self::ADDRESS } else { 0 };
        let port = if self.port { Self::PORT } else { 0 };
        (address | port).to_be_bytes()
    }
}

/// Known is what the dialect defines for Binding, also where a request has no use for it (RFC 8489, 6.3.1).
fn is_known(kind: u16, transaction: &TransactionId) -> bool {
    use attribute::*;
    match kind {
        MAPPED_ADDRESS | CHANGE_REQUEST | USERNAME | MESSAGE_INTEGRITY | ERROR_CODE | UNKNOWN_ATTRIBUTES => true,
        SOURCE_ADDRESS | CHANGED_ADDRESS | PASSWORD | REFLECTED_FROM => transaction.is_classic(),
        REALM | NONCE | MESSAGE_INTEGRITY_SHA256 | PASSWORD_ALGORITHM | USERHASH | XOR_MAPPED_ADDRESS => {
            !transaction.is_classic()
        }
        _ => false,
    }
}
