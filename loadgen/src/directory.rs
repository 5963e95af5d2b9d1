//! The load of a directory: a population of nodes with capabilities, and then questions about them at a fixed rate.
//!
//! **The population** ([`population`]) derives from the seed: keys, names, addresses, and capability records written in
//! the words of a made-up [`vocabulary`]. [`enrol`] makes it known over a few [`connection`]s with many requests ahead:
//! how fast that goes is the first figure. **Then** [`drive`] asks questions of one [`kind`] after another, open-loop:
//! each is due at a fixed time whatever became of the others, and its latency counts from then. [`run`] puts these
//! together, once at a given rate or searching for the highest; [`process`] reads from the kernel what the directory's
//! process took meanwhile, if it is on this host. The [`report`] says what it amounts to, [`text`] in words.

pub mod args;
pub mod config;
pub mod connection;
pub mod drive;
pub mod enrol;
pub mod kind;
pub mod population;
pub mod process;
pub mod report;
pub mod run;
pub mod text;
pub mod vocabulary;
