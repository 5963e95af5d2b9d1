//! The relay: discover, punch, relay and STUN at the speed of the kernel's UDP stack, one pinned thread per core.
//!
//! # Life of a relayed datagram
//! 1. The kernel picks a shard by the sender's node id in the datagram ([`socket`] holds the steering program).
//! 2. [`uring`] yields a completion: a buffer lease, the source, the length, the segment size where the kernel merged.
//! 3. [`shard`], with the batch's one clock reading, shows each datagram to [`server`].
//! 4. There the header is viewed once, [`admission`] allows it, [`sessions`] gives the destination's path, the header
//!    is rewritten in place, and an [`server::Action`] returns.
//! 5. [`train`] chains what goes to one destination; [`shard`] hands trains to [`uring`], one submission a batch.
//! 6. The sends complete, the leases go back to the kernel, [`metrics`] gets one add per outcome.
//!
//! | module | decides | does I/O |
//! |---|---|---|
//! | [`server`] | what happens to a datagram | no |
//! | [`contests`] | which of two endpoints holds an id, and where a silent node is | no |
//! | [`admission`] | how much a sender and a source prefix may send | no |
//! | [`locals`] | which of our addresses answers | no |
//! | [`sessions`], [`membership`] | where a node is; which nodes exist and which addresses are proven theirs | no |
//! | [`stun`] | what a STUN request is answered | no |
//! | [`events`] | what befell a node, as values | no |
//! | [`train`] | which datagrams leave together | no |
//! | [`shard`] | nothing; drives one core: complete, decide, submit | yes |
//! | [`uring`], [`socket`], [`interfaces`] | nothing; the safe face of the kernel | yes |
//! | [`mailbox`], [`event_queues`], [`doorbell`], [`runtime`] | nothing; messages between threads, and the threads | yes |
#![deny(unsafe_code)]

pub mod admission;
pub mod config;
pub mod contests;
pub mod doorbell;
pub mod endpoint;
pub mod event_queues;
pub mod events;
pub mod interfaces;
pub mod locals;
pub mod mailbox;
pub mod membership;
pub mod metrics;
pub mod runtime;
pub mod seqlock;
pub mod server;
pub mod sessions;
pub mod shard;
pub mod socket;
pub mod stun;
pub mod time;
pub mod train;
pub mod uring;

pub use endpoint::{Endpoint, Path};
pub use time::Time;
