//! The world without nodes: a script speaks the messages of the relay and the directory through simulated NATs. What
//! stories about nodes are measured against is measured here first.

use std::net::SocketAddr;
use std::time::Duration;

use agent::node::Ticket;
use wire::NodeId;
use wire::beacon::Message;
use wire::registry::answer::Answer;
use wire::registry::request::Register;
use wire::registry::{Base64, Operation, Request};

use crate::attacker::message;
use crate::directory::encode;
use crate::host::{HostId, Process};
use crate::link::Conditions;
use crate::nat::{Behaviour, Dependence};
use crate::seed;
use crate::world::World;

const DELAY: Duration = Duration::from_millis(20);
const TURN: Duration = Duration::from_millis(200);

/// The kinds of NAT in the field's older words.
pub const NATS: [(&str, Option<Behaviour>); 5] = [
    ("none", None),
    ("full cone", Some(Behaviour::FULL_CONE)),
    ("address-restricted", Some(Behaviour::ADDRESS_RESTRICTED)),
    ("port-restricted", Some(Behaviour::PORT_RESTRICTED)),
    ("symmetric", Some(Behaviour::SYMMETRIC)),
];

/// Whether two hosts behind these can reach each other after punching (RFC 5128, 3.3): one of them has to be reachable
/// at the endpoint that the relay knows of it, and its answers have to come through.
pub fn is_punchable(one: Option<Behaviour>, other: Option<Behaviour>) -> bool {
    let meet = |nat, peer| admits(nat, peer) && (shares_mapping(nat) || takes_other_ports(peer));
    meet(one, other) || meet(other, one)
}

/// Whether what goes to the peer leaves from the endpoint that the relay knows.
fn shares_mapping(nat: Option<Behaviour>) -> bool {
    nat.is_none_or(|nat| nat.mapping == Dependence::EndpointIndependent)
}

/// Whether an answer may come from another port of the address asked.
fn takes_other_ports(nat: Option<Behaviour>) -> bool {
    nat.is_none_or(|nat| nat.filtering != Dependence::AddressAndPortDependent)
}

/// Whether `nat` lets in what comes from behind `peer` to the endpoint that the relay knows. It has a mapping of its own
/// for the peer, with a permission of its own, unless all destinations share one.
fn admits(nat: Option<Behaviour>, peer: Option<Behaviour>) -> bool {
    nat.is_none_or(|own| match own.filtering {
        Dependence::EndpointIndependent => true,
        Dependence::AddressDependent => shares_mapping(nat),
        Dependence::AddressAndPortDependent => shares_mapping(nat) && shares_mapping(peer),
    })
}

impl World {
    fn take(&mut self, host: HostId) -> Vec<(SocketAddr, Vec<u8>)> {
        match &mut self.hosts[host.0].process {
            Process::Raw(inbox) => inbox.drain(..).collect(),
            Process::Node(_) => panic!("the node reads for itself"),
        }
    }

    fn register_raw(&mut self, host: HostId, listen_addr: &str) -> NodeId {
        let public_key = Base64(self.hosts[host.0].identity().public_key());
        let operation = Operation::Register(Register {
            listen_addr: listen_addr.into(),
            public_key,
            owner: String::new(),
            hostname: String::new(),
            version: String::new(),
            lan_addrs: Vec::new(),
            relay_only: false,
        });
        let text = operation.signed_text().expect("registrations are signed");
        let signature = Some(Base64(self.hosts[host.0].identity().sign(text.as_bytes())));
        let request = Request { signature, ..operation.into() };
        match self.ask_and_await(host, &request) {
            Answer::Register(registered) => registered.node_id,
            other => panic!("not registered: {other:?}"),
        }
    }

    fn ask_and_await(&mut self, host: HostId, request: &Request) -> Answer {
        self.ask_raw(host, Ticket(0), encode(request));
        self.run_for(TURN);
        self.raw_answers.pop().expect("the directory answers within a turn").expect("it is reachable")
    }

    fn discover_raw(&mut self, host: HostId, node: NodeId) -> Option<SocketAddr> {
        let relay = self.relays[0].beacon();
        self.send(host, relay, message(&Message::Discover { node, extended: false }));
        self.run_for(TURN);
        self.take(host).iter().find_map(|(from, bytes)| match Message::decode(bytes) {
            Ok(Message::DiscoverReply(mapped)) if *from == relay => Some(mapped),
            _ => None,
        })
    }
}

/// Both punch toward what the relay names, three times; each then answers where a probe came from.
fn punch(world: &mut World, [(a, a_id), (b, b_id)]: [(HostId, NodeId); 2]) -> bool {
    let relay = world.relays[0].beacon();
    world.send(a, relay, message(&Message::PunchRequest { requester: a_id, target: b_id }));
    let mut heard = [false; 2];
    for _ in 0..20 {
        world.run_for(Duration::from_millis(30));
        for (side, host) in [a, b].into_iter().enumerate() {
            for (from, bytes) in world.take(host) {
                match Message::decode(&bytes) {
                    Ok(Message::PunchCommand(to)) if from == relay => {
                        (0..3).for_each(|_| world.send(host, to, b"PILP".to_vec()));
                    }
                    _ if bytes == b"PILP" => {
                        let first = !std::mem::replace(&mut heard[side], true);
                        if first {
                            world.send(host, from, b"PILP".to_vec());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    heard == [true; 2]
}

#[test]
fn every_pair_of_nats_is_punched_where_it_can_be() {
    let mut punched = 0;
    for (one_name, one) in NATS {
        for (other_name, other) in NATS {
            let mut world = World::new(seed(1), 1);
            let mut peers = Vec::new();
            for behaviour in [one, other] {
                let site = world.site(behaviour, Conditions::clean(DELAY));
                let host = world.raw_host(site);
                let id = world.register_raw(host, "0.0.0.0:4000");
                let mapped = world.discover_raw(host, id).expect("the relay answers");
                assert_eq!(mapped.ip(), world.sites[site.0].outer_of(&world.hosts[host.0]));
                peers.push((host, id));
            }
            let direct = punch(&mut world, [peers[0], peers[1]]);
            assert_eq!(direct, is_punchable(one, other), "{one_name} to {other_name}");
            punched += usize::from(direct);
        }
    }
    println!("{punched} of 25 ordered pairs punched, as predicted");
}

#[test]
fn the_relay_carries_what_cannot_go_directly_and_forgets_all_on_restart() {
    let mut world = World::new(seed(2), 2);
    let mut peers = Vec::new();
    for _ in 0..2 {
        let site = world.site(Some(Behaviour::SYMMETRIC), Conditions::clean(DELAY));
        let host = world.raw_host(site);
        let id = world.register_raw(host, "0.0.0.0:4000");
        world.discover_raw(host, id).expect("the relay answers");
        peers.push((host, id));
    }
    let [(a, a_id), (b, b_id)] = [peers[0], peers[1]];
    let relay = world.relays[0].beacon();
    let relayed = |world: &mut World| {
        world.send(a, relay, message(&Message::Relay { sender: a_id, dest: b_id, inner: b"hello" }));
        world.run_for(TURN);
        let deliver = message(&Message::Deliver { sender: a_id, inner: b"hello" });
        world.take(b).contains(&(relay, deliver))
    };
    assert!(relayed(&mut world));
    world.restart_relay(0);
    assert!(!relayed(&mut world), "it has no session of either");
    for (host, id) in [(a, a_id), (b, b_id)] {
        world.discover_raw(host, id).expect("it still knows who exists");
    }
    assert!(relayed(&mut world));
    world.relays[0].up = false;
    assert!(!relayed(&mut world));
    world.check();
}

#[test]
fn the_directory_keeps_facts_over_a_restart_and_answers_nobody_while_away() {
    let mut world = World::new(seed(3), 1);
    let site = world.site(None, Conditions::clean(DELAY));
    let host = world.raw_host(site);
    let id = world.register_raw(host, "0.0.0.0:4000");
    world.stop_directory();
    world.ask_raw(host, Ticket(1), encode(&Operation::Lookup { node_id: id }.into()));
    world.run_for(TURN);
    assert!(matches!(world.raw_answers.pop(), Some(Err(_))), "nobody answers");
    world.start_directory();
    assert_eq!(world.register_raw(host, "0.0.0.0:4000"), id, "the same key has the same number");
    match world.ask_and_await(host, &Operation::Lookup { node_id: id }.into()) {
        Answer::Lookup(found) => assert_eq!(found.public_key.0, world.hosts[host.0].identity().public_key()),
        other => panic!("not found: {other:?}"),
    }
}

#[test]
fn hosts_behind_one_nat_meet_in_their_lan_and_by_hairpin() {
    for hairpins in [false, true] {
        let mut world = World::new(seed(4), 1);
        let site = world.site(Some(Behaviour { hairpins, ..Behaviour::FULL_CONE }), Conditions::clean(DELAY));
        let (a, b) = (world.raw_host(site), world.raw_host(site));
        let b_id = world.register_raw(b, "0.0.0.0:4000");
        let mapped = world.discover_raw(b, b_id).expect("the relay answers");
        world.send(a, mapped, b"PILP".to_vec());
        world.run_for(TURN);
        assert_eq!(world.take(b).len(), usize::from(hairpins));
        let inner = world.hosts[b.0].socket();
        world.send(a, inner, b"PILP".to_vec());
        world.run_for(TURN);
        assert_eq!(world.take(b), [(world.hosts[a.0].socket(), b"PILP".to_vec())]);
    }
}

#[test]
fn a_seed_replays_exactly() {
    let run = |seed| {
        let mut world = World::new(seed, 1);
        let mut conditions = Conditions::clean(DELAY);
        (conditions.lost_per_mille, conditions.jitter) = (100, DELAY);
        let site = world.site(Some(Behaviour::SYMMETRIC), conditions);
        let host = world.raw_host(site);
        let relay = world.relays[0].beacon();
        for _ in 0..100 {
            world.send(host, relay, message(&Message::Discover { node: NodeId(0), extended: false }));
            world.run_for(Duration::from_millis(7));
        }
        (world.watch.trace(), world.take(host), world.all_faults())
    };
    let seed = seed(5);
    assert_eq!(run(seed), run(seed));
    assert_ne!(run(seed).0, run(seed + 1).0);
}
