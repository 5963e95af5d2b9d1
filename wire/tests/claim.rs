//! Signed claims (0B, 0C), byte by byte as written by hand, and the text that is signed.

use ed25519_dalek::{Signer, SigningKey};
use wire::beacon::{CHALLENGE_LEN, CLAIM_LEN, Message, claim_text, kind};
use wire::codec::Writer;
use wire::registry::answer::{Answer, Beacon, EXTENSION_CLAIM};
use wire::registry::{Base64, push_message};
use wire::{DecodeError, Format, NodeId};

const KEY: [u8; 32] = [0xA5; 32];
const COOKIE: [u8; 16] = [0xC0; 16];
const SIGNATURE: [u8; 64] = [0x51; 64];

fn written(message: Message<'_>, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut writer = Writer::new(&mut out);
    message.encode(&mut writer);
    assert_eq!(writer.len(), len);
    out
}

#[test]
fn a_challenge_is_a_key_and_a_cookie() {
    let bytes = [&[0x0B][..], &KEY, &COOKIE].concat();
    let message = Message::Challenge { relay_key: &KEY, cookie: &COOKIE };
    assert_eq!((bytes.len(), kind::CHALLENGE), (CHALLENGE_LEN, 0x0B));
    assert_eq!(Message::decode(&bytes), Ok(message));
    assert_eq!(written(message, CHALLENGE_LEN), bytes);
    assert_eq!(Format::of(&bytes), Format::Beacon);
}

#[test]
fn a_claim_has_the_node_where_datagrams_are_steered_by() {
    let bytes = [&[0x0C, 0x01, 0x02, 0x03, 0x04][..], &COOKIE, &SIGNATURE].concat();
    let message = Message::Claim { node: NodeId(0x0102_0304), cookie: &COOKIE, signature: &SIGNATURE };
    assert_eq!((bytes.len(), kind::CLAIM), (CLAIM_LEN, 0x0C));
    assert_eq!(Message::decode(&bytes), Ok(message));
    assert_eq!(written(message, CLAIM_LEN), bytes);
    assert_eq!(Format::of(&bytes), Format::Beacon);
}

#[test]
fn what_follows_is_ignored_and_what_is_cut_short_refused() {
    for (kind, len) in [(kind::CHALLENGE, CHALLENGE_LEN), (kind::CLAIM, CLAIM_LEN)] {
        let mut bytes = vec![kind; len + 7];
        let longer = Message::decode(&bytes);
        assert_eq!(longer, Message::decode(&bytes[..len]));
        assert!(longer.is_ok());
        bytes.truncate(len);
        for len in 0..len {
            assert!(matches!(Message::decode(&bytes[..len]), Err(DecodeError::Truncated { .. })), "{len} bytes");
        }
    }
}

#[test]
fn the_signed_text_names_relay_node_and_cookie() {
    let text = claim_text(&KEY, NodeId(4_000_000_000), &COOKIE);
    let start = format!("pilot-relay-claim:{}:4000000000:", "a5".repeat(32));
    assert_eq!(text, [start.as_bytes(), &COOKIE].concat());
}

/// The claim of the node 7 with the seed of 1s for the relay with the key of the seed of 2s: for who writes another agent.
#[test]
fn a_whole_exchange_as_a_vector() {
    let (node, relay) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    let relay_key = relay.verifying_key().to_bytes();
    let signature = node.sign(&claim_text(&relay_key, NodeId(7), &COOKIE)).to_bytes();
    let claim = written(Message::Claim { node: NodeId(7), cookie: &COOKIE, signature: &signature }, CLAIM_LEN);
    let hex: String = claim.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, VECTOR);
}

const VECTOR: &str = concat!(
    "0c00000007",
    "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0",
    "a65633260589ddbe48b1f7c8224175f424dd1ec0e66a8da79593eace25a6c7d9",
    "848fa7dea8c075df8fa1d0521fcbbaf2d063b6b393965743032cdbccb2dc1709",
);

#[test]
fn the_list_of_relays_has_the_key_and_old_lists_have_none() {
    let beacon = |extensions: Vec<String>, relay_key| Beacon {
        id: NodeId(1),
        addr: "192.0.2.1:9001".into(),
        extensions,
        relay_key,
    };
    let ours = beacon(vec![EXTENSION_CLAIM.to_owned()], Some(Base64(KEY)));
    let old = beacon(Vec::new(), None);
    let mut message = Vec::new();
    push_message(&mut message, &Answer::BeaconList { beacons: vec![ours.clone(), old.clone()] });
    let text = std::str::from_utf8(&message[4..]).unwrap();
    assert!(text.contains(r#""extensions":["claim"],"relay_key":"paWlpaWl"#), "{text}");
    assert!(text.contains(r#"{"id":1,"addr":"192.0.2.1:9001"}"#), "an old client sees what it always saw: {text}");
    assert_eq!(Answer::decode(&message[4..]).unwrap(), Answer::BeaconList { beacons: vec![ours, old] });
}
