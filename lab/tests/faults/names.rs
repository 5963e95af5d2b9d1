//! Names do not resolve, when programs start or while they serve: they go on trying, say so, and lose nothing they have.

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::fault::{self, NameServer, Says};
use lab::{
    ApplianceFlags, Daemon, DaemonFlags, Host, Program, RELAY_V4, RELAY_V4_SECOND, Stopwatch, World, wait_until,
};

use crate::book::Book;

const SILENT: Duration = Duration::from_secs(4);
const REGISTERED_WITHIN: Duration = Duration::from_secs(60);
const BACK_WITHIN: Duration = Duration::from_secs(120);

#[test]
fn a_relay_that_is_to_advertise_a_name_waits_until_it_resolves() {
    let Some(world) = World::open() else { return };
    let host = world.relay_host();
    let _resolver = fault::use_name_server(&host);
    let server = std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            // Nobody answers at first.
            std::thread::park_timeout(SILENT);
            NameServer::start(host.namespace(), RELAY_V4)
        });
        let watch = Stopwatch::start();
        let appliance = world.appliance_with(ApplianceFlags::default().flag("--advertise", "relay.pilot.test"));
        let recovery = watch.elapsed();
        let lines = fault::logged(&appliance, "relay.pilot.test");
        assert!(lines >= 1, "it says what it waits for:\n{}", appliance.log_tail());
        let mut book = Book::of(&world);
        book.write_many(2);
        let lost = book.lost();
        fault::row("name of --advertise does not resolve for 4 s", "waits, says so, starts", lost, recovery);
        assert_eq!(lost, 0);
        server.join().expect("the name server starts")
    });
    drop(server);
}

#[test]
fn an_agent_whose_registry_does_not_resolve_registers_once_it_does() {
    if !Program::Ours.is_available() {
        return;
    }
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let mut book = Book::of(&world);
    book.write_many(3);
    let host = world.host("late");
    let _resolver = fault::use_name_server(&host);
    let mut daemon = Daemon::start(&host, by_name("late"));
    wait_until("the agent to say that it cannot resolve", REGISTERED_WITHIN, || {
        daemon.log().contains("relay.pilot.test").then_some(())
    });
    std::thread::park_timeout(SILENT);
    assert!(daemon.is_running(), "{}", daemon.log_tail());
    let lines = daemon.log().lines().filter(|line| line.contains("relay.pilot.test")).count();
    assert!(lines < 30, "{lines} lines in a few seconds:\n{}", daemon.log_tail());
    let _server = NameServer::start(host.namespace(), RELAY_V4);
    let watch = Stopwatch::start();
    wait_until("the agent to register", REGISTERED_WITHIN, || {
        daemon.pilotctl(&["info"]).ok()?["node_id"].as_u64().filter(|node| *node > 0)
    });
    let recovery = watch.elapsed();
    let lost = book.lost();
    let happened = "runs, says so, registers by itself";
    fault::row("agent's --registry does not resolve at first", happened, lost, recovery);
    assert_eq!(lost, 0);
}

/// Our agent, to which relay and directory are a name.
fn by_name(hostname: &str) -> DaemonFlags {
    let flags = DaemonFlags::named(hostname).ours();
    flags.flag("--registry=relay.pilot.test:9000").flag("--beacon=relay.pilot.test:9001")
}

/// Has an agent look for a node that is new to it, which it cannot without the directory, until that makes it ask for the
/// directory's name.
#[track_caller]
fn wait_asked(server: &NameServer, before: usize, daemon: &Daemon, stranger: &str) {
    wait_until("the agent to ask for its directory's name", BACK_WITHIN, || {
        let _ = daemon.pilotctl(&["ping", stranger, "--count", "1", "--timeout", "2s"]);
        (server.asked() > before).then_some(())
    });
}

#[track_caller]
fn assert_says_little(daemon: &Daemon) {
    let lines = daemon.log().lines().filter(|line| line.contains("relay.pilot.test")).count();
    assert!(lines < 30, "{lines} lines:\n{}", daemon.log_tail());
}

/// A stranger by a name of its own, which knows the relay by its address.
#[track_caller]
fn stranger(host: &Host, relay: Ipv4Addr) -> Daemon {
    let flags = DaemonFlags::named(host.name()).ours().public();
    let flags = flags.flag(&format!("--registry={relay}:9000")).flag(&format!("--beacon={relay}:9001"));
    let mut daemon = Daemon::start(host, flags);
    daemon.wait_ready();
    daemon
}

#[test]
fn an_agent_that_serves_stands_a_name_server_that_fails_while_its_directory_restarts() {
    if !Program::Ours.is_available() {
        return;
    }
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let host = world.host("near");
    let _resolver = fault::use_name_server(&host);
    let server = NameServer::start(host.namespace(), RELAY_V4);
    let mut near = Daemon::start(&host, by_name("near").relay_only());
    near.wait_ready();
    let mut far = Daemon::start(&world.host("far"), DaemonFlags::named("far").ours().public().relay_only());
    far.wait_ready();
    near.time_to_reach("far", BACK_WITHIN);
    let (node, far_address) = (near.node(), far.address());
    let mut book = Book::of(&world);
    book.write_many(3);
    for (says, what, name) in [(Says::Failure, "fails", "first"), (Says::Nothing, "is silent", "second")] {
        server.say(says);
        let asked = server.asked();
        appliance.kill();
        appliance.restart();
        let relayed = near.time_to_reach(&far_address, BACK_WITHIN);
        let stranger = stranger(&world.host(name), RELAY_V4);
        wait_asked(&server, asked, &near, name);
        assert!(near.is_running(), "{}", near.log_tail());
        let recovery = near.time_to_reach(name, BACK_WITHIN);

        server.say(Says::Address(RELAY_V4));
        assert_eq!(near.node(), node, "the same number");
        assert_says_little(&near);
        drop(stranger);
        let lost = book.lost();
        let happened = format!("speaks on by the relay it knows ({relayed:.1?}), finds the directory where it was");
        fault::row(&format!("an agent's name server {what}, and its relay restarts"), &happened, lost, recovery);
        assert_eq!(lost, 0);
    }
}

#[test]
fn an_agent_that_serves_follows_a_name_to_where_its_relay_has_moved_meanwhile() {
    if !Program::Ours.is_available() {
        return;
    }
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let host = world.host("near");
    let _resolver = fault::use_name_server(&host);
    let server = NameServer::start(host.namespace(), RELAY_V4);
    let mut near = Daemon::start(&host, by_name("near"));
    near.wait_ready();
    let node = near.node();
    let mut book = Book::of(&world);
    book.write_many(3);

    server.say(Says::Failure);
    let asked = server.asked();
    appliance.kill();
    let relay_host = world.relay_host();
    relay_host.namespace().ip("-4 addr flush dev eth0");
    relay_host.namespace().ip(&format!("addr add {RELAY_V4_SECOND}/24 dev eth0"));
    appliance.restart();
    let stranger = stranger(&world.host("stranger"), RELAY_V4_SECOND);
    wait_asked(&server, asked, &near, "stranger");
    assert!(near.is_running(), "{}", near.log_tail());

    server.say(Says::Address(RELAY_V4_SECOND));
    let recovery = near.time_to_reach("stranger", BACK_WITHIN);
    assert_eq!(near.node(), node, "the same number");
    assert_says_little(&near);
    drop(stranger);
    let lost = book.lost();
    let happened = "goes there once the name server tells it, with the number it had";
    fault::row("an agent's name server fails, and its relay moves to another address", happened, lost, recovery);
    assert_eq!(lost, 0);
}
