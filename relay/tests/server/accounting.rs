//! Hostile input: nothing panics, every datagram is accounted for, the sums hold, budgets bound what one source costs.

use std::time::Duration;

use proptest::prelude::*;
use relay::endpoint::LocalId;
use relay::metrics::{Counter, DropReason};
use relay::server::{Action, Admission};

use super::world::{STUN, World};

/// Bytes that are often nearly a message.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..64);
    let typed =
        (0u8..0x0E, 0u32..6, 0u32..6, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, one, two, rest)| {
            let mut bytes = vec![kind];
            bytes.extend(one.to_be_bytes());
            bytes.extend(two.to_be_bytes());
            bytes.extend(rest);
            bytes
        });
    let stun = prop::collection::vec(any::<u8>(), 0..60).prop_map(|rest| {
        let mut bytes = vec![0, 1, 0, rest.len() as u8, 0x21, 0x12, 0xA4, 0x42];
        bytes.extend(rest);
        bytes
    });
    let claim = (0u32..6, any::<bool>(), any::<u8>()).prop_map(|(node, zeros, byte)| {
        let filling = if zeros { 0 } else { byte };
        [&[0x0C][..], &node.to_be_bytes(), &[filling; 16 + 64]].concat()
    });
    let probe = Just(b"PILP".to_vec());
    let cut = |strategy: BoxedStrategy<Vec<u8>>| {
        (strategy, any::<prop::sample::Index>()).prop_map(|(mut bytes, index)| {
            bytes.truncate(index.index(bytes.len() + 1));
            bytes
        })
    };
    prop_oneof![noise, typed.clone(), cut(typed.boxed()), stun.clone(), cut(stun.boxed()), claim, probe]
}

proptest! {
    #[test]
    fn whatever_arrives_is_accounted_for_and_nothing_panics(
        script in prop::collection::vec((datagram(), 0u8..6, 0u16..6, 0usize..3, 0u64..900), 1..200),
        admission in 0..3,
    ) {
        let mut world = match admission {
            0 => World::new(Admission::Open, 3),
            1 => World::with_directory(3),
            _ => World::strict(3),
        };
        for (datagram, host, local, shard, wait_ms) in &script {
            let from = format!("198.18.1.{host}:{}", 4000 + u16::from(*host));
            let action = world.receive_on(*shard, LocalId(*local), &from, datagram);
            if let Action::Forward { part, .. } = &action {
                prop_assert!(part.end <= datagram.len());
            }
            world.pass(Duration::from_millis(*wait_ms));
        }
        let counters = world.counters();
        prop_assert_eq!(counters.get(Counter::Received), script.len() as u64);
        for sent in world.take_sent() {
            prop_assert!(sent.bytes.len() <= 300);
        }
    }

    /// Nobody who lacks proof and never held the id gets a live owner's packets, whatever is sent.
    #[test]
    fn a_live_proven_owner_is_never_displaced(
        script in prop::collection::vec((datagram(), 2u8..6, 0u64..300), 1..200),
    ) {
        let mut world = World::with_directory(3);
        world.prove(1, &["198.18.1.1"]);
        world.discover("198.18.1.1:4001", 1);
        for (datagram, host, wait_ms) in &script {
            world.receive(&format!("198.18.1.{host}:4000"), datagram);
            world.pass(Duration::from_millis(*wait_ms));
            for sent in world.take_sent() {
                if sent.bytes[0] == 0x04 && sent.to == "198.18.1.1:4001".parse().unwrap() {
                    world.receive("198.18.1.1:4001", b"PILP");
                }
            }
            let place = world.place(1);
            prop_assert_eq!(place.as_deref(), Some("198.18.1.1:4001"));
        }
    }
}

#[test]
fn one_source_prefix_cannot_use_up_the_relay() {
    let mut world = World::with_directory(1);
    let flood: Vec<Action> = (0..5000).map(|_| world.discover("198.18.6.6:1", 0)).collect();
    let answered = flood.iter().filter(|action| matches!(action, Action::Reply { .. })).count();
    assert!((2000..2600).contains(&answered), "{answered} of 5000 at once answered");
    assert_eq!(flood[4999], Action::Drop(DropReason::ControlBudget));
    assert_eq!(world.receive_on(0, STUN, "198.18.6.6:2", b"x"), Action::Drop(DropReason::ControlBudget));
    assert!(matches!(world.discover("198.18.6.7:1", 0), Action::Reply { .. }), "another source is served");
    world.pass(Duration::from_secs(1));
    assert!(matches!(world.discover("198.18.6.6:1", 0), Action::Reply { .. }), "and this one after a while");
}

#[test]
fn a_sender_gets_its_budget_and_no_more() {
    let mut world = World::with_directory(1);
    world.discover("198.18.1.1:1", 1);
    world.discover("198.18.1.2:1", 2);
    let forwarded = |world: &mut World, count: usize| {
        (0..count).filter(|_| matches!(world.relay("198.18.1.1:1", 1, 2, &[0; 100]), Action::Forward { .. })).count()
    };
    assert_eq!(forwarded(&mut world, 30_000), 20_000);
    world.pass(Duration::from_millis(100));
    assert!((9_900..=10_100).contains(&forwarded(&mut world, 30_000)));
    assert!(matches!(world.relay("198.18.1.2:1", 2, 1, b"x"), Action::Forward { .. }), "others are not touched");
}
