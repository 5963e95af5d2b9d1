//! The floor: what the kernel takes for receiving and sending, and nothing else. Batches as large as pay, "don't
//! fragment" set (which saves drawing an identification), one fixed destination, no look at the bytes.

use std::io;
use std::net::SocketAddrV4;

use super::{BATCH, DATAGRAM_BYTES, SHRINK};
use crate::udp::{Inbox, Outbox, Socket};

pub(super) fn run(listen: SocketAddrV4, fixed: SocketAddrV4) -> io::Result<()> {
    let socket = Socket::bind(listen, true)?;
    let mut inbox = Inbox::new(BATCH, DATAGRAM_BYTES);
    let mut outbox = Outbox::new(BATCH, BATCH);
    loop {
        for index in 0..inbox.receive(&socket, true)? {
            let bytes = inbox.message(index).bytes;
            outbox.push_one(fixed, None, (bytes.start + SHRINK).min(bytes.end)..bytes.end);
        }
        outbox.flush(&socket, inbox.memory());
    }
}
