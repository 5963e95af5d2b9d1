//! Bad links: loss, duplication, reordering, a small MTU.

use wire::address::SocketAddress;

use super::{DELAY, Pair, SECOND};
use crate::link::Conditions;
use crate::nat::Behaviour;
use crate::seed;
use crate::watch::{fill, fits};
use crate::world::World;

const STRICT: Option<Behaviour> = Some(Behaviour::PORT_RESTRICTED);
const SYMMETRIC: Option<Behaviour> = Some(Behaviour::SYMMETRIC);

fn bad() -> Conditions {
    Conditions {
        jitter: DELAY / 4,
        lost_per_mille: 20,
        duplicated_per_mille: 20,
        reordered_per_mille: 20,
        reordering: DELAY,
        bits_per_second: 20_000_000,
        ..Conditions::clean(DELAY)
    }
}

#[test]
fn bytes_arrive_once_and_in_order_over_bad_links() {
    for nats in [[STRICT, STRICT], [SYMMETRIC, SYMMETRIC], [None, SYMMETRIC]] {
        let mut pair = Pair::with(World::new(seed(40), 1), nats, bad());
        let flow = pair.world.dial(pair.a, pair.b, [500_000, 500_000]);
        pair.world.delivered(flow, SECOND * 60);
        pair.world.check();
        let took = pair.world.now.since(pair.world.flows[flow].dialled_at);
        assert!(pair.world.all_faults().total() > 50);
        println!("{}; took {took:?}", pair.world.evidence("bad links"));
    }
}

#[test]
fn a_small_mtu_holds_everything() {
    for nats in [[STRICT, STRICT], [SYMMETRIC, SYMMETRIC]] {
        let conditions = Conditions { mtu: 1280, ..Conditions::clean(DELAY) };
        let mut pair = Pair::with(World::new(seed(41), 1), nats, conditions);
        let flow = pair.world.dial(pair.a, pair.b, [200_000, 200_000]);
        pair.world.delivered(flow, SECOND * 20);
        assert_eq!(pair.world.all_faults().too_long, 0, "nothing was too long");
        println!("{}", pair.world.evidence("MTU 1280"));
    }
}

#[test]
fn datagrams_arrive_at_most_once_and_whole() {
    const COUNT: u64 = 300;
    for nats in [[STRICT, STRICT], [SYMMETRIC, SYMMETRIC]] {
        let Pair { mut world, a, b, .. } = Pair::with(World::new(seed(42), 1), nats, bad());
        world.with_node(a, |_, node| node.bind(700)).expect("free");
        world.with_node(b, |_, node| node.bind(700)).expect("free");
        let to = SocketAddress { address: world.hosts[b.0].id().expect("ready").address(), port: 700 };
        for number in 0..COUNT {
            let mut data = vec![0; 8 + 60 + (number as usize * 37) % 1000];
            data[..8].copy_from_slice(&number.to_be_bytes());
            fill(number, 0, &mut data[8..]);
            world.with_node(a, |now, node| node.send_datagram(now, 700, to, &data)).expect("registered");
            world.run_for(DELAY);
        }
        world.run_for(SECOND * 2);
        let mut seen = vec![false; COUNT as usize];
        let sender = world.hosts[a.0].id().expect("ready");
        for (source, port, data) in &world.hosts[b.0].datagrams {
            let (number, rest) = data.split_first_chunk().expect("whole");
            let number = u64::from_be_bytes(*number);
            assert!((*source, *port) == (sender, 700) && fits(number, 0, rest));
            assert_eq!(rest.len(), 60 + (number as usize * 37) % 1000);
            assert!(!std::mem::replace(&mut seen[number as usize], true), "datagram {number} came twice");
        }
        let arrived = seen.iter().filter(|seen| **seen).count() as u64;
        assert!(arrived > COUNT * 85 / 100, "{arrived} of {COUNT}");
        world.check();
        println!("{}; {arrived} of {COUNT} datagrams", world.evidence("datagrams"));
    }
}
