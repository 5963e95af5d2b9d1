//! Streams over simulated links: speed, faults, old peers, and segments that nobody should send.

#![expect(clippy::print_stdout, reason = "the figures are what these tests show")]

mod faults;
mod link;
mod old_peer;
mod stories;
mod transfer;
mod world;
