//! The sealed channel: real records, proofs, and everything that is not one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use agent::identity::Identity;
use agent::services::secure::{Chance, Channel, Error, Parties, Proofs, Role, open};
use secrets::Locked;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use wire::NodeId;
use wire::services::secure::{PROOF_LEN, signed};

use crate::world::{UNIX, noise, story};

const VECTORS: &str = include_str!("../vectors/secure443.json");
const CLIENT: NodeId = NodeId(1);
const SERVER: NodeId = NodeId(2);

fn vector(name: &str) -> (Vec<u8>, Value) {
    let all: Value = serde_json::from_str(VECTORS).unwrap();
    let vector = all["vectors"].as_array().unwrap().iter().find(|vector| vector["name"] == name).unwrap().clone();
    (unhex(vector["hex"].as_str().unwrap_or("")), vector)
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn bytes(value: &Value) -> [u8; 32] {
    unhex(value.as_str().unwrap()).try_into().unwrap()
}

fn chance(byte: u8) -> Chance {
    Chance { secret: Locked::new([byte; 32]), nonce: [byte; 16] }
}

fn identity(node: NodeId) -> Identity {
    Identity::from_seed(&[node.0 as u8; 32])
}

/// One side that demands proofs.
struct Side {
    peer: NodeId,
    signer: (NodeId, Identity),
    seen: RefCell<Proofs>,
    clock: Rc<Cell<u64>>,
}

impl Side {
    fn new(own: NodeId, peer: NodeId) -> Self {
        let clock = Rc::new(Cell::new(UNIX));
        Self { peer, signer: (own, identity(own)), seen: RefCell::default(), clock }
    }

    fn parties(&self) -> Parties<'_> {
        let clock = Rc::clone(&self.clock);
        Parties {
            own: self.signer.0,
            signer: &self.signer,
            peer: self.peer,
            peer_key: identity(self.peer).public_key(),
            clock: Rc::new(move || Duration::from_secs(clock.get())),
            seen: &self.seen,
        }
    }
}

type Opened = Result<Channel<DuplexStream>, Error>;

async fn both(client: Option<&Side>, server: Option<&Side>, chances: [u8; 2]) -> (Opened, Opened) {
    let (one, two) = duplex(64 << 10);
    tokio::join!(
        open(one, Role::Client, chance(chances[0]), client.map(Side::parties)),
        open(two, Role::Server, chance(chances[1]), server.map(Side::parties)),
    )
}

fn not_proven(opened: &Opened) -> &'static str {
    match opened {
        Err(Error::NotProven(_, why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    }
}

#[test]
fn two_agents_prove_themselves_and_talk() {
    story(async {
        let (alice, bob) = (Side::new(CLIENT, SERVER), Side::new(SERVER, CLIENT));
        let (client, server) = both(Some(&alice), Some(&bob), [1, 2]).await;
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        for len in [0, 1, 1000, 1 << 20] {
            let said = noise(len);
            let (written, heard) = tokio::join!(client.write(&said), server.read());
            written.unwrap();
            assert_eq!(heard.unwrap(), Some(said));
        }
        server.write(b"bye").await.unwrap();
        drop(server);
        assert_eq!(client.read().await.unwrap(), Some(b"bye".to_vec()));
        assert_eq!(client.read().await.unwrap(), None);
        let too_long = client.write(&vec![0; 16 << 20]).await;
        assert!(matches!(too_long, Err(Error::TooLong(_))));
    });
}

#[test]
fn records_of_a_real_server_and_client_are_opened_and_written() {
    story(async {
        // (whose record the vector is, ours)
        for (role, theirs, ours) in [
            (Role::Client, "record_from_server", "record_from_client_same_session_as_previous"),
            (Role::Server, "record_from_client", "record_from_server_same_session_as_previous"),
        ] {
            let (record, inputs) = vector(theirs);
            let (ours, our_inputs) = vector(ours);
            let secret = Locked::new(bytes(&inputs["inputs"]["our_x25519_private"]));
            let peer_public = bytes(&inputs["inputs"]["peer_x25519_public"]);
            let (stream, mut peer) = duplex(4096);
            peer.write_all(&peer_public).await.unwrap();
            peer.write_all(&record).await.unwrap();
            let mut channel = open(stream, role, Chance { secret, nonce: [0; 16] }, None).await.unwrap();
            let plaintext = channel.read().await.unwrap().unwrap();
            assert_eq!(plaintext, unhex(inputs["inputs"]["plaintext"].as_str().unwrap()));
            channel.write(&unhex(our_inputs["inputs"]["plaintext"].as_str().unwrap())).await.unwrap();
            let mut heard = vec![0; 32 + ours.len()];
            peer.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard[32..], ours);
        }
    });
}

#[test]
fn the_key_is_that_of_the_newer_releases() {
    story(async {
        let (_, vector) = vector("key_derivation_old_and_new");
        let secrets = ["x25519_private_client", "x25519_private_server"].map(|name| bytes(&vector["inputs"][name]));
        let (one, mut two) = duplex(4096);
        let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(secrets[1])).to_bytes();
        two.write_all(&public).await.unwrap();
        let chance = Chance { secret: Locked::new(secrets[0]), nonce: [0; 16] };
        let mut channel = open(one, Role::Client, chance, None).await.unwrap();
        channel.write(b"x").await.unwrap();
        let mut heard = [0; 32 + 4 + 12 + 17];
        two.read_exact(&mut heard).await.unwrap();
        let cipher = <agent::aead::Aes256Gcm as agent::aead::Aead>::new(&bytes(&vector["expect"]["key_v19"]));
        let (nonce, mut sealed) = (heard[36..48].try_into().unwrap(), [heard[48]]);
        let tag = heard[49..].try_into().unwrap();
        agent::aead::Aead::open(&cipher, &nonce, &nonce[..4], &mut sealed, &tag).unwrap();
        assert_eq!(sealed, *b"x");
    });
}

#[test]
fn the_proof_is_the_captured_one() {
    story(async {
        let (expected, inputs) = vector("auth_frame_plaintext");
        let inputs = &inputs["inputs"];
        // The vector's private X25519 key is not given, so its text is signed as it stands.
        let nonce = unhex(inputs["nonce"].as_str().unwrap()).try_into().unwrap();
        let text = signed(CLIENT, &bytes(&inputs["x25519_public"]), 1_767_225_600, &nonce);
        assert_eq!(text[..], unhex(inputs["signed_bytes"].as_str().unwrap()));
        let signature = Identity::from_seed(&bytes(&inputs["ed25519_seed"])).sign(&text);
        assert_eq!(expected.len(), PROOF_LEN);
        assert_eq!(expected[28..], signature);
        // And ours is laid out the same, over our own key.
        let alice = Side::new(CLIENT, SERVER);
        let (one, two) = duplex(4096);
        let (_, server) =
            tokio::join!(async { open(one, Role::Server, chance(7), Some(alice.parties())).await.is_ok() }, async {
                let mut channel = open(two, Role::Client, chance(8), None).await.unwrap();
                channel.read().await.unwrap().unwrap()
            });
        let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from([7; 32])).to_bytes();
        let signature = identity(CLIENT).sign(&signed(CLIENT, &public, UNIX, &[7; 16]));
        assert_eq!(server, [&[0, 0, 0, 1][..], &UNIX.to_be_bytes(), &[7; 16], &signature].concat());
    });
}

#[test]
fn whoever_cannot_prove_itself_gets_no_channel() {
    story(async {
        let bob = Side::new(SERVER, CLIENT);
        // Another node, with a key of its own.
        let eve = Side::new(NodeId(3), SERVER);
        assert_eq!(not_proven(&both(Some(&eve), Some(&bob), [1, 2]).await.1), "it says it is another");
        // The right node, with a wrong key.
        let mut eve = Side::new(CLIENT, SERVER);
        eve.signer.1 = identity(NodeId(3));
        assert_eq!(not_proven(&both(Some(&eve), Some(&bob), [3, 4]).await.1), "the signature is wrong");
        // A clock too far off, and one just near enough.
        for (off, is_fresh) in [(6, false), (5, true)] {
            let alice = Side::new(CLIENT, SERVER);
            alice.clock.set(UNIX + off);
            let chances = [off as u8 + 10, off as u8 + 20];
            let (client, _) = both(Some(&alice), Some(&bob), chances).await;
            assert_eq!(client.is_ok(), is_fresh, "{off} s");
        }
        // One that closes, one that says something else, one that says nothing.
        let (one, mut two) = duplex(4096);
        two.write_all(&[9; 32]).await.unwrap();
        let closing = tokio::task::spawn_local(async move { two.read_exact(&mut [0; 32]).await.map(|_| ()) });
        let opened = open(one, Role::Client, chance(30), Some(Side::new(CLIENT, SERVER).parties())).await;
        assert_eq!(not_proven(&opened), "it closed the connection");
        closing.await.unwrap().unwrap();
        let (one, two) = duplex(4096);
        let alice = Side::new(CLIENT, SERVER);
        let (opened, _) = tokio::join!(open(one, Role::Client, chance(31), Some(alice.parties())), async {
            open(two, Role::Server, chance(32), None).await.unwrap().write(b"GET /").await
        });
        assert_eq!(not_proven(&opened), "it begins with something else");
        let (client, _) = both(Some(&Side::new(CLIENT, SERVER)), None, [33, 34]).await;
        assert!(matches!(client, Err(Error::NotProven(..) | Error::Silent)));
    });
}

#[test]
fn a_proof_counts_once() {
    story(async {
        let (alice, bob) = (Side::new(CLIENT, SERVER), Side::new(SERVER, CLIENT));
        let (client, server) = both(Some(&alice), Some(&bob), [1, 2]).await;
        assert!(client.is_ok() && server.is_ok());
        // The same key and nonce again, as in a recording.
        alice.seen.replace(Proofs::default());
        let (_, server) = both(Some(&alice), Some(&bob), [1, 3]).await;
        assert_eq!(not_proven(&server), "the proof has been used before");
        // An hour later the time alone refuses it.
        bob.clock.set(UNIX + 3601);
        let (client, _) = both(Some(&alice), Some(&bob), [1, 4]).await;
        assert!(not_proven(&client).contains("clock"));
    });
}

#[test]
fn an_opening_that_breaks_or_stalls_anywhere_ends_in_an_error() {
    story(async {
        // What an honest client writes: 32 bytes, then a record of 4 + 12 + 92 + 16.
        for len in 0..32 + 124 {
            for is_closed in [true, false] {
                let (alice, bob) = (Side::new(CLIENT, SERVER), Side::new(SERVER, CLIENT));
                let (one, two) = duplex(64 << 10);
                let (mut near, far) = duplex(64 << 10);
                let (mut far_read, mut far_write) = tokio::io::split(far);
                let (mut one_read, mut one_write) = tokio::io::split(one);
                // A wire in the middle that lets `len` bytes pass.
                let passing = async {
                    let _ = tokio::join!(tokio::io::copy(&mut far_read, &mut one_write), async {
                        let mut part = (&mut one_read).take(len);
                        tokio::io::copy(&mut part, &mut far_write).await.unwrap();
                        if is_closed {
                            far_write.shutdown().await.unwrap();
                        }
                        std::future::pending::<()>().await;
                    });
                };
                let client = async { open(two, Role::Client, chance(1), Some(alice.parties())).await.is_ok() };
                let opened = tokio::select! {
                    (opened, _) = async { tokio::join!(open(&mut near, Role::Server, chance(2), Some(bob.parties())), client) } => opened,
                    () = passing => unreachable!(),
                };
                assert!(opened.is_err(), "{len} bytes passed");
            }
        }
    });
}

#[test]
fn changed_repeated_and_reordered_records_are_refused() {
    story(async {
        let record = async |counter: usize| {
            // The records of one client, by number.
            let (one, mut two) = duplex(64 << 10);
            let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from([2; 32])).to_bytes();
            two.write_all(&public).await.unwrap();
            let mut client = open(one, Role::Client, chance(1), None).await.unwrap();
            let mut records = Vec::new();
            two.read_exact(&mut [0; 32]).await.unwrap();
            for _ in 0..counter {
                client.write(b"hello").await.unwrap();
                let mut bytes = vec![0; 4 + 12 + 5 + 16];
                two.read_exact(&mut bytes).await.unwrap();
                records.push(bytes);
            }
            records.pop().unwrap()
        };
        let (first, second) = (record(1).await, record(2).await);
        let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from([1; 32])).to_bytes();
        let server = async |sent: Vec<Vec<u8>>| {
            let (one, mut two) = duplex(64 << 10);
            two.write_all(&public).await.unwrap();
            for record in &sent {
                two.write_all(record).await.unwrap();
            }
            let mut channel = open(one, Role::Server, chance(2), None).await.unwrap();
            let mut outcome = channel.read().await;
            for _ in 1..sent.len() {
                outcome = channel.read().await;
            }
            outcome
        };
        assert_eq!(server(vec![first.clone(), second.clone()]).await.unwrap(), Some(b"hello".to_vec()));
        for sent in [vec![second.clone()], vec![first.clone(), first.clone()]] {
            assert!(matches!(server(sent).await, Err(Error::NotAuthentic)));
        }
        for at in 4..first.len() {
            let mut changed = first.clone();
            changed[at] ^= 1;
            assert!(matches!(server(vec![changed]).await, Err(Error::NotAuthentic)), "byte {at}");
        }
        for length in [0_u32, 27, (16 << 20) + 1, u32::MAX] {
            let lying = [&length.to_be_bytes()[..], &first[4..]].concat();
            assert!(matches!(server(vec![lying]).await, Err(Error::Malformed(_))), "{length}");
        }
    });
}

#[test]
fn keys_that_agree_with_everyone_are_refused() {
    story(async {
        for weak in [[0; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            let (one, mut two) = duplex(64);
            two.write_all(&weak).await.unwrap();
            assert!(matches!(open(one, Role::Client, chance(1), None).await, Err(Error::WeakKey)));
        }
    });
}
