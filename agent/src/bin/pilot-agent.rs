//! The daemon of a fleet host.

fn main() {}
