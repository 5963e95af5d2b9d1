//! Frames on the daemon's unix socket (section 10): `length=4, command=1, payload`, at most 1 MiB.
//!
//! [`Request`] goes from a client to the daemon, [`Reply`] the other way. The answer to a request has the command byte
//! plus one, or is an error; there are no request ids, so a client asks one thing at a time. Some replies are pushed at
//! any moment. What is in the JSON, and what the daemon does, is left to both ends. Bytes after a fixed layout are
//! ignored.

mod request;

pub use request::{HandshakeRequest, ManagedRequest, NetworkRequest, Request};

use crate::address::{Address, SocketAddress};
use crate::codec::{DecodeError, Reader};
use crate::framing::{self, FrameDecoder};

/// The longest frame: command and payload, without the length.
pub const FRAME_MAX: usize = 1 << 20;

/// The code in every error.
pub const ERROR_CODE: u16 = 1;

/// Command bytes. An answer that carries JSON has its request's command plus one and no name here.
pub mod command {
    /// Take a port.
    pub const BIND: u8 = 0x01;
    /// The port is taken.
    pub const BIND_OK: u8 = 0x02;
    /// Open a stream.
    pub const DIAL: u8 = 0x03;
    /// The stream is open.
    pub const DIAL_OK: u8 = 0x04;
    /// Pushed: a peer opened a stream.
    pub const ACCEPT: u8 = 0x05;
    /// Send on a stream.
    pub const SEND: u8 = 0x06;
    /// Pushed: bytes came on a stream.
    pub const RECV: u8 = 0x07;
    /// Close a stream.
    pub const CLOSE: u8 = 0x08;
    /// Answer, and pushed when the peer closes.
    pub const CLOSE_OK: u8 = 0x09;
    /// Something failed.
    pub const ERROR: u8 = 0x0A;
    /// Send a datagram.
    pub const SEND_TO: u8 = 0x0B;
    /// Pushed to every client: a datagram came.
    pub const RECV_FROM: u8 = 0x0C;
    /// Tell about the daemon.
    pub const INFO: u8 = 0x0D;
    /// Trust: see [`HandshakeRequest`](super::HandshakeRequest).
    pub const HANDSHAKE: u8 = 0x0F;
    /// Look up a name.
    pub const RESOLVE_HOSTNAME: u8 = 0x11;
    /// Take a name.
    pub const SET_HOSTNAME: u8 = 0x13;
    /// Be public or private.
    pub const SET_VISIBILITY: u8 = 0x15;
    /// Leave the directory.
    pub const DEREGISTER: u8 = 0x17;
    /// Replace the tags.
    pub const SET_TAGS: u8 = 0x19;
    /// Where events are posted.
    pub const SET_WEBHOOK: u8 = 0x1B;
    /// Accept tasks; gone from the newest daemons.
    pub const SET_TASK_EXEC: u8 = 0x1D;
    /// Networks: see [`NetworkRequest`](super::NetworkRequest).
    pub const NETWORK: u8 = 0x1F;
    /// Is all well?
    pub const HEALTH: u8 = 0x21;
    /// Managed networks: see [`ManagedRequest`](super::ManagedRequest).
    pub const MANAGED: u8 = 0x23;
    /// Replace the identity key.
    pub const ROTATE_KEY: u8 = 0x25;
    /// Send a datagram to a whole network.
    pub const BROADCAST: u8 = 0x29;
    /// Give up what is under way.
    pub const CANCEL: u8 = 0x2B;
    /// Try to leave the relay.
    pub const PREFER_DIRECT: u8 = 0x2D;
    /// Hand in a badge.
    pub const SUBMIT_BADGE: u8 = 0x2F;
    /// Prepare for the loss of the key.
    pub const ENROLL_RECOVERY: u8 = 0x31;
    /// Sign for a third party.
    pub const SIGN_ENVELOPE: u8 = 0x33;
    /// Check what another node signed.
    pub const VERIFY_ENVELOPE: u8 = 0x35;
    /// Give a port back.
    pub const UNBIND: u8 = 0x37;
    /// Send a datagram and hear that it left.
    pub const SEND_TO_CONFIRMED: u8 = 0x39;
    /// Ours: what no other daemon knows, far from the numbers in use. Others answer with an error.
    pub const EXTENSION: u8 = 0xE1;
}

/// A decoder for either direction; each frame it returns is one [`Request`] or [`Reply`].
#[must_use]
pub const fn frame_decoder() -> FrameDecoder {
    FrameDecoder::new(FRAME_MAX)
}

/// What the daemon says, its data borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// 02.
    BindOk {
        /// The port, chosen by the daemon when 0 was asked for.
        port: u16,
    },
    /// 04.
    DialOk {
        /// The daemon's number for the stream.
        connection: u32,
    },
    /// 05, pushed.
    Accept {
        /// The bound port that was dialled.
        listen_port: u16,
        /// The daemon's number for the stream.
        connection: u32,
        /// Who dialled.
        remote: SocketAddress,
    },
    /// 07, pushed.
    Recv {
        /// The stream.
        connection: u32,
        /// The next bytes of it.
        data: &'a [u8],
    },
    /// 09. A client that closes sees it twice: as the answer, and when the peer has closed too.
    CloseOk {
        /// The stream.
        connection: u32,
    },
    /// 0A, in place of any answer, and for a failed 06 or 0B.
    Error {
        /// Always [`ERROR_CODE`].
        code: u16,
        /// For the user.
        text: &'a str,
    },
    /// 0C, pushed.
    RecvFrom {
        /// Who sent.
        source: SocketAddress,
        /// Our port it came to.
        port: u16,
        /// What was sent.
        data: &'a [u8],
    },
    /// The answer to any other request.
    Answer {
        /// The request's command plus one.
        command: u8,
        /// An object; nothing at all after 39.
        json: &'a str,
    },
}

impl<'a> Reply<'a> {
    /// Decodes one frame without its length.
    ///
    /// # Errors
    /// [`DecodeError::UnknownType`] for a command that no daemon sends, [`DecodeError::Truncated`] for a frame shorter
    /// than its layout, [`DecodeError::Invalid`] for text that is not UTF-8.
    pub fn decode(frame: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        Ok(match reader.u8()? {
            command::BIND_OK => Self::BindOk { port: reader.u16()? },
            command::DIAL_OK => Self::DialOk { connection: reader.u32()? },
            command::ACCEPT => Self::Accept {
                listen_port: reader.u16()?,
                connection: reader.u32()?,
                remote: read_socket_address(&mut reader)?,
            },
            command::RECV => Self::Recv { connection: reader.u32()?, data: reader.rest() },
            command::CLOSE_OK => Self::CloseOk { connection: reader.u32()? },
            command::ERROR => Self::Error { code: reader.u16()?, text: text(reader.rest())? },
            command::RECV_FROM => {
                Self::RecvFrom { source: read_socket_address(&mut reader)?, port: reader.u16()?, data: reader.rest() }
            }
            command if is_answer(command) => Self::Answer { command, json: text(reader.rest())? },
            other => return Err(DecodeError::UnknownType(u32::from(other))),
        })
    }

    /// Appends the reply to `out` as a frame with its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        framing::write_frame(out, |out| self.write(out));
    }

    fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::BindOk { port } => put(out, command::BIND_OK, &[&port.to_be_bytes()]),
            Self::DialOk { connection } => put(out, command::DIAL_OK, &[&connection.to_be_bytes()]),
            Self::Accept { listen_port, connection, remote } => put(
                out,
                command::ACCEPT,
                &[&listen_port.to_be_bytes(), &connection.to_be_bytes(), &socket_address_bytes(remote)],
            ),
            Self::Recv { connection, data } => put(out, command::RECV, &[&connection.to_be_bytes(), data]),
            Self::CloseOk { connection } => put(out, command::CLOSE_OK, &[&connection.to_be_bytes()]),
            Self::Error { code, text } => put(out, command::ERROR, &[&code.to_be_bytes(), text.as_bytes()]),
            Self::RecvFrom { source, port, data } => {
                put(out, command::RECV_FROM, &[&socket_address_bytes(source), &port.to_be_bytes(), data]);
            }
            Self::Answer { command, json } => put(out, command, &[json.as_bytes()]),
        }
    }
}

/// Whether `command` answers a request that is answered by JSON.
fn is_answer(command: u8) -> bool {
    matches!(
        command.wrapping_sub(1),
        command::INFO
            | command::HANDSHAKE
            | command::RESOLVE_HOSTNAME
            | command::SET_HOSTNAME
            | command::SET_VISIBILITY
            | command::DEREGISTER
            | command::SET_TAGS
            | command::SET_WEBHOOK
            | command::SET_TASK_EXEC
            | command::NETWORK
            | command::HEALTH
            | command::MANAGED
            | command::ROTATE_KEY
            | command::BROADCAST
            | command::CANCEL
            | command::PREFER_DIRECT
            | command::SUBMIT_BADGE
            | command::ENROLL_RECOVERY
            | command::SIGN_ENVELOPE
            | command::VERIFY_ENVELOPE
            | command::UNBIND
            | command::SEND_TO_CONFIRMED
            | command::EXTENSION
    )
}

fn put(out: &mut Vec<u8>, command: u8, fields: &[&[u8]]) {
    out.push(command);
    for field in fields {
        out.extend_from_slice(field);
    }
}

fn read_socket_address(reader: &mut Reader<'_>) -> Result<SocketAddress, DecodeError> {
    Ok(SocketAddress { address: Address::from_bytes(*reader.array()?), port: reader.u16()? })
}

fn socket_address_bytes(SocketAddress { address, port }: SocketAddress) -> [u8; 8] {
    let ([n0, n1, a, b, c, d], [p0, p1]) = (address.to_bytes(), port.to_be_bytes());
    [n0, n1, a, b, c, d, p0, p1]
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid("text; UTF-8 expected"))
}
