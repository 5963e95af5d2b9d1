//! Which registrations are forgotten, which are not, and when a node was last there.

use directory::enrolment::{Enrolment, Standing};

use crate::*;

const DAY: Duration = Duration::from_secs(86_400);

/// Days on end; sweeps as many as it takes to look at every number.
fn days(world: &mut World, count: u32) {
    for _ in 0..count {
        world.pass(DAY);
    }
    world.pass(Duration::from_secs(7200));
}

fn unsigned(world: &mut World, seed: u8) -> NodeId {
    registered(&world.ask(Operation::Register(register(&key(seed)))))
}

fn standing(world: &World, node: NodeId) -> Option<Standing> {
    world.service.member(world.now, node).filter(|member| member.registered).map(|member| member.node.standing)
}

#[test]
fn what_never_proved_itself_is_forgotten_and_its_number_used_again() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let two = unsigned(&mut world, 2);
    let three = unsigned(&mut world, 3);
    // Registered without, and signed later: an old daemon.
    assert!(matches!(world.beat(&key(3), three), Answer::Heartbeat { .. }));
    world.by(&alice, Operation::ReportTrust { node_id: one, peer_id: two });
    world.service.handle_close(ConnectionId(1));
    world.pass(DAY / 2);
    assert!(standing(&world, two).is_some(), "a day has to pass after the start");
    days(&mut world, 3);
    assert_eq!([one, two, three].map(|node| standing(&world, node).is_some()), [true, false, true]);
    assert_eq!(world.service.figures().nodes, 2);
    for restart in [false, true] {
        if restart {
            world.restart();
        }
        assert!(world.service.member(world.now, two).is_none(), "not even its number is left");
    }
    let (carol, reused) = world.node(4);
    assert_eq!(reused, two);
    assert!(!trusts(&mut world, one, two), "nothing of the one before is left to the newcomer");
    world.restart();
    assert_eq!(world.node(4).1, two);
    assert_eq!(
        error(world.by(&key(2), Operation::Heartbeat { node_id: two, report: None, bans_since: None })),
        "signature verification failed"
    );
    assert_eq!(unsigned(&mut world, 2), NodeId(4), "the one before is a newcomer now");
    assert!(matches!(world.beat(&carol, two), Answer::Heartbeat { .. }));
}

#[test]
fn one_that_comes_back_before_its_number_is_used_has_it_again() {
    let mut world = World::new();
    let (_, one) = world.node(1);
    let two = unsigned(&mut world, 2);
    days(&mut world, 3);
    assert!(standing(&world, two).is_none() && standing(&world, one).is_some());
    assert_eq!(world.node(2).1, two);
    world.restart();
    assert_eq!((world.node(2).1, world.node(3).1), (two, NodeId(3)));
}

#[test]
fn who_waits_for_a_week_without_a_word_is_forgotten() {
    let policy = Policy { enrolment: Enrolment::Approve, ..Policy::default() };
    let mut world = World::under(policy, Limits::default());
    let ((alice, one), (_, two), (_, three)) = (world.node(1), world.node(2), world.node(3));
    world.service.handle_close(ConnectionId(1));
    world.act("3", &Act::Approve).unwrap();
    for _ in 0..4 {
        days(&mut world, 2);
        world.beat(&alice, one);
        world.service.handle_close(ConnectionId(1));
    }
    days(&mut world, 1);
    assert_eq!(
        [one, two, three].map(|node| standing(&world, node)),
        [Some(Standing::Pending), None, Some(Standing::Approved)]
    );
    assert_eq!(world.service.figures().nodes_pending, 1);
    assert_eq!(world.node(4).1, two);
}

#[test]
fn silence_deletes_nothing_unless_it_is_wanted_and_then_the_number_stays() {
    for (forget_after_days, stays) in [(0, true), (30, false)] {
        let mut world = World::under(Policy { forget_after_days, ..Policy::default() }, Limits::default());
        let ((alice, one), (_, two), (_, three)) = (world.node(1), world.node(2), world.node(3));
        world.by(&key(2), set_hostname(two, "bob"));
        world.act("3", &Act::Ban { reason: String::new() }).unwrap();
        world.service.handle_close(ConnectionId(1));
        for _ in 0..40 {
            world.pass(DAY);
            world.beat(&alice, one);
            world.service.handle_close(ConnectionId(1));
        }
        assert_eq!(standing(&world, two).is_some(), stays);
        assert!(standing(&world, one).is_some());
        assert_eq!(standing(&world, three), Some(Standing::Banned), "a ban is never forgotten");
        assert_eq!(world.node(2).1, two);
    }
}

#[test]
fn a_start_after_long_and_a_clock_that_jumps_forget_nobody() {
    let mut world = World::under(Policy { forget_after_days: 30, ..Policy::default() }, Limits::default());
    let (_, one) = world.node(1);
    world.service.handle_close(ConnectionId(1));
    world.now.unix_seconds += 86_400 * 365;
    world.restart();
    for _ in 0..20 {
        world.pass(DAY / 24);
    }
    assert!(standing(&world, one).is_some(), "it has a day to come back");

    let (_, two) = world.node(2);
    world.service.handle_close(ConnectionId(1));
    world.now.unix_seconds += 86_400 * 365;
    for _ in 0..20 {
        world.pass(DAY);
    }
    assert!(standing(&world, two).is_some(), "this process has not lived for a year");
}

/// Days on which alice alone is heard.
fn days_of(world: &mut World, alice: &SigningKey, one: NodeId, count: u32) {
    for _ in 0..count {
        world.pass(DAY);
        world.beat(alice, one);
        world.service.handle_close(ConnectionId(1));
    }
}

#[test]
fn after_a_jump_of_the_clock_everybody_has_his_whole_time_again_and_no_more() {
    const YEARS: u64 = 86_400 * 365 * 3;
    let forget = Policy { forget_after_days: 30, ..Policy::default() };
    let approve = Policy { enrolment: Enrolment::Approve, ..Policy::default() };
    // How the clock jumps, under which rules, who signs nothing, and for how many days nobody may be forgotten.
    let gone_after = [(&forget, true, 1), (&forget, false, 30), (&approve, false, 7)];
    for (jump, (policy, unsigned_one, days)) in
        [1, -1].into_iter().flat_map(|way| gone_after.map(|case| (way * YEARS.cast_signed(), case)))
    {
        let mut world = World::under(policy.clone(), Limits::default());
        let (alice, one) = world.node(1);
        let two = if unsigned_one { unsigned(&mut world, 2) } else { world.node(2).1 };
        world.service.handle_close(ConnectionId(1));
        // It is gone for a part of its time before the clock jumps, which is not counted.
        world.pass(DAY / 2);
        world.now.unix_seconds = world.now.unix_seconds.checked_add_signed(jump).unwrap();
        world.sweep();
        let jumps = world.service.clock_jumps();
        assert_eq!((jumps.count, jumps.latest_seconds), (1, jump));
        world.beat(&alice, one);
        world.service.handle_close(ConnectionId(1));
        days_of(&mut world, &alice, one, days);
        let case = format!("{jump} s, {days} days");
        assert!(standing(&world, two).is_some(), "{case}: nobody is forgotten early");
        days_of(&mut world, &alice, one, 2);
        assert_eq!(standing(&world, two), None, "{case}: collection goes on");
        assert!(standing(&world, one).is_some(), "{case}: whoever is heard stays");
        assert_eq!(world.service.figures().clock_jumps, 1, "{case}: and the clock has jumped once");
    }
}

#[test]
fn one_that_was_heard_after_the_clock_was_set_back_has_its_time_from_then_on() {
    let mut world = World::under(Policy { forget_after_days: 30, ..Policy::default() }, Limits::default());
    let ((alice, one), (bob, two)) = (world.node(1), world.node(2));
    world.service.handle_close(ConnectionId(1));
    world.now.unix_seconds -= 86_400 * 365;
    world.sweep();
    // Its key is from the future; what it signs is not.
    for _ in 0..40 {
        world.beat(&bob, two);
        days_of(&mut world, &alice, one, 1);
    }
    days_of(&mut world, &alice, one, 25);
    assert!(standing(&world, two).is_some());
    days_of(&mut world, &alice, one, 7);
    assert_eq!(standing(&world, two), None);
}

#[test]
fn a_clock_that_was_set_back_while_nobody_looked_forgets_nobody_early() {
    let mut world = World::under(Policy { forget_after_days: 30, ..Policy::default() }, Limits::default());
    let (alice, one) = world.node(1);
    world.pass(DAY * 300);
    // Heard by a clock that is ahead.
    let (_, two) = world.node(2);
    world.beat(&alice, one);
    world.by(&key(2), Operation::RotateKey { node_id: two, new_public_key: public(&key(3)) });
    world.service.handle_close(ConnectionId(1));
    world.sweep();
    world.now.unix_seconds -= 86_400 * 100;
    world.restart();
    world.sweep();
    for _ in 0..30 {
        world.pass(DAY);
    }
    assert!([one, two].into_iter().all(|node| standing(&world, node).is_some()));
    assert_eq!(world.service.clock_jumps().count, 0, "it was set before the start");
    days(&mut world, 2);
    assert!([one, two].into_iter().all(|node| standing(&world, node).is_none()));
}

#[test]
fn the_day_a_node_was_last_there_is_written_in_batches() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let day = |world: &World| world.store.load().unwrap().nodes[0].last_seen_day;
    let first = day(&world).expect("a signed registration says it at once");
    world.pass(DAY);
    world.beat(&alice, one);
    assert_eq!(day(&world), Some(first), "a heartbeat alone is no reason to write");
    world.sweep();
    assert_eq!(day(&world), Some(first + 1));
    world.beat(&alice, one);
    world.pass(Duration::from_secs(61));
    assert_eq!(world.service.take_changes(), [], "once a day is enough");
}

#[test]
fn the_number_of_one_that_was_in_stays_with_its_key() {
    let policy = Policy { enrolment: Enrolment::Approve, ..Policy::default() };
    let mut world = World::under(policy, Limits::default());
    let (_, one) = world.node(1);
    world.act("1", &Act::Approve).unwrap();
    world.act("1", &Act::Remove).unwrap();
    world.restart();
    assert_eq!(world.node(1).1, one);
    assert_eq!(standing(&world, one), Some(Standing::Pending));
    world.service.handle_close(ConnectionId(1));
    days(&mut world, 10);
    assert_eq!(standing(&world, one), None);
    assert_eq!(world.node(2).1, NodeId(2), "others may still know it by its number");
    assert_eq!(world.node(1).1, one);
}

#[test]
fn the_number_of_one_that_has_made_a_network_stays_with_its_key() {
    let mut world = World::new();
    let one = unsigned(&mut world, 1);
    let network =
        Operation::CreateNetwork { node_id: one, name: "n".into(), join_rule: "invite".into(), token: String::new() };
    assert!(matches!(world.as_admin(network), Answer::CreateNetwork { .. }));
    days(&mut world, 3);
    assert_eq!(standing(&world, one), None);
    assert_eq!(world.node(2).1, NodeId(2), "the network would be a stranger's");
}
