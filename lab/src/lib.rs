//! A namespace laboratory: a private internet of Linux network namespaces in which the unmodified `pilot-daemon` and
//! `pilotctl` of the Python package `pilotprotocol` and our `pilot-agent` meet through the `pilot-relay` appliance.
//!
//! A test reads like a story: open a [`World`], start its appliance, place hosts on the wide-area network or behind a
//! [`Nat`], run daemons on them, and look at what they and the interface counters say. No namespace has a route to the
//! outside. This crate builds the stage and the players; what is promised is written in `tests/`.
//!
//! A laboratory that cannot do what it was asked has nothing to hand back, so its functions panic with the reason and
//! thereby fail the test. Only what a story expects to fail (a refused ping, a call into a killed appliance) is a `Result`.

#![forbid(unsafe_code)]

mod appliance;
mod chance;
mod command;
mod daemon;
mod directory_client;
pub mod fault;
mod link;
mod metrics;
mod namespace;
mod nat;
mod peer;
mod pipe;
mod prerequisites;
mod process;
mod program;
mod swarm;
mod traffic;
mod wait;
mod world;

pub use appliance::{Appliance, ApplianceFlags};
pub use chance::Chance;
pub use daemon::{Daemon, DaemonFlags, PingReport};
pub use directory_client::{CallError, DirectoryClient};
pub use link::{Link, LinkStatistics};
pub use metrics::{Accounting, Metrics};
pub use namespace::Namespace;
pub use nat::{Nat, Path};
pub use peer::{Delivery, Peer};
pub use pipe::{Pipe, PipeStatistics};
pub use prerequisites::{full_run, loadgen, python};
pub use process::softirq_time;
pub use program::Program;
pub use swarm::Swarm;
pub use traffic::Traffic;
pub use wait::{Stopwatch, evidence, meanwhile, wait_until};
pub use world::{
    BEACON_PORT, Host, REGISTRY_PORT, RELAY_V4, RELAY_V4_SECOND, RELAY_V6, RELAY_V6_SECOND, STUN_PORT, Site, World,
};
