//! Whom nodes are told is banned: who is listed, to whom, from when on, and how much at once.

use std::collections::BTreeSet;

use directory::enrolment::Enrolment;
use wire::registry::bans::{Cursor, LISTED_MAX, Listed, OVERLAP_SECONDS};

use crate::*;

const SECOND: Duration = Duration::from_secs(1);
const BEAT: Duration = Duration::from_secs(60);

fn ban(world: &mut World, subject: &str) {
    world.act(subject, &Act::Ban { reason: "spam".into() }).unwrap();
}

fn unban(world: &mut World, subject: &str) {
    world.act(subject, &Act::Unban).unwrap();
}

/// A heartbeat that asks.
fn bans(world: &mut World, (key, node_id): &(SigningKey, NodeId), since: Cursor) -> Option<Listed> {
    let answer = world.by(key, Operation::Heartbeat { node_id: *node_id, report: None, bans_since: Some(since) });
    let Answer::Heartbeat { bans, .. } = answer else { panic!("{answer:?}") };
    bans
}

fn listed(world: &mut World, asker: &(SigningKey, NodeId), since: Cursor) -> Vec<u32> {
    bans(world, asker, since).unwrap().node_ids.iter().map(|node| node.0).collect()
}

/// Asks as an agent does, once a minute, until there is nothing new: all it was told, and the last cursor.
fn follow(world: &mut World, asker: &(SigningKey, NodeId), mut since: Cursor) -> (BTreeSet<NodeId>, Cursor, usize) {
    let mut told = BTreeSet::new();
    for beats in 1.. {
        let Listed { node_ids, next } = bans(world, asker, since).unwrap();
        assert!(node_ids.len() <= LISTED_MAX);
        told.extend(node_ids);
        since = next;
        if next.after == NodeId::UNSET {
            return (told, next, beats);
        }
        world.pass(BEAT);
    }
    unreachable!()
}

#[test]
fn whoever_asks_is_told_whom_the_administrator_keeps_out() {
    let mut world = World::new();
    let alice = world.node(1);
    let (_, two) = world.node(2);
    assert_eq!(world.beat(&alice.0, alice.1), Answer::Heartbeat { time: world.now.unix_seconds, bans: None });
    let Listed { node_ids, next } = bans(&mut world, &alice, Cursor::PRESENT).unwrap();
    assert_eq!((node_ids, next.after), (vec![], NodeId::UNSET));

    world.pass(BEAT);
    ban(&mut world, &two.to_string());
    // In the second in which it was asked before, too.
    let again = bans(&mut world, &alice, next).unwrap();
    assert_eq!(again.node_ids, [two]);
    assert_eq!(world.beat(&alice.0, alice.1), Answer::Heartbeat { time: world.now.unix_seconds, bans: None });

    // It is repeated for some minutes, and then no more.
    world.pass(SECOND * 200);
    let repeated = bans(&mut world, &alice, again.next).unwrap();
    assert_eq!(repeated.node_ids, [two]);
    world.pass(SECOND * 200);
    let later = bans(&mut world, &alice, repeated.next).unwrap();
    assert_eq!(later.node_ids, [two], "the answer before was made within those minutes");
    assert_eq!(listed(&mut world, &alice, later.next), Vec::<u32>::new());
    assert_eq!(listed(&mut world, &alice, Cursor::PRESENT), Vec::<u32>::new());
    assert_eq!(listed(&mut world, &alice, Cursor::ALL), [2]);
}

#[test]
fn a_ban_that_was_lifted_is_not_told_and_one_set_anew_is() {
    let mut world = World::new();
    let (alice, _, (carol, three)) = (world.node(1), world.node(2), world.node(3));
    ban(&mut world, "2");
    ban(&mut world, "3");
    assert_eq!(listed(&mut world, &alice, Cursor::PRESENT), [2, 3]);
    unban(&mut world, "2");
    assert_eq!(listed(&mut world, &alice, Cursor::PRESENT), [3]);
    world.pass(SECOND);
    ban(&mut world, "2");
    assert_eq!(listed(&mut world, &alice, Cursor::PRESENT), [3, 2], "the oldest first");
    // A ban outlasts the registration, and with it the tunnels that may stand.
    world.act("3", &Act::Remove).unwrap();
    assert_eq!(listed(&mut world, &alice, Cursor::PRESENT), [3, 2]);
    unban(&mut world, "3");
    assert_eq!(listed(&mut world, &alice, Cursor::PRESENT), [2]);
    // A key stands for its node; one that has no number is nobody's peer.
    ban(&mut world, &public(&carol).to_string());
    ban(&mut world, &public(&key(9)).to_string());
    assert_eq!(listed(&mut world, &alice, Cursor::PRESENT), [2, three.0]);
}

#[test]
fn only_who_belongs_is_told() {
    let mut world = World::under(Policy { enrolment: Enrolment::Approve, ..Policy::default() }, Limits::default());
    let (alice, bob, _) = (world.node(1), world.node(2), world.node(3));
    for id in ["1", "3"] {
        world.act(id, &Act::Approve).unwrap();
    }
    ban(&mut world, "3");
    assert_eq!(listed(&mut world, &alice, Cursor::ALL), [3]);
    assert_eq!(bans(&mut world, &bob, Cursor::ALL), None, "it waits");
    let unsigned = Operation::Heartbeat { node_id: alice.1, report: None, bans_since: Some(Cursor::ALL) };
    assert!(matches!(world.ask(unsigned), Answer::Error { .. }));
    ban(&mut world, "1");
    let (key, node_id) = alice;
    let banned = world.by(&key, Operation::Heartbeat { node_id, report: None, bans_since: Some(Cursor::ALL) });
    assert_eq!(error(banned), "node 1 is banned: pardon of the administrator required");
}

#[test]
fn after_a_restart_the_bans_are_those_of_before() {
    let mut world = World::new();
    let alice = world.node(1);
    for seed in 2..=4 {
        world.node(seed);
    }
    for id in ["4", "2", "3"] {
        ban(&mut world, id);
        world.pass(SECOND);
    }
    unban(&mut world, "2");
    world.act("4", &Act::Remove).unwrap();
    let before = bans(&mut world, &alice, Cursor::PRESENT);
    assert_eq!(before.as_ref().unwrap().node_ids, [NodeId(4), NodeId(3)]);
    world.restart();
    assert_eq!(bans(&mut world, &alice, Cursor::PRESENT), before);
    unban(&mut world, "3");
    assert_eq!(listed(&mut world, &alice, Cursor::PRESENT), [4]);
}

#[test]
fn no_ban_is_missed_when_the_clock_is_set_back() {
    for back in [1, 30, 59, 60, 61, 290, 300, 301, 330, 359, 361, 100_000] {
        let mut world = World::new();
        let alice = world.node(1);
        world.node(2);
        world.node(3);
        ban(&mut world, "3");
        world.pass(BEAT);
        let next = bans(&mut world, &alice, Cursor::PRESENT).unwrap().next;
        world.pass(SECOND);
        world.now.unix_seconds -= back;
        ban(&mut world, "2");
        for after in [0, 30, 29] {
            world.pass(SECOND * after);
            let told = listed(&mut world, &alice, next);
            assert!(told.contains(&2), "set back by {back} s, {after} s later: {told:?}");
        }
    }
    // Forward there is nothing to miss; nor is there when the agent was away for long.
    let mut world = World::new();
    let alice = world.node(1);
    world.node(2);
    let next = bans(&mut world, &alice, Cursor::PRESENT).unwrap().next;
    ban(&mut world, "2");
    world.now.unix_seconds += 1_000_000;
    assert_eq!(listed(&mut world, &alice, next), [2]);
    let told = bans(&mut world, &alice, Cursor { at: u64::MAX, after: NodeId(u32::MAX) }).unwrap();
    assert_eq!(told.node_ids, [NodeId(2)], "such a cursor is none of the directory's");
}

#[test]
fn a_list_has_a_bound_and_the_rest_follows() {
    let registrations_per_ip_per_minute = u32::MAX;
    let mut world = World::with(Limits { registrations_per_ip_per_minute, ..Limits::default() });
    let alice = world.node(1);
    let count = u32::try_from(LISTED_MAX).unwrap() * 2 + 500;
    let everybody: BTreeSet<_> = (2..=count + 1).map(NodeId).collect();
    let seed = |number: u32| -> [u8; 32] { std::array::from_fn(|at| (number.to_be_bytes()[at % 4]) ^ 0x5A) };
    for number in 0..count {
        let key = SigningKey::from_bytes(&seed(number));
        registered(&world.ask(Operation::Register(register(&key))));
    }
    // All in one second.
    everybody.iter().for_each(|node| ban(&mut world, &node.to_string()));
    let first = bans(&mut world, &alice, Cursor::PRESENT).unwrap();
    assert_eq!(first.node_ids.len(), LISTED_MAX);
    assert_eq!(first.next, Cursor { at: world.now.unix_seconds, after: NodeId(LISTED_MAX as u32 + 1) });
    world.pass(BEAT);
    assert_eq!(listed(&mut world, &alice, first.next)[0], LISTED_MAX as u32 + 2, "none twice, none left out");
    let (told, next, beats) = follow(&mut world, &alice, Cursor::PRESENT);
    assert_eq!((told, beats), (everybody.clone(), 3));
    // One more of a lower number, when the list has come to its end.
    unban(&mut world, "2");
    ban(&mut world, "2");
    assert!(follow(&mut world, &alice, next).0.contains(&NodeId(2)));
    // From the beginning, spread over hours.
    for node in everybody.iter().step_by(7) {
        unban(&mut world, &node.to_string());
        world.pass(SECOND * 100);
        ban(&mut world, &node.to_string());
    }
    world.pass(SECOND * u32::try_from(OVERLAP_SECONDS).unwrap() * 2);
    assert_eq!(listed(&mut world, &alice, Cursor::PRESENT), Vec::<u32>::new());
    assert_eq!(follow(&mut world, &alice, Cursor::ALL).0, everybody);
    world.restart();
    assert_eq!(follow(&mut world, &alice, Cursor::ALL).0, everybody);
}
