//! Private nodes: who asks and is approved may connect, nobody else, whatever he tells the directory.

use std::time::Duration;

use lab::{CallError, Daemon, DaemonFlags, Nat, Peer, Stopwatch, World, evidence, wait_until};
use serde_json::json;

/// Daemons poll the directory for handshakes every 10 to 30 seconds.
const POLLED_WITHIN: Duration = Duration::from_secs(60);
const REACHED_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn private_nodes_connect_after_request_and_approval() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let (left, right) = (world.site(Nat::Symmetric), world.site(Nat::Symmetric));
    let mut alice = Daemon::start(&left.host("alice"), DaemonFlags::named("alice"));
    let mut bob = Daemon::start(&right.host("bob"), DaemonFlags::named("bob"));
    alice.wait_ready();
    bob.wait_ready();

    assert_eq!(alice.ping("bob", 1).answered(), 0, "a private node answers a stranger");

    let watch = Stopwatch::start();
    alice.pilotctl(&["handshake", "bob", "let us meet"]).expect("a request can be sent");
    let asking = alice.node();
    wait_until("bob to see the request", POLLED_WITHIN, || {
        let pending = bob.pilotctl(&["pending"]).ok()?;
        pending["pending"].as_array()?.iter().any(|request| request["node_id"] == asking).then_some(())
    });
    evidence(format!("the request arrived after {:?}", watch.elapsed()));

    bob.pilotctl(&["approve", &asking.to_string()]).expect("a pending request can be approved");
    let took = alice.time_to_reach("bob", POLLED_WITHIN);
    let report = alice.ping("bob", 5);
    assert_eq!(report.answered(), 5, "{}", report.text);
    let took_back = bob.time_to_reach("alice", REACHED_WITHIN);
    evidence(format!("alice reached bob {took:?} after approval, {report}; bob reached alice in {took_back:?}"));
}

#[test]
fn an_untrusted_node_is_refused() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let mut bob = Daemon::start(&world.host("bob"), DaemonFlags::named("bob"));
    let mut mallory = Daemon::start(&world.host("mallory"), DaemonFlags::named("mallory"));
    bob.wait_ready();
    mallory.wait_ready();
    let report = mallory.ping("bob", 2);
    assert_eq!(report.answered(), 0, "a private node answered a stranger: {}", report.text);
    evidence(format!("mallory: {report}: {}", report.text.trim()));
}

/// One report must not make a pair: what mallory says about bob opens mallory, not bob.
#[test]
fn trust_cannot_be_taken_by_reporting_it() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let mut bob = Peer::join(&world.host("bob"), "bob");
    let mut mallory = Peer::join(&world.host("mallory"), "mallory");
    let (victim, thief) = (bob.node(), mallory.node());

    let reported = mallory.directory.call_signed("report_trust", &[victim.into()], json!({ "peer_id": victim }));
    reported.expect("a node may say whom it trusts");

    let signature = mallory.directory.sign(&format!("resolve:{thief}:{victim}"));
    let resolved = mallory.directory.call(&json!({
        "type": "resolve", "node_id": victim, "requester_id": thief, "signature": signature,
    }));
    assert!(matches!(resolved, Err(CallError::Refused(_))), "mallory resolved bob: {resolved:?}");

    let check = json!({ "type": "check_trust", "node_id": victim, "peer_id": thief });
    let answer = bob.directory.call(&check).expect("check_trust is answered");
    assert_eq!(answer["trusted"], false, "bob's directory vouches for mallory");

    let signature = bob.directory.sign(&format!("resolve:{victim}:{thief}"));
    let resolved = bob.directory.call(&json!({
        "type": "resolve", "node_id": thief, "requester_id": victim, "signature": signature,
    }));
    resolved.expect("mallory's report opens mallory to bob");
    evidence("mallory's report opened mallory to bob, and not bob to mallory");
}
