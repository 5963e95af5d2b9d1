//! TLS to the directory, as unmodified daemons and ours speak it: with the fingerprint that the relay prints.

use std::time::Duration;

use lab::{ApplianceFlags, Daemon, DaemonFlags, Program, World, evidence, wait_until};

const REACHED_WITHIN: Duration = Duration::from_secs(30);
const REFUSED_WITHIN: Duration = Duration::from_secs(30);

/// A public node that speaks TLS to the directory with this fingerprint.
fn pinned(program: Program, name: &str, pin: &str) -> DaemonFlags {
    let flags = DaemonFlags::named(name).program(program).public();
    match program {
        Program::Pilot1_18 => flags.flag("-registry-tls").flag(&format!("-registry-fingerprint={pin}")),
        Program::Ours => flags.flag(&format!("--registry-fingerprint={pin}")),
    }
}

fn all(world: &World, pin: &str) -> Vec<Daemon> {
    let names = Program::available().into_iter().flat_map(|program| ["one", "two"].map(|name| (program, name)));
    let start = |(program, name)| {
        let name = format!("{name}-{}", name_of(program));
        Daemon::start(&world.host(&name), pinned(program, &name, pin))
    };
    let mut daemons: Vec<_> = names.map(start).collect();
    daemons.iter_mut().for_each(Daemon::wait_ready);
    daemons
}

#[test]
fn daemons_of_both_makers_meet_by_a_directory_over_tls() {
    let Some(world) = World::open() else { return };
    let appliance = world.appliance();
    let daemons = all(&world, &appliance.tls_fingerprint());
    let served = || appliance.metrics().non_zero("pilot_directory_connections_served_total");
    let joined = served();
    evidence(format!("connections when all have joined: {joined:?}"));
    assert!(matches!(&joined[..], [(transport, _)] if transport.contains("tls")), "{joined:?}");
    for one in &daemons {
        for other in daemons.iter().filter(|other| other.hostname() != one.hostname()) {
            let took = one.time_to_reach(&other.address(), REACHED_WITHIN);
            evidence(format!("{one} reached {other} in {took:?}"));
        }
    }
    evidence(format!("connections after pings, those of the unmodified pilotctl among them: {:?}", served()));
}

/// The unmodified `pilotctl` looks peers up itself, and knows no TLS for that.
#[test]
fn with_tls_required_daemons_join_and_the_unmodified_command_line_is_refused() {
    let Some(world) = World::open() else { return };
    let appliance = world.appliance_with(ApplianceFlags::default().environment("PILOT_RELAY_TLS_REQUIRED", "true"));
    let pin = appliance.tls_fingerprint();
    let daemons = all(&world, &pin);
    for one in &daemons {
        let others = daemons.iter().filter(|other| other.hostname() != one.hostname());
        match one.program() {
            Program::Ours => {
                others.for_each(|other| {
                    let took = one.time_to_reach(&other.address(), REACHED_WITHIN);
                    evidence(format!("{one} reached {other} in {took:?}"));
                });
                let lookup = one.pilotctl(&["lookup", "1", "--registry-fingerprint", &pin]);
                assert_eq!(lookup.expect("ours asks over TLS")["node_id"], 1);
            }
            Program::Pilot1_18 => {
                let report = one.ping(&daemons.last().expect("there are some").address(), 1);
                assert!(report.answered() == 0 && report.text.contains("cannot look up peer"), "{}", report.text);
            }
        }
    }
    let served = appliance.metrics().non_zero("pilot_directory_connections_served_total");
    assert!(matches!(&served[..], [(transport, _)] if transport.contains("tls")), "{served:?}");
}

#[test]
fn an_unmodified_daemon_that_pins_another_certificate_does_not_join() {
    let Some(world) = World::open() else { return };
    let appliance = world.appliance();
    let pin = appliance.tls_fingerprint();
    let other = pin.chars().rev().collect::<String>();
    let stray = Daemon::start(&world.host("stray"), pinned(Program::Pilot1_18, "stray", &other));
    wait_until("the daemon to say why", REFUSED_WITHIN, || stray.log().contains("fingerprint").then_some(()));
    let line = stray.log().lines().rfind(|line| line.contains("fingerprint")).unwrap_or_default().to_owned();
    evidence(line);
    // One that speaks plain TCP is untouched, and the stray is nobody it could find.
    let plain = Daemon::start_ready(&world.host("plain"), DaemonFlags::named("plain"));
    assert_eq!(plain.node(), 1, "nobody else has registered");
}

fn name_of(program: Program) -> &'static str {
    match program {
        Program::Pilot1_18 => "unmodified",
        Program::Ours => "ours",
    }
}
