//! Whoever records everything: replayed, it changes nothing; and with the exchange keys of both sides it stays closed.

use std::time::Duration;

use agent::tunnel::keys::{Chance, ExchangeKey};
use agent::tunnel::session::{HEAD_LEN, KeyPair, Refusal, Session};
use agent::tunnel::{DropReason, Sealed, Via};
use wire::NodeId;
use wire::extension::Payload;
use wire::packet::{HEADER_LEN, Packet};
use wire::tunnel::{Frame, TAG_LEN};

use super::rekeying::{is_forward_secret, is_handshake, prefix, rekeyings};
use super::world::{Sent, World, direct, seconds, unsealed};

/// Two nodes that have just begun to use ephemeral keys, with all that was sent on the way.
fn recorded() -> (World, Vec<Sent>) {
    let mut world = World::new(2);
    world.send(1, 2, b"first");
    world.pass(seconds(1));
    assert!(is_forward_secret(&mut world));
    let tap = std::mem::take(&mut world.tap);
    (world, tap)
}

#[test]
fn a_recording_of_everything_changes_nothing() {
    let (mut world, mut tap) = recorded();
    assert!(world.talks(1, 2));
    tap.extend(std::mem::take(&mut world.tap));
    for pause in [0, 5, 70, 200, 700] {
        world.pass(seconds(pause));
        if pause == 0 {
            assert!(world.talks(1, 2));
        }
        world.take_received(1);
        world.take_received(2);
        for sent in &tap {
            world.deliver(sent.to, direct(66), &sent.frame);
            world.deliver(sent.to, Via::Relay(NodeId(sent.from)), &sent.frame);
        }
        world.pass(seconds(1));
        assert_eq!((world.take_received(1), world.take_received(2)), (vec![], vec![]), "nothing is handed up twice");
        assert!(is_forward_secret(&mut world));
        if pause == 0 {
            assert_eq!(rekeyings(&mut world), [1, 1], "a peer that is heard is not even asked");
        }
        assert!(world.talks(1, 2));
        assert!(is_forward_secret(&mut world));
    }
}

#[test]
fn a_recorded_key_of_a_start_never_met_changes_nothing_and_loses_nothing() {
    for silence in [0, 5, 100, 650] {
        let mut world = World::new(2);
        let recordings: Vec<_> = (0..3)
            .map(|_| {
                let key = world.signed_key(1);
                world.start(1);
                key
            })
            .collect();
        world.connect(1, 2);
        world.pass(seconds(5));
        assert!(world.talks(1, 2) && is_forward_secret(&mut world));
        world.pass(seconds(silence));
        let before = prefix(&mut world, 2);
        for key in &recordings {
            assert_eq!(world.deliver(2, direct(66), key), None);
            assert!(world.talks(1, 2), "at every moment, also after {silence} s");
            assert_eq!(world.deliver(2, direct(66), key), None);
            assert!(world.talks(1, 2));
        }
        if silence < 100 {
            assert_eq!(prefix(&mut world, 2), before);
        }
        assert!(is_forward_secret(&mut world));
    }
}

#[test]
fn a_recorded_key_of_an_earlier_start_is_refused_for_ever() {
    let mut world = World::connected();
    let recorded = world.signed_key(1);
    world.start(1);
    world.send(1, 2, b"back");
    world.pass(seconds(5));
    assert!(world.talks(1, 2) && is_forward_secret(&mut world));
    for _ in 0..10 {
        assert_eq!(world.deliver(2, direct(66), &recorded), Some(DropReason::StaleKey));
        world.pass(seconds(100));
    }
    assert!(world.talks(1, 2) && is_forward_secret(&mut world));
}

/// Frames of the ordinary session, kept back by somebody on the way, still open; but they do not lead back to it.
#[test]
fn frames_kept_back_from_before_do_not_lead_back() {
    let mut world = World::new(2);
    world.send(1, 2, b"first");
    world.pass(Duration::from_millis(40));
    let now = world.now;
    let kept_back: Vec<_> = (0..3)
        .map(|_| {
            let mut frame = unsealed(2, 1, b"kept back");
            assert_eq!(world.node(2).tunnels.seal(now, NodeId(1), &mut frame), Sealed::Ready);
            frame
        })
        .collect();
    world.pass(seconds(2));
    assert!(is_forward_secret(&mut world));
    let before = prefix(&mut world, 1);
    assert_ne!(kept_back[0][8..12], prefix(&mut world, 2), "they belong to the session before");
    let key = world.signed_key(2);
    for frame in &kept_back {
        world.pass(seconds(20));
        world.deliver(1, direct(66), &key);
        assert_eq!(world.deliver(1, direct(66), frame), None);
        world.pass(Duration::from_millis(500));
        assert!(is_forward_secret(&mut world));
    }
    // The signed key made node 1 ask whether node 2 still has its keys. It has, and now both have newer ones.
    assert!(rekeyings(&mut world)[0] > 1 || prefix(&mut world, 1) == before);
    assert!(world.talks(1, 2));
}

/// What an attacker has who records everything and later takes both hosts: the exchange keys, and with them all that was
/// said to agree on the ephemeral ones.
#[test]
fn with_both_exchange_keys_frames_after_the_switch_do_not_open() {
    let (mut world, mut tap) = recorded();
    world.send(1, 2, b"for your eyes only");
    world.send(2, 1, b"for yours, too");
    world.pass(seconds(1));
    tap.append(&mut world.tap);
    let key_of = |node: u8| {
        let mut seed = [1; 32];
        seed[0] = node;
        Chance::new(&seed).exchange_key(0)
    };
    let keys = [key_of(1), key_of(2)];
    let now = world.now;
    let session = |own: &ExchangeKey, peer: &ExchangeKey| {
        let pair = KeyPair { own: *own.public(), peer: *peer.public() };
        Session::new(now, pair, own.agree(peer.public()).unwrap(), [0xEE; 4])
    };
    let mut taken = session(&keys[0], &keys[1]);
    let mut is_after_switch = [false; 2];
    let (mut opened, mut handshakes, mut closed) = (0, 0, 0);
    for sent in tap.iter().filter(|sent| sent.frame.starts_with(b"PILS")) {
        let Ok(Frame::Sealed { sender, nonce, .. }) = Frame::decode(&sent.frame) else { panic!("a sealed frame") };
        let mut body = sent.frame[HEAD_LEN..].to_vec();
        match taken.open(now, sender, nonce, &mut body) {
            Ok(()) => {
                assert!(!is_after_switch[sent.from as usize - 1], "after the switch nothing opens");
                opened += 1;
                if is_handshake(sent) {
                    let packet = Packet::decode(&body[..body.len() - TAG_LEN]).unwrap();
                    let payload = Payload::decode(packet.payload).unwrap();
                    // The ephemeral keys themselves are all he sees; those that he can have agree to other secrets.
                    for key in &keys {
                        assert_ne!(payload.x25519, key.public());
                    }
                    handshakes += 1;
                }
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::NotAuthentic);
                is_after_switch[sent.from as usize - 1] = true;
                closed += usize::from(sent.frame.len() > HEAD_LEN + HEADER_LEN + TAG_LEN);
            }
        }
    }
    assert!(opened >= 3, "the first packet and the handshake: {opened}");
    assert_eq!((handshakes, closed), (2, 2));
}
