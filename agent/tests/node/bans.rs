//! A peer that the administrator keeps out: what stands between the two ends with the next heartbeat, does not come back
//! while the ban stands, and does by itself when it is lifted.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use agent::node::{ControlKind, Event, StreamId, Trouble};
use agent::stream::End;
use wire::beacon;
use wire::registry::Operation;

use super::*;

/// The longest until the next heartbeat is answered.
const BEAT: Duration = Duration::from_secs(61);

/// Nodes in a circle of friends: the first has a direct tunnel and an open stream with each of the others.
fn friends(count: usize) -> (World, Vec<StreamId>) {
    let mut world = World::with_public_nodes(count);
    for host in &mut world.hosts {
        host.node.bind(1000).unwrap();
    }
    let streams = (1..count).map(|peer| connect(&mut world, peer)).collect();
    (world, streams)
}

fn connect(world: &mut World, peer: usize) -> StreamId {
    let to = world.address(peer, 1000);
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(10 * SECOND, |world| {
        world.is_open(0, stream) && world.is_direct(0, peer) && world.is_direct(peer, 0)
    });
    stream
}

fn end(world: &World, stream: StreamId) -> Option<End> {
    world.hosts[0].node.stream_end(stream)
}

fn bans_noted(world: &World) -> Vec<(NodeId, usize)> {
    let noted = world.hosts[0].control.iter().filter_map(|event| match event.kind {
        ControlKind::PeerBanned { streams } => Some((event.peer, streams)),
        _ => None,
    });
    noted.collect()
}

/// Lets so many heartbeats pass, and the stream have something to do meanwhile.
fn pass_beats(world: &mut World, stream: StreamId, count: usize) {
    for _ in 0..count {
        world.hosts[0].node.write(world.now, stream, b".");
        world.run_for(BEAT);
    }
}

/// Waits until the first node has been answered the next heartbeat.
fn await_beat(world: &mut World) {
    let before = world.reports.len();
    let own = world.id(0);
    world.run_until(BEAT, |world| world.reports[before..].iter().any(|(node, _)| *node == own));
    world.run_for(DELAY * 2);
}

#[test]
fn a_direct_tunnel_with_a_banned_peer_ends_with_the_next_heartbeat() {
    let (mut world, streams) = friends(3);
    let (bob, carol) = (world.id(1), world.id(2));
    let second = connect(&mut world, 1);
    world.ban(1);
    let banned_at = world.now;
    world.run_until(BEAT, |world| end(world, streams[0]).is_some());
    assert!(world.now.since(banned_at) <= Duration::from_secs(60) + DELAY * 2);
    assert_eq!([end(&world, streams[0]), end(&world, second)], [Some(End::Banned); 2]);
    assert!(world.hosts[0].events.contains(&Event::Readable(streams[0])), "the application hears of it");
    assert!(world.hosts[0].events.contains(&Event::PathChanged { peer: bob, direct: None }));
    assert!(!world.has_session(0, 1) && !world.is_direct(0, 1));
    assert_eq!(world.hosts[0].node.trouble(bob), Some(&Trouble::Banned));
    let explained = world.hosts[0].node.explain(world.now, bob).unwrap();
    assert_eq!((explained.path, explained.candidates.len()), ("relay", 0));
    assert!(explained.why.contains("banned"), "{}", explained.why);
    assert_eq!(bans_noted(&world), [(bob, 2)]);
    // Nobody else is touched.
    assert_eq!(end(&world, streams[1]), None);
    assert!(world.is_direct(0, 2));
    assert_eq!(world.hosts[0].node.trouble(carol), None);

    // The list says it again for some minutes; there is nothing more to be done.
    await_beat(&mut world);
    assert_eq!(bans_noted(&world).len(), 1);
}

#[test]
fn nothing_is_said_to_a_banned_peer_and_what_waited_for_it_is_gone() {
    let (mut world, streams) = friends(2);
    let (own, bob, relay) = (world.hosts[0].endpoint, world.hosts[1].endpoint, world.relay);
    await_beat(&mut world);
    world.run_for(Duration::from_secs(50));
    // Bob has gone silent, and much is on its way to him.
    world.passes = Box::new(move |from, _| from != bob);
    world.hosts[0].node.write(world.now, streams[0], &[7; 100_000]);
    let to = world.address(1, 1000);
    let dialled = world.hosts[0].node.dial(world.now, to).unwrap();
    world.ban(1);
    world.run_until(BEAT, |world| end(world, streams[0]) == Some(End::Banned));
    assert_eq!(end(&world, dialled), Some(End::Banned), "a dial ends too");
    let sent = Rc::new(Cell::new(0));
    let counted = Rc::clone(&sent);
    world.passes = Box::new(move |from, to| {
        counted.set(counted.get() + u64::from(from == own && to == bob));
        from != bob
    });
    let (before, relayed) = (world.relayed, relay);
    world.run_for(Duration::from_secs(90));
    assert_eq!((sent.get(), world.relayed), (0, before), "by way of {relayed} or directly");
    let failed =
        |kind: &ControlKind| matches!(kind, ControlKind::StreamFailed { reason, .. } if reason.contains("banned"));
    assert!(world.hosts[0].control.iter().any(|event| failed(&event.kind)), "and the recorder says why");
}

/// What the peer's keys came in: its offers to the first node, as they arrived.
fn offers(world: &World) -> Vec<(SocketAddr, Vec<u8>)> {
    let (own, peer) = (world.hosts[0].endpoint, world.hosts[1].endpoint);
    let recorded = world.recorded.iter().filter(|(from, to, bytes)| {
        *from == peer && (*to == own || *to == world.relay) && bytes.windows(4).any(|magic| magic == b"PILA")
    });
    let arrived = recorded.map(|(from, to, bytes)| match bytes.first() {
        // Type, sender, destination: as the relay delivers it.
        Some(&beacon::kind::RELAY) => (*to, [&[beacon::kind::DELIVER], &bytes[1..5], &bytes[9..]].concat()),
        _ => (*from, bytes.clone()),
    });
    arrived.collect()
}

#[test]
fn keys_of_a_banned_peer_count_for_nothing_whenever_they_were_sent() {
    let mut world = World::with_public_nodes(2);
    world.hosts[1].node.bind(1000).unwrap();
    await_beat(&mut world);
    // What the directory says now is still fresh when the ban is heard of.
    world.run_for(Duration::from_secs(52));
    let stream = connect(&mut world, 1);
    let offers = offers(&world);
    assert!(!offers.is_empty());
    world.ban(1);
    world.run_until(Duration::from_secs(9), |world| end(world, stream) == Some(End::Banned));
    for (source, offer) in &offers {
        world.hosts[0].node.handle_datagram(world.now, *source, &mut offer.clone());
        assert!(!world.has_session(0, 1), "without a word of the directory's");
    }
    // The peer is alive, has all it had, and goes on.
    let accepted = world.accepted(1).unwrap();
    for _ in 0..90 {
        world.hosts[1].node.write(world.now, accepted, &[7; 5000]);
        let to = world.address(0, 444);
        world.hosts[1].node.dial(world.now, to).unwrap();
        world.run_for(SECOND);
        for (source, offer) in &offers {
            world.hosts[0].node.handle_datagram(world.now, *source, &mut offer.clone());
        }
        assert!(!world.has_session(0, 1));
    }
    let bob = world.id(1);
    let is_kept = |kind: &ControlKind| matches!(kind, ControlKind::PeerBanned { .. });
    assert!(world.hosts[0].node.control_events(bob).any(|event| is_kept(&event.kind)), "whatever the peer asks since");
    // A restart gives it other keys.
    world.restart(1, Config { public: true, ..Config::default() });
    world.run_until(10 * SECOND, |world| world.hosts[1].node.id().is_some());
    let to = world.address(0, 444);
    world.hosts[1].node.dial(world.now, to).unwrap();
    for _ in 0..30 {
        world.run_for(SECOND);
        assert!(!world.has_session(0, 1));
    }
    assert_eq!(bans_noted(&world).len(), 1);
}

#[test]
fn an_answer_from_before_the_ban_lets_nobody_in_after_it() {
    let mut world = World::with_public_nodes(2);
    let bob = world.id(1);
    await_beat(&mut world);
    // What the directory says of Bob before the ban takes longer than the next heartbeat does.
    let (late, is_late) = (Duration::from_secs(80), Rc::new(Cell::new(true)));
    let of_bob = move |operation: &Operation| matches!(operation, Operation::Lookup { node_id } if *node_id == bob);
    let decides = Rc::clone(&is_late);
    world.slowness = Box::new(move |asked| if of_bob(asked) && decides.get() { late } else { Duration::ZERO });
    let to = world.address(0, 444);
    world.hosts[1].node.dial(world.now, to).unwrap();
    world.run_for(SECOND);
    let offers = offers(&world);
    assert!(!offers.is_empty() && !world.has_session(0, 1));
    world.ban(1);
    is_late.set(false);
    for second in 0..100 {
        world.run_for(SECOND);
        for (source, offer) in &offers {
            world.hosts[0].node.handle_datagram(world.now, *source, &mut offer.clone());
        }
        assert!(!world.has_session(0, 1), "{second} s after the ban");
    }
}

#[test]
fn without_word_of_a_ban_tunnels_stay() {
    let (mut world, streams) = friends(2);
    world.directory_errs = true;
    pass_beats(&mut world, streams[0], 2);
    assert_eq!(
        (end(&world, streams[0]), world.is_direct(0, 1)),
        (None, true),
        "it names the node itself and nobody else it knows"
    );
    let itself = world.address(0, 1000);
    let to_itself = world.hosts[0].node.dial(world.now, itself).unwrap();
    pass_beats(&mut world, streams[0], 2);
    assert!(world.is_open(0, to_itself) && end(&world, to_itself).is_none(), "nobody parts from itself");
    world.directory_is_old = true;
    world.ban(1);
    pass_beats(&mut world, streams[0], 3);
    assert_eq!((end(&world, streams[0]), world.is_direct(0, 1)), (None, true), "an older directory says nothing");
    world.directory_is_away = true;
    world.directory_is_old = false;
    pass_beats(&mut world, streams[0], 10);
    assert_eq!((end(&world, streams[0]), world.is_direct(0, 1)), (None, true), "one that is away neither");
    world.directory_is_away = false;
    world.run_until(BEAT, |world| end(world, streams[0]) == Some(End::Banned));
    let bob = world.id(1);
    assert_eq!(bans_noted(&world), [(bob, 1)]);
}

#[test]
fn when_the_ban_is_lifted_everything_comes_back_by_itself() {
    let (mut world, streams) = friends(2);
    let bob = world.id(1);
    world.ban(1);
    world.run_until(BEAT, |world| end(world, streams[0]) == Some(End::Banned));
    // While it stands a dial fails, and why is not forgotten.
    let to = world.address(1, 1000);
    let refused = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(10 * SECOND, |world| end(world, refused).is_some());
    assert_eq!(world.hosts[0].node.trouble(bob), Some(&Trouble::Banned), "not merely unknown");
    world.run_for(Duration::from_secs(200));
    world.banned.clear();
    // At once, from either side, and directly.
    let lifted_at = world.now;
    let stream = connect(&mut world, 1);
    assert!(world.now.since(lifted_at) < 5 * SECOND, "{:?}", world.now.since(lifted_at));
    world.hosts[0].node.write(world.now, stream, b"again");
    world.run_for(BEAT * 2);
    assert_eq!(end(&world, stream), None, "an old ban does not count any more");
    assert_eq!(world.hosts[0].node.trouble(bob), None);
}

#[test]
fn a_stream_that_waited_to_be_let_in_is_forgotten_and_the_next_one_is_not() {
    let mut world = World::new();
    world.start(Config::default());
    world.start(Config { public: true, ..Config::default() });
    world.run_until(5 * SECOND, |world| world.hosts.iter().all(|host| host.node.id().is_some()));
    let (own, bob) = (world.id(0), world.id(1));
    world.trusted.insert((own, bob));
    world.hosts[0].node.bind(1000).unwrap();
    let is_late = Rc::new(Cell::new(true));
    let decides = Rc::clone(&is_late);
    world.slowness = Box::new(move |asked| match asked {
        Operation::CheckTrust { .. } if decides.get() => Duration::from_secs(80),
        _ => Duration::ZERO,
    });
    let to = world.address(0, 1000);
    world.hosts[1].node.dial(world.now, to).unwrap();
    world.run_for(SECOND);
    assert!(world.has_session(0, 1) && world.accepted(0).is_none(), "the directory has not spoken");
    world.ban(1);
    is_late.set(false);
    world.run_until(BEAT, |world| !world.has_session(0, 1));
    world.run_for(Duration::from_secs(90));
    assert_eq!(world.accepted(0), None, "it does when the ban stands");
    world.banned.clear();
    world.hosts[1].node.dial(world.now, to).unwrap();
    world.run_until(30 * SECOND, |world| world.accepted(0).is_some());
}
