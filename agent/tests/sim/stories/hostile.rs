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
                "traffic goes to the attacker"
            );
        }
        for flow in flows {
            world.delivered(flow, SECOND * 30);
        }
        world.check();
        println!("{}; {} attacks", world.evidence("attacker"), attacker.attacks);
    }
}
