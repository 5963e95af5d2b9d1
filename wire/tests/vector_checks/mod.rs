//! One check for each vector file. A check returns `None` for a vector that it does not know.

pub mod addresses;
pub mod beacon;
pub mod ipc;
pub mod packets;
pub mod sack;
pub mod secure;
pub mod services;
pub mod signatures;
pub mod stun;
pub mod tunnel;
