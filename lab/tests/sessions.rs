//! The rules about who may use a relay session, as stories: whatever others try, the owner of a node is served within
//! two seconds.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::{Daemon, DaemonFlags, Host, Nat, Peer, World, evidence, wait_until};

/// The promise.
const SERVED_WITHIN: Duration = Duration::from_secs(2);
const SQUAT_INTERVAL: Duration = Duration::from_millis(50);
/// Announcements after which a squatter has had every chance.
const SQUAT_ANNOUNCEMENTS: usize = 60;
const KNOCKS: u32 = 5;

#[test]
fn an_id_squatted_before_its_owner_first_comes() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let friend = Peer::join(&world.host("friend"), "friend");
    // Ids are handed out densely, so the next one is easily guessed.
    let squatter = Squatter::on(&world.host("squatter"), friend.node() + 1);
    thread::scope(|scope| {
        let squatting = squatter.squat_in(scope);
        squatting.wait_established();
        let owner = Daemon::start_ready(&world.site(Nat::PortRestricted).host("owner"), public("owner"));
        assert_eq!(owner.node(), squatter.node, "the squatter sits on the id of the owner");
        assert_served(&friend, &owner, &squatter);
    });
}

#[test]
fn an_id_squatted_while_its_owner_is_away() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let friend = Peer::join(&world.host("friend"), "friend");
    let site = world.site(Nat::Symmetric);
    let mut owner = Daemon::start_ready(&site.host("owner"), public("owner"));
    let squatter = Squatter::on(&world.host("squatter"), owner.node());
    owner.kill();
    thread::scope(|scope| {
        let squatting = squatter.squat_in(scope);
        squatting.wait_established();
        owner.restart();
        assert_served(&friend, &owner, &squatter);
    });
}

#[test]
fn an_id_squatted_while_its_owner_is_served() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let friend = Peer::join(&world.host("friend"), "friend");
    let owner = Daemon::start_ready(&world.site(Nat::PortRestricted).host("owner"), public("owner"));
    friend.time_until_answered_by(owner.node(), SERVED_WITHIN);
    let squatter = Squatter::on(&world.host("squatter"), owner.node());
    thread::scope(|scope| {
        let squatting = squatter.squat_in(scope);
        squatting.wait_established();
        assert_served(&friend, &owner, &squatter);
    });
}

#[test]
fn a_neighbour_behind_the_same_address_squats() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let friend = Peer::join(&world.host("friend"), "friend");
    let site = world.site(Nat::PortRestricted);
    let owner = Daemon::start_ready(&site.host("owner"), public("owner"));
    let squatter = Squatter::on(&site.host("neighbour"), owner.node());
    thread::scope(|scope| {
        let squatting = squatter.squat_in(scope);
        squatting.wait_established();
        assert_served(&friend, &owner, &squatter);
    });
}

#[test]
fn two_nodes_behind_one_address() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let friend = Peer::join(&world.host("friend"), "friend");
    let site = world.site(Nat::Symmetric);
    let mut one = Daemon::start(&site.host("one"), public("one"));
    let mut two = Daemon::start(&site.host("two"), public("two"));
    one.wait_ready();
    two.wait_ready();
    for daemon in [&one, &two] {
        let took = friend.time_until_answered_by(daemon.node(), SERVED_WITHIN);
        evidence(format!("{} answered after {took:?}", daemon.hostname()));
    }
    let report = one.ping("two", 5);
    assert_eq!(report.answered(), 5, "{}", report.text);
    evidence(format!("one to two: {report}"));
}

#[test]
fn udp_and_tcp_from_different_public_addresses() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let friend = Peer::join(&world.host("friend"), "friend");
    let site = world.site_with_separate_tcp_address(Nat::Symmetric);
    let owner = Daemon::start_ready(&site.host("owner"), public("owner"));
    let took = friend.time_until_answered_by(owner.node(), SERVED_WITHIN);
    evidence(format!("answered after {took:?}"));

    let other = Daemon::start_ready(&world.site(Nat::Symmetric).host("other"), public("other"));
    let report = other.ping("owner", 5);
    assert_eq!(report.answered(), 5, "{}", report.text);
    evidence(format!("a daemon elsewhere: {report}"));
}

/// The provider changes the router's address while the daemon pings: its next datagram comes from an address that
/// nobody has announced, and its connections to the directory are dead.
#[test]
fn roaming_in_the_middle_of_a_ping() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let site = world.site(Nat::Symmetric);
    let mut owner = Daemon::start(&site.host("owner"), public("owner"));
    let mut friend = Daemon::start(&world.site(Nat::Symmetric).host("friend"), public("friend"));
    owner.wait_ready();
    friend.wait_ready();

    thread::scope(|scope| {
        let pinging = scope.spawn(|| owner.ping("friend", 12));
        wait_for_packets(owner.host(), 60);
        let address = site.change_public_address();
        let report = pinging.join().expect("pinging does not panic");
        // The ping under way opens the path anew: it takes as long as the owner is not served.
        let slowest = report.slowest();
        evidence(format!("moved to {address}: {report}, the slowest in {slowest:?}"));
        assert_eq!(report.answered(), report.sent, "{}", report.text);
        assert!(slowest <= SERVED_WITHIN, "served again only after {slowest:?}: {}", report.text);
    });
}

/// The machine itself moves to another network; the daemon notices and says so.
#[test]
fn a_machine_changes_its_own_address() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let friend = Peer::join(&world.host("friend"), "friend");
    let mut machine = world.host("owner");
    let owner = Daemon::start_ready(&machine, public("owner"));
    friend.time_until_answered_by(owner.node(), SERVED_WITHIN);

    // A daemon that has introduced itself twice has settled and watches its address.
    wait_for_log(&owner, Duration::from_secs(10), |log| log.matches("registered with beacon").count() >= 2);
    let address = machine.change_address();
    wait_for_log(&owner, Duration::from_secs(30), |log| log.contains("own address changed"));
    let took = friend.time_until_answered_by(owner.node(), SERVED_WITHIN);
    evidence(format!("moved to {address}: answered {took:?} after the daemon noticed"));
}

fn public(name: &str) -> DaemonFlags {
    DaemonFlags::named(name).public()
}

/// The owner answers again and again, in time, and nothing meant for it goes to the squatter.
fn assert_served(friend: &Peer, owner: &Daemon, squatter: &Squatter) {
    let first = friend.time_until_answered_by(owner.node(), SERVED_WITHIN);
    squatter.forget_loot();
    let slowest = (0..KNOCKS).map(|_| friend.time_until_answered_by(owner.node(), SERVED_WITHIN)).max();
    let stolen = squatter.loot();
    evidence(format!(
        "answered after {first:?}, then within {:?}; {stolen} datagrams stolen",
        slowest.unwrap_or(first)
    ));
    assert_eq!(stolen, 0, "the squatter receives what is meant for the owner");
}

fn wait_for_log(daemon: &Daemon, within: Duration, complete: impl Fn(&str) -> bool) {
    wait_until(&format!("the log of {}", daemon.hostname()), within, || complete(&daemon.log()).then_some(()));
}

/// Waits until so many more packets have left the host: the run of pings is well under way.
fn wait_for_packets(host: &Host, packets: u64) {
    let before = host.traffic().sent_packets;
    wait_until("the pings to be under way", Duration::from_secs(20), || {
        (host.traffic().sent_packets - before >= packets).then_some(())
    });
}

/// Someone who announces another's node id over and over.
struct Squatter {
    node: u32,
    host: Host,
    socket: UdpSocket,
}

/// A squatter at work, until dropped.
struct Squatting<'a> {
    squatter: &'a Squatter,
    stop: std::sync::Arc<AtomicBool>,
    sent_before: u64,
}

impl Squatter {
    fn on(host: &Host, node: u32) -> Self {
        let socket = host.namespace().enter(|| UdpSocket::bind("0.0.0.0:0")).expect("a host has free UDP ports");
        socket.connect(host.beacon(false)).expect("the relay's address is reachable");
        Self { node, host: host.clone(), socket }
    }

    /// Announces the id until the guard is dropped.
    fn squat_in<'a>(&'a self, scope: &'a thread::Scope<'a, '_>) -> Squatting<'a> {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let stopped = std::sync::Arc::clone(&stop);
        let squatting = Squatting { squatter: self, stop, sent_before: self.host.traffic().sent_packets };
        scope.spawn(move || {
            let [a, b, c, d] = self.node.to_be_bytes();
            while !stopped.load(Ordering::Relaxed) {
                // The relay may refuse datagrams; a squatter does not give up for that.
                let _ = self.socket.send(&[0x01, a, b, c, d]);
                thread::park_timeout(SQUAT_INTERVAL);
            }
        });
        squatting
    }

    /// Deliveries that came to the squatter since it last forgot them.
    fn loot(&self) -> usize {
        let mut buffer = [0; 2048];
        self.socket.set_nonblocking(true).expect("a socket can be non-blocking");
        let mut deliveries = 0;
        while let Ok(length) = self.socket.recv(&mut buffer) {
            deliveries += usize::from(matches!(buffer[..length], [0x06, ..]));
        }
        deliveries
    }

    fn forget_loot(&self) {
        self.loot();
    }
}

impl Squatting<'_> {
    /// Waits until the squatter has announced itself for a while.
    fn wait_established(&self) {
        wait_until("the squatter to have had every chance", Duration::from_secs(20), || {
            let sent = self.squatter.host.traffic().sent_packets - self.sent_before;
            (sent >= SQUAT_ANNOUNCEMENTS as u64).then_some(())
        });
    }
}

impl Drop for Squatting<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
