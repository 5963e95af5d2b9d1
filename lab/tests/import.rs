//! A fleet moves to another registry: unmodified daemons come back with their numbers, names and trust.

use std::time::Duration;

use lab::{Daemon, DaemonFlags, World, evidence};
use serde_json::json;

const REACHED_WITHIN: Duration = Duration::from_secs(30);
/// Numbers far from those that a new directory would hand out.
const ALICE: u32 = 4711;
const BOB: u32 = 815;

#[test]
fn imported_daemons_keep_numbers_and_trust() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let mut alice = Daemon::start_ready(&world.host("alice"), DaemonFlags::named("alice"));
    let mut bob = Daemon::start_ready(&world.host("bob"), DaemonFlags::named("bob"));
    assert_eq!(alice.ping("bob", 1).answered(), 0, "private nodes answer strangers");
    let key = |daemon: &Daemon| {
        let info = daemon.pilotctl(&["info"]).expect("a daemon tells of itself");
        info["public_key"].as_str().expect("its key").to_owned()
    };
    let keys = [key(&alice), key(&bob)];

    for daemon in [&mut alice, &mut bob] {
        daemon.kill();
    }
    appliance.kill();
    appliance.import(&json!({
        "next_node": 5000,
        "nodes": {
            ALICE.to_string(): { "id": ALICE, "public_key": keys[0], "hostname": "alice", "networks": [0] },
            BOB.to_string(): { "id": BOB, "public_key": keys[1], "hostname": "bob", "networks": [0] },
        },
        "trust_pairs": [format!("{BOB}:{ALICE}")],
        "pub_key_idx": { keys[0].clone(): ALICE, keys[1].clone(): BOB },
    }));
    appliance.restart();
    for daemon in [&mut alice, &mut bob] {
        daemon.restart();
    }
    assert_eq!((alice.node(), bob.node()), (ALICE, BOB));
    let took = alice.time_to_reach("bob", REACHED_WITHIN);
    let back = bob.time_to_reach("alice", REACHED_WITHIN);
    evidence(format!("after the move alice reached bob in {took:?}, bob alice in {back:?}, without a handshake"));
}
