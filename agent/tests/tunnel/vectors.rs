//! The vector files, entry by entry: keys derived, frames sealed to the same bytes and opened, windows moved.

use std::sync::Arc;

use agent::Time;
use agent::aead::{Aead, Aes256Gcm};
use agent::identity::Identity;
use agent::tunnel::keys::{ExchangeKey, session_key};
use agent::tunnel::replay::Window;
use agent::tunnel::session::{HEAD_LEN, KeyPair, Refusal, Session};
use agent::tunnel::{DropReason, Limits, Output, Received, Route, Tunnels, Via};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wire::NodeId;
use wire::beacon::Message;
use wire::codec::Writer;
use wire::tunnel::{Frame, Nonce, SIGNED_KEY_EXCHANGE_LEN, SignedKeyExchange, TAG_LEN, key_exchange_text};

use super::world::direct;

const NOW: Time = Time(1_000_000_000_000);

fn document(file: &str) -> Value {
    let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

fn named<const N: usize>(keys: &Value, name: &str, node: u64) -> [u8; N] {
    array(&keys[format!("{name}_{}", if node == 1 { "A" } else { "B" })])
}

/// Node `node`'s session with the other, as if it had drawn the prefix of `nonce`.
fn session(keys: &Value, node: u64, nonce: Nonce) -> Session {
    let own = ExchangeKey::from_bytes(&named(keys, "x25519_private", node));
    let peer = named(keys, "x25519_public", 3 - node);
    let cipher = own.agree(&peer).unwrap();
    Session::new(NOW, KeyPair { own: *own.public(), peer }, cipher, nonce.prefix)
}

/// A node 3 that has been told who node `node` is.
fn bystander(keys: &Value, node: u64, frame: &[u8]) -> (Tunnels, Received<'static>) {
    let mut tunnels = Tunnels::new(NodeId(3), Arc::new(Identity::from_seed(&[3; 32])), Limits::default(), &[0; 32]);
    let identity = Identity::from_seed(&named(keys, "ed25519_seed", node)).public_key();
    tunnels.connect(NOW, NodeId(node as u32)).unwrap();
    tunnels.handle_identity(NOW, NodeId(node as u32), Some(identity));
    while tunnels.poll_output().is_some() {}
    let outcome = match tunnels.handle_datagram(NOW, direct(1), &mut frame.to_vec()) {
        Received::Taken => Received::Taken,
        Received::Probe => Received::Probe,
        Received::Dropped(reason) => Received::Dropped(reason),
        other => panic!("nothing can be opened: {other:?}"),
    };
    (tunnels, outcome)
}

fn is_accepted(keys: &Value, node: u64, frame: &[u8]) {
    let (mut tunnels, outcome) = bystander(keys, node, frame);
    assert_eq!(outcome, Received::Taken);
    let established = Output::Established { peer: NodeId(node as u32), via: direct(1) };
    assert_eq!(tunnels.poll_output(), Some(established));
}

/// The frame is the one the node's keys give.
fn is_made_of(keys: &Value, node: u64, frame: &[u8]) {
    let identity = Identity::from_seed(&named(keys, "ed25519_seed", node));
    let key = ExchangeKey::from_bytes(&named(keys, "x25519_private", node));
    let sender = NodeId(node as u32);
    let mut made = [0; SIGNED_KEY_EXCHANGE_LEN];
    let signed = SignedKeyExchange {
        sender,
        x25519: key.public(),
        ed25519: &identity.public_key(),
        signature: &identity.sign(&key_exchange_text(sender, key.public())),
    };
    Frame::SignedKeyExchange(signed).encode(&mut Writer::new(&mut made));
    assert_eq!(frame[..SIGNED_KEY_EXCHANGE_LEN], made);
}

/// A key exchange without proof makes no session, and is answered with our signed key.
fn is_only_answered(frame: &[u8], via: Via) {
    let mut tunnels = Tunnels::new(NodeId(3), Arc::new(Identity::from_seed(&[3; 32])), Limits::default(), &[0; 32]);
    assert_eq!(tunnels.handle_datagram(NOW, via, &mut frame.to_vec()), Received::Taken);
    let Some(Output::Transmit { route, frame, .. }) = tunnels.poll_output() else { panic!("no answer") };
    assert!(route == Route::Back(via) && frame.starts_with(b"PILA"));
    assert_eq!(tunnels.poll_output(), None);
    assert!(!tunnels.has_session(NodeId(1)) && !tunnels.has_session(NodeId(2)));
}

#[test]
fn tunnel_v19() {
    let document = document("tunnel_v19.json");
    let keys = &document["common"];
    assert_eq!(*session_key(&array(&keys["shared_secret"])), array(&keys["aes256_key_v19"]));
    let entries = document["vectors"].as_array().unwrap();
    let mut sender: Option<(u64, Session)> = None;
    for entry in entries {
        let (name, bytes) = (entry["name"].as_str().unwrap(), hex(&entry["hex"]));
        match name {
            "PILA_v19_node_1" | "PILA_v19_node_2" | "PILA_fork_with_flags_trailer" => {
                let node = entry["inputs"]["node_id"].as_u64().unwrap_or(1);
                is_made_of(keys, node, &bytes);
                is_accepted(keys, node, &bytes);
            }
            _ if name.starts_with("PILS_v19_") => {
                let node = entry["inputs"]["sender"].as_u64().unwrap();
                let nonce = Nonce::from_bytes(array(&entry["inputs"]["nonce"]));
                let plaintext = hex(&entry["inputs"]["plaintext"]);
                // The frames of one sender follow each other in the file, as its counter says.
                if sender.as_ref().is_none_or(|(of, _)| *of != node) {
                    sender = Some((node, session(keys, node, nonce)));
                }
                let mut frame = [vec![0; HEAD_LEN], plaintext.clone(), vec![0; TAG_LEN]].concat();
                sender.as_mut().unwrap().1.seal(NOW, NodeId(node as u32), &mut frame);
                assert_eq!(frame, bytes, "{name}");
                let mut receiver = session(keys, 3 - node, nonce);
                receiver.open(NOW, NodeId(node as u32), nonce, &mut frame[HEAD_LEN..]).unwrap();
                assert_eq!(frame[HEAD_LEN..HEAD_LEN + plaintext.len()], plaintext);
            }
            _ => panic!("no check knows {name}"),
        }
    }
    assert_eq!(entries.len(), 8);
}

#[test]
fn tunnel_v122() {
    let document = document("tunnel_v122.json");
    let keys = &document["common"];
    let (shared, key) = (array::<32>(&keys["shared_secret"]), array::<32>(&keys["aes256_key_v122"]));
    assert_eq!(Sha256::new().chain_update("pilot-tunnel-v1:").chain_update(shared).finalize().as_slice(), key);
    assert_ne!(*session_key(&shared), key, "v1.9 derives another");
    let entries = document["vectors"].as_array().unwrap();
    for entry in entries {
        let (name, bytes) = (entry["name"].as_str().unwrap(), hex(&entry["hex"]));
        match name {
            "PILK_from_A" | "PILK_from_B" => is_only_answered(&bytes, direct(1)),
            "PILA_from_A" | "PILA_from_B" => {
                let node = entry["inputs"]["node_id"].as_u64().unwrap();
                is_made_of(keys, node, &bytes);
                is_accepted(keys, node, &bytes);
            }
            "PILA_bad_signature" => {
                assert_eq!(bystander(keys, 1, &bytes).1, Received::Dropped(DropReason::BadSignature));
            }
            "PILA_self_consistent_but_not_registry_key" => {
                assert_eq!(bystander(keys, 1, &bytes).1, Received::Dropped(DropReason::ForeignIdentity));
            }
            "PILT_plain" => assert_eq!(bystander(keys, 1, &bytes).1, Received::Dropped(DropReason::Plain)),
            "PILP_punch_probe" => assert_eq!(bystander(keys, 1, &bytes).1, Received::Probe),
            "relay_wrapped_PILK" | "relay_delivered_PILK" => {
                let (Ok(Message::Relay { sender, inner, .. }) | Ok(Message::Deliver { sender, inner })) =
                    Message::decode(&bytes)
                else {
                    panic!("{name} is no relay message");
                };
                is_only_answered(inner, Via::Relay(sender));
            }
            _ if name.starts_with("PILS_v122_") => {
                let nonce: [u8; 12] = array(&entry["inputs"]["nonce"]);
                let (packet, tag) = bytes[HEAD_LEN..].split_last_chunk::<TAG_LEN>().unwrap();
                let mut old = packet.to_vec();
                Aes256Gcm::new(&key).open(&nonce, &[], &mut old, tag).unwrap();
                assert_eq!(old, hex(&entry["inputs"]["plaintext"]));
                let nonce = Nonce::from_bytes(nonce);
                let ours = session(keys, 2, nonce).open(NOW, NodeId(1), nonce, &mut bytes[HEAD_LEN..].to_vec());
                assert_eq!(ours, Err(Refusal::NotAuthentic), "{name} is not for us");
            }
            _ => panic!("no check knows {name}"),
        }
    }
    assert_eq!(entries.len(), 13);
}

#[test]
fn replay_window() {
    let document = document("replay_window.json");
    let entries = document["vectors"].as_array().unwrap();
    let mut window = Window::default();
    for entry in entries {
        let counter = entry["inputs"]["counter"].as_u64().unwrap();
        let admitted = window.admits(counter);
        if admitted {
            window.record(counter);
        }
        assert_eq!(admitted, entry["expect"]["accepted"].as_bool().unwrap(), "{}", entry["name"]);
        assert_eq!(window.highest(), entry["expect"]["highest"].as_u64().unwrap(), "{}", entry["name"]);
    }
    assert_eq!(entries.len(), 17);
}
