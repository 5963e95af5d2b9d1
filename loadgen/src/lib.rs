//! An open-loop load generator for relays and directories of the Pilot Protocol.
//!
//! **Life of a datagram.** [`plan`] says when it is due and on which of the [`flows`]; [`sizes`] says how long it is. A
//! [`worker`] stamps it ([`payload`]) and sends it on time, or late, in a batch, from the source address of its peer
//! ([`peers`], [`socket`]). The relay delivers it; the worker of the receiving peer reads it, [`delivery`] decides what
//! it is, [`arrivals`] whether it is the first, and the [`tally`] counts it and its latency, from the time it was due
//! until the kernel had it: in a histogram ([`latency`]) and over time ([`timeline`]).
//!
//! **Before that**, peers get node ids from the directory ([`register`]) and make themselves known to the relay
//! ([`discovery`], later [`renewals`]); together they are the [`fleet`]. [`run`] makes one load with it, or those that
//! [`search`] asks for. [`progress`] and [`view`] show how far things are.
//!
//! **After it**, the [`report`] says what it amounts to, and by [`saturation`] whose limit that is; it is checked
//! against [`conditions`], told as [`text`], shown as a [`page`] and set against another one by [`compare`],
//! all of them with [`numbers`] as people read them. [`args`] and [`config`] say what to do.
//!
//! **A directory's load** is of another kind, requests instead of datagrams, and has a room of its own: [`directory`].
//! What connections cost it that ask nothing any more is measured by [`idle`]. [`attack`] misuses either on purpose.

pub mod args;
pub mod arrivals;
pub mod attack;
pub mod clock;
pub mod compare;
pub mod conditions;
pub mod config;
pub mod delivery;
pub mod directory;
pub mod discovery;
pub mod fleet;
pub mod flows;
pub mod host;
pub mod idle;
pub mod latency;
pub mod numbers;
pub mod page;
pub mod payload;
pub mod peers;
pub mod plan;
pub mod progress;
pub mod ramp;
pub mod register;
pub mod renewals;
pub mod report;
pub mod run;
pub mod saturation;
pub mod search;
pub mod sizes;
pub mod socket;
pub mod tally;
pub mod text;
pub mod timeline;
pub mod view;
pub mod worker;
