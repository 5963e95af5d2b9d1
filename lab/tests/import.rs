//! A fleet moves to another registry: unmodified daemons come back with their numbers, names and trust.

use std::time::Duration;

use lab::{Daemon, DaemonFlags, Peer, World, evidence, wait_until};
use serde_json::{Value, json};

/// Numbers far from those that a new directory would hand out.
const ALICE: u32 = 4711;
const BOB: u32 = 815;
const NEXT: u32 = 5000;
/// Daemons poll the directory for handshakes every 10 to 30 seconds.
const POLLED_WITHIN: Duration = Duration::from_secs(60);

fn key(daemon: &Daemon) -> String {
    let info = daemon.pilotctl(&["info"]).expect("a daemon tells of itself");
    info["public_key"].as_str().expect("its key").to_owned()
}

/// What a registry knows of the two, who trust each other.
fn snapshot(keys: &[String; 2]) -> Value {
    json!({
        "next_node": NEXT,
        "nodes": {
            ALICE.to_string(): { "id": ALICE, "public_key": keys[0], "hostname": "alice", "networks": [0] },
            BOB.to_string(): { "id": BOB, "public_key": keys[1], "hostname": "bob", "networks": [0] },
        },
        "trust_pairs": [format!("{BOB}:{ALICE}")],
        "pub_key_idx": { keys[0].clone(): ALICE, keys[1].clone(): BOB },
    })
}

#[test]
fn imported_daemons_keep_numbers_and_trust() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let mut alice = Daemon::start_ready(&world.host("alice"), DaemonFlags::named("alice"));
    let mut bob = Daemon::start_ready(&world.host("bob"), DaemonFlags::named("bob"));
    let keys = [key(&alice), key(&bob)];

    for daemon in [&mut alice, &mut bob] {
        daemon.kill();
    }
    appliance.kill();
    appliance.import(&snapshot(&keys));
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

/// Whom a daemon dials is up to its own memory of handshakes, beside its key, and it moves along. What the directory knows
/// lets the other one in; it does not make a daemon dial somebody it has never shaken hands with, here or elsewhere.
#[test]
fn those_who_had_shaken_hands_talk_on_and_others_are_refused_by_their_own_daemons() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let mut daemons = ["alice", "bob"].map(|name| Daemon::start(&world.host(name), DaemonFlags::named(name)));
    daemons.iter_mut().for_each(Daemon::wait_ready);
    let refused = |from: &Daemon, to: &Daemon, when: &str| {
        let report = from.ping(&to.address(), 1);
        assert!(report.answered() == 0 && report.text.contains("without trust"), "{}", report.text);
        evidence(format!("{when}: {from}: {}", report.text.trim()));
    };
    refused(&daemons[0], &daemons[1], "registered here, never shaken hands");
    let keys = [key(&daemons[0]), key(&daemons[1])];
    let mut move_all = |daemons: &mut [Daemon; 2]| {
        daemons.iter_mut().for_each(Daemon::kill);
        appliance.kill();
        appliance.import(&snapshot(&keys));
        appliance.restart();
        daemons.iter_mut().for_each(Daemon::restart);
    };
    move_all(&mut daemons);
    refused(&daemons[0], &daemons[1], "imported as trusted, never shaken hands");

    let [alice, bob] = &daemons;
    alice.pilotctl(&["handshake", &bob.address(), "let us meet"]).expect("a request can be sent");
    wait_until("bob to see the request", POLLED_WITHIN, || {
        let pending = bob.pilotctl(&["pending"]).ok()?;
        pending["pending"].as_array()?.iter().any(|request| request["node_id"] == ALICE).then_some(())
    });
    bob.pilotctl(&["approve", &ALICE.to_string()]).expect("a pending request can be approved");
    alice.time_to_reach(&bob.address(), POLLED_WITHIN);

    move_all(&mut daemons);
    let [alice, bob] = &daemons;
    for (from, to) in [(alice, bob), (bob, alice)] {
        let took = from.time_to_reach(&to.address(), POLLED_WITHIN);
        evidence(format!("shaken hands before the move: {from} reached {to} in {took:?}"));
    }
}
