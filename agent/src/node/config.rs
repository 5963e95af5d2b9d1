//! What a node is told at its start.

use std::net::SocketAddr;

use crate::stream;

/// The port on which relays answer STUN besides their own (RFC 8489 section 18.6).
pub const STUN_PORT: u16 = 3478;

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name wanted; may be empty.
    pub hostname: String,
    /// An email address or another name of whoever runs the node; may be empty.
    pub owner: String,
    /// The release that is announced.
    pub version: String,
    /// Anyone may connect; otherwise only those that are trusted, or that share a network.
    pub public: bool,
    /// Never go direct, and hide the own endpoint.
    pub relay_only: bool,
    /// Trust whoever asks.
    pub trust_auto_approve: bool,
    /// Relays, the first that answers is used. Replaced by the directory's list unless `relays_fixed`.
    pub relays: Vec<SocketAddr>,
    /// The list of relays is the operator's; the directory is not asked for one.
    pub relays_fixed: bool,
    /// The second port on which relays answer STUN, to find out how NATs on the way map.
    pub stun_port: u16,
    /// The endpoint to announce, where the operator knows better than the relay.
    pub endpoint: Option<SocketAddr>,
    /// For every stream.
    pub stream: stream::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hostname: String::new(),
            owner: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            public: false,
            relay_only: false,
            trust_auto_approve: false,
            relays: Vec::new(),
            relays_fixed: false,
            stun_port: STUN_PORT,
            endpoint: None,
            stream: stream::Config::default(),
        }
    }
}
