//! Lists of keys as long as fleets are.

use std::sync::mpsc;

use directory::enrolment::{Approval, Enrolment};
use directory::facts::{Facts, NodeFact};
use directory::service::enrolment::Moved;

use crate::*;

/// With 200 000 nodes, two of which are compared in 10 ns, whoever compares each with each takes minutes.
const NODES: u32 = 200_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn key_of(number: u32) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Base64(bytes)
}

#[test]
fn a_list_without_a_whole_fleet_takes_no_longer_for_each_node_than_one_without_a_few() {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let node = |id| NodeFact { approval: Approval::Listed, ..NodeFact::new(NodeId(id), key_of(id), 1_795_000_000) };
        let facts = Facts { nodes: (1..=NODES).map(node).collect(), ..Facts::default() };
        let mut service = Service::new(facts, &Limits::default(), None);
        let policy = |listed: &[u32]| Policy {
            enrolment: Enrolment::Allowlist,
            listed: listed.iter().copied().map(key_of).collect(),
            ..Policy::default()
        };
        let all: Vec<u32> = (1..=NODES).collect();
        let moved = [&all[..], &[NODES], &all].map(|listed| {
            let moved = service.set_policy(Now::default(), policy(listed));
            let effects = service.take_effects();
            service.take_changes();
            (moved, effects)
        });
        done.send(moved).unwrap();
    });
    let [same, fewer, again] = is_done.recv_timeout(PATIENCE).expect("it takes far too long");
    let others: Vec<Effect> = (1..NODES).map(|id| Effect::Publish(NodeId(id))).collect();
    assert_eq!(same, (Moved::default(), vec![]));
    assert_eq!((fewer.0.put_out, again.0.let_in), (others.len(), others.len()));
    assert!(fewer.1 == others && again.1 == others, "the relay is told of each, once");
}
