//! What a STUN request is answered: Binding of RFC 8489, NAT behaviour discovery of RFC 5780 as far as our sockets
//! allow, and the classic dialect of RFC 3489 on the STUN port.
//!
//! "The other port" is the other service's: 3478 for the beacon port and the beacon port for 3478. "The other address"
//! exists where a second one of the same family and scope is bound; asking for it elsewhere is refused with 420.

use wire::stun::{ErrorResponse, RESPONSE_MAX, Request, RequestError, Success};

use crate::endpoint::{LocalId, Path};
use crate::locals::{Locals, Service};
use crate::metrics::DropReason;

/// Room a reply needs at most.
pub const REPLY_MAX: usize = RESPONSE_MAX;

/// A response in the reply buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Bytes written.
    pub len: usize,
    /// The local address to send from.
    pub via: LocalId,
}

/// Answers `datagram`, which came over `from`.
///
/// # Errors
/// Why it gets no answer.
pub fn respond(
    datagram: &[u8],
    from: Path,
    locals: &Locals,
    software: Option<&str>,
    reply: &mut [u8; REPLY_MAX],
) -> Result<Reply, DropReason> {
    let here = locals.get(from.local).ok_or(DropReason::NoLocalAddress)?;
    let request = match Request::decode(datagram) {
        Ok(request) => request,
        Err(RequestError::Drop(_)) => return Err(DropReason::Malformed),
        Err(RequestError::Refuse(error)) => return refuse(&error, from, here.service, reply),
    };
    if request.transaction.is_classic() && here.service == Service::Beacon {
        return Err(DropReason::UnknownType);
    }
    let Some(via) = locals.alternate(from.local, request.change.address, request.change.port) else {
        return refuse(&request.refuse_change(), from, here.service, reply);
    };
    // With one address bound, the other port of the same address is what a client can ask for.
    let other = locals.alternate(from.local, true, true).or_else(|| locals.alternate(from.local, false, true));
    let seen_as = |id: LocalId| locals.get(id).map(|local| local.seen_as);
    let success = Success {
        mapped: from.remote.socket_addr(),
        mapped_in_clear: false,
        origin: seen_as(via),
        other: other.and_then(seen_as),
        software,
        fingerprint: request.fingerprint,
    };
    Ok(Reply { len: success.encode(&request.transaction, reply), via })
}

fn refuse(
    error: &ErrorResponse,
    from: Path,
    service: Service,
    reply: &mut [u8; REPLY_MAX],
) -> Result<Reply, DropReason> {
    if error.transaction.is_classic() && service == Service::Beacon {
        return Err(DropReason::UnknownType);
    }
    Ok(Reply { len: error.encode(reply), via: from.local })
}
