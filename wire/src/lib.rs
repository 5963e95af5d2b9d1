//! The byte formats of the Pilot Protocol, and of STUN as far as a relay and its peers speak it.
//!
//! Bytes only: nothing here does I/O, reads a clock or draws a random number, and decoding a datagram allocates
//! nothing. Section numbers in the comments are those of the wire specification.
//!
//! | module | format | section |
//! |---|---|---|
//! | [`address`] | 48-bit addresses, node ids, ports | 1 |
//! | [`cidr`] | ranges of IP addresses as text | – |
//! | [`packet`] | the 34-byte packet header and its CRC | 2 |
//! | [`tunnel`] | daemon to daemon frames: `PILA`, `PILK`, `PILS`, `PILP` | 3 |
//! | [`extension`] | ephemeral keys between two of our agents | – |
//! | [`stream`] | numbers that wrap, selective acknowledgements | 8 |
//! | [`services`] | data exchange, event stream, secure channel | 9 |
//! | [`beacon`] | discover, punch, relay, deliver, notify | 4 |
//! | [`framing`] | frames on a byte stream | 6.1, 10 |
//! | [`registry`] | framed JSON of the directory, its error texts, the texts that get signed | 6 |
//! | [`ipc`] | frames on the daemon's unix socket | 10 |
//! | [`trace`] | the context of a trace, as text and as bytes | – |
//! | [`stun`] | Binding requests and responses (RFC 8489, 5780, 3489) | – |
#![forbid(unsafe_code)]

pub mod address;
pub mod beacon;
pub mod cidr;
pub mod codec;
pub mod extension;
pub mod framing;
pub mod ipc;
pub mod packet;
pub mod registry;
pub mod services;
pub mod stream;
pub mod stun;
pub mod trace;
pub mod tunnel;

pub use address::NodeId;
pub use codec::DecodeError;

/// What a datagram on the beacon port is, told by its first bytes (sections 3 and 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A STUN message: the two top bits of the first byte are zero and the magic cookie is in place (RFC 8489, 5).
    Stun,
    /// A beacon message: first byte 01 to 0D. (STUN responses start so too, but a relay asks nothing.)
    Beacon,
    /// A tunnel frame: four ASCII bytes starting with `PIL`. Towards a relay only `PILP` means anything.
    Tunnel,
    /// None of these.
    Unknown,
}

impl Format {
    /// Tells the format of `datagram` without decoding it.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Self {
        match datagram {
            [b'P', b'I', b'L', ..] => Self::Tunnel,
            [0x01..=beacon::kind::LAST, ..] => Self::Beacon,
            [0x00, ..] if stun::has_magic_cookie(datagram) => Self::Stun,
            _ => Self::Unknown,
        }
    }
}
