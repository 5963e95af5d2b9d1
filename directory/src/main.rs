//! `pilot-directory`: the directory as a program of its own.

fn main() {}
