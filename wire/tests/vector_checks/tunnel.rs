//! Tunnel frames: layouts, nonces, and the texts that are signed. Opening sealed frames is the agent's business.

use ed25519_dalek::{Signature, SignatureError, SigningKey, VerifyingKey};
use serde_json::Value;
use wire::beacon::Message;
use wire::packet::Packet;
use wire::tunnel::{
    Frame, Nonce, SIGNED_KEY_EXCHANGE_LEN, SignedKeyExchange, TAG_LEN, associated_data, key_exchange_text,
};
use wire::{Format, NodeId};

use crate::fixtures::{Vector, document, hex, hex_array};
use crate::invariants::written;

pub fn check_v122(vector: &Vector) -> Option<()> {
    check(vector, &document("tunnel_v122.json")["common"])
}

pub fn check_v19(vector: &Vector) -> Option<()> {
    if vector.name.starts_with("PILS_") {
        assert_eq!(associated_data(NodeId(vector.number("sender"))), hex_array(vector.text("aad")));
    }
    check(vector, &document("tunnel_v19.json")["common"])
}

fn check(vector: &Vector, keys: &Value) -> Option<()> {
    let bytes = vector.bytes();
    match vector.name.as_str() {
        name if name.starts_with("PILS_") => sealed(vector),
        "PILK_from_A" | "PILK_from_B" => key_exchange(bytes, vector.number("node_id"), keys),
        "PILA_from_A" | "PILA_from_B" | "PILA_v19_node_1" | "PILA_v19_node_2" => {
            signed(vector, vector.number("node_id"), keys, 0);
        }
        "PILA_fork_with_flags_trailer" => signed(vector, 1, keys, 2),
        "PILA_bad_signature" => drop(verify(signed_frame(bytes)).expect_err("the signature is wrong")),
        "PILA_self_consistent_but_not_registry_key" => {
            verify(signed_frame(bytes)).expect("signed by the key it names");
            assert_ne!(signed_frame(bytes).ed25519, &hex_array(vector.text("registry_key")));
        }
        "PILT_plain" => {
            let packet = vector.input_bytes("packet");
            same(Frame::Plain { packet: &packet }, bytes);
            Packet::decode(&packet).expect("a packet");
        }
        "PILP_punch_probe" => same(Frame::Probe, bytes),
        "relay_wrapped_PILK" => {
            let Ok(Message::Relay { sender: NodeId(1), dest: NodeId(2), inner }) = Message::decode(bytes) else {
                panic!("a relay message from 1 to 2");
            };
            key_exchange(inner, vector.number("sender"), keys);
        }
        "relay_delivered_PILK" => {
            let Ok(Message::Deliver { sender: NodeId(1), inner }) = Message::decode(bytes) else {
                panic!("a delivery from 1");
            };
            key_exchange(inner, vector.number("sender"), keys);
        }
        _ => return None,
    }
    Some(())
}

fn same(frame: Frame<'_>, bytes: &[u8]) {
    assert_eq!(Frame::decode(bytes), Ok(frame));
    assert_eq!(Format::of(bytes), Format::Tunnel);
    assert_eq!(written(frame.encoded_len(), |out| frame.encode(out)), bytes);
}

fn sealed(vector: &Vector) {
    let bytes = vector.bytes();
    let nonce = Nonce::from_bytes(hex_array(vector.text("nonce")));
    assert_eq!(nonce.counter, vector.number::<u64>("counter"));
    assert_eq!(nonce.to_bytes(), hex_array(vector.text("nonce")));
    let ciphertext = &bytes[20..];
    assert_eq!(ciphertext.len(), vector.input_bytes("plaintext").len() + TAG_LEN);
    same(Frame::Sealed { sender: NodeId(vector.number("sender")), nonce, ciphertext }, bytes);
}

fn key_exchange(bytes: &[u8], node: u32, keys: &Value) {
    let x25519 = hex_array(named(keys, "x25519_public", node));
    same(Frame::KeyExchange { sender: NodeId(node), x25519: &x25519 }, bytes);
}

fn signed(vector: &Vector, node: u32, keys: &Value, ignored_len: usize) {
    let bytes = vector.bytes();
    let frame = signed_frame(bytes);
    let seed = hex_array(named(keys, "ed25519_seed", node));
    assert_eq!(frame.sender, NodeId(node));
    assert_eq!(frame.x25519, &hex_array(named(keys, "x25519_public", node)));
    assert_eq!(frame.ed25519, SigningKey::from_bytes(&seed).verifying_key().as_bytes());
    verify(frame).expect("the signature is right");
    if let Some(text) = vector.expect["signed_bytes"].as_str() {
        assert_eq!(key_exchange_text(frame.sender, frame.x25519).as_slice(), hex(text));
        assert_eq!(frame.signature.as_slice(), hex(vector.expect["signature"].as_str().expect("a signature")));
    }
    assert_eq!(bytes.len(), SIGNED_KEY_EXCHANGE_LEN + ignored_len);
    same(Frame::SignedKeyExchange(frame), &bytes[..SIGNED_KEY_EXCHANGE_LEN]);
}

fn signed_frame(bytes: &[u8]) -> SignedKeyExchange<'_> {
    match Frame::decode(bytes) {
        Ok(Frame::SignedKeyExchange(frame)) => frame,
        other => panic!("a signed key exchange expected: {other:?}"),
    }
}

fn verify(frame: SignedKeyExchange<'_>) -> Result<(), SignatureError> {
    let text = key_exchange_text(frame.sender, frame.x25519);
    VerifyingKey::from_bytes(frame.ed25519)?.verify_strict(&text, &Signature::from_bytes(frame.signature))
}

fn named<'a>(keys: &'a Value, key: &str, node: u32) -> &'a str {
    let owner = if node == 1 { "A" } else { "B" };
    keys[format!("{key}_{owner}")].as_str().expect("a key")
}
