//! The settings of the rules.

use std::sync::Arc;
use std::time::Duration;

use wire::cidr::Cidr;

use crate::admission::Budget;
use crate::cookie::Cookies;

/// Who is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Admission {
    /// Nobody: any id, any source, no budgets. For benches and laboratories.
    Open,
    /// Ids the directory knows, at endpoints that hold their ground (default).
    #[default]
    Grace,
    /// As `grace`, but only at endpoints that are proven: by address, or by signature. Introduced are only those that the
    /// directory would tell of each other.
    Strict,
}

/// The limits and times of the rules.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Who is checked.
    pub admission: Admission,
    /// Packets a sender may relay.
    pub sender_packets: Budget,
    /// Bytes a sender may relay.
    pub sender_bytes: Budget,
    /// Discovers, punches, probes and STUN requests a source prefix may send.
    pub prefix_control: Budget,
    /// Packets a source prefix may relay, all its nodes together.
    pub prefix_packets: Budget,
    /// Bytes a source prefix may relay, all its nodes together.
    pub prefix_bytes: Budget,
    /// Signatures of claims that a source prefix may have checked; at once, no more than a small part of what all may.
    pub prefix_claims: Budget,
    /// Signatures that all shards together have checked in a second: a tenth of a core, or so.
    pub claims_per_second: u64,
    /// Questions to the directory, whether it would introduce two nodes, that all shards together ask in a second; a small
    /// part of them for one source prefix.
    pub punches_per_second: u64,
    /// What nodes are challenged with that claim their id with a signature; none where nobody could say which key is theirs.
    pub cookies: Option<Arc<Cookies>>,
    /// Prefixes that are never charged.
    pub exempt: Vec<Cidr>,
    /// Silence after which a session ends.
    pub session_timeout: Duration,
    /// What STUN answers say of the software; nothing by default.
    pub stun_software: Option<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            admission: Admission::Grace,
            sender_packets: Budget::new(100_000, 20_000),
            sender_bytes: Budget::new(125_000_000, 32_000_000),
            prefix_control: Budget::new(500, 2_000),
            prefix_packets: Budget::new(200_000, 40_000),
            prefix_bytes: Budget::new(250_000_000, 64_000_000),
            prefix_claims: Budget::new(50, 1_000),
            claims_per_second: 2_000,
            punches_per_second: 10_000,
            cookies: None,
            exempt: Vec::new(),
            session_timeout: Duration::from_secs(600),
            stun_software: None,
        }
    }
}
