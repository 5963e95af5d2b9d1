//! As good as system calls get: merged datagrams in (`UDP_GRO`), grouped by destination within a batch, trains out
//! (`UDP_SEGMENT`). The grouping is the relay's own, so what differs is `recvmmsg` and `sendmmsg` against io_uring, and
//! the relay's rules against none.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};

use relay::endpoint::{LocalId, Path};
use relay::train::{Car, Trains};
use wire::beacon::ENDPOINT_MESSAGE_MAX;

use super::{Endpoints, SHRINK, Verdict};
use crate::udp::{Inbox, Message, Outbox, Socket};

/// Receives in one system call, each up to 64 KiB.
const BATCH: usize = 16;
const MERGED_BYTES: usize = 64 << 10;
const DATAGRAMS_MAX: usize = 4096;

pub(super) fn run(listen: SocketAddrV4) -> io::Result<()> {
    let socket = Socket::bind(listen, true)?;
    socket.set_merging(true)?;
    let mut endpoints = Endpoints::default();
    let mut inbox = Inbox::new(BATCH, MERGED_BYTES);
    let mut trains = Trains::new(DATAGRAMS_MAX);
    let mut outbox = Outbox::new(DATAGRAMS_MAX, DATAGRAMS_MAX);
    let mut reply = [0; ENDPOINT_MESSAGE_MAX];
    loop {
        for index in 0..inbox.receive(&socket, true)? {
            let message = inbox.message(index);
            for bytes in Message::datagrams(&message) {
                match endpoints.decide(message.from, &mut inbox.memory()[bytes.clone()], &mut reply) {
                    Verdict::Forward(to) if trains.room() > 0 => {
                        let to = Path { remote: SocketAddr::from(to).into(), local: LocalId(0) };
                        trains.add(to, Car { region: (), bytes: bytes.start + SHRINK..bytes.end }, false);
                    }
                    Verdict::Answer(len) => drop(socket.as_std()?.send_to(&reply[..len], message.from)),
                    Verdict::Forward(_) | Verdict::Drop => {}
                }
            }
        }
        for train in trains.trains() {
            let SocketAddr::V4(to) = train.to.remote.socket_addr() else { continue };
            let segment = (train.cars > 1).then_some(train.segment as u16);
            outbox.push(to, None, segment, trains.cars(train).map(|car| car.bytes.clone()));
        }
        outbox.flush(&socket, inbox.memory());
        trains.clear();
    }
}
