//! A node of the Pilot Protocol, as plain values without I/O, clock or chance, and the services it offers. Section
//! numbers in the comments are those of the wire specification.
//! A node of the Pilot Protocol: engines that are plain values without I/O, clock or chance, the services it offers, and
//! the daemon that drives them. Section numbers in the comments are those of the wire specification.
//!
//! | module | subject | section |
//! |---|---|---|
//! | [`identity`] | the node's key and the file that keeps it | 3.1 |
//! | [`aead`] | encryption in place | 3.1 |
//! | [`client`] | a connection to the daemon's socket, for programs | 10 |
//! | [`pilotctl`] | the command line | 10 |
//! | [`node`] | all of it joined: what a driver sees | 5 |
//! | [`path`] | relayed at first, direct as soon as that has proven itself | 5 |
//! | [`registration`] | the node's place in the directory | 6 |
//! | [`capability`] | what the node can do for others: published, and verified where others say it | – |
//! | [`relays`] | which relay is used, and whether it answers | 4 |
//! | [`nat`] | what the NATs on the way do, as far as a STUN server can tell | RFC 5780 |
//! | [`tunnel`] | sealed frames between nodes: key exchange, sessions, replay windows | 3 |
//! | [`stream`] | ordered bytes between two ports: states, recovery, congestion control | 8 |
//! | [`trust`] | whom the node trusts, and how that comes about | 7 |
//! | [`services`] | what a node offers on its ports, over any stream of bytes | 9 |
//! | [`time`] | what the engines know of time | – |
//! | [`config`] | what the daemon is told | – |
//! | [`daemon`] | sockets, timers, files, the directory's connection and the unix socket, around the node | 4.6, 10 |
#![forbid(unsafe_code)]

pub mod aead;
pub mod capability;
pub mod client;
pub mod config;
pub mod daemon;
pub mod identity;
pub mod nat;
pub mod node;
pub mod path;
pub mod pilotctl;
pub mod registration;
pub mod relays;
mod rfc3339;
pub mod services;
pub mod stream;
pub mod time;
pub mod trust;
pub mod tunnel;

pub use time::Time;
