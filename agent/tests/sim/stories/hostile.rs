//! An attacker who hears all, owns a host and lies about addresses, while others work.

use std::time::Duration;

use super::{DELAY, Pair, SECOND, slow};
use crate::attacker::Attacker;
use crate::link::Conditions;
use crate::nat::Behaviour;
use crate::seed;
use crate::world::World;

const STRIKE_INTERVAL: Duration = Duration::from_millis(10);

#[test]
fn an_attacker_gets_nothing_in_and_stops_nobody() {
    let cone = Some(Behaviour::FULL_CONE);
    for nats in [[None, cone], [Some(Behaviour::SYMMETRIC); 2]] {
        let mut world = World::new(seed(50), 1);
        let lair = world.site(None, Conditions::clean(DELAY));
        let host = world.raw_host(lair);
        let Pair { mut world, a, b, .. } = Pair::with(world, nats, slow(DELAY));
        let mut attacker = Attacker::new(&mut world, host, &[a, b]);
        let mut flows = vec![world.dial(a, b, [300_000, 300_000])];
        for round in 0..2000 {
            attacker.strike(&mut world);
            world.run_for(STRIKE_INTERVAL);
            if round % 500 == 499 {
                let (from, to) = if round % 1000 == 499 { (b, a) } else { (a, b) };
                flows.push(world.dial(from, to, [50_000, 50_000]));
            }
            let lair = world.hosts[host.0].socket();
            assert!(
                world.direct(a, b) != Some(lair) && world.direct(b, a) != Some(lair),
                "traffic goes to the attacker at {lair}:\n{}",
                world.describe(flows[0])
            );
        }
        for flow in flows {
            world.delivered(flow, SECOND * 30);
        }
        world.check();
        println!("{}; {} attacks", world.evidence("attacker"), attacker.attacks);
    }
}

#[test]
fn copies_that_overtake_their_originals_draw_no_traffic_away() {
    for nats in [[None, Some(Behaviour::FULL_CONE)], [Some(Behaviour::FULL_CONE); 2], [Some(Behaviour::SYMMETRIC); 2]] {
        let mut world = World::new(seed(51), 1);
        let lair = world.site(None, Conditions::clean(DELAY));
        let racer = world.raw_host(lair);
        let Pair { mut world, a, b, .. } = Pair::with(world, nats, slow(DELAY));
        world.recorder.racer = Some(racer);
        for _ in 0..3 {
            let flow = world.dial(a, b, [100_000, 100_000]);
            world.delivered(flow, SECOND * 30);
            world.run_for(SECOND * 10);
            let lair = world.hosts[racer.0].socket();
            assert!(
                world.direct(a, b) != Some(lair) && world.direct(b, a) != Some(lair),
                "traffic goes to the attacker"
            );
        }
        world.check();
        let (node, peer) = (world.hosts[b.0].node(), world.hosts[a.0].id().expect("ready"));
        let lair = world.hosts[racer.0].socket().to_string();
        let known = node.and_then(|node| node.explain(world.now, peer)).expect("they have met").candidates;
        let overtaken = known.iter().any(|candidate| candidate.endpoint == lair);
        assert_eq!(overtaken, nats[1] != Some(Behaviour::SYMMETRIC), "what came first came from there");
        println!("{}", world.evidence("copies ahead"));
    }
}
