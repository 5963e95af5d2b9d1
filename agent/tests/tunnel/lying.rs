//! A peer that has the keys of its session and says in it what it likes: nothing of that harms more than its own tunnel.

use agent::tunnel::ephemeral::{Role, Transcript};
use agent::tunnel::keys::ExchangeKey;
use agent::tunnel::session::{HEAD_LEN, KeyPair, Session};
use agent::tunnel::{DropReason, Limits};
use proptest::collection::vec;
use proptest::prelude::*;
use wire::NodeId;
use wire::address::SocketAddress;
use wire::codec::Writer;
use wire::extension::{self, About, Capabilities, Kind, LEN, MAGIC, Payload};
use wire::packet::{Flags, Packet, Protocol, VERSION};
use wire::tunnel::{Frame, SEALED_OVERHEAD, TAG_LEN, key_exchange_text};

use super::rekeying::is_handshake;
use super::world::{World, direct, identity, seconds, unsealed};

/// Node 2, with node 1 an agent of ours that has its key.
struct Liar {
    world: World,
    key: ExchangeKey,
    session: Session,
}

impl Liar {
    fn connected() -> Self {
        let mut world = World::with_limits(2, Limits::default());
        let key = ExchangeKey::from_bytes(&[0x42; 32]);
        world.nodes.remove(&2);
        let offer = world.signed_key(1);
        let Ok(Frame::SignedKeyExchange(frame)) = Frame::decode(&offer) else { panic!("a signed key") };
        let pair = KeyPair { own: *key.public(), peer: *frame.x25519 };
        let own = identity(2);
        let signature = own.sign(&key_exchange_text(NodeId(2), key.public()));
        let offer = [b"PILA".as_slice(), &2u32.to_be_bytes(), key.public(), &own.public_key(), &signature].concat();
        world.deliver(1, direct(2), &offer);
        world.pass(seconds(1));
        let session = Session::new(world.now, pair, key.agree(&pair.peer).unwrap(), [0xAB, 0, 0, 1]);
        Self { world, key, session }
    }

    /// Says something to node 1.
    fn say(&mut self, flags: Flags, payload: &[u8]) -> Option<DropReason> {
        let [source, destination] = if flags == Flags::ACK { [0, extension::PORT] } else { [extension::PORT, 0] };
        let packet = Packet {
            version: VERSION,
            flags,
            protocol: Protocol::CONTROL,
            source: SocketAddress { address: NodeId(2).address(), port: source },
            destination: SocketAddress { address: NodeId(1).address(), port: destination },
            sequence: 0,
            acknowledgement: 0,
            window_segments: 0,
            payload,
        };
        let mut frame = vec![0; SEALED_OVERHEAD + packet.encoded_len()];
        packet.encode(&mut Writer::new(&mut frame[HEAD_LEN..]));
        self.session.seal(self.world.now, NodeId(2), &mut frame);
        self.world.deliver(1, direct(2), &frame)
    }

    /// The last hello or accept of node 1.
    fn heard(&mut self) -> [u8; LEN] {
        let sent = self.world.tap.iter().rfind(|sent| is_handshake(sent)).expect("node 1 has said something");
        let Ok(Frame::Sealed { sender, nonce, .. }) = Frame::decode(&sent.frame) else { panic!("a sealed frame") };
        let mut body = sent.frame[HEAD_LEN..].to_vec();
        self.session.open(self.world.now, sender, nonce, &mut body).unwrap();
        Packet::decode(&body[..body.len() - TAG_LEN]).unwrap().payload.try_into().unwrap()
    }

    /// Whether the ordinary session goes on as if nothing had been said.
    fn talks(&mut self) -> bool {
        let mut frame = unsealed(2, 1, b"ping");
        self.session.seal(self.world.now, NodeId(2), &mut frame);
        let arrives = self.world.deliver(1, direct(2), &frame).is_none();
        self.world.send(1, 2, b"pong");
        let frame = &self.world.tap.iter().rfind(|sent| !is_handshake(sent)).unwrap().frame;
        let Ok(Frame::Sealed { sender, nonce, .. }) = Frame::decode(frame) else { panic!("a sealed frame") };
        let mut body = frame[HEAD_LEN..].to_vec();
        arrives && self.session.open(self.world.now, sender, nonce, &mut body).is_ok()
    }
}

fn payload(kind: Kind, handshake: u64, x25519: &[u8; 32]) -> Payload<'_> {
    let capabilities = Capabilities::EPHEMERAL_KEYS;
    Payload { kind, capabilities, handshake, prefix: [1, 2, 3, 5], x25519, about: About::default() }
}

#[test]
fn an_honest_stranger_to_this_code_can_follow_the_drawing() {
    let mut liar = Liar::connected();
    // Node 1 asks first, having the lower id; sent back, its hello leaves the word to us.
    assert!(liar.talks());
    let echo = liar.heard();
    assert_eq!(liar.say(Flags::ACK, &echo), None);
    let ephemeral = ExchangeKey::from_bytes(&[7; 32]);
    let hello = [payload(Kind::Hello, 77, ephemeral.public()).to_bytes().as_slice(), b"of a later version"].concat();
    assert_eq!(liar.say(Flags::NONE, &hello), None);
    let accept = liar.heard();
    let answer = Payload::decode(&accept).unwrap();
    assert_eq!((answer.kind, answer.handshake), (Kind::Accept, 77));
    let pair = *liar.session.pair();
    let transcript = Transcript {
        role: Role::Initiator,
        own: NodeId(2),
        peer: NodeId(1),
        pair: &pair,
        hello: &hello,
        accept: &accept,
    };
    let keys = transcript.derive(&liar.key, &ephemeral, answer.x25519, None).unwrap();
    let now = liar.world.now;
    let mut session = Session::negotiated(now, pair, keys, [1, 2, 3, 5], answer.prefix, now);
    assert!(liar.talks(), "until the first frame comes");
    let mut frame = unsealed(2, 1, b"sealed with a key for this direction");
    session.seal(now, NodeId(2), &mut frame);
    assert_eq!(liar.world.deliver(1, direct(2), &frame), None);
    assert!(liar.world.node(1).tunnels.is_forward_secret(NodeId(2)));
    liar.world.send(1, 2, b"and one for the other");
    let mut frame = liar.world.sent_by(1, b"PILS").last().unwrap().frame.clone();
    let Ok(Frame::Sealed { sender, nonce, .. }) = Frame::decode(&frame) else { panic!("a sealed frame") };
    assert_eq!(session.open(now, sender, nonce, &mut frame[HEAD_LEN..]), Ok(()));
}

#[test]
fn keys_that_agree_to_zero_are_refused() {
    let mut liar = Liar::connected();
    assert!(liar.talks());
    let hello = liar.heard();
    let asked = Payload::decode(&hello).unwrap();
    let accept = payload(Kind::Accept, asked.handshake, &[0; 32]).to_bytes();
    assert_eq!(liar.say(Flags::ACK, &accept), Some(DropReason::WeakKey));
    assert!(liar.talks());
    assert_eq!(liar.say(Flags::NONE, &payload(Kind::Hello, 1, &[0; 32]).to_bytes()), Some(DropReason::WeakKey));
    assert!(liar.talks());
    assert!(!liar.world.node(1).tunnels.is_forward_secret(NodeId(2)));
}

#[test]
fn an_accept_nobody_has_asked_for_is_nothing() {
    let mut liar = Liar::connected();
    let key = ExchangeKey::from_bytes(&[7; 32]);
    assert!(liar.talks());
    let hello = liar.heard();
    let asked = Payload::decode(&hello).unwrap().handshake;
    for (flags, kind, handshake) in [
        (Flags::ACK, Kind::Accept, asked ^ 1),
        (Flags::NONE, Kind::Accept, asked),
        (Flags::ACK, Kind::Hello, asked),
        (Flags::NONE, Kind::Accept, 0),
    ] {
        liar.say(flags, &payload(kind, handshake, key.public()).to_bytes());
        assert!(liar.talks(), "{flags:?} {kind:?}");
    }
    assert_eq!(liar.world.node(1).tunnels.rekeyed(NodeId(2)), None);
}

#[test]
fn its_own_hello_as_the_peers_leads_nowhere() {
    let mut liar = Liar::connected();
    assert!(liar.talks());
    let hello = liar.heard();
    liar.say(Flags::NONE, &hello);
    assert!(liar.talks());
    assert!(!liar.world.node(1).tunnels.is_forward_secret(NodeId(2)));
}

#[test]
fn hellos_without_end_are_answered_at_a_pace() {
    let mut liar = Liar::connected();
    liar.world.pass(seconds(60));
    liar.world.tap.clear();
    let key = ExchangeKey::from_bytes(&[7; 32]);
    for handshake in 0..1000 {
        liar.say(Flags::NONE, &payload(Kind::Hello, handshake, key.public()).to_bytes());
        liar.world.pass(std::time::Duration::from_millis(1));
    }
    let answers = liar.world.tap.iter().filter(|sent| is_handshake(sent)).count();
    assert!((1..=8).contains(&answers), "{answers}");
    assert!(liar.talks());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_behind_the_magic_changes_nothing(
        payloads in vec((any::<bool>(), vec(any::<u8>(), 0..100), 0..3usize), 1..20),
    ) {
        let mut liar = Liar::connected();
        for (is_answer, bytes, headed) in payloads {
            let head: &[u8] = [&[][..], &[1, 1, 0, 1], &[1, 2, 0, 1]][headed];
            let flags = if is_answer { Flags::ACK } else { Flags::NONE };
            liar.say(flags, &[&MAGIC, head, &bytes].concat());
            prop_assert!(liar.talks());
        }
    }

    #[test]
    fn every_damaged_hello_leaves_the_session_alone(at in 0..LEN, bit in 0..8u8, len in 0..=LEN) {
        let mut liar = Liar::connected();
        let key = ExchangeKey::from_bytes(&[7; 32]);
        let mut hello = payload(Kind::Hello, 9, key.public()).to_bytes();
        hello[at] ^= 1 << bit;
        liar.say(Flags::NONE, &hello[..len]);
        prop_assert!(liar.talks());
        liar.say(Flags::ACK, &hello[..len]);
        prop_assert!(liar.talks());
    }
}
