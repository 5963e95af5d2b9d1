//! Relays side by side: one generator drives each in turn, in short slices, round after round.
#![allow(dead_code)]

mod load;
mod report;

fn main() {}
