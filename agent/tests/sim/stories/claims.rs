//! Signed claims: a node that comes back where the relay does not expect it is served at once.

use std::time::Duration;

use wire::beacon::Message;
use wire::codec::Writer;

use super::{DELAY, Pair, SECOND};
use crate::host::HostId;
use crate::link::Conditions;
use crate::nat::Behaviour;
use crate::relay::RELAY_KEY;
use crate::seed;
use crate::world::{Datagram, World};

const SYMMETRIC: Option<Behaviour> = Some(Behaviour::SYMMETRIC);

impl World {
    /// Whether the relay believes the node to be where it is, and by its signature.
    fn is_served(&self, host: HostId) -> (bool, bool) {
        let Some(node) = self.hosts[host.0].node() else { return (false, false) };
        let session = node.id().and_then(|id| self.relays[0].session(id));
        session.map_or((false, false), |(place, claimed)| (Some(place) == node.mapped_endpoint(), claimed))
    }

    fn forget_mappings(&mut self, host: HostId) {
        let site = self.hosts[host.0].site;
        self.sites[site.0].nat.as_mut().expect("behind a NAT").reboot();
    }
}

fn pair(own_seed: u64, takes_claims: bool) -> Pair {
    let mut world = World::new(seed(own_seed), 1);
    world.directory.relay_key = takes_claims.then_some(RELAY_KEY);
    Pair::with(world, [SYMMETRIC, SYMMETRIC], Conditions::clean(DELAY))
}

/// The NAT gives the new process another port at the address that is proven for both: without a signature the relay asks
/// the old port first, and waits.
#[test]
fn a_node_that_starts_anew_behind_another_port_does_not_wait_for_a_contest() {
    let served_after = |takes_claims| {
        let Pair { mut world, a, b, .. } = pair(60, takes_claims);
        assert_eq!(world.is_served(a), (true, takes_claims));
        world.restart_process(a);
        world.forget_mappings(a);
        let at = world.now;
        assert!(world.run_until(SECOND * 5, |world| world.hosts[a.0].id().is_some()));
        let registered = world.now.since(at);
        assert!(world.run_until(SECOND * 5, |world| world.is_served(a).0), "served at last");
        let served = world.now.since(at);
        world.dial_until_delivered(b, a, SECOND * 10);
        world.check();
        println!("claims {takes_claims}: registered after {registered:?}, served after {served:?}");
        served.saturating_sub(registered)
    };
    let (with, without) = (served_after(true), served_after(false));
    // Of the list, the challenge, the signature, one way each of which is 20 ms; against two questions of 350 ms.
    assert!(with <= Duration::from_millis(150), "{with:?}");
    assert!(without >= Duration::from_millis(500), "without claims it waits, or this story shows nothing: {without:?}");
}

#[test]
fn a_mapping_that_changes_is_made_good_by_the_next_discover() {
    let Pair { mut world, a, b, .. } = pair(61, true);
    for _ in 0..3 {
        world.forget_mappings(a);
        let id = world.hosts[a.0].id().expect("registered");
        let before = world.relays[0].session(id);
        assert!(world.run_until(SECOND * 40, |world| world.relays[0].session(id) != before));
        assert_eq!(world.is_served(a).1, true, "moved by a signature");
        world.dial_until_delivered(b, a, SECOND * 10);
    }
    world.check();
}

#[test]
fn a_relay_that_was_restarted_asks_again() {
    let Pair { mut world, a, b, .. } = pair(62, true);
    world.restart_relay(0);
    assert_eq!(world.is_served(a), (false, false));
    assert!(world.run_until(SECOND * 60, |world| [a, b].iter().all(|host| world.is_served(*host) == (true, true))));
    world.check();
}

/// An attacker that knows all but the keys: it wants the id for its own address, by claims of its own and by having the
/// node sign what the relay asked of the attacker.
#[test]
fn an_attacker_that_forges_challenges_and_claims_moves_nothing() {
    let mut world = World::new(seed(63), 1);
    let lair = world.site(None, Conditions::clean(DELAY));
    let host = world.raw_host(lair);
    let Pair { mut world, a, b, .. } = Pair::with(world, [None, SYMMETRIC], Conditions::clean(DELAY));
    let id = world.hosts[a.0].id().expect("registered");
    let (relay, node, own) = (world.relays[0].beacon(), world.hosts[a.0].socket(), world.hosts[host.0].socket());
    let place = world.relays[0].session(id);
    let written = |message: Message<'_>| {
        let mut bytes = vec![0; 128];
        let mut writer = Writer::new(&mut bytes);
        message.encode(&mut writer);
        let len = writer.len();
        bytes.truncate(len);
        bytes
    };
    for round in 0..200 {
        world.send(host, relay, written(Message::Claim { node: id, cookie: &[0; 16], signature: &[0; 64] }));
        world.run_for(Duration::from_millis(100));
        let crate::host::Process::Raw(inbox) = &mut world.hosts[host.0].process else { panic!("raw") };
        let challenges: Vec<Vec<u8>> = inbox.drain(..).map(|(_, bytes)| bytes).collect();
        for challenge in challenges {
            // As if the relay had asked the node.
            world.forge(Datagram { from: relay, to: node, bytes: challenge.clone() });
            if let Ok(Message::Challenge { cookie, .. }) = Message::decode(&challenge) {
                let claim = written(Message::Claim { node: id, cookie, signature: &[round as u8; 64] });
                world.send(host, relay, claim);
            }
        }
        world.run_for(Duration::from_millis(150));
        assert_eq!(world.relays[0].session(id), place);
        assert_ne!(place.map(|(place, _)| place), Some(own));
    }
    world.dial_until_delivered(b, a, SECOND * 10);
    world.check();
}
