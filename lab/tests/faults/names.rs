//! Names do not resolve when programs start, and do so later: both go on trying and say so.

use std::time::Duration;

use lab::fault::{self, NameServer};
use lab::{ApplianceFlags, Daemon, DaemonFlags, Program, RELAY_V4, Stopwatch, World, wait_until};

use crate::book::Book;

const SILENT: Duration = Duration::from_secs(4);
const REGISTERED_WITHIN: Duration = Duration::from_secs(60);

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
    let flags = DaemonFlags::named("late")
        .ours()
        .flag("--registry=relay.pilot.test:9000")
        .flag("--beacon=relay.pilot.test:9001");
    let mut daemon = Daemon::start(&host, flags);
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
