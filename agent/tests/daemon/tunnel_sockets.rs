//! The tunnel's sockets: trains out, trains in, long datagrams, and ICMP's word.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use agent::config::values::Listen;
use agent::daemon::sockets::{Inbox, Outbox, Sending, Sockets};
use agent::node::Transmit;
use tokio::time::timeout;

use crate::world::{PATIENCE, loopback, run};

fn sockets() -> Sockets {
    Sockets::bind(Listen::At(loopback())).unwrap()
}

fn address(sockets: &Sockets) -> SocketAddr {
    sockets.local_addresses().next().unwrap()
}

/// Sends datagrams of these sizes; each is filled with its number.
async fn send(from: &Sockets, outbox: &mut Outbox, to: SocketAddr, sizes: &[usize]) {
    let mut next = (0_u8..).zip(sizes);
    let mut write = |out: &mut [u8]| {
        let (number, size) = next.next()?;
        out[..*size].fill(number);
        Some(Transmit { to, len: *size })
    };
    while outbox.send(from, usize::MAX, &mut write) != Sending::Done {
        timeout(PATIENCE, outbox.writable(from)).await.expect("the socket takes nothing");
    }
}

async fn receive(at: &Sockets, count: usize) -> Vec<(u8, usize)> {
    let mut inbox = Inbox::default();
    let mut received = Vec::new();
    while received.len() < count {
        timeout(PATIENCE, at.readable()).await.expect("nothing comes");
        inbox.receive(at, |_, datagram| received.push((datagram.first().copied().unwrap_or(0), datagram.len())));
    }
    received
}

#[test]
fn runs_leave_as_one_and_arrive_as_they_were() {
    run(|| async {
        let (from, to) = (sockets(), sockets());
        let mut outbox = Outbox::default();
        // A run with a shorter end, a longer one that cannot join, and more than fit into one train.
        let mut sizes = vec![1000; 10];
        sizes.extend([300, 1000, 1200]);
        sizes.extend([900; 70]);
        send(&from, &mut outbox, address(&to), &sizes).await;
        let expected: Vec<(u8, usize)> = (0..).zip(sizes.iter().copied()).collect();
        assert_eq!(receive(&to, sizes.len()).await, expected);
        let sent = outbox.sent();
        assert_eq!((sent.datagrams, sent.dropped), (sizes.len() as u64, 0));
        assert!(sent.sends <= 7, "{} sends for {} datagrams", sent.sends, sizes.len());
    });
}

#[test]
fn datagrams_beyond_the_mtu_arrive() {
    run(|| async {
        let (from, to) = (sockets(), sockets());
        let mut outbox = Outbox::default();
        // Loopback's MTU is 65536; these are the longest that UDP carries, and some that no train may hold.
        send(&from, &mut outbox, address(&to), &[65_507, 4171, 4171]).await;
        assert_eq!(receive(&to, 3).await, [(0, 65_507), (1, 4171), (2, 4171)]);
    });
}

#[test]
fn what_cannot_be_sent_is_dropped_and_the_rest_goes_on() {
    run(|| async {
        let (from, to) = (sockets(), sockets());
        let mut outbox = Outbox::default();
        // Too long for UDP, and of a family that has no socket here.
        send(&from, &mut outbox, address(&to), &[65_535]).await;
        send(&from, &mut outbox, "[::1]:9".parse().unwrap(), &[100]).await;
        send(&from, &mut outbox, address(&to), &[100]).await;
        assert_eq!(receive(&to, 1).await, [(0, 100)]);
        assert_eq!((outbox.sent().datagrams, outbox.sent().dropped), (1, 2));
    });
}

#[test]
fn a_destination_that_refuses_is_told_and_others_are_not_held_up() {
    run(|| async {
        let (from, to) = (sockets(), sockets());
        let nobody = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
        let mut outbox = Outbox::default();
        send(&from, &mut outbox, nobody, &[100]).await;
        let mut refused = Vec::new();
        let told = async {
            while refused.is_empty() {
                from.readable().await;
                from.take_errors(|destination| refused.push(destination));
            }
        };
        timeout(PATIENCE, told).await.expect("no word of the refusal");
        assert_eq!(refused, [nobody]);
        // The news of one datagram costs no other, even where nobody took it from the queue.
        send(&from, &mut outbox, nobody, &[100]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        send(&from, &mut outbox, address(&to), &[200]).await;
        assert_eq!(receive(&to, 1).await, [(0, 200)]);
        assert_eq!(outbox.sent().dropped, 0);
    });
}

#[test]
fn both_families_have_one_port() {
    run(|| async {
        let sockets = Sockets::bind(Listen::Anywhere(0)).unwrap();
        let ports: Vec<u16> = sockets.local_addresses().map(|local| local.port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0), "{ports:?}");
    });
}
