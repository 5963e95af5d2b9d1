//! Forged, replayed and damaged frames: dropped and named, and nothing the sender wanted comes of them.

use std::collections::HashSet;

use agent::tunnel::session::HEAD_LEN;
use agent::tunnel::{DropReason, Limits, Output, Received, Tunnels, Via};
use proptest::collection::vec;
use proptest::prelude::*;
use wire::NodeId;

use super::world::{World, direct, identity, seconds, unsealed};

/// A frame that node 1 has sealed for node 2 and that has not been sent.
fn sealed(world: &mut World, payload: &[u8]) -> Vec<u8> {
    let mut frame = unsealed(1, 2, payload);
    let now = world.now;
    let _ = world.node(1).tunnels.seal(now, NodeId(2), &mut frame);
    frame
}

#[test]
fn a_replayed_frame_is_refused_and_a_reordered_one_is_not() {
    let mut world = World::connected();
    let frames: Vec<_> = (0..300).map(|number: u16| sealed(&mut world, &number.to_be_bytes())).collect();
    for number in [0, 2, 1, 299, 298, 44, 200] {
        assert_eq!(world.deliver(2, direct(1), &frames[number]), None, "{number}");
    }
    for number in [0, 1, 2, 299, 200, 43] {
        assert_eq!(world.deliver(2, direct(1), &frames[number]), Some(DropReason::Replayed), "{number}");
    }
    assert_eq!(world.take_received(2).len(), 7);
}

#[test]
fn a_forged_counter_does_not_silence_the_peer() {
    let mut world = World::connected();
    let mut forged = sealed(&mut world, b"x");
    forged[12..20].fill(0xFF);
    assert_eq!(world.deliver(2, direct(1), &forged), Some(DropReason::NotAuthentic));
    let mut forged = sealed(&mut world, b"x");
    forged[8..20].fill(0xFF);
    assert_eq!(world.deliver(2, direct(1), &forged), Some(DropReason::NotAuthentic));
    assert!(world.talks(1, 2));
}

#[test]
fn every_bit_of_a_sealed_frame_counts() {
    let mut world = World::connected();
    let frame = sealed(&mut world, b"exact");
    for bit in 0..frame.len() * 8 {
        let mut damaged = frame.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(world.deliver(2, direct(1), &damaged).is_some(), "bit {bit}");
    }
    assert_eq!(world.take_received(2), []);
    assert_eq!(world.deliver(2, direct(1), &frame), None);
}

#[test]
fn a_frame_sent_back_to_its_sender_opens_nothing() {
    let mut world = World::connected();
    let mut frame = sealed(&mut world, b"mirror");
    assert_eq!(world.deliver(1, direct(2), &frame), Some(DropReason::NoSession));
    frame[4..8].copy_from_slice(&2u32.to_be_bytes());
    assert_eq!(world.deliver(1, direct(2), &frame), Some(DropReason::NotAuthentic));
}

#[test]
fn a_peer_speaks_for_itself_alone() {
    let mut world = World::connected();
    let mut frame = unsealed(3, 2, b"I am three");
    let now = world.now;
    let _ = world.node(1).tunnels.seal(now, NodeId(2), &mut frame);
    assert_eq!(world.deliver(2, direct(1), &frame), Some(DropReason::ForeignSource));
    let mut frame = vec![0xAA; HEAD_LEN + 80 + 16];
    let _ = world.node(1).tunnels.seal(now, NodeId(2), &mut frame);
    assert_eq!(world.deliver(2, direct(1), &frame), Some(DropReason::Malformed));
}

#[test]
fn packets_in_clear_are_refused() {
    let mut world = World::connected();
    let packet = &unsealed(1, 2, b"psst")[HEAD_LEN..];
    let plain = [b"PILT", &packet[..packet.len() - 16]].concat();
    assert_eq!(world.deliver(2, direct(1), &plain), Some(DropReason::Plain));
}

#[test]
fn a_key_without_proof_is_never_believed() {
    let mut world = World::new(2);
    world.nodes.remove(&1);
    let request = [b"PILK".as_slice(), &1u32.to_be_bytes(), &[9; 32]].concat();
    assert_eq!(world.deliver(2, direct(1), &request), None);
    world.pass(seconds(1));
    assert!(!world.is_connected(2, 1));
    assert_eq!(world.node(2).events, [], "not even the directory is asked");

    let mut world = World::connected();
    assert_eq!(world.deliver(2, direct(1), &request), None);
    assert_eq!(world.sent_by(2, b"PILA").len(), 1);
    assert!(world.talks(1, 2), "the session goes on");
}

#[test]
fn only_the_directorys_key_with_its_signature_makes_a_session() {
    let mut world = World::new(2);
    let genuine = world.signed_key(1);
    let refused = |world: &mut World, reason| {
        world.pass(seconds(11));
        assert!(!world.is_connected(2, 1));
        let events = std::mem::take(&mut world.node(2).events);
        assert_eq!(events, [Output::IdentityWanted(NodeId(1)), Output::Refused { peer: NodeId(1), reason }]);
    };
    let mut wrong = genuine.clone();
    wrong[135] ^= 1;
    world.deliver(2, direct(1), &wrong);
    refused(&mut world, DropReason::BadSignature);

    // Node 9's identity, rightly signed, in node 1's name.
    let text = wire::tunnel::key_exchange_text(NodeId(1), &[7; 32]);
    let other = identity(9);
    let stolen = [b"PILA".as_slice(), &1u32.to_be_bytes(), &[7; 32], &other.public_key(), &other.sign(&text)].concat();
    world.deliver(2, direct(1), &stolen);
    refused(&mut world, DropReason::ForeignIdentity);

    // An X25519 key of small order, signed by the node itself.
    let text = wire::tunnel::key_exchange_text(NodeId(1), &[0; 32]);
    let one = identity(1);
    let weak = [b"PILA".as_slice(), &1u32.to_be_bytes(), &[0; 32], &one.public_key(), &one.sign(&text)].concat();
    world.deliver(2, direct(1), &weak);
    refused(&mut world, DropReason::WeakKey);

    world.directory.remove(&1);
    world.deliver(2, direct(1), &genuine);
    refused(&mut world, DropReason::UnknownIdentity);

    world.directory.insert(1, identity(1).public_key());
    world.deliver(2, direct(1), &genuine);
    world.pass(seconds(1));
    assert!(world.is_connected(2, 1));
}

#[test]
fn a_frame_for_no_session_is_answered_at_the_pace_of_its_source_and_never_with_more_than_twice_its_bytes() {
    let mut world = World::connected();
    let frame = sealed(&mut world, b"");
    let mut stranger = World::new(3);
    for _ in 0..20 {
        assert_eq!(stranger.deliver(3, direct(1), &frame), Some(DropReason::NoSession));
    }
    assert_eq!(stranger.sent_by(3, b"PILA").len(), 5);
    assert!(stranger.tap.iter().all(|sent| sent.frame.len() <= 2 * frame.len()));
    stranger.pass(seconds(2));
    stranger.deliver(3, direct(1), &frame[..HEAD_LEN + 20]);
    assert_eq!(stranger.sent_by(3, b"PILA").len(), 5, "too short to be a packet");
    assert_eq!(stranger.node(3).tunnels.poll_timeout(), None, "nothing is kept");
}

#[test]
fn frames_that_do_not_open_make_a_new_exchange_after_a_grace() {
    let mut world = World::new(2);
    world.connect(1, 2);
    world.pass(seconds(1));
    world.tap.clear();
    let mut forged = sealed(&mut world, b"x");
    forged[30] ^= 1;
    let asked = |world: &World| world.sent_by(2, b"PILA").len();
    world.deliver_often(20, 2, &forged);
    assert_eq!(asked(&world), 0, "what is under way since before the exchange does not open");
    world.pass(seconds(3));
    world.deliver_often(4, 2, &forged);
    assert_eq!(asked(&world), 0);
    world.deliver(2, direct(1), &forged);
    assert_eq!(asked(&world), 1);
    world.deliver_often(100, 2, &forged);
    assert_eq!(asked(&world), 1, "not more often");
    assert!(world.talks(1, 2));
    world.pass(seconds(60));
    world.deliver(2, direct(1), &forged);
    assert_eq!(asked(&world), 2, "an old session is doubted at once");

    world.pass(seconds(10));
    let frame = sealed(&mut world, b"y");
    world.deliver_often(6, 2, &frame);
    assert_eq!(asked(&world), 3, "so it is at five replayed ones");
    assert!(world.talks(1, 2));
}

#[test]
fn too_many_key_exchanges_of_one_source_are_dropped() {
    let mut world = World::new(2);
    let mut reasons = Vec::new();
    for node in 10..30u32 {
        let request = [b"PILA".as_slice(), &node.to_be_bytes(), &[9; 128]].concat();
        reasons.extend(world.deliver(2, direct(66), &request));
    }
    assert_eq!(reasons, [DropReason::RateLimited; 15]);
    world.connect(1, 2);
    world.pass(seconds(1));
    assert!(world.is_connected(2, 1), "other sources are not touched");
}

#[test]
fn strangers_make_us_ask_the_directory_within_bounds() {
    let mut tunnels = Tunnels::new(NodeId(2), identity(2).into(), Limits::default(), &[2; 32]);
    let (now, mut asked) = (agent::Time(1_000_000_000_000), HashSet::new());
    for node in 1000..3000u32 {
        let mut offer = [b"PILA".as_slice(), &node.to_be_bytes(), &[9; 128]].concat();
        let _ = tunnels.handle_datagram(now, Via::Relay(NodeId(node)), &mut offer);
        while let Some(output) = tunnels.poll_output() {
            assert!(matches!(output, Output::IdentityWanted(node) if asked.insert(node)), "{output:?}");
        }
    }
    assert_eq!(asked.len(), 256);
}

/// Valid frames of a running session, to be damaged.
fn samples(world: &mut World) -> Vec<Vec<u8>> {
    let (one, two) = (world.signed_key(1), world.signed_key(2));
    let plain = [b"PILT".as_slice(), &[1; 40]].concat();
    let request = [b"PILK".as_slice(), &1u32.to_be_bytes(), &[9; 32]].concat();
    vec![one, two, plain, request, b"PILP".to_vec(), sealed(world, b"sample")]
}

proptest! {
    #[test]
    fn nothing_arbitrary_panics_or_gets_through(
        datagrams in vec((any::<prop::sample::Index>(), vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), any::<bool>()), 1..40),
        noise in vec(vec(any::<u8>(), 0..200), 0..20),
    ) {
        let mut world = World::connected();
        let samples = samples(&mut world);
        let mut inputs = noise;
        for (sample, damage, truncates) in datagrams {
            let mut bytes = samples[sample.index(samples.len())].clone();
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = bytes[at].wrapping_add(value.max(1));
                if truncates && at > 0 {
                    bytes.truncate(at);
                }
            }
            inputs.push(bytes);
        }
        for mut bytes in inputs {
            let now = world.now;
            let genuine = samples.contains(&bytes);
            let received = world.node(2).tunnels.handle_datagram(now, direct(1), &mut bytes);
            let opened = matches!(received, Received::Packet { .. } | Received::Keepalive { .. });
            prop_assert!(genuine || !opened);
            world.pass(seconds(1));
        }
        world.pass(seconds(40));
        world.take_received(1);
        world.take_received(2);
        prop_assert!(world.talks(1, 2), "the session survives");
    }
}
