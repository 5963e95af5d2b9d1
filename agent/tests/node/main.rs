//! Stories of a node among others, on a network without faults.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bans;
mod traces;
mod world;

use std::net::SocketAddr;
use std::time::Duration;

use agent::identity::Identity;
use agent::node::{Config, DialError, Event, Trouble};
use agent::stream::End;
use wire::NodeId;
use wire::address::SocketAddress;
use wire::beacon::Message;
use wire::codec::Writer;

use world::{DELAY, World};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_cold_dial_is_answered_through_the_relay_and_soon_goes_direct() {
    let mut world = World::with_public_nodes(2);
    world.hosts[1].node.bind(1000).unwrap();
    let began = world.now;
    let to = world.address(1, 1000);
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(SECOND, |world| world.is_open(0, stream));
    let took = world.now.since(began);
    // Directory and relay are each 20 ms away and back; keys and SYN need two ways through the relay, and both sides ask
    // the directory.
    assert!(took <= DELAY * 14, "{took:?}");

    let data: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
    let taken = world.hosts[0].node.write(world.now, stream, &data);
    assert_eq!(taken, data.len());
    let mut received = Vec::new();
    world.run_until(5 * SECOND, |world| {
        if let Some(stream) = world.accepted(1) {
            received.extend(world.read_all(1, stream));
        }
        received.len() == data.len()
    });
    assert_eq!(received, data);
    world.run_until(SECOND, |world| world.is_direct(0, 1) && world.is_direct(1, 0));
    let relayed = world.relayed;
    world.hosts[0].node.write(world.now, stream, b"direct");
    let incoming = world.accepted(1).unwrap();
    world.run_until(SECOND, |world| world.read_all(1, incoming) == b"direct");
    assert_eq!(world.relayed, relayed);
}

#[test]
fn without_a_direct_way_everything_is_relayed() {
    let mut world = World::with_public_nodes(2);
    let relay = world.relay;
    world.passes = Box::new(move |from, to| from == relay || to == relay);
    world.hosts[1].node.bind(1000).unwrap();
    let to = world.address(1, 1000);
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(SECOND, |world| world.is_open(0, stream));
    world.hosts[0].node.write(world.now, stream, b"question");
    world.run_until(SECOND, |world| world.accepted(1).is_some_and(|stream| world.read_all(1, stream) == b"question"));
    let incoming = world.accepted(1).unwrap();
    world.hosts[1].node.write(world.now, incoming, b"answer");
    world.run_until(SECOND, |world| world.read_all(0, stream) == b"answer");
    world.hosts[1].node.close(world.now, incoming);
    world.run_until(SECOND, |world| world.hosts[0].node.stream_end(stream) == Some(End::Finished));
    world.hosts[0].node.close(world.now, stream);
    world.run_for(Duration::from_secs(15));
    assert_eq!(world.hosts[0].node.streams().count() + world.hosts[1].node.streams().count(), 0);
    assert!(!world.is_direct(0, 1));
}

#[test]
fn a_direct_path_that_dies_is_left_for_the_relay_and_found_again() {
    let mut world = World::with_public_nodes(2);
    world.hosts[1].node.bind(1000).unwrap();
    let to = world.address(1, 1000);
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(5 * SECOND, |world| world.is_open(0, stream) && world.is_direct(0, 1));
    let relay = world.relay;
    world.passes = Box::new(move |from, to| from == relay || to == relay);
    let died = world.now;
    world.hosts[0].node.write(world.now, stream, b"still there?");
    let incoming = world.accepted(1).unwrap();
    world.run_until(3 * SECOND, |world| world.read_all(1, incoming) == b"still there?");
    assert!(world.now.since(died) < Duration::from_millis(1500), "{:?}", world.now.since(died));
    world.passes = Box::new(|_, _| true);
    world.run_until(10 * SECOND, |world| world.is_direct(0, 1));
}

#[test]
fn a_port_without_listener_refuses_and_an_unknown_node_is_named() {
    let mut world = World::with_public_nodes(2);
    let to = world.address(1, 77);
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(SECOND, |world| world.hosts[0].node.stream_end(stream).is_some());
    assert_eq!(world.hosts[0].node.stream_end(stream), Some(End::Refused));
    assert!(world.hosts[0].events.contains(&Event::Readable(stream)));

    let nobody = SocketAddress { address: NodeId(99).address(), port: 7 };
    let stream = world.hosts[0].node.dial(world.now, nobody).unwrap();
    world.run_until(SECOND, |world| world.hosts[0].node.stream_end(stream).is_some());
    assert!(matches!(world.hosts[0].node.trouble(NodeId(99)), Some(Trouble::Unknown(_))));
    let nobody = SocketAddress { address: NodeId(0).address(), port: 7 };
    assert_eq!(world.hosts[0].node.dial(world.now, nobody), Err(DialError::NotANode));
}

#[test]
fn strangers_do_not_get_into_a_private_node_until_it_trusts_them() {
    let mut world = World::new();
    for _ in 0..2 {
        world.start(Config::default());
    }
    world.run_until(5 * SECOND, |world| world.hosts.iter().all(|host| host.node.id().is_some()));
    world.hosts[1].node.bind(1000).unwrap();
    let (to, stranger) = (world.address(1, 1000), world.id(0));
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.hosts[0].node.send_datagram(world.now, 5, to, b"hello").unwrap();
    world.run_for(3 * SECOND);
    assert!(world.accepted(1).is_none() && !world.is_open(0, stream));
    assert!(!world.hosts[1].events.iter().any(|event| matches!(event, Event::Datagram { .. })));

    // A trust request arrives all the same, and its approval opens the door.
    let (asked, now) = (world.id(1), world.now);
    world.hosts[0].node.with_trust(now, |trust| trust.request(now, asked, "let me in")).unwrap();
    world.run_until(3 * SECOND, |world| world.hosts[1].node.trust().pending().len() == 1);
    let now = world.now;
    world.hosts[1].node.with_trust(now, |trust| trust.approve(now, stranger)).unwrap();
    world.run_until(5 * SECOND, |world| world.hosts[0].node.trust().trusts(asked));
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(SECOND, |world| world.is_open(0, stream));
    world.hosts[0].node.send_datagram(world.now, 5, to, b"hello").unwrap();
    let from = world.address(0, 5);
    let told = Event::Datagram { source: from, port: 1000, data: b"hello".as_slice().into() };
    world.run_until(SECOND, |world| world.hosts[1].events.contains(&told));
}

#[test]
fn a_node_reaches_itself() {
    let mut world = World::with_public_nodes(1);
    world.hosts[0].node.bind(1000).unwrap();
    let to = world.address(0, 1000);
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(SECOND, |world| world.is_open(0, stream));
    let data = vec![7; 1 << 20];
    let mut written = 0;
    let mut received = 0;
    world.run_until(5 * SECOND, |world| {
        written += world.hosts[0].node.write(world.now, stream, &data[written..]);
        let incoming = world.accepted(0).unwrap();
        received += world.read_all(0, incoming).len();
        received == data.len()
    });
    assert_eq!((world.direct, world.relayed), (0, 0));
}

#[test]
fn without_the_directory_old_peers_are_reached_and_new_ones_later() {
    let mut world = World::with_public_nodes(3);
    for host in 1..3 {
        world.hosts[host].node.bind(1000).unwrap();
    }
    let to = world.address(1, 1000);
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(SECOND, |world| world.is_open(0, stream));
    world.directory_is_away = true;
    let again = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(SECOND, |world| world.is_open(0, again));
    let to = world.address(2, 1000);
    let other = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_for(2 * SECOND);
    assert!(!world.is_open(0, other));
    assert!(matches!(world.hosts[0].node.trouble(to.address.node), Some(Trouble::DirectoryAway(_))));
    world.directory_is_away = false;
    world.run_until(10 * SECOND, |world| world.is_open(0, other));
}

#[test]
fn a_host_that_moves_keeps_its_streams() {
    let mut world = World::with_public_nodes(2);
    world.hosts[1].node.bind(1000).unwrap();
    let to = world.address(1, 1000);
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(5 * SECOND, |world| world.is_open(0, stream) && world.is_direct(0, 1));
    let moved = "198.18.7.7:4000".parse().unwrap();
    world.hosts[0].endpoint = moved;
    let now = world.now;
    world.hosts[0].node.set_local_endpoints(now, &[moved]);
    world.hosts[0].node.write(now, stream, b"moved");
    let incoming = world.accepted(1).unwrap();
    world.run_until(3 * SECOND, |world| world.read_all(1, incoming) == b"moved");
    world.run_until(5 * SECOND, |world| world.is_direct(0, 1));
    let own = world.id(0);
    world.run_until(5 * SECOND, |world| world.hosts[1].node.peer(own).is_some_and(|peer| peer.direct == Some(moved)));
}

/// Two private nodes that trust each other, the second with port 1000 bound.
fn friends() -> World {
    let mut world = World::new();
    for _ in 0..2 {
        world.start(Config { trust_auto_approve: true, ..Config::default() });
    }
    world.run_until(5 * SECOND, |world| world.hosts.iter().all(|host| host.node.id().is_some()));
    world.hosts[1].node.bind(1000).unwrap();
    let (asked, now) = (world.id(1), world.now);
    world.hosts[0].node.with_trust(now, |trust| trust.request(now, asked, "")).unwrap();
    world.run_until(5 * SECOND, |world| world.hosts[0].node.trust().trusts(asked));
    world
}

#[test]
fn to_revoke_trust_opens_no_door() {
    let mut world = friends();
    let (to, former) = (world.address(1, 1000), world.id(0));
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(SECOND, |world| world.is_open(0, stream));
    world.trusted.clear();
    let now = world.now;
    world.hosts[1].node.with_trust(now, |trust| trust.revoke(now, former)).unwrap();
    world.run_for(SECOND);
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_for(5 * SECOND);
    assert!(!world.is_open(0, stream));
}

/// Who was trusted with one key is not met under another, whatever the directory has come to say.
#[test]
fn a_trusted_peers_key_is_the_one_it_was_trusted_with() {
    let mut world = friends();
    let (to, friend) = (world.address(1, 1000), world.id(1));
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(SECOND, |world| world.is_open(0, stream));
    let kept = world.hosts[0].node.trust().to_json();
    for is_false in [true, false] {
        let false_key = wire::registry::Base64(Identity::from_seed(&[66; 32]).public_key());
        world.false_keys = is_false.then_some((friend, false_key)).into_iter().collect();
        world.restart(0, Config::default());
        let now = world.now;
        world.hosts[0].node.with_trust(now, |trust| trust.restore(&kept)).unwrap();
        world.run_until(5 * SECOND, |world| world.hosts[0].node.id().is_some());
        let stream = world.hosts[0].node.dial(world.now, to).unwrap();
        world.run_for(5 * SECOND);
        assert_eq!(world.is_open(0, stream), !is_false);
    }
}

#[test]
fn streams_about_trust_are_few_and_short() {
    let mut world = World::new();
    for _ in 0..2 {
        world.start(Config::default());
    }
    world.run_until(5 * SECOND, |world| world.hosts.iter().all(|host| host.node.id().is_some()));
    let to = world.address(1, 444);
    let streams: Vec<_> = (0..10).map(|_| world.hosts[0].node.dial(world.now, to).unwrap()).collect();
    world.run_for(2 * SECOND);
    let open = streams.iter().filter(|stream| world.is_open(0, **stream)).count();
    assert_eq!(open, 4);
    world.run_for(10 * SECOND);
    let ended = streams.iter().filter(|stream| world.hosts[0].node.stream_end(**stream) == Some(End::Reset)).count();
    assert_eq!(ended, 4);
    let again = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(SECOND, |world| world.is_open(0, again));
}

#[test]
fn the_end_of_a_stream_is_told_to_a_slow_reader() {
    let mut world = World::with_public_nodes(2);
    world.hosts[1].node.bind(1000).unwrap();
    let to = world.address(1, 1000);
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(SECOND, |world| world.is_open(0, stream));
    world.hosts[0].node.write(world.now, stream, b"last words");
    world.run_until(SECOND, |world| world.accepted(1).is_some());
    let incoming = world.accepted(1).unwrap();
    world.run_until(SECOND, |world| world.hosts[1].events.contains(&Event::Readable(incoming)));
    world.hosts[0].node.abort(world.now, stream);
    world.run_until(SECOND, |world| world.hosts[1].node.stream_end(incoming).is_some());
    world.hosts[1].events.clear();
    let mut piece = [0; 64];
    assert_eq!(world.hosts[1].node.read(world.now, incoming, &mut piece), 10);
    world.run_until(SECOND, |world| world.hosts[1].events.contains(&Event::Readable(incoming)));
    world.hosts[1].events.clear();
    assert_eq!(world.hosts[1].node.read(world.now, incoming, &mut piece), 0);
    world.run_for(SECOND);
    assert!(world.hosts[1].events.is_empty(), "the end is told once");
}

#[test]
fn a_directory_in_trouble_does_not_end_what_works() {
    let mut world = World::with_public_nodes(2);
    world.hosts[1].node.bind(1000).unwrap();
    let to = world.address(1, 1000);
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(SECOND, |world| world.is_open(0, stream));
    world.lookup_error = Some("rate limited");
    world.run_for(Duration::from_mins(2));
    // Somebody sends a key exchange in the peer's name, with another identity: the directory is asked again.
    let mut forged = [0; 136];
    forged[..4].copy_from_slice(b"PILA");
    forged[4..8].copy_from_slice(&to.address.node.0.to_be_bytes());
    forged[8..].fill(7);
    let now = world.now;
    world.hosts[0].node.handle_datagram(now, "203.0.113.9:99".parse().unwrap(), &mut forged);
    world.run_for(SECOND);
    world.hosts[0].node.write(world.now, stream, b"still here");
    let incoming = world.accepted(1).unwrap();
    world.run_until(3 * SECOND, |world| world.read_all(1, incoming) == b"still here");
}

#[test]
fn who_hides_answers_nobody_directly() {
    let mut world = World::new();
    world.start(Config { public: true, relay_only: true, ..Config::default() });
    world.run_until(5 * SECOND, |world| world.hosts[0].node.id().is_some());
    let before = world.direct;
    let mut knock = [0; 40];
    knock[..4].copy_from_slice(b"PILK");
    knock[7] = 99;
    for port in 1..100 {
        let now = world.now;
        world.hosts[0].node.handle_datagram(now, SocketAddr::from(([203, 0, 113, 9], port)), &mut knock.clone());
    }
    world.run_for(SECOND);
    assert_eq!(world.direct, before);
}

/// Whatever a relay says that has gone bad: so many probes of four bytes a second, and none on anybody else's word.
#[test]
fn a_relay_gone_bad_makes_no_flood_of_a_node() {
    let mut world = World::with_public_nodes(2);
    let (relay, victim) = (world.relay, world.hosts[1].endpoint);
    let mut buffer = [0; 32];
    let mut writer = Writer::new(&mut buffer);
    Message::PunchCommand(victim).encode(&mut writer);
    let command = writer.written().to_vec();
    for (from, probes) in [("203.0.113.9:9001".parse().unwrap(), 0), (relay, 64 * 3)] {
        let (now, before) = (world.now, world.direct);
        for _ in 0..1000 {
            world.hosts[0].node.handle_datagram(now, from, &mut command.clone());
        }
        world.run_for(SECOND / 2);
        assert_eq!(world.direct - before, probes, "{from}");
    }
}

#[test]
fn a_node_that_starts_again_does_not_meet_its_old_streams() {
    let mut world = World::with_public_nodes(2);
    world.hosts[1].node.bind(1000).unwrap();
    let to = world.address(1, 1000);
    let stream = world.hosts[0].node.dial(world.now, to).unwrap();
    world.run_until(SECOND, |world| world.is_open(0, stream));
    let port = world.hosts[0].node.streams().next().unwrap().local_port;
    world.hosts[0].node.write(world.now, stream, b"an old life");
    world.run_for(SECOND);
    world.restart(0, Config { public: true, ..Config::default() });
    world.run_until(5 * SECOND, |world| world.hosts[0].node.id().is_some());
    // Even should the port be the same: the old connection is reset, the second SYN succeeds.
    let again = loop {
        let again = world.hosts[0].node.dial(world.now, to).unwrap();
        if world.hosts[0].node.streams().any(|info| info.id == again && info.local_port == port) {
            break again;
        }
        world.hosts[0].node.abort(world.now, again);
    };
    world.run_until(10 * SECOND, |world| world.is_open(0, again));
    world.hosts[0].node.write(world.now, again, b"a new life");
    world.run_until(SECOND, |world| {
        let accepted: Vec<_> = world.hosts[1].events.iter().filter_map(accepted_stream).collect();
        accepted.len() >= 2 && world.read_all(1, *accepted.last().unwrap()) == b"a new life"
    });
}

fn accepted_stream(event: &Event) -> Option<agent::node::StreamId> {
    match event {
        Event::Accepted { stream, .. } => Some(*stream),
        _ => None,
    }
}
