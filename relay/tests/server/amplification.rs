//! How much the relay sends for what it is sent: every message it answers, in both families, from the rules themselves. The
//! table is printed (`--nocapture`) and its bounds are promised in `SECURITY.md`.
//!
//! Counted is all that follows from one datagram, to whomever, until nothing more is due. The directory is no part of it:
//! it speaks TCP, which answers only who has shown by a handshake that it receives.

use std::time::Duration;

use relay::endpoint::LocalId;
use relay::server::{Admission, Rules};
use wire::NodeId;
use wire::beacon::Message;
use wire::stun::{ChangeRequest, Request, SOFTWARE_MAX, TransactionId};

use super::world::{BEACON, BEACON_V6, STUN, World, encode};

const STUN_V6: LocalId = LocalId(5);
const IPV4_AND_UDP: usize = 20 + 8;
const IPV6_AND_UDP: usize = 40 + 8;
/// Bytes out per byte in, IP and UDP headers included, that nothing may exceed: to the source of a datagram, and to all.
const REPLY_FACTOR_MAX: f64 = 3.4;
const FACTOR_MAX: f64 = 6.5;

/// Two nodes in place and one more that the directory knows, all of one family.
struct Stage {
    world: World,
    local: LocalId,
    alice: &'static str,
    bob: &'static str,
    stranger: &'static str,
}

const V4: [&str; 4] = ["198.18.1.1:4001", "198.18.1.2:4002", "198.18.6.6:666", "198.18.1.3:4003"];
const V6: [&str; 4] = ["[2001:db8:1::1]:4001", "[2001:db8:2::2]:4002", "[2001:db8:6::6]:666", "[2001:db8:3::3]:4003"];

impl Stage {
    fn new(is_v6: bool) -> Self {
        let rules = Rules { stun_software: Some("x".repeat(SOFTWARE_MAX)), ..Rules::default() };
        let mut world = World::with_rules(Rules { admission: Admission::Grace, ..rules }, 1, 1024);
        world.membership.set_authority(true);
        let ([alice, bob, stranger, carol], local) = if is_v6 { (V6, BEACON_V6) } else { (V4, BEACON) };
        for (node, place) in [(1, alice), (2, bob), (3, carol)] {
            world.registered_at(node, place);
        }
        for (node, place) in [(1, alice), (2, bob)] {
            world.receive_on(0, local, place, &encode(Message::Discover { node: NodeId(node), extended: false }));
        }
        world.take_sent();
        Self { world, local, alice, bob, stranger }
    }

    /// What follows from one datagram.
    fn provoke(&mut self, local: LocalId, from: &str, datagram: &[u8]) -> Outcome {
        self.world.receive_on(0, local, from, datagram);
        self.world.pass(Duration::from_secs(3));
        let from: std::net::SocketAddr = from.parse().unwrap();
        let headers = |is_ipv4: bool| if is_ipv4 { IPV4_AND_UDP } else { IPV6_AND_UDP };
        let mut outcome = Outcome {
            bytes_in: datagram.len(),
            packets_in: datagram.len() + headers(from.is_ipv4()),
            ..Outcome::default()
        };
        for sent in self.world.take_sent() {
            let packet = sent.bytes.len() + headers(sent.to.is_ipv4());
            if sent.to == from {
                outcome.reply_bytes += sent.bytes.len();
                outcome.reply_packets += packet;
            } else {
                outcome.other_bytes += sent.bytes.len();
                outcome.other_packets += packet;
            }
        }
        outcome
    }
}

/// Bytes, of payload alone and of whole IP packets.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    bytes_in: usize,
    packets_in: usize,
    reply_bytes: usize,
    reply_packets: usize,
    other_bytes: usize,
    other_packets: usize,
}

impl Outcome {
    fn reply_factor(&self) -> f64 {
        self.reply_packets as f64 / self.packets_in as f64
    }

    fn factor(&self) -> f64 {
        (self.reply_packets + self.other_packets) as f64 / self.packets_in as f64
    }

    fn assert_bounded(&self, what: &str) {
        assert!(self.reply_factor() <= REPLY_FACTOR_MAX, "{what}: {self:?}");
        assert!(self.factor() <= FACTOR_MAX, "{what}: {self:?}");
    }
}

/// A Binding request without, and with, comprehension-required attributes nobody knows.
fn binding(change: ChangeRequest, unknown: u16) -> Vec<u8> {
    let mut buffer = [0; wire::stun::REQUEST_MAX];
    let len = Request { change, ..Request::new(TransactionId::new([7; 12])) }.encode(&mut buffer);
    let mut request = buffer[..len].to_vec();
    for kind in 0..unknown {
        request.extend((0x0010 + kind).to_be_bytes());
        request.extend([0, 0]);
    }
    let len = (request.len() - 20) as u16;
    request[2..4].copy_from_slice(&len.to_be_bytes());
    request
}

fn classic_binding() -> Vec<u8> {
    [&[0, 1, 0, 0][..], &[9; 16]].concat()
}

#[test]
fn the_table_of_bytes_out_for_bytes_in() {
    let mut rows: Vec<(&str, [Outcome; 2], [usize; 2])> = Vec::new();
    // What it is, who says what to which port, and the payload bytes of all that follows, over IPv4 and IPv6.
    let mut row = |what: &'static str, expected: [usize; 2], say: &dyn Fn(&mut Stage) -> Outcome| {
        rows.push((what, [false, true].map(|is_v6| say(&mut Stage::new(is_v6))), expected));
    };
    let discover = |node, extended| encode(Message::Discover { node: NodeId(node), extended });
    let punch = |from, to| encode(Message::PunchRequest { requester: NodeId(from), target: NodeId(to) });
    let relay = |from, to| encode(Message::Relay { sender: NodeId(from), dest: NodeId(to), inner: &[] });
    let port = ChangeRequest { port: true, ..ChangeRequest::default() };
    let address = ChangeRequest { address: true, ..ChangeRequest::default() };
    let stun = |stage: &Stage| if stage.local == BEACON { STUN } else { STUN_V6 };

    row("01 discover, id 0 or unknown", [8, 20], &|stage| {
        stage.provoke(stage.local, stage.stranger, &discover(77, false))
    });
    row("01 discover, own id", [8, 20], &|stage| stage.provoke(stage.local, stage.alice, &discover(1, false)));
    row("08 discover-ex, own id", [8, 20], &|stage| stage.provoke(stage.local, stage.alice, &discover(1, true)));
    row("01 discover, another's id (contest)", [8 + 4 * 8, 20 + 4 * 20], &|stage| {
        stage.provoke(stage.local, stage.stranger, &discover(1, false))
    });
    row("03 punch", [8 + 8, 20 + 20], &|stage| stage.provoke(stage.local, stage.alice, &punch(1, 2)));
    row("03 punch, target without session (recall)", [2 * 8, 2 * 20], &|stage| {
        stage.provoke(stage.local, stage.alice, &punch(1, 3))
    });
    row("03 punch in another's name", [0, 0], &|stage| stage.provoke(stage.local, stage.stranger, &punch(1, 2)));
    row("05 relay", [5, 5], &|stage| stage.provoke(stage.local, stage.alice, &relay(1, 2)));
    row("05 relay, target without session (recall)", [2 * 8, 2 * 20], &|stage| {
        stage.provoke(stage.local, stage.alice, &relay(1, 3))
    });
    row("05 relay in another's name (contest)", [4 * 8, 4 * 20], &|stage| {
        stage.provoke(stage.local, stage.stranger, &relay(1, 2))
    });
    row("PILP, asked for or not", [0, 0], &|stage| stage.provoke(stage.local, stage.bob, b"PILP"));
    row("STUN Binding", [32 + 24 + 68, 32 + 60 + 68], &|stage| {
        stage.provoke(stage.local, stage.stranger, &binding(ChangeRequest::default(), 0))
    });
    row("STUN Binding, other port", [32 + 24 + 68, 32 + 60 + 68], &|stage| {
        stage.provoke(stage.local, stage.stranger, &binding(port, 0))
    });
    row("STUN Binding, other address", [124, 56], &|stage| {
        stage.provoke(stun(stage), stage.stranger, &binding(address, 0))
    });
    row("STUN Binding, 1 unknown attribute", [56, 56], &|stage| {
        stage.provoke(stage.local, stage.stranger, &binding(ChangeRequest::default(), 1))
    });
    row("STUN Binding, 8 unknown attributes", [64, 64], &|stage| {
        stage.provoke(stage.local, stage.stranger, &binding(ChangeRequest::default(), 8))
    });
    row("STUN Binding, classic (port 3478)", [56, 92], &|stage| {
        stage.provoke(stun(stage), stage.stranger, &classic_binding())
    });

    println!("| message | in | out v4 | out v6 | to the source, with headers v4 / v6 | to all, with headers v4 / v6 |");
    println!("|---|---|---|---|---|---|");
    for (what, [v4, v6], _) in &rows {
        println!(
            "| {what} | {} | {} | {} | {:.2} / {:.2} | {:.2} / {:.2} |",
            v4.bytes_in,
            v4.reply_bytes + v4.other_bytes,
            v6.reply_bytes + v6.other_bytes,
            v4.reply_factor(),
            v6.reply_factor(),
            v4.factor(),
            v6.factor()
        );
    }
    for (what, outcomes, expected) in &rows {
        let out = outcomes.map(|outcome| outcome.reply_bytes + outcome.other_bytes);
        assert_eq!(out, *expected, "{what}: {outcomes:?}");
        outcomes.iter().for_each(|outcome| outcome.assert_bounded(what));
    }
}

/// Whatever type a datagram has and however long it is, from whomever.
#[test]
fn nothing_else_draws_more() {
    for is_v6 in [false, true] {
        for kind in 0..=u8::MAX {
            let mut stage = Stage::new(is_v6);
            for len in 0..48 {
                for from in [stage.alice, stage.stranger] {
                    for ids in [[0, 0, 0, 1], [0, 0, 0, 2], [0, 0, 0, 3]] {
                        let mut datagram = [&[kind][..], &ids, &[0, 0, 0, 3], &[0; 48]].concat();
                        datagram.truncate(len);
                        let what = format!("type {kind:02x}, {len} bytes from {from}");
                        stage.provoke(stage.local, from, &datagram).assert_bounded(&what);
                    }
                }
            }
        }
    }
}

/// A victim whose address is forged gets what the budget of its prefix grants and no more.
#[test]
fn what_is_reflected_to_one_prefix_is_bounded_in_a_second() {
    let mut stage = Stage::new(false);
    let request = binding(ChangeRequest::default(), 0);
    let mut reflected = 0;
    for second in 0..6 {
        let before = reflected;
        for _ in 0..100 {
            for _ in 0..100 {
                stage.world.receive_on(0, stage.local, stage.stranger, &request);
            }
            stage.world.pass(Duration::from_millis(10));
        }
        reflected += stage.world.take_sent().iter().map(|sent| sent.bytes.len() + IPV4_AND_UDP).sum::<usize>();
        // The burst is used up in the first second.
        if second > 0 {
            assert!(reflected - before <= 501 * (124 + IPV4_AND_UDP), "{} in a second", reflected - before);
        }
    }
}
