//! The command line of a fleet host.

fn main() {}
