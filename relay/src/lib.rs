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
//! | [`cookie`] | what a node has to sign to show that it is there | no |
//! | [`authority`] | whether it has, and who may be introduced to whom, by the directory's word | no |
//! | [`quota`], [`usage`] | what one node may send, where that is its own; what it has sent | no |
//! | [`fairness`] | which heavy senders the kernel holds back | no |
//! | [`locals`] | which of our addresses answers | no |
//! | [`sessions`], [`membership`] | where a node is; which nodes exist and which addresses are proven theirs | no |
//! | [`stun`] | what a STUN request is answered | no |
//! | [`events`] | what befell a node, as values | no |
//! | [`train`] | which datagrams leave together | no |
//! | [`inheritance`] | which sockets of the relay before can be served on | no |
//! | [`ledger`] | nothing; what outlives a process | yes |
//! | [`shard`] | nothing; drives one core: complete, decide, submit | yes |
//! | [`guard`] | nothing; has the kernel do what [`fairness`] decided, and accounts for it | yes |
//! | [`uring`], [`socket`], [`interfaces`], [`overflows`] | nothing; the safe face of the kernel | yes |
//! | [`mailbox`], [`event_queues`], [`questions`], [`doorbell`], [`runtime`] | nothing; messages between threads, and the threads | yes |
#![deny(unsafe_code)]

pub mod admission;
pub mod authority;
pub mod config;
pub mod contests;
pub mod cookie;
pub mod doorbell;
pub mod endpoint;
pub mod event_queues;
pub mod events;
pub mod fairness;
pub mod guard;
pub mod inheritance;
pub mod interfaces;
pub mod ledger;
pub mod locals;
pub mod mailbox;
pub mod mapping;
pub mod membership;
pub mod metrics;
pub mod overflows;
pub mod questions;
pub mod quota;
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
pub mod usage;

pub use endpoint::{Endpoint, Path};
pub use time::Time;
