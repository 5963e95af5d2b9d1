//! A peer of an older make: it installs its session anew at every key, draws its prefixes by chance, and leaves the
//! source of its keepalives empty.

use agent::tunnel::keys::ExchangeKey;
use agent::tunnel::session::{HEAD_LEN, KeyPair, Session};
use agent::tunnel::{DropReason, Received};
use wire::NodeId;
use wire::address::{Address, SocketAddress};
use wire::codec::Writer;
use wire::packet::{Flags, Packet, Protocol, VERSION};
use wire::tunnel::{Frame, SEALED_OVERHEAD, key_exchange_text};

use super::world::{World, direct, identity, seconds, unsealed};

/// Node 2, with node 1 an agent of ours that has its key.
struct Older {
    world: World,
    key: ExchangeKey,
    theirs: [u8; 32],
}

impl Older {
    fn connected() -> Self {
        let mut world = World::new(2);
        let key = ExchangeKey::from_bytes(&[0x42; 32]);
        world.nodes.remove(&2);
        let offer = world.signed_key(1);
        let Ok(Frame::SignedKeyExchange(frame)) = Frame::decode(&offer) else { panic!("a signed key") };
        let theirs = *frame.x25519;
        let own = identity(2);
        let signature = own.sign(&key_exchange_text(NodeId(2), key.public()));
        let offer = [b"PILA".as_slice(), &2u32.to_be_bytes(), key.public(), &own.public_key(), &signature].concat();
        world.deliver(1, direct(2), &offer);
        world.pass(seconds(1));
        assert!(world.is_connected(1, 2));
        Self { world, key, theirs }
    }

    fn session(&self, prefix: [u8; 4]) -> Session {
        let pair = KeyPair { own: *self.key.public(), peer: self.theirs };
        Session::new(self.world.now, pair, self.key.agree(&self.theirs).unwrap(), prefix)
    }

    /// What node 2 would send as the first frame under `prefix`.
    fn first_frame(&self, prefix: [u8; 4], mut frame: Vec<u8>) -> Vec<u8> {
        self.session(prefix).seal(self.world.now, NodeId(2), &mut frame);
        frame
    }

    /// The prefix under which node 1 has sent its last frame.
    fn prefix_of_node_1(&self) -> [u8; 4] {
        let last = &self.world.sent_by(1, b"PILS").last().unwrap().frame;
        last[8..12].try_into().unwrap()
    }
}

#[test]
fn each_new_prefix_begins_with_counter_one() {
    let mut older = Older::connected();
    for prefix in 0..4u8 {
        let frame = older.first_frame([7, 7, 7, prefix], unsealed(2, 1, &[prefix]));
        assert_eq!(older.world.deliver(1, direct(2), &frame), None);
        assert_eq!(older.world.deliver(1, direct(2), &frame), Some(DropReason::Replayed));
    }
    assert_eq!(older.world.take_received(1).len(), 4);
}

#[test]
fn a_prefix_the_peer_has_too_is_changed() {
    let mut older = Older::connected();
    let prefix = older.prefix_of_node_1();
    let frame = older.first_frame(prefix, unsealed(2, 1, b"by chance the same"));
    assert_eq!(older.world.deliver(1, direct(2), &frame), None);
    older.world.send(1, 2, b"x");
    assert_ne!(older.prefix_of_node_1(), prefix);
    let mut sent = older.world.sent_by(1, b"PILS").last().unwrap().frame.clone();
    let Ok(Frame::Sealed { nonce, .. }) = Frame::decode(&sent) else { panic!("a sealed frame") };
    let now = older.world.now;
    assert_eq!(older.session([0; 4]).open(now, NodeId(1), nonce, &mut sent[HEAD_LEN..]), Ok(()));
}

#[test]
fn a_keepalive_without_source_is_one_and_a_packet_without_source_is_none() {
    let mut older = Older::connected();
    let nobody = |protocol, payload: &[u8]| {
        let packet = Packet {
            version: VERSION,
            flags: Flags::NONE,
            protocol,
            source: SocketAddress { address: Address::default(), port: 0 },
            destination: SocketAddress { address: NodeId(1).address(), port: 0 },
            sequence: 0,
            acknowledgement: 0,
            window_segments: 0,
            payload,
        };
        let mut frame = vec![0; SEALED_OVERHEAD + packet.encoded_len()];
        packet.encode(&mut Writer::new(&mut frame[HEAD_LEN..]));
        frame
    };
    let mut keepalive = older.first_frame([7; 4], nobody(Protocol::CONTROL, b""));
    let now = older.world.now;
    let received = older.world.node(1).tunnels.handle_datagram(now, direct(2), &mut keepalive);
    assert_eq!(received, Received::Keepalive { peer: NodeId(2) });
    let packet = older.first_frame([8; 4], nobody(Protocol::DATAGRAM, b"x"));
    assert_eq!(older.world.deliver(1, direct(2), &packet), Some(DropReason::ForeignSource));
}

#[test]
fn prefixes_without_end_wear_the_session_out_and_the_key_is_renewed() {
    let mut older = Older::connected();
    for prefix in 0..300u32 {
        let frame = older.first_frame((prefix << 1 | 1).to_be_bytes(), unsealed(2, 1, b"x"));
        older.world.deliver(1, direct(2), &frame);
    }
    assert_eq!(older.world.take_received(1).len(), 261, "five windows, and 256 that are refused by name");
    older.world.tap.clear();
    older.world.send(1, 2, b"x");
    let Some(offer) = older.world.sent_by(1, b"PILA").first().map(|sent| sent.frame.clone()) else {
        panic!("no new key is offered")
    };
    let Ok(Frame::SignedKeyExchange(frame)) = Frame::decode(&offer) else { panic!("a signed key") };
    assert_ne!(*frame.x25519, older.theirs);
}
