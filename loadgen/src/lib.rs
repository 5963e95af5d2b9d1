//! An open-loop load generator for relays and directories of the Pilot Protocol.
//!
//! **Life of a datagram.** [`plan`] says when it is due and who sends it. A [`worker`] stamps it ([`payload`]) and
//! sends it on time, or late, in a batch, from the source address of its peer ([`peers`], [`socket`]). The relay
//! delivers it; the worker of the receiving peer reads it, [`delivery`] decides what it is, [`arrivals`] whether it is
//! the first, and [`report`] counts it and its latency, from the time it was due until the kernel had it.
//!
//! **Before that**, peers get node ids from the directory ([`register`]) and make themselves known to the relay
//! ([`discovery`]). [`run`] holds the phases together, [`view`] shows how far they are, [`config`] says what to do.

pub mod arrivals;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod discovery;
pub mod payload;
pub mod peers;
pub mod plan;
pub mod register;
pub mod report;
pub mod run;
pub mod socket;
pub mod view;
pub mod worker;
