//! What a host of a fleet lives through: its address changes, the relay or the directory goes away, a daemon dies, the path
//! changes under a running transfer. Stories that the unmodified daemon can survive run with it too, which proves them
//! right; what ours promises beyond is asserted for ours alone.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use lab::{Chance, Daemon, DaemonFlags, Link, Nat, Program, Stopwatch, World, evidence, wait_until};

const MEGABYTE: usize = 1024 * 1024;
const ONE_WAY: Duration = Duration::from_millis(15);
/// Slow enough that something can happen in the middle of a transfer.
const LINE_BITS_PER_SECOND: u64 = 40_000_000;
const REACHED_WITHIN: Duration = Duration::from_secs(90);
const TRANSFER_UNDER_WAY_WITHIN: Duration = Duration::from_secs(60);
/// Ours is back on its feet by then, machines being slow and shared.
const RECOVERED_WITHIN_OURS: Duration = Duration::from_secs(15);
/// How long the directory is away.
const OUTAGE: Duration = Duration::from_secs(20);
/// What a cold dial may take besides its round trips, and how many those are.
const COLD_DIAL: Duration = Duration::from_millis(300);
const COLD_DIAL_ROUND_TRIPS: u32 = 6;
const COLD_DIALS: usize = 3;

fn line() -> Link {
    Link::delay(ONE_WAY).bits_per_second(LINE_BITS_PER_SECOND)
}

#[test]
fn roaming_in_the_middle_of_a_transfer() {
    let Some(world) = World::open() else { return };
    if !Program::Ours.is_available() {
        return;
    }
    let _appliance = world.appliance();
    let mut host = world.host_over(line(), "near");
    let pair = Pair::of(Program::Ours, |flags| flags, &host, &world.host("far"));
    let file = pair.file(20);
    let took = pair.send_while(&file, 5, || {
        let address = host.change_address();
        evidence(format!("the sender is now at {address}"));
    });
    pair.assert_kept(&file);
    evidence(format!("20 MB in {took:.1?} on a line that takes 4.2 s for them"));
    let back = pair.far.time_to_reach("near", RECOVERED_WITHIN_OURS);
    evidence(format!("the other side reached the new address in {back:.2?}"));
}

#[test]
fn the_relay_restarts_in_the_middle_of_a_transfer() {
    for program in Program::contenders() {
        let Some(world) = World::open() else { return };
        let mut appliance = world.appliance();
        let relay_only = |flags: DaemonFlags| flags.relay_only();
        let pair = Pair::of(program, relay_only, &world.host_over(line(), "near"), &world.host("far"));
        let file = pair.file(10);
        let took = pair.send_while(&file, 3, || {
            appliance.kill();
            let away = appliance.restart();
            evidence(format!("{program}: the relay was back after {away:.2?}"));
        });
        pair.assert_kept(&file);
        evidence(format!("{program}: 10 MB in {took:.1?}"));
    }
}

/// Who has been reached stays reachable, and those who come back are found again when the directory is.
#[test]
fn the_directory_is_away() {
    for program in Program::contenders() {
        let Some(world) = World::open() else { return };
        let _appliance = world.appliance();
        let (near, far) = (world.site(Nat::Symmetric), world.site(Nat::PortRestricted));
        let pair = Pair::of(program, |flags| flags, &near.host("near"), &far.host("far"));
        let mut late = Daemon::start(&world.host("late"), DaemonFlags::named("late").program(program).public());
        late.wait_ready();
        let address = pair.far.address();
        let relay = world.relay_host();
        let firewall = |rules: &str| {
            let done = relay.namespace().command("nft").args(rules.split_whitespace()).status();
            assert!(done.is_ok_and(|status| status.success()), "nft {rules}");
        };
        firewall("add table inet outage");
        firewall("add chain inet outage input { type filter hook input priority 0 ; }");
        firewall("add rule inet outage input tcp dport 9000 drop");

        let watch = Stopwatch::start();
        let mut asked = 0;
        let mut answered = 0;
        while watch.elapsed() < OUTAGE {
            let report = pair.near.ping(&address, 3);
            asked += report.sent;
            answered += report.answered();
        }
        evidence(format!("{program}: {answered} of {asked} pings answered while the directory was away"));
        if program == Program::Ours {
            assert_eq!(answered, asked, "a peer that had been reached");
        }
        let watch = Stopwatch::start();
        let refused = pair.near.ping("late", 1);
        evidence(format!("{program}: a dial of an unknown node ended after {:.1?}: {refused}", watch.elapsed()));

        firewall("delete table inet outage");
        let took = pair.near.time_to_reach("late", REACHED_WITHIN);
        evidence(format!("{program}: a new node was reached {took:.1?} after the directory was back"));
        if program == Program::Ours {
            assert!(took < RECOVERED_WITHIN_OURS, "{took:?}");
        }
    }
}

#[test]
fn a_killed_daemon_comes_back() {
    for program in Program::contenders() {
        let Some(world) = World::open() else { return };
        let _appliance = world.appliance();
        let (near, far) = (world.site(Nat::Symmetric), world.site(Nat::Symmetric));
        let mut pair = Pair::of(program, |flags| flags, &near.host("near"), &far.host("far"));
        let node = pair.far.node();
        pair.far.kill();
        let watch = Stopwatch::start();
        pair.far.restart();
        let ready = watch.elapsed();
        assert_eq!(pair.far.node(), node, "{program}: the same node");
        let took = pair.near.time_to_reach("far", REACHED_WITHIN);
        evidence(format!("{program}: ready again after {ready:.2?}, reached {took:.2?} later"));
        pair.near.kill();
        pair.near.restart();
        let took_back = pair.near.time_to_reach("far", REACHED_WITHIN);
        evidence(format!("{program}: the other one killed, too: reached after {took_back:.2?}"));
        if program == Program::Ours {
            assert!(took < RECOVERED_WITHIN_OURS && took_back < RECOVERED_WITHIN_OURS, "{took:?}, {took_back:?}");
        }
    }
}

/// The transfer is the first thing the two have to do with each other: it begins on the relay, goes on without it, and
/// not a byte is missing.
#[test]
fn a_transfer_migrates_from_the_relay_to_a_direct_path() {
    let Some(world) = World::open() else { return };
    if !Program::Ours.is_available() {
        return;
    }
    let _appliance = world.appliance();
    let (near, far) = (world.site_over(line(), Nat::PortRestricted), world.site(Nat::PortRestricted));
    let pair = Pair::strangers(Program::Ours, |flags| flags, &near.host("near"), &far.host("far"));
    let file = pair.file(10);
    let before = world.relay_traffic();
    let took = pair.send_while(&file, 0, || {});
    let carried = (world.relay_traffic() - before).received_bytes;
    pair.assert_kept(&file);
    assert_eq!(pair.near.relays_to(pair.far.node()), Some(false), "the path is direct at the end");
    assert!(carried < 10 * MEGABYTE as u64 / 2, "the relay carried {carried} bytes");
    evidence(format!("10 MB in {took:.1?}; the relay carried the first {} KiB", carried / 1024));
}

#[test]
fn a_lossy_transfer_resumes_after_the_receiver_was_killed() {
    for program in Program::contenders() {
        let Some(world) = World::open() else { return };
        let _appliance = world.appliance();
        let lossy = world.host_over(line().loss_percent(2.0), "near");
        let mut pair = Pair::of(program, |flags| flags, &lossy, &world.host("far"));
        let megabytes = if program == Program::Ours { 10 } else { 4 };
        let file = pair.file(megabytes);
        let before = pair.far.host().traffic().received_bytes;
        let half = (megabytes * MEGABYTE / 2) as u64;
        let first = thread::scope(|scope| {
            let sending = scope.spawn(|| pair.near.send_file("far", &file.path));
            wait_until("half of the file to arrive", TRANSFER_UNDER_WAY_WITHIN, || {
                (pair.far.host().traffic().received_bytes - before > half).then_some(())
            });
            pair.far.kill();
            pair.far.restart();
            sending.join().expect("the sender does not panic")
        });
        let sent = first.unwrap_or_else(|error| {
            evidence(format!("{program}: the transfer broke: {}", error.trim()));
            pair.near.time_to_reach("far", REACHED_WITHIN);
            pair.near.send_file("far", &file.path).unwrap_or_else(|error| panic!("{program}: the second try: {error}"))
        });
        let resumed = sent["bytes_resumed"].as_u64().unwrap_or_default();
        let carried = pair.far.host().traffic().received_bytes - before;
        evidence(format!("{program}: {resumed} bytes did not have to be sent again; the line carried {carried}"));
        assert_eq!(sent["verified"], true, "{program}: {sent}");
        pair.assert_kept(&file);
        if program == Program::Ours {
            assert!(resumed > half / 2, "{resumed} of {half} bytes were kept: {sent}");
            // Headers, and what was lost, besides the file; all of it again would be half more.
            assert!(carried < 3 * half, "{carried} bytes for {}", 2 * half);
        }
    }
}

/// Timed from outside: from the start of the tool to its end, with all it has to ask and the relay between.
#[test]
fn a_cold_dial_behind_two_symmetric_nats() {
    for program in Program::contenders() {
        let Some(world) = World::open() else { return };
        let _appliance = world.appliance();
        let link = Link::delay(ONE_WAY);
        let started: Vec<_> = (0..COLD_DIALS)
            .map(|number| {
                let start = |side: &str| {
                    let name = format!("{side}-{number}");
                    let site = world.site_over(link, Nat::Symmetric);
                    Daemon::start(&site.host(&name), DaemonFlags::named(&name).program(program).public())
                };
                (start("near"), start("far"))
            })
            .collect();
        let mut took: Vec<_> = started
            .into_iter()
            .map(|(mut near, mut far)| {
                near.wait_ready();
                far.wait_ready();
                let address = far.address();
                let watch = Stopwatch::start();
                let report = near.ping(&address, 1);
                assert_eq!(report.answered(), 1, "{program}: {}", report.text);
                watch.elapsed()
            })
            .collect();
        took.sort();
        evidence(format!("{program}: first answer after {took:.0?}"));
        if program == Program::Ours {
            // Both ends have a link of their own to the relay.
            let bound = COLD_DIAL + 4 * ONE_WAY * COLD_DIAL_ROUND_TRIPS;
            assert!(took[0] < bound, "none of {took:?} within {bound:?}");
        }
    }
}

struct Pair {
    near: Daemon,
    far: Daemon,
}

struct Sent {
    name: String,
    path: PathBuf,
    content: Vec<u8>,
}

impl Pair {
    /// Two public daemons that have already met.
    fn of(program: Program, flags: impl Fn(DaemonFlags) -> DaemonFlags, near: &lab::Host, far: &lab::Host) -> Self {
        let pair = Self::strangers(program, flags, near, far);
        pair.near.time_to_reach("far", REACHED_WITHIN);
        pair
    }

    fn strangers(
        program: Program,
        flags: impl Fn(DaemonFlags) -> DaemonFlags,
        near: &lab::Host,
        far: &lab::Host,
    ) -> Self {
        let start =
            |host, name| Daemon::start(host, flags(DaemonFlags::named(name).program(program).public().fixed_port()));
        let (mut near, mut far) = (start(near, "near"), start(far, "far"));
        near.wait_ready();
        far.wait_ready();
        Self { near, far }
    }

    fn file(&self, megabytes: usize) -> Sent {
        let name = format!("story-{megabytes}.bin");
        let path = self.near.folder().join(&name);
        let content = Chance::seeded(megabytes as u64).bytes(megabytes * MEGABYTE);
        fs::write(&path, &content).expect("the scratch folder is writable");
        Sent { name, path, content }
    }

    /// Sends a file and lets something happen once so many megabytes have left; how long it all took.
    fn send_while(&self, file: &Sent, megabytes: usize, happening: impl FnOnce()) -> Duration {
        let before = self.near.host().traffic().sent_bytes;
        let watch = Stopwatch::start();
        thread::scope(|scope| {
            let sending = scope.spawn(|| self.near.send_file("far", &file.path));
            wait_until("the transfer to be under way", TRANSFER_UNDER_WAY_WITHIN, || {
                (self.near.host().traffic().sent_bytes - before >= (megabytes * MEGABYTE) as u64).then_some(())
            });
            assert!(megabytes == 0 || !sending.is_finished(), "too late: the transfer is over");
            happening();
            let sent = sending.join().expect("the sender does not panic");
            let sent = sent.unwrap_or_else(|error| panic!("{}: send-file: {error}", self.near));
            assert_eq!(sent["verified"], true, "{}: {sent}", self.near);
        });
        watch.elapsed()
    }

    fn assert_kept(&self, file: &Sent) {
        let kept = self.far.received_file(&file.name).and_then(|path| fs::read(path).ok());
        assert!(kept.as_ref() == Some(&file.content), "what {} has kept is not what was sent", self.far);
    }
}
