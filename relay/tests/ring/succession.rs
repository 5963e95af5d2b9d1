//! A relay takes over the sockets and sessions of another: nothing that was sent is lost, wherever it was when the one
//! before stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use relay::inheritance::Descriptor;
use relay::ledger;
use relay::membership::Membership;
use relay::metrics::{Counter, Counters, Gauge};
use relay::runtime::Relay;
use wire::NodeId;
use wire::beacon::Message;

use super::world::{LOOPBACK, Node, World, config};

const SHARDS: usize = 2;

/// What a relay leaves when it has stopped.
fn leave(relay: &Relay) -> (Vec<Descriptor>, Vec<ledger::Record>) {
    let (descriptors, ledger) = (relay.descriptors().unwrap(), relay.ledger().unwrap());
    relay.stop();
    assert!(relay.counters().iter().all(Counters::balanced));
    (descriptors, ledger::read(ledger).unwrap().records)
}

/// A relay on what another has left, which does not serve yet.
fn follow(descriptors: Vec<Descriptor>, place: std::net::SocketAddr, shards: usize) -> World {
    let relay =
        Relay::start_with(&config(place, shards), Arc::new(Membership::default()), descriptors, || Ok(())).unwrap();
    World { relay }
}

#[test]
fn what_is_sent_while_nobody_receives_is_delivered_by_the_next_relay() {
    /// No more than a node has room for.
    const PACKETS: u32 = 100;
    let first = World::serving(LOOPBACK, SHARDS);
    let place = first.place();
    let (alice, bob) = (Node::new(place, NodeId(1)), Node::new(place, NodeId(2)));
    let (descriptors, records) = leave(&first.relay);
    drop(first);
    for number in 0..PACKETS {
        alice.relay(bob.id, &number.to_be_bytes());
        bob.relay(alice.id, &number.to_be_bytes());
    }
    let second = follow(descriptors, place, SHARDS);
    assert_eq!(second.relay.inherit(records), 2);
    second.relay.serve().unwrap();
    for number in 0..PACKETS {
        assert_eq!(bob.delivery(alice.id), number.to_be_bytes());
        assert_eq!(alice.delivery(bob.id), number.to_be_bytes());
    }
    let shards = second.counters();
    // Steering is as it was, and nothing is counted twice.
    let forwarded: Vec<u64> = shards.iter().map(|shard| shard.get(Counter::Forwarded)).collect();
    assert_eq!(forwarded, [u64::from(PACKETS); SHARDS]);
    let total = second.total();
    assert_eq!((total.get(Counter::SessionsInherited), total.gauge(Gauge::Sessions)), (2, 2));
    assert_eq!((total.get(Counter::KernelDrops), total.dropped_total(), second.relay.kernel_drops()), (0, 0, 0));
    second.stop();
}

#[test]
fn under_load_no_number_is_missing_and_none_comes_twice() {
    const ROUNDS: usize = 5;
    /// Packets on their way at most, so that no buffer of the test's own overflows.
    const WINDOW: u32 = 64;
    let mut world = World::serving(LOOPBACK, SHARDS);
    let place = world.place();
    let (alice, bob) = (Node::new(place, NodeId(1)), Node::new(place, NodeId(2)));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let (mut sent, mut heard) = (0u32, 0u32);
            while !stop.load(Ordering::Relaxed) || heard < sent {
                while !stop.load(Ordering::Relaxed) && sent - heard < WINDOW {
                    alice.relay(bob.id, &sent.to_be_bytes());
                    sent += 1;
                }
                // In order, each once: the test fails at the first that is missing.
                assert_eq!(bob.delivery(alice.id), heard.to_be_bytes());
                heard += 1;
            }
            sent
        });
        for round in 1..=ROUNDS {
            let before = world.relay.turns();
            let (descriptors, records) = leave(&world.relay);
            let next = follow(descriptors, place, SHARDS);
            assert_eq!(next.relay.inherit(records), 2, "round {round}");
            next.relay.serve().unwrap();
            world = next;
            // The next round begins when this relay is at work under load.
            let busy = || world.relay.counters().iter().map(|shard| shard.get(Counter::Forwarded)).sum::<u64>() > 2000;
            while !busy() && !sender.is_finished() {
                world.relay.wait_for_a_turn();
            }
            assert_eq!(before.len(), SHARDS);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(sender.join().unwrap() > 2000 * ROUNDS as u32);
    });
    assert_eq!(world.relay.kernel_drops(), 0);
    assert!(bob.heard_all());
    world.stop();
}

#[test]
fn another_number_of_shards_binds_anew_and_keeps_the_sessions() {
    for (before, now) in [(2, 1), (1, 2)] {
        let first = World::serving(LOOPBACK, before);
        let place = first.place();
        let nodes: Vec<Node> = (1..=5).map(|id| Node::new(place, NodeId(id))).collect();
        let (descriptors, records) = leave(&first.relay);
        drop(first);
        let second = follow(descriptors, place, now);
        let refused = second.relay.refused();
        let [group] = &refused[..] else { panic!("{refused:?}") };
        assert_eq!(group.names.len(), before * 2);
        assert_eq!(group.why, format!("its sockets were made for {before} shards, and there are {now} now"));
        drop(refused);
        second.relay.bind_late().unwrap();
        assert_eq!(second.relay.inherit(records), 5);
        second.relay.serve().unwrap();
        nodes[0].relay(nodes[1].id, b"over another shard");
        nodes[1].expect(Message::Deliver { sender: nodes[0].id, inner: b"over another shard" });
        second.stop();
    }
}

#[test]
fn sessions_of_an_address_that_is_no_longer_served_are_left() {
    let first = World::serving(LOOPBACK, 1);
    let place = first.place();
    let _node = Node::new(place, NodeId(1));
    let (descriptors, records) = leave(&first.relay);
    drop(first);
    let elsewhere = std::net::SocketAddr::new("127.0.0.2".parse().unwrap(), 0);
    let second = follow(descriptors, elsewhere, 1);
    assert_eq!(second.relay.refused().len(), 1, "the socket is given up");
    assert_eq!(second.relay.inherit(records), 0);
    second.relay.serve().unwrap();
    // The port is free for others, once the first relay's ring is gone.
    drop(relay::socket::bind_group(place, 1).unwrap());
    second.stop();
}

#[test]
fn nobody_waits_for_shards_that_have_ended() {
    let world = World::serving(LOOPBACK, SHARDS);
    let _node = Node::new(world.place(), NodeId(1));
    let (_, records) = leave(&world.relay);
    assert_eq!(records.len(), 1);
    // More than their mailboxes hold.
    (0..=relay::mailbox::MAIL_MAX).for_each(|_| world.relay.drain());
    assert_eq!(world.relay.inherit(records), 0);
    world.stop();
}

#[test]
fn a_killed_relays_ledger_says_where_everybody_was() {
    let world = World::serving(LOOPBACK, SHARDS);
    let nodes: Vec<Node> = (1..=50).map(|id| Node::new(world.place(), NodeId(id))).collect();
    // Read beside the writer, as after a kill: nothing is flushed, nothing is closed.
    world.turn_until("the ledger is written", |world| world.total().gauge(Gauge::Unwritten) == 0);
    let contents = ledger::read(world.relay.ledger().unwrap()).unwrap();
    assert_eq!((contents.records.len(), contents.torn), (50, 0));
    for node in &nodes {
        let record = contents.records.iter().find(|record| record.node == node.id).unwrap();
        assert_eq!((record.remote.socket_addr(), record.local), (node.address(), world.place()));
    }
    world.stop();
}
