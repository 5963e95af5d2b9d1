//! The administrator keeps a node out with which others have direct tunnels, under the directory's and the relay's own rules.

use std::time::Duration;

use agent::node::Trouble;
use agent::stream::End;
use directory::service::enrolment::Act;

use super::{Pair, SECOND};
use crate::nat::Behaviour;

const STRICT: Option<Behaviour> = Some(Behaviour::PORT_RESTRICTED);
/// Heartbeats come once a minute, and take a moment.
const BEAT: Duration = Duration::from_secs(61);

#[test]
fn a_banned_node_is_out_within_a_heartbeat_and_in_again_without_a_restart() {
    let mut pair = Pair::slow(60, [STRICT, STRICT]);
    pair.go_direct();
    let Pair { mut world, a, b, .. } = pair;
    // It would take five minutes.
    let flow = world.dial(a, b, [150_000_000, 1000]);
    world.progressed(flow, 1_000_000);
    assert!(world.is_direct(a, b));
    world.administer(b, &Act::Ban { reason: String::new() });
    let banned_at = world.now;
    let ended = world.run_until(BEAT, |world| world.flows[flow].halves[0].ended.is_some());
    let took = world.now.since(banned_at);
    assert!(ended, "the stream goes on:\n{}", world.describe(flow));
    assert_eq!(world.flows[flow].halves[0].ended, Some(End::Banned), "{}", world.describe(flow));
    let bob = world.hosts[b.0].id().expect("it keeps its number");
    let trouble = world.hosts[a.0].node().and_then(|node| node.trouble(bob)).cloned();
    assert_eq!(trouble, Some(Trouble::Banned));

    // It is alive, and tries: nothing arrives, at either end.
    let again = [world.dial(a, b, [1000, 1000]), world.dial(b, a, [1000, 1000])];
    let arrived = world.run_until(BEAT * 2, |world| again.iter().any(|flow| world.flows[*flow].progress() > 0));
    assert!(!arrived && !world.is_direct(a, b), "a banned node is reached:\n{}", world.describe(again[0]));

    world.administer(b, &Act::Unban);
    let lifted_at = world.now;
    world.dial_until_delivered(a, b, SECOND * 90);
    println!("{}; out after {took:?}, in again after {:?}", world.evidence("ban"), world.now.since(lifted_at));
    let back = world.dial(b, a, [1000, 1000]);
    world.delivered(back, SECOND * 30);
    let direct = world.run_until(SECOND * 60, |world| world.is_direct(a, b));
    assert!(direct, "and directly:\n{}", world.describe(back));
}
