//! The report says exactly what the relay did, whatever it did. How much it got to do is not up to us: on a busy host a
//! worker may send less than was planned, which the report must name, and the relay may hear less than was sent, which
//! the kernel must have counted at the relay's socket.

use crate::directory::start_directory;
use crate::relay::{Behaviour, Fault, Relay};
use clap::Parser;
use loadgen::args::Args;
use loadgen::config::Config;
use loadgen::fleet::Failure;
use loadgen::report::Report;
use loadgen::run::run;
use loadgen::view::View;

use crate::turn;

/// A load of half a second, of 2000 datagrams unless `arguments` name a rate.
fn try_load(relay: &Relay, arguments: &[&str]) -> Result<Report, Failure> {
    let address = relay.address.to_string();
    let mut fixed = vec!["loadgen", "--relay", &address, "--seconds", "0.5"];
    if !arguments.contains(&"--rate") {
        fixed.extend(["--rate", "4000"]);
    }
    let args = Args::parse_from(fixed.iter().chain(arguments));
    let _turn = turn();
    run(&Config::new(&args).unwrap(), relay.address.port().into(), &View::on_stderr())
}

fn load(relay: &Relay, arguments: &[&str]) -> Report {
    try_load(relay, arguments).unwrap_or_else(|failure| panic!("{failure}"))
}

fn faulty(fault: Fault, every: u64) -> Relay {
    Relay::start("127.0.0.1:0", Behaviour { fault: Some((fault, every)), ..Behaviour::default() })
}

/// Everything that can go wrong, in one line.
fn wrongs(report: &Report) -> [u64; 7] {
    let Report { lost, reordered, duplicated, stale, corrupt, misdelivered, foreign, .. } = *report;
    [lost, reordered, duplicated, stale, corrupt, misdelivered, foreign]
}

/// Checks the fate of `planned` datagrams: each was sent or is named as not sent, what the relay never heard was
/// dropped at its socket, and beyond that and the generator's own overrun went wrong what `faults` says, in the order
/// of [`wrongs`].
fn assert_accounts(relay: &Relay, report: &Report, planned: u64, faults: [u64; 7]) {
    let Report { sent, unsent, refused, delivered, overrun, lost, loss_percent, ref workload, .. } = *report;
    let missed = sent - relay.heard();
    assert_eq!(sent + unsent + refused, planned, "{workload:?}");
    assert!(missed <= relay.dropped(), "{missed} never came to the relay: {workload:?}");
    let [lost_to_faults, other_faults @ ..] = faults;
    let [_, other_wrongs @ ..] = wrongs(report);
    assert_eq!(lost, lost_to_faults + missed + overrun, "{missed} missed, {overrun} overrun: {workload:?}");
    assert_eq!(other_wrongs, other_faults, "{workload:?}");
    assert_eq!(delivered, sent - lost, "{workload:?}");
    assert!((loss_percent - (lost - overrun) as f64 * 100.0 / sent as f64).abs() < 1e-9, "{loss_percent}");
}

const MADE_UP: [&str; 3] = ["--no-directory", "--peers", "300"];

#[test]
fn a_faultless_relay_gets_a_clean_report() {
    let relay = Relay::start("127.0.0.1:0", Behaviour::default());
    let report = load(&relay, &MADE_UP);
    assert_eq!(report.enrolment.registered, 300);
    assert_accounts(&relay, &report, 2000, [0; 7]);
    assert!(report.latency_us.p50 > 0.0 && report.latency_us.p50 <= report.latency_us.max);
    assert!(report.enrolment.directory_seconds.is_none());
}

/// A load whose every `every`-th datagram has `fault`; `wrongs_of` says what that comes to.
fn assert_fault(fault: Fault, every: u64, arguments: &[&str], wrongs_of: impl Fn(u64) -> [u64; 7]) {
    let relay = faulty(fault, every);
    let report = load(&relay, arguments);
    assert_eq!(relay.faults(), relay.heard() / every);
    assert!(relay.faults() > 0);
    assert_accounts(&relay, &report, 2000, wrongs_of(relay.faults()));
}

#[test]
fn drops_are_losses() {
    assert_fault(Fault::Drop, 7, &MADE_UP, |faults| [faults, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn duplicates_are_not_deliveries() {
    assert_fault(Fault::Duplicate, 5, &MADE_UP, |faults| [0, 0, faults, 0, 0, 0, 0]);
}

#[test]
fn reordering_is_told_within_a_pair() {
    // One run: the datagram after a held one is of the same pair.
    let relay = faulty(Fault::Reorder, 4);
    let report = load(&relay, &["--no-directory", "--peers", "2", "--run", "1000000"]);
    assert_eq!(relay.faults(), relay.heard() / 4);
    // Nothing comes after the last datagram; if it is held back, it stays so.
    let kept = u64::from(relay.heard().is_multiple_of(4));
    assert_accounts(&relay, &report, 2000, [kept, relay.faults() - kept, 0, 0, 0, 0, 0]);
}

#[test]
fn damage_is_noticed_and_lost() {
    assert_fault(Fault::Corrupt, 10, &MADE_UP, |faults| [faults, 0, 0, 0, faults, 0, 0]);
}

#[test]
fn damage_is_noticed_at_every_size() {
    let arguments = [&MADE_UP, &["--size", "64-1200"][..]].concat();
    assert_fault(Fault::Corrupt, 10, &arguments, |faults| [faults, 0, 0, 0, faults, 0, 0]);
}

#[test]
fn a_wrong_sender_is_noticed_and_lost() {
    assert_fault(Fault::Rename, 10, &MADE_UP, |faults| [faults, 0, 0, 0, 0, faults, 0]);
}

#[test]
fn strangers_datagrams_are_counted_apart() {
    assert_fault(Fault::Babble, 10, &MADE_UP, |faults| [0, 0, 0, 0, 0, 0, faults]);
}

#[test]
fn several_workers_agree() {
    let arguments = ["--no-directory", "--peers", "301", "--workers", "3"];
    assert_fault(Fault::Drop, 9, &arguments, |faults| [faults, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn every_shape_size_and_ramp_keeps_exact_accounts() {
    for (arguments, packets) in [
        (&["--shape", "one-to-many", "--senders", "3"][..], 2000),
        (&["--shape", "many-to-one", "--receivers", "16", "--run", "4"], 2000),
        (&["--shape", "one-to-many", "--workers", "3"], 2000),
        (&["--size", "imix", "--workers", "2"], 2000),
        (&["--size", "64-1200"], 2000),
        (&["--size", "1200..28"], 2000),
        (&["--rate", "1000..7000"], 2000),
        (&["--rate", "6000..1000", "--burst", "5"], 1750),
    ] {
        let relay = faulty(Fault::Drop, 9);
        let report = load(&relay, &[&MADE_UP, arguments].concat());
        assert_accounts(&relay, &report, packets, [relay.faults(), 0, 0, 0, 0, 0, 0]);
        let over_time: u64 = report.timeline.intervals.iter().map(|interval| interval.lost).sum();
        assert_eq!(over_time, report.lost, "{arguments:?}");
    }
}

#[test]
fn peers_share_sockets_over_ipv6() {
    let relay = Relay::start("[::1]:0", Behaviour { fault: Some((Fault::Drop, 6)), ..Behaviour::default() });
    let report = load(&relay, &["--no-directory", "--peers", "500", "--sockets", "3"]);
    assert_eq!(report.enrolment.registered, 500);
    assert_accounts(&relay, &report, 2000, [relay.faults(), 0, 0, 0, 0, 0, 0]);
    assert_eq!(report.workload.placement, "on 3 shared sockets at ::1");
}

#[test]
fn lost_discovers_are_repeated() {
    let relay = Relay::start("127.0.0.1:0", Behaviour { deaf_for: 50, ..Behaviour::default() });
    let report = load(&relay, &MADE_UP);
    assert_eq!(report.enrolment.registered, 300);
    assert_accounts(&relay, &report, 2000, [0; 7]);
}

#[test]
fn a_relay_that_asks_for_a_sign_of_life_gets_one() {
    let relay = Relay::start("127.0.0.1:0", Behaviour { suspicious: true, ..Behaviour::default() });
    let report = load(&relay, &["--no-directory", "--peers", "20"]);
    assert_eq!(report.enrolment.registered, 20);
    assert_accounts(&relay, &report, 2000, [0; 7]);
}

#[test]
fn the_directory_gives_the_ids() {
    let relay = Relay::start("127.0.0.1:0", Behaviour::default());
    let registry = start_directory(None).to_string();
    let report = load(&relay, &["--registry", &registry, "--peers", "700", "--workers", "2", "--connections", "3"]);
    assert_eq!(report.enrolment.registered, 700);
    assert_accounts(&relay, &report, 2000, [0; 7]);
    assert!(report.enrolment.directory_seconds.is_some());
}

#[test]
fn a_directory_that_refuses_is_quoted() {
    let relay = Relay::start("127.0.0.1:0", Behaviour::default());
    let registry = start_directory(Some("rate limited: try later")).to_string();
    let failure = try_load(&relay, &["--registry", &registry, "--peers", "10"]).expect_err("refused").to_string();
    assert!(failure.contains("rate limited: try later") && failure.contains("loopback"), "{failure}");
}

#[test]
fn a_relay_that_knows_nobody_is_told_apart_from_silence() {
    let relay = Relay::start("127.0.0.1:0", Behaviour { forgetful: true, ..Behaviour::default() });
    let failure = try_load(&relay, &MADE_UP).expect_err("nothing is forwarded").to_string();
    assert!(failure.contains("--admission open"), "{failure}");
}

#[test]
fn a_prefix_that_is_not_routed_here_is_explained() {
    let relay = Relay::start("127.0.0.1:0", Behaviour::default());
    let arguments = ["--no-directory", "--peers", "10", "--source-prefix", "198.51.100.0/24"];
    let failure = try_load(&relay, &arguments).expect_err("no such addresses").to_string();
    assert!(failure.contains("ip route add local 198.51.100.0/24 dev lo"), "{failure}");
}
