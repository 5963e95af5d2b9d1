//! Who belongs: nodes wait until they are approved, and are in without a restart; a banned one is out within a round trip,
//! and back when the ban ends. With the unmodified daemon and with ours.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use lab::{Appliance, ApplianceFlags, Daemon, DaemonFlags, Peer, Program, Stopwatch, World, evidence, wait_until};

/// Daemons register within seconds.
const WAITING_WITHIN: Duration = Duration::from_secs(60);
/// The unmodified daemon discovers once a minute, and beats its heart as often.
const IN_WITHIN: Duration = Duration::from_secs(200);
/// What is on its way when the ban comes may still arrive.
const ROUND_TRIP: Duration = Duration::from_millis(200);
const PACKETS: usize = 200;
/// Our daemon beats its heart once a minute, and machines are slow and shared.
const BEAT: Duration = Duration::from_secs(75);

/// The numbers of the nodes with this standing.
fn listed(appliance: &Appliance, state: &str) -> Vec<String> {
    let answer = appliance.nodes(&["list", "--state", state]);
    let nodes = answer["nodes"].as_array().cloned().unwrap_or_default();
    nodes.iter().map(|node| node["node_id"].to_string()).collect()
}

#[test]
fn who_waits_is_in_without_a_restart_once_it_is_approved() {
    for program in Program::available() {
        let Some(world) = World::open() else { return };
        let appliance = world.appliance_with(ApplianceFlags::default().flag("--enrol", "approve"));
        let flags = |name: &str| DaemonFlags::named(name).program(program).public();
        let mut near = Daemon::start(&world.host("near"), flags("near"));
        let mut far = Daemon::start(&world.host("far"), flags("far"));
        let waiting = wait_until("both daemons to wait", WAITING_WITHIN, || {
            Some(listed(&appliance, "pending")).filter(|waiting| waiting.len() == 2)
        });
        near.wait_ready();
        far.wait_ready();
        assert_eq!(near.ping("far", 2).answered(), 0, "{program}: a node that waits is reached");
        assert!(near.is_running() && far.is_running(), "{program}: waiting ends no daemon");
        let nodes: Vec<&str> = waiting.iter().map(String::as_str).collect();
        appliance.nodes(&[&["approve"], &nodes[..1]].concat());
        assert_eq!(near.ping("far", 2).answered(), 0, "{program}: one of two is not enough");
        appliance.nodes(&[&["approve"], &nodes[1..]].concat());
        let took = near.time_to_reach("far", IN_WITHIN);
        let back = far.time_to_reach("near", IN_WITHIN);
        assert_eq!((listed(&appliance, "pending").len(), listed(&appliance, "approved").len()), (0, 2));
        evidence(format!("{program}: reached by its name {took:.1?} after the approval, and back after {back:.1?}"));
    }
}

#[test]
fn a_banned_node_is_silent_within_a_round_trip_while_it_sends() {
    let Some(world) = World::open() else { return };
    let appliance = world.appliance();
    let (alice, bob) = (Peer::join(&world.host("alice"), "alice"), Peer::join(&world.host("bob"), "bob"));
    assert!(alice.reaches(&bob, b"before", Duration::from_secs(5)));
    (0..PACKETS).for_each(|_| alice.relay(bob.node(), b"on the way"));
    appliance.nodes(&["ban", &alice.node().to_string(), "--reason", "spam"]);
    // What was on its way has arrived when nothing more comes for a round trip.
    let passed = 1 + std::iter::from_fn(|| bob.receive(ROUND_TRIP)).count() as u64;
    assert!(passed > 1, "the ban came before all that was sent before it");
    for _ in 0..PACKETS {
        alice.relay(bob.node(), b"after");
        bob.relay(alice.node(), b"after");
    }
    assert_eq!(bob.receive(ROUND_TRIP * 5), None, "a banned node is relayed");
    assert_eq!(alice.receive(ROUND_TRIP * 5), None, "a banned node is reached");
    let shown = appliance.nodes(&["show", &alice.node().to_string()]);
    assert_eq!((shown["standing"].as_str(), shown["ban"]["reason"].as_str()), (Some("banned"), Some("spam")));
    let sent = wait_until("the relay to tell what alice sent", Duration::from_secs(5), || {
        let shown = appliance.nodes(&["show", &alice.node().to_string()]);
        shown["usage"]["packets"].as_u64().filter(|packets| *packets == passed)
    });
    evidence(format!("{sent} packets passed before the ban, none of {PACKETS} each way after it"));
    appliance.nodes(&["unban", &alice.node().to_string()]);
    wait_until("alice to reach bob again", Duration::from_secs(5), || {
        let _ = alice.discover();
        alice.reaches(&bob, b"again", Duration::from_millis(500)).then_some(())
    });
}

#[test]
fn a_banned_daemon_is_out_and_comes_back_by_itself_when_the_ban_ends() {
    for program in Program::available() {
        let Some(world) = World::open() else { return };
        let mut appliance = world.appliance();
        let flags = |name: &str| DaemonFlags::named(name).program(program).public().relay_only();
        let mut near = Daemon::start(&world.host("near"), flags("near"));
        let mut far = Daemon::start(&world.host("far"), flags("far"));
        near.wait_ready();
        far.wait_ready();
        near.time_to_reach("far", IN_WITHIN);
        let node = near.node().to_string();
        appliance.nodes(&["ban", &node]);
        assert_eq!(near.ping("far", 2).answered(), 0, "{program}: banned, and it reaches others");
        assert_eq!(far.ping(&near.address(), 2).answered(), 0, "{program}: banned, and it is reached");
        // A restart of the relay ends no ban.
        appliance.kill();
        appliance.restart();
        assert_eq!(listed(&appliance, "banned"), std::slice::from_ref(&node));
        assert_eq!(near.ping("far", 2).answered(), 0, "{program}: banned, and back after a restart of the relay");
        assert!(near.is_running(), "{program}: a ban ends no daemon");
        let watch = Stopwatch::start();
        appliance.nodes(&["unban", &node]);
        near.time_to_reach("far", IN_WITHIN);
        evidence(format!("{program}: back {:.1?} after the ban has ended, without a restart", watch.elapsed()));
    }
}

#[test]
fn a_direct_tunnel_with_a_banned_node_ends_within_a_heartbeat_and_comes_back() {
    let Some(world) = World::open() else { return };
    if !Program::Ours.is_available() {
        return;
    }
    let appliance = world.appliance();
    let flags = |name: &str| DaemonFlags::named(name).ours().public();
    let near = Daemon::start_ready(&world.host("near"), flags("near"));
    let far = Daemon::start_ready(&world.host("far"), flags("far"));
    let (node, address) = (far.node(), far.address());
    let go_direct = |what: &str| {
        let took = near.time_to_reach(&address, IN_WITHIN);
        wait_until(what, IN_WITHIN, || {
            let is_direct = near.relays_to(node) == Some(false) && far.relays_to(near.node()) == Some(false);
            is_direct.then_some(took)
        })
    };
    go_direct("a direct tunnel");
    // An echo that stays open.
    let mut echo = near.pilotctl_command(&["connect", &address, "7"]);
    let mut echo = echo.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (echo.stdin.take().unwrap(), BufReader::new(echo.stdout.take().unwrap()));
    input.write_all(b"still there?\n").unwrap();
    let mut said = String::new();
    output.read_line(&mut said).unwrap();
    assert_eq!(said, "still there?\n");

    appliance.nodes(&["ban", &node.to_string()]);
    let watch = Stopwatch::start();
    wait_until("the stream to end", BEAT, || echo.try_wait().unwrap());
    let ended = watch.elapsed();
    assert_ne!(near.relays_to(node), Some(false), "the tunnel stands");
    let why = near.pilotctl(&["explain", &address]).unwrap()["why"].to_string();
    assert!(why.contains("banned"), "{why}");
    assert!(near.log().contains("banned by the administrator"), "{}", near.log_tail());
    assert_eq!(near.ping(&address, 2).answered(), 0, "a banned node is reached");
    assert_eq!(far.ping(&near.address(), 2).answered(), 0, "a banned node reaches others");

    appliance.nodes(&["unban", &node.to_string()]);
    let back = go_direct("a direct tunnel again");
    evidence(format!("the stream ended {ended:.1?} after the ban, and the node was back {back:.1?} after its end"));
}
