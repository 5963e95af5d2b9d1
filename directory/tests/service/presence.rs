//! Who is there: sweeps, ended connections, reports; and counts that stay right whatever happens.

use crate::*;
use directory::service::PRESENCE_TIMEOUT;
use directory::service::overview::PathFigures;
use proptest::prelude::*;
use wire::registry::answer::{Member, NetworkSummary};
use wire::registry::request::Report;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn online(world: &World) -> usize {
    world.service.figures().nodes_online
}

fn networks(world: &mut World) -> Vec<NetworkSummary> {
    match world.ask(Operation::ListNetworks) {
        Answer::ListNetworks { networks } => networks,
        other => panic!("{other:?}"),
    }
}

fn members(world: &mut World, network_id: u16) -> Vec<Member> {
    match world.as_admin(Operation::ListNodes { network_id, after: None }) {
        Answer::ListNodes { nodes, more: false } => nodes,
        other => panic!("{other:?}"),
    }
}

/// An open network of everyone in `nodes`, made by the first.
fn group(world: &mut World, nodes: &[(SigningKey, NodeId)]) -> u16 {
    let create = Operation::CreateNetwork {
        node_id: nodes[0].1,
        name: "RESEARCH".into(),
        join_rule: "open".into(),
        token: String::new(),
    };
    let Answer::CreateNetwork { network_id, .. } = world.as_admin(create) else { panic!("not made") };
    for (key, node_id) in &nodes[1..] {
        let joined = world.by(key, Operation::JoinNetwork { node_id: *node_id, network_id, token: String::new() });
        assert!(matches!(joined, Answer::JoinNetwork { .. }));
    }
    network_id
}

#[test]
fn the_silent_become_absent_everywhere_and_the_others_stay() {
    let mut world = World::new();
    let nodes: Vec<_> = (1..=3).map(|seed| world.node(seed)).collect();
    let network = group(&mut world, &nodes);
    world.pass(seconds(200));
    world.beat(&nodes[1].0, nodes[1].1);
    world.pass(seconds(100));
    assert_eq!(online(&world), 1);
    let all = networks(&mut world);
    assert_eq!(
        all.iter().map(|network| (network.id, network.online)).collect::<Vec<_>>(),
        [(0, Some(1)), (network, Some(1))]
    );
    let listed: Vec<_> = members(&mut world, network).iter().map(|member| (member.node_id, member.online)).collect();
    assert_eq!(listed, [(NodeId(1), Some(false)), (NodeId(2), Some(true)), (NodeId(3), Some(false))]);
    world.by(&nodes[1].0, Operation::Deregister { node_id: nodes[1].1 });
    assert_eq!(online(&world), 0);
    assert!(networks(&mut world).iter().all(|network| network.online == Some(0)));
}

#[test]
fn leaving_and_joining_count_the_present_alone() {
    let mut world = World::new();
    let nodes: Vec<_> = (1..=2).map(|seed| world.node(seed)).collect();
    let network_id = group(&mut world, &nodes);
    let figures = |world: &mut World| {
        let all = networks(world);
        (all[1].members, all[1].online)
    };
    assert_eq!(figures(&mut world), (Some(2), Some(2)));
    world.pass(PRESENCE_TIMEOUT);
    assert_eq!(figures(&mut world), (Some(2), Some(0)));
    // By an administrator, which is no sign of life of the node.
    let node_id = nodes[1].1;
    world.as_admin(Operation::LeaveNetwork { node_id, network_id });
    assert_eq!(figures(&mut world), (Some(1), Some(0)));
    world.as_admin(Operation::JoinNetwork { node_id, network_id, token: String::new() });
    assert_eq!(figures(&mut world), (Some(2), Some(0)));
    world.beat(&nodes[1].0, node_id);
    assert_eq!(figures(&mut world), (Some(2), Some(1)));
    world.by(&nodes[1].0, Operation::LeaveNetwork { node_id, network_id });
    assert_eq!(figures(&mut world), (Some(1), Some(0)));
}

#[test]
fn a_node_whose_last_connection_ended_is_absent_after_two_heartbeats_missed() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    world.signed(&alice, from(HOME, 2), Operation::Heartbeat { node_id: one, report: None, bans_since: None });
    world.service.handle_close(ConnectionId(1));
    world.pass(seconds(150));
    assert_eq!(online(&world), 1, "another connection lives");
    world.service.handle_close(ConnectionId(2));
    world.pass(seconds(1));
    world.pass(seconds(118));
    assert_eq!(online(&world), 1);
    world.pass(seconds(2));
    assert_eq!(online(&world), 0);

    world.beat(&alice, one);
    world.service.handle_close(ConnectionId(1));
    world.pass(seconds(60));
    world.signed(&alice, from(HOME, 3), Operation::Heartbeat { node_id: one, report: None, bans_since: None });
    world.pass(seconds(299));
    assert_eq!(online(&world), 1, "it came back with its next heartbeat, and its connection lives");
}

#[test]
fn one_who_connects_for_each_heartbeat_stays() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    for connection in 2..40 {
        world.pass(seconds(60));
        assert_eq!(online(&world), 1);
        world.signed(
            &alice,
            from(HOME, connection),
            Operation::Heartbeat { node_id: one, report: None, bans_since: None },
        );
        world.service.handle_close(ConnectionId(connection));
    }
}

#[test]
fn reports_are_summed_while_their_nodes_are_present() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let report = |direct, direct_bytes| Some(Report { direct, relayed: 1, direct_bytes, ..Report::default() });
    let beat = |world: &mut World, key: &SigningKey, node_id, report| {
        world.by(key, Operation::Heartbeat { node_id, report, bans_since: None });
    };
    let paths = |world: &World| world.service.overview(world.now).paths;
    beat(&mut world, &alice, one, report(3, 100));
    beat(&mut world, &bob, two, report(4, 1000));
    beat(&mut world, &alice, one, report(5, 200));
    let sum = PathFigures { reporting: 2, direct: 9, relayed: 2, direct_bytes: 1200, relayed_bytes: 0 };
    assert_eq!(paths(&world), sum);

    beat(&mut world, &bob, two, report(u32::MAX, u64::MAX));
    assert!(paths(&world).direct_bytes < 1 << 51, "believed up to a bound");
    let unsigned = Operation::Heartbeat { node_id: one, report: report(77, 77), bans_since: None };
    assert!(error(world.ask(unsigned)).contains("signature required"));
    beat(&mut world, &bob, two, None);
    assert_eq!(paths(&world), PathFigures { reporting: 1, direct: 5, relayed: 1, direct_bytes: 200, relayed_bytes: 0 });
    world.pass(PRESENCE_TIMEOUT);
    assert_eq!(paths(&world), PathFigures::default());
    world.beat(&alice, one);
    assert_eq!(paths(&world), PathFigures::default(), "the old report is gone");
}

/// What the model does next. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Register(u8),
    Beat(u8, Option<u32>),
    Deregister(u8),
    Create(u8),
    Join(u8, u8),
    Leave(u8, u8),
    Close(u8),
    Pass(u16),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..12_u8;
    prop_oneof![
        4 => node.clone().prop_map(Step::Register),
        12 => (node.clone(), proptest::option::of(0..9_u32)).prop_map(|(node, direct)| Step::Beat(node, direct)),
        1 => node.clone().prop_map(Step::Deregister),
        1 => node.clone().prop_map(Step::Create),
        6 => (node.clone(), 0..6_u8).prop_map(|(node, network)| Step::Join(node, network)),
        3 => (node.clone(), 0..6_u8).prop_map(|(node, network)| Step::Leave(node, network)),
        3 => node.prop_map(Step::Close),
        8 => (0..200_u16).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

/// What ought to be so, kept the simplest way.
#[derive(Clone, Default)]
struct Expected {
    registered: bool,
    seen: Option<u64>,
    connected: bool,
    unplugged: Option<u64>,
    direct: Option<u32>,
}

impl Expected {
    fn is_online(&self, now: u64) -> bool {
        self.registered
            && self.seen.is_some_and(|seen| now < seen + 300)
            && self.unplugged.is_none_or(|since| now < since + 120)
    }

    fn lives(&mut self, now: u64) {
        (self.seen, self.connected, self.unplugged) = (Some(now), true, None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counts_are_what_a_recount_gives(steps in proptest::collection::vec(step(), 1..150)) {
        let mut world = World::with(Limits { registrations_per_ip_per_minute: 1000, ..Limits::default() });
        let mut expected = vec![Expected::default(); 12];
        let mut ids: Vec<Option<NodeId>> = vec![None; 12];
        let mut made: Vec<(u16, Vec<usize>)> = Vec::new();
        for step in steps {
            let now = world.now.monotonic.as_secs();
            let of = |seed: u8| (key(seed + 1), usize::from(seed), from(HOME, u64::from(seed) + 100));
            match step {
                Step::Register(seed) => {
                    let (key, node, from) = of(seed);
                    let answer = world.signed(&key, from, Operation::Register(register(&key)));
                    ids[node] = Some(registered(&answer));
                    expected[node].registered = true;
                    expected[node].lives(now);
                }
                Step::Beat(seed, direct) => {
                    let (key, node, from) = of(seed);
                    let Some(node_id) = ids[node] else { continue };
                    let report = direct.map(|direct| Report { direct, ..Report::default() });
                    world.signed(&key, from, Operation::Heartbeat { node_id, report, bans_since: None });
                    if expected[node].registered {
                        expected[node].lives(now);
                        expected[node].direct = direct;
                    }
                }
                Step::Deregister(seed) => {
                    let (key, node, from) = of(seed);
                    let Some(node_id) = ids[node] else { continue };
                    world.signed(&key, from, Operation::Deregister { node_id });
                    expected[node] = Expected::default();
                    made.iter_mut().for_each(|(_, members)| members.retain(|member| *member != node));
                }
                Step::Create(seed) => {
                    let (_, node, _) = of(seed);
                    let Some(node_id) = ids[node] else { continue };
                    let name = format!("Group-{}", made.len());
                    let create =
                        Operation::CreateNetwork { node_id, name, join_rule: "open".into(), token: String::new() };
                    if let Answer::CreateNetwork { network_id, .. } = world.as_admin(create) {
                        made.push((network_id, vec![node]));
                    }
                }
                Step::Join(seed, network) | Step::Leave(seed, network) if made.is_empty() => {
                    let _ = (seed, network);
                }
                Step::Join(seed, network) => {
                    let (key, node, from) = of(seed);
                    let Some(node_id) = ids[node] else { continue };
                    let at = usize::from(network) % made.len();
                    let (network_id, members) = &mut made[at];
                    let join = Operation::JoinNetwork { node_id, network_id: *network_id, token: String::new() };
                    world.signed(&key, from, join);
                    if expected[node].registered {
                        // A sign of life, but joining proves no connection.
                        (expected[node].seen, expected[node].unplugged) = (Some(now), None);
                        if !members.contains(&node) {
                            members.push(node);
                        }
                    }
                }
                Step::Leave(seed, network) => {
                    let (_, node, _) = of(seed);
                    let Some(node_id) = ids[node] else { continue };
                    let at = usize::from(network) % made.len();
                    let (network_id, members) = &mut made[at];
                    world.as_admin(Operation::LeaveNetwork { node_id, network_id: *network_id });
                    members.retain(|member| *member != node);
                }
                Step::Close(seed) => {
                    let (_, node, from) = of(seed);
                    world.service.handle_close(from.connection);
                    world.sweep();
                    if std::mem::take(&mut expected[node].connected) {
                        expected[node].unplugged = Some(now);
                    }
                }
                Step::Pass(time) => world.pass(seconds(time.into())),
                Step::Restart => {
                    world.restart();
                    for node in &mut expected {
                        *node = Expected { registered: node.registered, ..Expected::default() };
                    }
                }
            }
            let now = world.now.monotonic.as_secs();
            for node in &mut expected {
                if !node.is_online(now) {
                    node.direct = None;
                }
            }
            let overview = world.service.overview(world.now);
            let count = |members: &[usize]| members.iter().filter(|node| expected[**node].is_online(now)).count();
            prop_assert_eq!(overview.nodes, expected.iter().filter(|node| node.registered).count());
            prop_assert_eq!(overview.online, count(&(0..12).collect::<Vec<_>>()));
            let direct: Vec<u32> = expected.iter().filter_map(|node| node.direct).collect();
            prop_assert_eq!(overview.paths.reporting, direct.len());
            prop_assert_eq!(overview.paths.direct, direct.iter().map(|direct| u64::from(*direct)).sum::<u64>());
            prop_assert_eq!(overview.groups.len(), made.len() + 1);
            for (figures, (id, members)) in overview.groups[1..].iter().zip(&made) {
                prop_assert_eq!((figures.id, figures.members, figures.online), (*id, members.len(), count(members)));
            }
        }
    }
}

#[test]
fn what_anybody_can_copy_keeps_nobody_present() {
    let mut world = World::new();
    let (alice, one) = world.offering(1, "Citations", "");
    let publication = {
        let record = crate::capabilities::withdrawal(&world, &alice, one);
        let later = wire::registry::capability::Record { serial: record.serial + 1, ..record };
        sign(&alice, crate::capabilities::publishing(one, &later))
    };
    world.pass(PRESENCE_TIMEOUT / 2);
    world.outcome(from(HOME, 1), &publication);
    world.pass(PRESENCE_TIMEOUT / 2);
    assert_eq!(world.service.figures().nodes_online, 1, "a newer record is a sign of life");

    let requester_id = Some(one);
    let query = wire::registry::request::Query { requester_id, ..Default::default() };
    let changes = wire::registry::request::Changes { requester_id, ..Default::default() };
    let questions = [Operation::Query(query), Operation::Changes(changes)].map(|question| sign(&alice, question));
    let answer = world.outcome(from("203.0.113.9", 9), &publication).answer;
    assert!(!matches!(answer, Answer::Error { .. }), "{answer:?}");
    for copied in &questions {
        world.outcome(from("203.0.113.9", 9), copied);
    }
    world.pass(PRESENCE_TIMEOUT / 2);
    assert_eq!(world.service.figures().nodes_online, 0);
    for copied in [&publication, &questions[0], &questions[1]] {
        world.outcome(from("203.0.113.9", 9), copied);
    }
    assert_eq!(world.service.figures().nodes_online, 0, "copies do not bring it back");
}
