//! A fleet moves to another registry: unmodified daemons come back with their numbers, names and trust.

use lab::{Daemon, DaemonFlags, Peer, World};
use serde_json::json;

/// Numbers far from those that a new directory would hand out.
const ALICE: u32 = 4711;
const BOB: u32 = 815;
const NEXT: u32 = 5000;

#[test]
fn imported_daemons_keep_numbers_and_trust() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let mut alice = Daemon::start_ready(&world.host("alice"), DaemonFlags::named("alice"));
    let mut bob = Daemon::start_ready(&world.host("bob"), DaemonFlags::named("bob"));
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
        "next_node": NEXT,
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
    let mut carol = Peer::join(&world.host("carol"), "carol");
    assert_eq!(carol.node(), NEXT, "no number below is handed out");
    // What daemons ask before they let somebody in.
    let mut trusts = |node: u32, peer: u32| {
        let asked = json!({ "type": "check_trust", "node_id": node, "peer_id": peer });
        carol.directory.call(&asked).expect("anybody may ask")["trusted"] == true
    };
    assert!(trusts(ALICE, BOB) && trusts(BOB, ALICE), "each lets the other in");
    assert!(!trusts(BOB, NEXT) && !trusts(ALICE, NEXT), "and nobody else");
}
