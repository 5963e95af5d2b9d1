//! The program `pilot-agent` at work has its keys in locked memory, and no copies of them anywhere else.

#[path = "../../../secrets/tests/support/scan.rs"]
mod scan;

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::unistd::geteuid;
use serde_json::Value;
use sha2::{Digest as _, Sha512};
use tokio::time::{sleep, timeout};

use crate::confinement::Process;
use crate::world::{Client, LOOK, PATIENCE, World, run};

/// What there is to be found of the key in an identity file: the halves of each part, since of what is left behind a part is
/// soon overwritten. The file's text, its seed, and the secret that nonces of signatures are made of (RFC 8032, section 5.1.5).
fn parts(identity: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let json: Value = serde_json::from_slice(&fs::read(identity).unwrap()).unwrap();
    let text = json["private_key"].as_str().unwrap();
    let seed = &STANDARD.decode(text).unwrap()[..32];
    let expanded = Sha512::digest(seed);
    let whole = [("text", &text.as_bytes()[..40]), ("seed", seed), ("expanded", &expanded[32..])];
    whole
        .into_iter()
        .flat_map(|(name, bytes)| bytes.chunks(bytes.len() / 2).map(move |half| (name, half.to_vec())))
        .collect()
}

#[test]
fn the_identity_lies_in_locked_memory_and_nowhere_else() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root may read another process's memory");
        return;
    }
    run(|| async {
        let world = World::new();
        let peer = world.daemon("peer").await;
        let mut peer = peer.client().await;
        let (node, port) = (peer.node().await, peer.bind(5000).await);
        // The first makes the identity, the second reads it.
        let beacon = world.beacon().to_string();
        for start in ["first", "second"] {
            let process = Process::start(&world, &["--public", "--beacon", &beacon]).up(&world).await;
            let mut client = Client::connect(&world.folder().join("confined.sock"), || true).await;
            let registered = async {
                while client.info().await["node_id"] == 0 {
                    sleep(LOOK).await;
                }
            };
            timeout(PATIENCE, registered).await.expect("not registered in time");
            // Keys are signed, agreed upon and negotiated.
            client.dial(node, port).await;
            peer.accepted().await;

            let id = process.0.id().to_string();
            let mappings = scan::mappings(&id).unwrap();
            let locked: usize =
                mappings.iter().filter(|mapping| mapping.is_for_keys()).map(|mapping| mapping.range.len()).sum();
            assert!(locked > 0, "no locked memory after the {start} start");
            for (name, bytes) in parts(&world.folder().join("confined/identity.json")) {
                let found = scan::find(&id, &mappings, &bytes).unwrap();
                let elsewhere: Vec<_> = found.iter().filter(|(mapping, _)| !mapping.is_for_keys()).collect();
                let places: Vec<_> = elsewhere
                    .iter()
                    .map(|(mapping, at)| format!("{at:x} {} {:?}", mapping.name, mapping.flags))
                    .collect();
                assert!(places.is_empty(), "{start} start: {name} lies in {places:#?}");
                assert_eq!(found.len(), usize::from(name == "seed"), "{start} start: {name}");
            }
        }
    });
}
