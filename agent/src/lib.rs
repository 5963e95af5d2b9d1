//! A node of the Pilot Protocol, as plain values without I/O, clock or chance.
#![forbid(unsafe_code)]
