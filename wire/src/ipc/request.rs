//! What clients ask of the daemon. The sub-commands of handshake, network and managed have enums of their own.

use super::{command, put, read_socket_address, socket_address_bytes, text};
use crate::address::SocketAddress;
use crate::codec::{DecodeError, Reader};
use crate::{NodeId, framing};

/// What a client asks, its data borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// 01: take a port.
    Bind {
        /// 0 for any free one.
        port: u16,
    },
    /// 03: open a stream.
    Dial {
        /// To whom.
        to: SocketAddress,
    },
    /// 06; answered only when it fails.
    Send {
        /// The stream.
        connection: u32,
        /// The next bytes of it.
        data: &'a [u8],
    },
    /// 08.
    Close {
        /// The stream.
        connection: u32,
    },
    /// 0B; answered only when it fails.
    SendTo {
        /// To whom.
        to: SocketAddress,
        /// The datagram.
        data: &'a [u8],
    },
    /// 0D.
    Info,
    /// 0F.
    Handshake(HandshakeRequest<'a>),
    /// 11.
    ResolveHostname(&'a str),
    /// 13.
    SetHostname(&'a str),
    /// 15.
    SetVisibility {
        /// Whether strangers may reach the node.
        public: bool,
    },
    /// 17.
    Deregister,
    /// 19: a JSON array of strings.
    SetTags(&'a str),
    /// 1B: a URL; empty to have none.
    SetWebhook(&'a str),
    /// 1D.
    SetTaskExec {
        /// Whether tasks are accepted.
        enabled: bool,
    },
    /// 1F.
    Network(NetworkRequest<'a>),
    /// 21.
    Health,
    /// 23.
    Managed(ManagedRequest<'a>),
    /// 25.
    RotateKey,
    /// 29.
    Broadcast {
        /// To all of which network.
        network: u16,
        /// At which port of theirs.
        port: u16,
        /// The network's admin token; at most 65535 bytes.
        token: &'a str,
        /// The datagram.
        data: &'a [u8],
    },
    /// 2B. Its payload is not specified.
    Cancel(&'a [u8]),
    /// 2D.
    PreferDirect {
        /// The peer that shall be reached without the relay.
        node: NodeId,
    },
    /// 2F: a JSON object.
    SubmitBadge(&'a str),
    /// 31: a JSON object.
    EnrollRecovery(&'a str),
    /// 33: a JSON object.
    SignEnvelope(&'a str),
    /// 35: a JSON object.
    VerifyEnvelope(&'a str),
    /// 37.
    Unbind {
        /// The port to give back.
        port: u16,
    },
    /// 39: as 0B, and answered when the datagram has left.
    SendToConfirmed {
        /// To whom.
        to: SocketAddress,
        /// The datagram.
        data: &'a [u8],
    },
    /// E1: a JSON object; its `op` says what is asked.
    Extension(&'a str),
}

/// Sub-commands of 0F: whom to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeRequest<'a> {
    /// 01: ask a node for its trust.
    Send {
        /// Whom.
        node: NodeId,
        /// Why, for the other side's user.
        justification: &'a str,
    },
    /// 02: trust a node that asked.
    Approve {
        /// Whom.
        node: NodeId,
    },
    /// 03: do not.
    Reject {
        /// Whom not.
        node: NodeId,
        /// Why not, for the other side's user.
        reason: &'a str,
    },
    /// 04: who has asked?
    Pending,
    /// 05: who is trusted?
    Trusted,
    /// 06: trust no longer.
    Revoke {
        /// Whom.
        node: NodeId,
    },
    /// 07: answer when the node trusts us.
    WaitForTrust {
        /// Whom to wait for.
        node: NodeId,
        /// How long; 0 asks for the state now.
        timeout_ms: u32,
    },
}

/// Sub-commands of 1F: the networks a node is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkRequest<'a> {
    /// 01.
    List,
    /// 02.
    Join {
        /// Which.
        network: u16,
        /// What its join rule asks for; may be empty.
        token: &'a str,
    },
    /// 03.
    Leave {
        /// Which.
        network: u16,
    },
    /// 04.
    Members {
        /// Of which.
        network: u16,
    },
    /// 05.
    Invite {
        /// To which.
        network: u16,
        /// Whom.
        node: NodeId,
    },
    /// 06.
    PollInvites,
    /// 07.
    RespondInvite {
        /// To which.
        network: u16,
        /// Whether to join.
        accept: bool,
    },
}

/// Sub-commands of 23: networks that are run from one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagedRequest<'a> {
    /// 02.
    Status {
        /// Of which network.
        network: u16,
    },
    /// 04.
    Cycle {
        /// Which network.
        network: u16,
    },
    /// 05 00.
    PolicyGet {
        /// Of which network.
        network: u16,
    },
    /// 05 01.
    PolicySet {
        /// Of which network.
        network: u16,
        /// The network's admin token; at most 65535 bytes.
        token: &'a str,
        /// A JSON object.
        policy: &'a str,
    },
    /// 06 00.
    MemberTagsGet {
        /// In which network.
        network: u16,
        /// Whose.
        node: NodeId,
    },
    /// 06 01.
    MemberTagsSet {
        /// In which network.
        network: u16,
        /// Whose.
        node: NodeId,
        /// A JSON array of strings.
        tags: &'a str,
    },
    /// 07.
    Reconcile {
        /// Which network.
        network: u16,
    },
}

impl<'a> Request<'a> {
    /// Decodes one frame without its length.
    ///
    /// # Errors
    /// [`DecodeError::UnknownType`] for an unknown command or sub-command, [`DecodeError::Truncated`] for a frame
    /// shorter than its layout, [`DecodeError::Invalid`] for text that is not UTF-8. The daemon answers all of them
    /// with an error frame.
    pub fn decode(frame: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        Ok(match reader.u8()? {
            command::BIND => Self::Bind { port: reader.u16()? },
            command::DIAL => Self::Dial { to: read_socket_address(&mut reader)? },
            command::SEND => Self::Send { connection: reader.u32()?, data: reader.rest() },
            command::CLOSE => Self::Close { connection: reader.u32()? },
            command::SEND_TO => Self::SendTo { to: read_socket_address(&mut reader)?, data: reader.rest() },
            command::INFO => Self::Info,
            command::HANDSHAKE => Self::Handshake(HandshakeRequest::decode(&mut reader)?),
            command::RESOLVE_HOSTNAME => Self::ResolveHostname(text(reader.rest())?),
            command::SET_HOSTNAME => Self::SetHostname(text(reader.rest())?),
            command::SET_VISIBILITY => Self::SetVisibility { public: reader.u8()? == 1 },
            command::DEREGISTER => Self::Deregister,
            command::SET_TAGS => Self::SetTags(text(reader.rest())?),
            command::SET_WEBHOOK => Self::SetWebhook(text(reader.rest())?),
            command::SET_TASK_EXEC => Self::SetTaskExec { enabled: reader.u8()? == 1 },
            command::NETWORK => Self::Network(NetworkRequest::decode(&mut reader)?),
            command::HEALTH => Self::Health,
            command::MANAGED => Self::Managed(ManagedRequest::decode(&mut reader)?),
            command::ROTATE_KEY => Self::RotateKey,
            command::BROADCAST => Self::Broadcast {
                network: reader.u16()?,
                port: reader.u16()?,
                token: read_token(&mut reader)?,
                data: reader.rest(),
            },
            command::CANCEL => Self::Cancel(reader.rest()),
            command::PREFER_DIRECT => Self::PreferDirect { node: read_node(&mut reader)? },
            command::SUBMIT_BADGE => Self::SubmitBadge(text(reader.rest())?),
            command::ENROLL_RECOVERY => Self::EnrollRecovery(text(reader.rest())?),
            command::SIGN_ENVELOPE => Self::SignEnvelope(text(reader.rest())?),
            command::VERIFY_ENVELOPE => Self::VerifyEnvelope(text(reader.rest())?),
            command::EXTENSION => Self::Extension(text(reader.rest())?),
            command::UNBIND => Self::Unbind { port: reader.u16()? },
            command::SEND_TO_CONFIRMED => {
                Self::SendToConfirmed { to: read_socket_address(&mut reader)?, data: reader.rest() }
            }
            other => return Err(DecodeError::UnknownType(u32::from(other))),
        })
    }

    /// Appends the request to `out` as a frame with its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        framing::write_frame(out, |out| self.write(out));
    }

    fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Bind { port } => put(out, command::BIND, &[&port.to_be_bytes()]),
            Self::Dial { to } => put(out, command::DIAL, &[&socket_address_bytes(to)]),
            Self::Send { connection, data } => put(out, command::SEND, &[&connection.to_be_bytes(), data]),
            Self::Close { connection } => put(out, command::CLOSE, &[&connection.to_be_bytes()]),
            Self::SendTo { to, data } => put(out, command::SEND_TO, &[&socket_address_bytes(to), data]),
            Self::Info => put(out, command::INFO, &[]),
            Self::Handshake(request) => request.write(out),
            Self::ResolveHostname(name) => put(out, command::RESOLVE_HOSTNAME, &[name.as_bytes()]),
            Self::SetHostname(name) => put(out, command::SET_HOSTNAME, &[name.as_bytes()]),
            Self::SetVisibility { public } => put(out, command::SET_VISIBILITY, &[&[public.into()]]),
            Self::Deregister => put(out, command::DEREGISTER, &[]),
            Self::SetTags(json) => put(out, command::SET_TAGS, &[json.as_bytes()]),
            Self::SetWebhook(url) => put(out, command::SET_WEBHOOK, &[url.as_bytes()]),
            Self::SetTaskExec { enabled } => put(out, command::SET_TASK_EXEC, &[&[enabled.into()]]),
            Self::Network(request) => request.write(out),
            Self::Health => put(out, command::HEALTH, &[]),
            Self::Managed(request) => request.write(out),
            Self::RotateKey => put(out, command::ROTATE_KEY, &[]),
            Self::Broadcast { network, port, token, data } => {
                let (network, port) = (network.to_be_bytes(), port.to_be_bytes());
                put(out, command::BROADCAST, &[&network, &port, &token_len(token), token.as_bytes(), data]);
            }
            Self::Cancel(payload) => put(out, command::CANCEL, &[payload]),
            Self::PreferDirect { node } => put(out, command::PREFER_DIRECT, &[&node.0.to_be_bytes()]),
            Self::SubmitBadge(json) => put(out, command::SUBMIT_BADGE, &[json.as_bytes()]),
            Self::EnrollRecovery(json) => put(out, command::ENROLL_RECOVERY, &[json.as_bytes()]),
            Self::SignEnvelope(json) => put(out, command::SIGN_ENVELOPE, &[json.as_bytes()]),
            Self::VerifyEnvelope(json) => put(out, command::VERIFY_ENVELOPE, &[json.as_bytes()]),
            Self::Extension(json) => put(out, command::EXTENSION, &[json.as_bytes()]),
            Self::Unbind { port } => put(out, command::UNBIND, &[&port.to_be_bytes()]),
            Self::SendToConfirmed { to, data } => {
                put(out, command::SEND_TO_CONFIRMED, &[&socket_address_bytes(to), data]);
            }
        }
    }
}

impl<'a> HandshakeRequest<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Send { node: read_node(reader)?, justification: text(reader.rest())? },
            2 => Self::Approve { node: read_node(reader)? },
            3 => Self::Reject { node: read_node(reader)?, reason: text(reader.rest())? },
            4 => Self::Pending,
            5 => Self::Trusted,
            6 => Self::Revoke { node: read_node(reader)? },
            7 => Self::WaitForTrust { node: read_node(reader)?, timeout_ms: reader.u32()? },
            other => return Err(DecodeError::UnknownType(u32::from(other))),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut put = |sub: u8, fields: &[&[u8]]| put_sub(out, command::HANDSHAKE, sub, fields);
        match *self {
            Self::Send { node, justification } => put(1, &[&node.0.to_be_bytes(), justification.as_bytes()]),
            Self::Approve { node } => put(2, &[&node.0.to_be_bytes()]),
            Self::Reject { node, reason } => put(3, &[&node.0.to_be_bytes(), reason.as_bytes()]),
            Self::Pending => put(4, &[]),
            Self::Trusted => put(5, &[]),
            Self::Revoke { node } => put(6, &[&node.0.to_be_bytes()]),
            Self::WaitForTrust { node, timeout_ms } => put(7, &[&node.0.to_be_bytes(), &timeout_ms.to_be_bytes()]),
        }
    }
}

impl<'a> NetworkRequest<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::List,
            2 => Self::Join { network: reader.u16()?, token: text(reader.rest())? },
            3 => Self::Leave { network: reader.u16()? },
            4 => Self::Members { network: reader.u16()? },
            5 => Self::Invite { network: reader.u16()?, node: read_node(reader)? },
            6 => Self::PollInvites,
            7 => Self::RespondInvite { network: reader.u16()?, accept: reader.u8()? == 1 },
            other => return Err(DecodeError::UnknownType(u32::from(other))),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut put = |sub: u8, fields: &[&[u8]]| put_sub(out, command::NETWORK, sub, fields);
        match *self {
            Self::List => put(1, &[]),
            Self::Join { network, token } => put(2, &[&network.to_be_bytes(), token.as_bytes()]),
            Self::Leave { network } => put(3, &[&network.to_be_bytes()]),
            Self::Members { network } => put(4, &[&network.to_be_bytes()]),
            Self::Invite { network, node } => put(5, &[&network.to_be_bytes(), &node.0.to_be_bytes()]),
            Self::PollInvites => put(6, &[]),
            Self::RespondInvite { network, accept } => put(7, &[&network.to_be_bytes(), &[accept.into()]]),
        }
    }
}

impl<'a> ManagedRequest<'a> {
    const GET: u8 = 0;
    const SET: u8 = 1;

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            2 => Self::Status { network: reader.u16()? },
            4 => Self::Cycle { network: reader.u16()? },
            5 => match reader.u8()? {
                Self::GET => Self::PolicyGet { network: reader.u16()? },
                Self::SET => {
                    Self::PolicySet { network: reader.u16()?, token: read_token(reader)?, policy: text(reader.rest())? }
                }
                other => return Err(DecodeError::UnknownType(u32::from(other))),
            },
            6 => match reader.u8()? {
                Self::GET => Self::MemberTagsGet { network: reader.u16()?, node: read_node(reader)? },
                Self::SET => {
                    Self::MemberTagsSet { network: reader.u16()?, node: read_node(reader)?, tags: text(reader.rest())? }
                }
                other => return Err(DecodeError::UnknownType(u32::from(other))),
            },
            7 => Self::Reconcile { network: reader.u16()? },
            other => return Err(DecodeError::UnknownType(u32::from(other))),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut put = |sub: u8, fields: &[&[u8]]| put_sub(out, command::MANAGED, sub, fields);
        match *self {
            Self::Status { network } => put(2, &[&network.to_be_bytes()]),
            Self::Cycle { network } => put(4, &[&network.to_be_bytes()]),
            Self::PolicyGet { network } => put(5, &[&[Self::GET], &network.to_be_bytes()]),
            Self::PolicySet { network, token, policy } => {
                let network = network.to_be_bytes();
                put(5, &[&[Self::SET], &network, &token_len(token), token.as_bytes(), policy.as_bytes()]);
            }
            Self::MemberTagsGet { network, node } => {
                put(6, &[&[Self::GET], &network.to_be_bytes(), &node.0.to_be_bytes()]);
            }
            Self::MemberTagsSet { network, node, tags } => {
                put(6, &[&[Self::SET], &network.to_be_bytes(), &node.0.to_be_bytes(), tags.as_bytes()]);
            }
            Self::Reconcile { network } => put(7, &[&network.to_be_bytes()]),
        }
    }
}

fn put_sub(out: &mut Vec<u8>, command: u8, sub: u8, fields: &[&[u8]]) {
    put(out, command, &[&[sub]]);
    out.extend(fields.iter().copied().flatten());
}

fn read_node(reader: &mut Reader<'_>) -> Result<NodeId, DecodeError> {
    reader.u32().map(NodeId)
}

fn read_token<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let length = reader.u16()?;
    text(reader.bytes(usize::from(length))?)
}

fn token_len(token: &str) -> [u8; 2] {
    u16::try_from(token.len()).expect("a token is at most 65535 bytes").to_be_bytes()
}
