//! Ephemeral keys between two of our agents: how they come into use, are replaced and forgotten, and that no packet is lost
//! on the way.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use agent::tunnel::{DropReason, Limits, Sealed};
use wire::NodeId;
use wire::extension::{self, About};
use wire::packet::HEADER_LEN;
use wire::tunnel::SEALED_OVERHEAD;

use super::world::{GOOD, Link, Sent, World, direct, seconds, unsealed};

const MILLISECOND: Duration = Duration::from_millis(1);

/// A hello or an accept: nothing else is as long here.
pub fn is_handshake(sent: &Sent) -> bool {
    sent.frame.starts_with(b"PILS") && sent.frame.len() == SEALED_OVERHEAD + HEADER_LEN + extension::LEN
}

pub fn is_forward_secret(world: &mut World) -> bool {
    [(1, 2), (2, 1)].into_iter().all(|(from, to)| world.node(from).tunnels.is_forward_secret(NodeId(to)))
}

/// How often keys have been negotiated.
pub fn rekeyings(world: &mut World) -> [u32; 2] {
    [(1, 2), (2, 1)].map(|(from, to)| world.node(from).tunnels.rekeyed(NodeId(to)).map_or(0, |(_, count)| count))
}

/// The nonce prefix under which a node sends.
pub fn prefix(world: &mut World, from: u32) -> [u8; 4] {
    world.send(from, 3 - from, b"prefix?");
    let prefix = world.sent_by(from, b"PILS").last().unwrap().frame[8..12].try_into().unwrap();
    world.pass(100 * MILLISECOND);
    prefix
}

/// Both send all the while; whether everything arrives, in order.
fn streams(world: &mut World, packets: u32, pause: Duration) {
    world.take_received(1);
    world.take_received(2);
    for number in 0..packets {
        assert_eq!(world.send(1, 2, &number.to_be_bytes()), Sealed::Ready);
        assert_eq!(world.send(2, 1, &number.to_be_bytes()), Sealed::Ready);
        world.pass(pause);
    }
    world.pass(seconds(1));
    for (from, to) in [(1, 2), (2, 1)] {
        let expected: Vec<_> = (0..packets).map(|number| (from, number.to_be_bytes().to_vec())).collect();
        let mut received = world.take_received(to);
        received.sort_unstable();
        assert_eq!(received.len(), expected.len(), "at node {to}");
        assert_eq!(received, expected);
    }
}

#[test]
fn two_of_ours_soon_use_ephemeral_keys() {
    let mut world = World::new(2);
    let about = [About { nat_mapping: 1, nat_filtering: 2 }, About { nat_mapping: 3, nat_filtering: 4 }];
    world.node(1).tunnels.set_about(about[0]);
    world.node(2).tunnels.set_about(about[1]);
    world.send(1, 2, b"first");
    world.pass(Duration::from_millis(200));
    assert_eq!(world.take_received(2), [(1, b"first".to_vec())]);
    assert!(is_forward_secret(&mut world));
    assert!([(1, 2), (2, 1)].into_iter().all(|(from, to)| world.node(from).tunnels.takes_traces(NodeId(to))));
    assert_eq!(rekeyings(&mut world), [1, 1]);
    assert_eq!(world.node(1).tunnels.about(NodeId(2)), Some(about[1]));
    assert_eq!(world.node(2).tunnels.about(NodeId(1)), Some(about[0]));
    assert!(world.talks(1, 2));
    assert_eq!(world.tap.iter().filter(|sent| is_handshake(sent)).count(), 2);
    assert_eq!((world.node(1).controls, world.node(2).controls), (0, 0), "nothing of it is handed up");
    let last = world.sent_by(1, b"PILS").last().unwrap().frame.len();
    assert_eq!(last, SEALED_OVERHEAD + HEADER_LEN + b"ping".len(), "frames are no longer than before");
}

#[test]
fn the_first_packet_does_not_wait_for_them() {
    let arrives_after = |mut world: World| {
        let start = world.now;
        world.send(1, 2, b"first");
        while world.take_received(2).is_empty() {
            world.pass(MILLISECOND);
        }
        world.now.since(start)
    };
    assert_eq!(arrives_after(World::new(2)), arrives_after(World::ordinary(2)));
}

#[test]
fn a_peer_that_echoes_is_asked_once() {
    let mut world = World::new(2);
    world.start_with(2, Limits { rekey_interval: None, ..Limits::default() });
    world.node(2).echoes = true;
    for _ in 0..200 {
        world.send(1, 2, b"x");
        world.send(2, 1, b"y");
        world.pass(seconds(60));
    }
    assert_eq!(world.tap.iter().filter(|sent| sent.from == 1 && is_handshake(sent)).count(), 1);
    assert!(!world.node(1).tunnels.takes_traces(NodeId(2)), "nothing of ours is sent to another's daemon");
    assert_eq!((world.node(1).controls, world.node(2).controls), (0, 1));
    assert!(!is_forward_secret(&mut world) && world.talks(1, 2));
}

#[test]
fn a_peer_that_ignores_or_drops_hellos_is_not_asked_for_ever() {
    for drops in [false, true] {
        let mut world = World::new(2);
        world.start_with(2, Limits { rekey_interval: None, ..Limits::default() });
        world.passes = Box::new(move |sent| !drops || !is_handshake(sent));
        for _ in 0..200 {
            world.send(1, 2, b"x");
            world.send(2, 1, b"y");
            world.pass(seconds(60));
        }
        let asked = world.tap.iter().filter(|sent| is_handshake(sent)).count();
        assert_eq!(asked, 20, "four rounds of five");
        assert_eq!(world.node(2).controls, if drops { 0 } else { 20 });
        assert_eq!(world.sent_by(1, b"PILA").len(), 1);
        assert!(!is_forward_secret(&mut world) && world.talks(1, 2));
    }
}

/// Of each of the first packets that belong to a handshake, by their number, the first few are lost.
#[test]
fn every_handshake_packet_may_get_lost() {
    for lost_from in 0..5 {
        for lost in 1..=3 {
            let mut world = World::ordinary(2).connect_both();
            for node in [1, 2] {
                world.start_with(node, Limits::default());
            }
            let seen = Rc::new(Cell::new(0));
            let counter = Rc::clone(&seen);
            world.passes = Box::new(move |sent| {
                // Hello, accept, and the keepalives with which both sides confirm.
                let belongs = is_handshake(sent) || sent.frame.len() == SEALED_OVERHEAD + HEADER_LEN;
                let number = counter.get();
                counter.set(number + u32::from(belongs));
                !belongs || !(lost_from..lost_from + lost).contains(&number)
            });
            world.send(1, 2, b"x");
            world.send(2, 1, b"x");
            world.pass(Duration::from_millis(300));
            streams(&mut world, 1000, 10 * MILLISECOND);
            assert!(seen.get() >= lost_from, "{lost_from} {lost}");
            assert!(is_forward_secret(&mut world), "{lost_from} {lost}");
            assert!(world.talks(1, 2));
        }
    }
}

#[test]
fn reordering_and_duplication_lose_and_repeat_nothing() {
    let limits = Limits { rekey_interval: Some(seconds(2)), ..Limits::default() };
    for seed in 0..50 {
        let mut world = World::with_limits(2, limits);
        world.link = Link { loss: 0, duplication: 30, delay: 20 * MILLISECOND, jitter: 200 * MILLISECOND };
        (0..seed).for_each(|_| {
            world.draw(2);
        });
        world.send(1, 2, b"x");
        world.pass(seconds(2));
        streams(&mut world, 400, 20 * MILLISECOND);
        let rekeyings = rekeyings(&mut world);
        assert!(rekeyings.iter().all(|count| *count >= 3), "seed {seed}: {rekeyings:?}");
        assert!(world.talks(1, 2));
    }
}

#[test]
fn hellos_that_cross_lead_to_one_session() {
    for delay in [0_u32, 1, 15, 100] {
        let mut world = World::connected();
        world.link.delay = delay * MILLISECOND;
        world.pass(seconds(130));
        world.tap.clear();
        world.send(1, 2, b"a");
        world.send(2, 1, b"b");
        let hellos = world.tap.iter().filter(|sent| is_handshake(sent)).count();
        assert_eq!(hellos, 2, "both ask at the same moment");
        world.pass(seconds(2));
        assert_eq!(rekeyings(&mut world), [2, 2]);
        assert!(is_forward_secret(&mut world));
        assert!(world.talks(1, 2));
    }
}

#[test]
fn keys_are_replaced_every_two_minutes_under_traffic_and_nothing_is_lost() {
    let mut world = World::connected();
    let mut prefixes = vec![prefix(&mut world, 1)];
    world.pass(seconds(1));
    for _ in 0..10 {
        streams(&mut world, 600, 100 * MILLISECOND);
        prefixes.push(prefix(&mut world, 1));
        world.pass(seconds(1));
    }
    assert_eq!(rekeyings(&mut world), [6, 6]);
    prefixes.dedup();
    assert_eq!(prefixes.len(), 6);
    assert_eq!(world.sent_by(1, b"PILA").len() + world.sent_by(2, b"PILA").len(), 0);
}

#[test]
fn an_idle_tunnel_keeps_its_keys() {
    let mut world = World::connected();
    world.pass(seconds(500));
    assert!(world.tap.len() > 30, "there are keepalives");
    assert_eq!(rekeyings(&mut world), [1, 1]);
    assert!(is_forward_secret(&mut world));
    assert!(world.talks(1, 2));
    assert_eq!(rekeyings(&mut world), [2, 2]);
}

#[test]
fn a_key_that_has_sealed_enough_is_replaced_early() {
    let limits = Limits { frames_per_key: 50, ..Limits::default() };
    let mut world = World::with_limits(2, limits).connect_both();
    streams(&mut world, 500, 20 * MILLISECOND);
    let rekeyings = rekeyings(&mut world);
    assert!(rekeyings[0] >= 9 && rekeyings[0] == rekeyings[1], "{rekeyings:?}");
    assert_eq!(world.sent_by(1, b"PILA").len(), 0, "without a new exchange key");
}

#[test]
fn a_key_seals_twice_its_share_at_most_whatever_the_peer_does() {
    let limits = Limits { frames_per_key: 50, ..Limits::default() };
    let mut world = World::with_limits(2, limits).connect_both();
    world.passes = Box::new(|_| false);
    let before = prefix(&mut world, 1);
    let ready = (0..300).filter(|_| world.send(1, 2, b"x") == Sealed::Ready).count();
    assert!(ready < 100, "{ready}");
    world.passes = Box::new(|_| true);
    world.pass(seconds(10));
    assert!(world.talks(1, 2) && is_forward_secret(&mut world));
    assert_ne!(prefix(&mut world, 1), before);
}

#[test]
fn keys_that_were_replaced_open_what_is_under_way_and_then_nothing() {
    let mut world = World::connected();
    let now = world.now;
    let [soon, late] = [b"soon", b"late"].map(|payload| {
        let mut frame = unsealed(1, 2, payload);
        assert_eq!(world.node(1).tunnels.seal(now, NodeId(2), &mut frame), Sealed::Ready);
        frame
    });
    world.pass(seconds(130));
    world.send(1, 2, b"time for new keys");
    world.pass(seconds(2));
    assert_eq!(rekeyings(&mut world), [2, 2]);
    assert_eq!(world.deliver(2, direct(1), &soon), None);
    world.pass(seconds(10));
    assert_eq!(world.deliver(2, direct(1), &late), Some(DropReason::NotAuthentic));
    assert!(world.talks(1, 2));
}

#[test]
fn a_restart_of_either_side_ends_in_ephemeral_keys_again() {
    for restarted in [1, 2] {
        for speaker in [1, 2] {
            let mut world = World::connected();
            world.pass(seconds(90));
            world.start(restarted);
            world.send(speaker, 3 - speaker, b"hello?");
            world.pass(seconds(1));
            assert!(world.talks(1, 2), "{restarted} {speaker}");
            assert!(is_forward_secret(&mut world), "{restarted} {speaker}");
        }
    }
}

#[test]
fn a_peer_that_comes_back_as_an_older_release_is_talked_to_as_such() {
    for echoes in [true, false] {
        for speaker in [1, 2] {
            let mut world = World::connected();
            world.pass(seconds(5));
            world.start_with(2, Limits { rekey_interval: None, ..Limits::default() });
            world.node(2).echoes = echoes;
            world.send(speaker, 3 - speaker, b"hello?");
            // Without an echo it takes that the ephemeral keys are silent and the others are heard.
            for _ in 0..if echoes { 1 } else { 5 } {
                world.pass(seconds(1));
                world.send(2, 1, b"here I am");
            }
            world.pass(seconds(1));
            assert!(world.talks(1, 2), "echoes {echoes}, {speaker} speaks");
            assert!(!is_forward_secret(&mut world));
            world.start(2);
            world.send(2, 1, b"the newer one again");
            world.pass(seconds(1));
            assert!(world.talks(1, 2) && is_forward_secret(&mut world));
        }
    }
}

#[test]
fn a_peer_that_forgets_the_tunnel_gets_another() {
    for forgetful in [1, 2] {
        let mut world = World::connected();
        world.pass(seconds(5));
        world.node(forgetful).tunnels.forget(NodeId(3 - forgetful));
        world.send(1, 2, b"x");
        world.send(2, 1, b"y");
        world.pass(seconds(2));
        assert!(world.talks(1, 2), "{forgetful}");
        assert!(is_forward_secret(&mut world), "{forgetful}");
    }
}

#[test]
fn other_tunnels_go_on_when_the_exchange_key_is_another() {
    let mut world = World::new(3);
    world.send(1, 2, b"x");
    world.send(1, 3, b"x");
    world.pass(seconds(1));
    world.node(1).tunnels.forget(NodeId(3));
    assert!(world.talks(1, 2));
    world.pass(seconds(130));
    streams(&mut world, 500, 20 * MILLISECOND);
    assert!(is_forward_secret(&mut world));
    let rekeyings = rekeyings(&mut world);
    assert!(rekeyings.iter().all(|count| *count >= 2), "{rekeyings:?}");
}

#[test]
fn a_link_that_was_cut_while_keys_were_replaced_is_no_trouble() {
    for cut in (0..120_u32).step_by(5) {
        let mut world = World::connected();
        world.pass(seconds(130));
        world.send(1, 2, b"time for new keys");
        world.pass(cut * MILLISECOND);
        world.link.loss = 100;
        for _ in 0..100 {
            world.send(1, 2, b"x");
            world.send(2, 1, b"x");
            world.pass(seconds(2));
        }
        world.link = GOOD;
        world.send(1, 2, b"x");
        world.send(2, 1, b"x");
        world.pass(seconds(5));
        assert!(world.talks(1, 2), "cut after {cut} ms");
        assert!(is_forward_secret(&mut world), "cut after {cut} ms");
    }
}
