//! Up to 64 datagrams a turn, each sent by itself: `recvmmsg`, `sendmmsg`.

use std::io;
use std::net::SocketAddrV4;

use wire::beacon::ENDPOINT_MESSAGE_MAX;

use super::{BATCH, DATAGRAM_BYTES, Endpoints, SHRINK, Verdict};
use crate::udp::{Inbox, Outbox, Socket};

pub(super) fn run(listen: SocketAddrV4) -> io::Result<()> {
    let socket = Socket::bind(listen, true)?;
    let mut endpoints = Endpoints::default();
    let mut inbox = Inbox::new(BATCH, DATAGRAM_BYTES);
    let mut outbox = Outbox::new(BATCH, BATCH);
    let mut reply = [0; ENDPOINT_MESSAGE_MAX];
    loop {
        for index in 0..inbox.receive(&socket, true)? {
            let message = inbox.message(index);
            let bytes = message.bytes.clone();
            match endpoints.decide(message.from, &mut inbox.memory()[bytes.clone()], &mut reply) {
                Verdict::Forward(to) => outbox.push_one(to, None, bytes.start + SHRINK..bytes.end),
                Verdict::Answer(len) => drop(socket.as_std()?.send_to(&reply[..len], message.from)),
                Verdict::Drop => {}
            }
        }
        outbox.flush(&socket, inbox.memory());
    }
}
