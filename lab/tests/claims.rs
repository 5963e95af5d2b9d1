//! Strict admission with real programs: who is let in, who is not, and that a squatter does not so much as disturb.
//!
//! Unmodified daemons cannot sign a claim, but register with a signature the endpoint that the relay has told them: that
//! address is proven theirs, behind any of the translators here.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::{Appliance, ApplianceFlags, Daemon, DaemonFlags, Host, Nat, Peer, Program, World, evidence, wait_until};

const REACHED_WITHIN: Duration = Duration::from_secs(20);
const SETTLED_WITHIN: Duration = Duration::from_secs(20);
/// A daemon speaks to the directory, and to the relay, once a minute.
const RENUMBERED_WITHIN: Duration = Duration::from_secs(180);
const PINGS: usize = 3;
const SQUAT_INTERVAL: Duration = Duration::from_millis(20);
/// Datagrams after which a squatter has had every chance.
const SQUAT_DATAGRAMS: u64 = 300;

fn strict(world: &World) -> Appliance {
    world.appliance_with(ApplianceFlags::default().flag("--admission", "strict"))
}

fn ours(name: &str) -> DaemonFlags {
    DaemonFlags::named(name).ours().public()
}

fn counted(appliance: &Appliance, what: &str) -> u64 {
    appliance.metrics().sum(&format!("pilot_relay_{what}_total"))
}

/// Waits until so many claims were signed: agents learn from the directory, after they have registered, that they can.
fn wait_claimed(appliance: &Appliance, claims: u64) {
    wait_until("the agents to have signed for their sessions", SETTLED_WITHIN, || {
        (counted(appliance, "claims_signed") >= claims).then_some(())
    });
}

fn assert_reach_each_other(daemons: &[Daemon]) {
    for from in daemons {
        for to in daemons.iter().filter(|to| to.node() != from.node()) {
            from.time_to_reach(to.hostname(), REACHED_WITHIN);
            let report = from.ping(to.hostname(), PINGS);
            assert_eq!(report.answered(), PINGS, "{} to {}: {}", from.hostname(), to.hostname(), report.text);
        }
    }
}

/// Many behind one public address, whose TCP leaves from another: what a carrier does to its customers.
#[test]
fn agents_behind_one_carrier_grade_address_reach_each_other() {
    let Some(world) = World::open() else { return };
    if !Program::Ours.is_available() {
        return;
    }
    let appliance = strict(&world);
    let site = world.site_with_separate_tcp_address(Nat::Symmetric);
    let mut daemons: Vec<_> =
        ["one", "two", "three"].iter().map(|name| Daemon::start(&site.host(name), ours(name))).collect();
    daemons.push(Daemon::start(&world.site(Nat::PortRestricted).host("other"), ours("other")));
    daemons.iter_mut().for_each(Daemon::wait_ready);
    wait_claimed(&appliance, daemons.len() as u64);
    assert_reach_each_other(&daemons);
    assert_eq!(counted(&appliance, "claims_forged"), 0);
    let accounting = appliance.settled_accounting();
    assert!(accounting.balances(), "{accounting:?}");
    evidence(format!(
        "4 agents, 3 behind one address: all reach all; {} challenges, {} signed, {} standing; {accounting:?}",
        counted(&appliance, "challenges"),
        counted(&appliance, "claims_signed"),
        counted(&appliance, "claims_standing"),
    ));
}

#[test]
fn an_agent_that_starts_anew_and_one_whose_provider_renumbers_it_are_reached() {
    let Some(world) = World::open() else { return };
    if !Program::Ours.is_available() {
        return;
    }
    let appliance = strict(&world);
    let site = world.site(Nat::Symmetric);
    let mut owner = Daemon::start_ready(&site.host("owner"), ours("owner"));
    let friend = Daemon::start_ready(&world.site(Nat::Symmetric).host("friend"), ours("friend"));
    wait_claimed(&appliance, 2);
    assert!(friend.ping("owner", PINGS).answered() > 0);
    owner.kill();
    owner.restart();
    owner.wait_ready();
    let again = friend.time_to_reach("owner", REACHED_WITHIN);
    let address = site.change_public_address();
    let moved = friend.time_to_reach("owner", Duration::from_secs(60));
    evidence(format!("reached {again:.2?} after it was ready again, {moved:.2?} after it moved to {address}"));
    assert_eq!(counted(&appliance, "claims_forged"), 0);
}

#[test]
fn a_squatter_from_elsewhere_changes_nothing() {
    let Some(world) = World::open() else { return };
    if !Program::Ours.is_available() {
        return;
    }
    let appliance = strict(&world);
    let owner = Daemon::start_ready(&world.site(Nat::PortRestricted).host("owner"), ours("owner"));
    let friend = Daemon::start_ready(&world.site(Nat::Symmetric).host("friend"), ours("friend"));
    wait_claimed(&appliance, 2);
    let squatter = world.host("squatter");
    let contests = counted(&appliance, "contests_started");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let squatting = scope.spawn(|| squat(&squatter, owner.node(), friend.node(), &stop));
        let before = squatter.traffic().sent_packets;
        wait_until("the squatter to have had every chance", Duration::from_secs(60), || {
            (squatter.traffic().sent_packets - before >= SQUAT_DATAGRAMS).then_some(())
        });
        let report = friend.ping("owner", PINGS);
        stop.store(true, Ordering::Relaxed);
        let loot = squatting.join().expect("squatting does not panic");
        assert_eq!(report.answered(), PINGS, "{}", report.text);
        assert_eq!(loot, 0, "nothing for the owner goes to the squatter");
    });
    assert_eq!(counted(&appliance, "contests_started"), contests, "the holder is not even asked");
    let unproven = counted(&appliance, "claims_unproven");
    assert!(unproven > 0, "the squatter was seen, and refused");
    evidence(format!("{unproven} claims of the squatter refused, no contest, no datagram stolen, all pings answered"));
}

/// Says that it is the victim, sends in its name, and claims its id with signatures of nobody. How many deliveries came.
fn squat(host: &Host, victim: u32, friend: u32, stop: &AtomicBool) -> usize {
    let socket = host.namespace().enter(|| UdpSocket::bind("0.0.0.0:0")).expect("a host has free UDP ports");
    socket.connect(host.beacon(false)).expect("the relay's address is reachable");
    socket.set_read_timeout(Some(SQUAT_INTERVAL)).expect("a read may time out");
    let (victim, friend) = (victim.to_be_bytes(), friend.to_be_bytes());
    let mut cookie = [0; 16];
    let mut deliveries = 0;
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let claim = [&[0x0C][..], &victim, &cookie, &[0x66; 64]].concat();
        let relayed = [&[0x05][..], &victim, &friend, b"PILSforged"].concat();
        for datagram in [[&[0x01][..], &victim].concat(), relayed, claim] {
            // The relay may refuse datagrams; a squatter does not give up for that.
            let _ = socket.send(&datagram);
        }
        cookie = [0; 16];
        while let Ok(length) = socket.recv(&mut buffer) {
            deliveries += usize::from(matches!(buffer[..length], [0x06 | 0x09, ..]));
            if let [0x0B, challenge @ ..] = &buffer[..length]
                && let Some(fresh) = challenge.get(32..48)
            {
                cookie.copy_from_slice(fresh);
            }
        }
    }
    deliveries
}

/// Wherever the endpoint that the relay has told a daemon is the one it registers, it is let in.
#[test]
fn unmodified_daemons_with_a_proven_address_still_work() {
    let Some(world) = World::open() else { return };
    let appliance = strict(&world);
    let sites = [
        ("restricted", world.site(Nat::PortRestricted)),
        ("symmetric", world.site(Nat::Symmetric)),
        ("carrier", world.site_with_separate_tcp_address(Nat::Symmetric)),
    ];
    let flags = |name: &str| DaemonFlags::named(name).public();
    let mut daemons = vec![Daemon::start(&world.host("public"), flags("public"))];
    daemons.extend(sites.iter().map(|(name, site)| Daemon::start(&site.host(name), flags(name))));
    // Two behind one address.
    daemons.push(Daemon::start(&sites[2].1.host("neighbour"), flags("neighbour")));
    daemons.iter_mut().for_each(Daemon::wait_ready);
    let friend = Peer::join(&world.host("friend"), "friend");
    for daemon in &daemons {
        let took = friend.time_until_answered_by(daemon.node(), REACHED_WITHIN);
        evidence(format!("{}: answers through the relay after {took:.2?}", daemon.hostname()));
    }
    for to in ["restricted", "symmetric", "carrier", "neighbour"] {
        let report = daemons[0].ping(to, PINGS);
        evidence(format!("public to {to}: {report}"));
        assert!(report.answered() > 0, "{}", report.text);
    }
    assert_eq!(counted(&appliance, "challenges"), 0, "unmodified daemons do not sign");
}

/// What strict admission costs an unmodified daemon: in `grace` it is served at the new address within two seconds, here
/// only when it has spoken to the directory from there, and to the relay after that.
#[test]
fn an_unmodified_daemon_that_is_renumbered_is_let_in_again() {
    let Some(world) = World::open() else { return };
    let appliance = strict(&world);
    let site = world.site(Nat::Symmetric);
    let owner = Daemon::start_ready(&site.host("owner"), DaemonFlags::named("owner").public());
    let friend = Peer::join(&world.host("friend"), "friend");
    friend.time_until_answered_by(owner.node(), REACHED_WITHIN);
    let address = site.change_public_address();
    let took = friend.time_until_answered_by(owner.node(), RENUMBERED_WITHIN);
    let refused = counted(&appliance, "claims_unproven");
    evidence(format!("moved to {address}: answers after {took:.1?}; {refused} claims refused meanwhile"));
}

/// Who may not resolve a node is not told where it is by the relay either.
#[test]
fn the_relay_introduces_nobody_whom_the_directory_would_not() {
    for (admission, told) in [("strict", false), ("grace", true)] {
        let Some(world) = World::open() else { return };
        let appliance = world.appliance_with(ApplianceFlags::default().flag("--admission", admission));
        let asker = Peer::join(&world.host("asker"), "asker");
        let private = Peer::join(&world.host("private"), "private");
        asker.wait_reaching(&private, REACHED_WITHIN);
        let request = [&[0x03][..], &asker.node().to_be_bytes(), &private.node().to_be_bytes()].concat();
        asker.socket().send_to(&request, world.relay_host().beacon(false)).expect("the relay's address is reachable");
        asker.socket().set_read_timeout(Some(Duration::from_secs(1))).expect("a read may time out");
        if told {
            let mut buffer = [0; 64];
            wait_until("a punch command", REACHED_WITHIN, || {
                let length = asker.socket().recv(&mut buffer).ok()?;
                (buffer[..length][0] == 0x04).then_some(())
            });
            assert_eq!(counted(&appliance, "punches_refused"), 0);
        } else {
            wait_until("the refusal", REACHED_WITHIN, || (counted(&appliance, "punches_refused") == 1).then_some(()));
            let mut buffer = [0; 64];
            while let Ok(length) = asker.socket().recv(&mut buffer) {
                assert_ne!(buffer[..length][0], 0x04, "no command came");
            }
        }
    }
}
