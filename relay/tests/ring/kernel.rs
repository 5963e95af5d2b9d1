//! The ring alone, without a shard around it.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use relay::socket::bind_group;
use relay::uring::{BUFFERS, Completion, FileSlot, Lease, Ring, Wait};

use super::world::LOOPBACK;

const SLOT: FileSlot = FileSlot(0);

/// What happened until the ring had nothing more to say.
#[derive(Default)]
struct Turn {
    numbers: Vec<u32>,
    leases: Vec<Lease>,
    ended: Vec<i32>,
}

impl Turn {
    fn take(ring: &mut Ring, wait: Wait) -> Self {
        ring.submit_and_wait(wait).unwrap();
        let mut turn = Self::default();
        while let Some(completion) = ring.next_completion() {
            match completion {
                Completion::Received(received) => {
                    let bytes = &ring.bytes(&received.lease)[received.payload];
                    turn.numbers.push(u32::from_be_bytes(bytes.try_into().unwrap()));
                    turn.leases.push(received.lease);
                }
                Completion::ReceiveEnded(SLOT, errno) => turn.ended.push(errno),
                other => panic!("{other:?}"),
            }
        }
        turn
    }
}

#[test]
fn running_out_of_buffers_ends_the_receive_and_loses_nothing() {
    let sent = 3 * u32::from(BUFFERS);
    let (place, mut sockets) = bind_group(LOOPBACK, 1).unwrap();
    let (main, _sibling) = sockets.remove(0);
    let mut ring = Ring::new(1, 64).unwrap();
    ring.install(SLOT, main.as_fd()).unwrap();
    // Two clients in turn, so that the kernel has nothing to merge.
    let clients = [(); 2].map(|()| UdpSocket::bind(LOOPBACK).unwrap());
    for number in 0..sent {
        clients[number as usize % 2].send_to(&number.to_be_bytes(), place).unwrap();
    }
    ring.receive(SLOT).unwrap();
    let mut numbers = Vec::new();
    let mut held = Vec::new();
    let mut exhausted = 0;
    while numbers.len() < sent as usize {
        let turn = Turn::take(&mut ring, Wait::AtMost(Duration::from_secs(10)));
        assert!(!turn.numbers.is_empty() || !turn.ended.is_empty(), "{} of {sent} and no more", numbers.len());
        numbers.extend(turn.numbers);
        held.extend(turn.leases);
        assert!(held.len() <= usize::from(BUFFERS));
        for errno in turn.ended {
            assert_eq!(errno, Errno::ENOBUFS as i32);
            assert_eq!(held.len(), usize::from(BUFFERS), "the receive ends when every buffer is out");
            exhausted += 1;
            // Give back, publish, and only then receive again.
            held.drain(..).for_each(|lease| ring.give_back(lease));
            ring.publish();
            ring.receive(SLOT).unwrap();
        }
    }
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
    assert!(exhausted >= 2, "the buffers ran out {exhausted} times");
}
