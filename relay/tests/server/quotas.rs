//! What single nodes may send and have sent, and how a banned one stops.

use std::time::Duration;

use relay::metrics::DropReason;
use relay::quota::Quota;
use relay::server::{Action, Handoff};
use relay::sessions::shard_of;
use relay::usage::Usage;
use wire::NodeId;
use wire::beacon::Message;

use super::world::{BEACON, World, encode};

const ALICE: &str = "203.0.113.1:4000";
const BOB: &str = "203.0.113.2:4000";

fn world() -> World {
    let mut world = World::with_directory(2);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    world
}

/// The quota of a node, as the directory tells it: to every shard.
fn set_quota(world: &mut World, node: u32, quota: Quota) {
    (0..world.shards() as u32).for_each(|shard| world.hand(Handoff::Quota(NodeId(node), quota), shard));
}

/// How many of `count` packets of node 1 at once pass that arrive at the shard which does not own it: as when the kernel
/// has merged them behind another node's.
fn passed_elsewhere(world: &mut World, count: usize) -> usize {
    passed_at(world, 1 - shard_of(NodeId(1), 2), count)
}

fn passed_at(world: &mut World, shard: usize, count: usize) -> usize {
    let packet = encode(Message::Relay { sender: NodeId(1), dest: NodeId(2), inner: b"x" });
    (0..count).filter(|_| matches!(world.receive_on(shard, BEACON, ALICE, &packet), Action::Forward { .. })).count()
}

/// How many of `count` packets at once pass from one node to the other.
fn passed(world: &mut World, (from, sender): (&str, u32), dest: u32, count: usize) -> usize {
    (0..count).filter(|_| matches!(world.relay(from, sender, dest, b"x"), Action::Forward { .. })).count()
}

fn usage(world: &mut World, node: u32) -> Usage {
    world.hand(Handoff::AddUp(NodeId(node)), node);
    world.usage(node)
}

#[test]
fn a_quota_holds_for_its_node_alone_and_from_the_next_packet_on() {
    let mut world = world();
    assert_eq!(passed(&mut world, (ALICE, 1), 2, 100), 100);
    world.hand(Handoff::Quota(NodeId(1), Quota::new(Some(10), None)), 1);
    world.pass(Duration::from_secs(60));
    assert_eq!(passed(&mut world, (ALICE, 1), 2, 100), 32, "the burst");
    assert_eq!(world.relay(ALICE, 1, 2, b"x"), Action::Drop(DropReason::SenderBudget));
    assert_eq!(passed(&mut world, (BOB, 2), 1, 100), 100);
    world.pass(Duration::from_secs(1));
    assert_eq!(passed(&mut world, (ALICE, 1), 2, 100), 10);
    world.hand(Handoff::Quota(NodeId(1), Quota::default()), 1);
    world.pass(Duration::from_secs(60));
    assert_eq!(passed(&mut world, (ALICE, 1), 2, 100), 100);
}

#[test]
fn packets_to_nobody_are_charged_to_the_quota() {
    let mut world = world();
    world.hand(Handoff::Quota(NodeId(1), Quota::new(Some(1000), None)), 1);
    world.pass(Duration::from_secs(60));
    // Of a burst of 200 the first 32 cost one each, the next eight sixteen more.
    assert_eq!(passed(&mut world, (ALICE, 1), 9, 40), 0);
    assert_eq!(passed(&mut world, (ALICE, 1), 2, 200), 200 - 40 - 8 * 16);
}

#[test]
fn a_quota_is_there_when_the_session_begins_and_stays_when_it_moves() {
    let mut world = World::with_directory(2);
    world.hand(Handoff::Quota(NodeId(1), Quota::new(None, Some(100))), 1);
    world.prove(1, &["203.0.113.1", "203.0.113.9"]);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    let large = vec![0; 1000];
    let moved = "203.0.113.9:4000";
    for from in [ALICE, moved] {
        world.discover(from, 1);
        let count = (0..200).filter(|_| matches!(world.relay(from, 1, 2, &large), Action::Forward { .. })).count();
        assert_eq!(count, if from == ALICE { 64 } else { 1 }, "64 KiB of burst, and no new one for a new address");
        if from == ALICE {
            world.discover(moved, 1);
            world.pass(Duration::from_secs(3));
        }
    }
}

#[test]
fn a_quota_is_not_evaded_where_datagrams_arrive_at_another_shard() {
    const SECONDS: usize = 60;
    let mut world = world();
    assert_eq!(passed_elsewhere(&mut world, 500), 500, "what everyone is granted, by the prefix");
    set_quota(&mut world, 1, Quota::new(Some(100), None));
    world.pass(Duration::from_secs(60));
    let before = usage(&mut world, 1);
    let (mut own, mut elsewhere) = (0, 0);
    for _ in 0..SECONDS * 10 {
        world.pass(Duration::from_millis(100));
        elsewhere += passed_elsewhere(&mut world, 50);
        own += passed(&mut world, (ALICE, 1), 2, 50);
    }
    let (quota, bursts) = (100 * SECONDS, 2 * 32);
    assert!((quota..=quota + bursts + 10).contains(&(own + elsewhere)), "{own} and {elsewhere}, of {quota}");
    assert!(elsewhere >= quota / 2 - 10, "its share: {elsewhere}");
    let after = usage(&mut world, 1);
    assert_eq!(after.packets - before.packets, (own + elsewhere) as u64, "all that was relayed is counted");
    assert_eq!(after.dropped - before.dropped, (SECONDS * 1000 - own - elsewhere) as u64, "and all that was not");
    set_quota(&mut world, 1, Quota::default());
    world.pass(Duration::from_secs(60));
    assert_eq!(passed_elsewhere(&mut world, 500), 500);
}

#[test]
fn nor_by_bursts_at_many_shards_that_have_rested() {
    const SHARDS: usize = 8;
    const ROUNDS: usize = 20;
    /// As long as a shard's share takes to be whole again.
    const ROUND_TENTHS: usize = 26;
    let mut world = World::with_directory(SHARDS);
    world.discover(ALICE, 1);
    world.discover(BOB, 2);
    set_quota(&mut world, 1, Quota::new(Some(100), None));
    world.pass(Duration::from_secs(60));
    let (own, mut total) = (shard_of(NodeId(1), SHARDS), 0);
    for _ in 0..ROUNDS {
        for _ in 0..ROUND_TENTHS {
            world.pass(Duration::from_millis(100));
            total += passed_at(&mut world, own, 50);
        }
        total += (0..SHARDS).filter(|shard| *shard != own).map(|shard| passed_at(&mut world, shard, 50)).sum::<usize>();
    }
    let (quota, bursts) = (10 * ROUND_TENTHS * ROUNDS, (SHARDS + 1) * 32);
    assert!((quota..=quota + bursts).contains(&total), "{total} of {quota}");
}

#[test]
fn whoever_may_send_more_is_not_granted_less_elsewhere() {
    let mut world = world();
    let large = Quota::new(Some(1_000_000), None);
    for quota in [large, Quota::new(Some(0), None)] {
        set_quota(&mut world, 1, quota);
        world.pass(Duration::from_secs(60));
        assert_eq!(passed_elsewhere(&mut world, 15_000), 15_000, "as everyone");
    }
    let before = usage(&mut world, 1).packets;
    assert_eq!(passed_elsewhere(&mut world, 10), 10);
    assert_eq!(usage(&mut world, 1).packets - before, 10, "and it is counted");
}

#[test]
fn a_node_whose_datagrams_all_arrive_elsewhere_gets_its_share_and_no_fine() {
    let mut world = world();
    set_quota(&mut world, 1, Quota::new(Some(100), None));
    world.pass(Duration::from_secs(60));
    let shown: usize = (0..600)
        .map(|_| {
            world.pass(Duration::from_millis(100));
            passed_elsewhere(&mut world, 50)
        })
        .sum();
    assert!((50 * 60..=50 * 60 + 40).contains(&shown), "{shown} in a minute at a share of 50 a second");
    world.pass(Duration::from_secs(1));
    assert!(passed(&mut world, (ALICE, 1), 2, 100) >= 32, "its own shard grants the rest");
}

#[test]
fn what_is_sent_is_added_up_and_outlives_the_session() {
    let mut world = world();
    assert_eq!(usage(&mut world, 1), Usage::default());
    assert_eq!(passed(&mut world, (ALICE, 1), 2, 10), 10);
    let once = Usage { packets: 10, bytes: 10 * (9 + 1), dropped: 0 };
    assert_eq!(usage(&mut world, 1), once);
    assert_eq!(usage(&mut world, 1), once, "added once");
    world.relay(ALICE, 1, 9, b"to nobody");
    assert_eq!(usage(&mut world, 1), once, "what was not relayed is not sent");

    world.hand(Handoff::Quota(NodeId(1), Quota::new(Some(1), None)), 1);
    world.pass(Duration::from_secs(61));
    assert_eq!(world.usage(1).packets, 10, "the sweep adds up, too");
    let passed = passed(&mut world, (ALICE, 1), 2, 40) as u64;
    world.hand(Handoff::Withdraw(NodeId(1)), 1);
    let total = Usage { packets: 10 + passed, bytes: (10 + passed) * 10, dropped: 40 - passed };
    assert_eq!(world.usage(1), total, "the end of a session loses nothing");
    assert_eq!(world.usage(2), Usage::default());
}

#[test]
fn nothing_of_a_banned_node_passes_either_way_from_the_next_datagram_on() {
    let mut world = world();
    assert_eq!(passed(&mut world, (ALICE, 1), 2, 3), 3);
    world.membership.withdraw(NodeId(1));
    world.hand(Handoff::Withdraw(NodeId(1)), 1);
    assert_eq!(passed(&mut world, (ALICE, 1), 2, 3), 0);
    assert_eq!(passed(&mut world, (BOB, 2), 1, 3), 0);
    world.take_sent();
    world.discover(ALICE, 1);
    assert_eq!(world.take_sent().len(), 1, "a discover is answered, as to anybody");
    assert_eq!(world.place(1), None, "and stored no more");
    assert_eq!(passed(&mut world, (ALICE, 1), 2, 3), 0);
    world.membership.publish(NodeId(1), &[], None);
    world.discover(ALICE, 1);
    assert_eq!(passed(&mut world, (ALICE, 1), 2, 3), 3, "until the ban ends");
}
