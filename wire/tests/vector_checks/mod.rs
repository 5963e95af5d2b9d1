//! One check for each vector file. A check returns `None` for a vector that it does not know.

pub mod addresses;
pub mod beacon;
pub mod ipc;
pub mod packets;
pub mod signatures;
pub mod stun;
pub mod tunnel;

use wire::codec::Writer;

/// What `encode` writes.
pub fn written(room: usize, encode: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; room];
    let mut out = Writer::new(&mut buffer);
    encode(&mut out);
    let len = out.len();
    buffer.truncate(len);
    buffer
}
