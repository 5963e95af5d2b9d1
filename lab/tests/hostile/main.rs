//! Bad input of every kind: counted or answered with the protocol's error, memory bounded, nothing stops, and two honest
//! nodes relay all the while without losing a datagram.

mod datagrams;
mod frames;
mod honest;
mod idle;

use std::io::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use lab::{Appliance, BEACON_PORT, Chance, DirectoryClient, RELAY_V4, STUN_PORT, Stopwatch, World, evidence, full_run};
use serde_json::json;

use datagrams::{Attacker, lengths_off_by_one, mutated_vectors, oversized_datagram, random_datagram, vector_prefixes};
use frames::{Outcome, connect, frame, hostile_frames, provoke, time_until_shut_out};
use honest::HonestPair;
use idle::IdleConnections;

const RANDOM_DATAGRAMS: usize = 20_000;
const RANDOM_DATAGRAMS_FULL: usize = 500_000;
const OVERSIZED_DATAGRAMS: usize = 200;

const IDLE_CONNECTIONS: usize = 10_000;
/// Design goal: at most 8 KiB a plain idle connection.
const IDLE_CONNECTION_BYTES_MAX: u64 = 8 * 1024;
const MEBIBYTE: u64 = 1024 * 1024;
/// What else may grow meanwhile: allocator slack, the tables that the first requests fill. 3 MiB when it was measured.
const GROWTH_SLACK_BYTES: u64 = 8 * MEBIBYTE;
/// Receive buffers of two shards, which datagrams use for the first time, in huge pages where the host gives no others.
const RECEIVE_BUFFERS_BYTES: u64 = 17 * MEBIBYTE;

/// The directory gives a frame ten seconds.
const HALF_SENT_CLOSED_WITHIN: Duration = Duration::from_secs(20);

const SILENT_CLIENTS: usize = 50;
const SILENT_CLIENTS_WRITE_FOR: Duration = Duration::from_secs(5);

#[test]
fn hostile_datagrams_are_counted_and_change_nothing() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let honest = HonestPair::join(&world);
    let attackers = [world.host("attacker-1"), world.host("attacker-2")];
    let random_datagrams = if full_run() { RANDOM_DATAGRAMS_FULL } else { RANDOM_DATAGRAMS };
    let memory_before = appliance.resident_bytes();
    let before = appliance.settled_accounting();

    let sent = honest.relay_while(|| {
        let mut sent = 0;
        for (host, seed) in attackers.iter().zip(1..) {
            let mut chance = Chance::seeded(seed);
            for port in [BEACON_PORT, STUN_PORT] {
                let attacker = Attacker::on(host, port);
                sent += attacker.send_all(vector_prefixes());
                sent += attacker.send_all(lengths_off_by_one());
                sent += attacker.send_all(mutated_vectors(&mut chance));
                sent += attacker.send_all((0..random_datagrams).map(|_| random_datagram(&mut chance)));
            }
            let oversized = (0..OVERSIZED_DATAGRAMS).map(|number| oversized_datagram(&mut chance, number));
            sent += Attacker::on(host, BEACON_PORT).send_all(oversized);
        }
        sent
    });

    assert!(appliance.is_running(), "the appliance is gone:\n{}", appliance.log_tail());
    let books = appliance.settled_accounting();
    assert!(books.balances(), "datagrams vanish between the columns: {books}");
    let dropped = appliance.metrics().non_zero("pilot_relay_datagrams_dropped_total");
    let hostile_seen = books.received - before.received;
    assert!(hostile_seen >= sent * 9 / 10, "only {hostile_seen} datagrams counted, {sent} hostile ones were sent");
    assert_memory_bounded(&appliance, memory_before, RECEIVE_BUFFERS_BYTES);
    evidence(format!("{sent} hostile datagrams; {books}; {dropped:?}"));
}

#[test]
fn hostile_frames_get_an_error_or_the_door() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let honest = HonestPair::join(&world);
    let attacker = world.host("attacker");
    let memory_before = appliance.resident_bytes();

    let outcomes = honest.relay_while(|| {
        let outcomes = hostile_frames().into_iter().map(|(name, bytes)| (name, provoke(&attacker, &bytes)));
        outcomes.collect::<Vec<_>>()
    });

    for (name, outcome) in &outcomes {
        if let Outcome::Answered(answers) = outcome {
            let all_errors = answers.iter().all(|answer| answer["type"] == "error" && answer["error"].is_string());
            assert!(all_errors, "{name}: answered as if it were a request: {answers:?}");
        }
    }
    let patience = honest.relay_while(|| time_until_shut_out(&attacker, &frame(b"{}")[..3], HALF_SENT_CLOSED_WITHIN));
    assert!(appliance.is_running(), "the appliance is gone:\n{}", appliance.log_tail());
    assert_memory_bounded(&appliance, memory_before, RECEIVE_BUFFERS_BYTES);
    assert_directory_serves(&world);
    evidence(format!("half a frame is waited for {patience:.1?}"));
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|(_, outcome)| wanted(outcome)).count();
    evidence(format!(
        "{} hostile openings: {} got an error, {} were shut out, {} still wait for the rest of their frame",
        outcomes.len(),
        count(|outcome| matches!(outcome, Outcome::Answered(_))),
        count(|outcome| matches!(outcome, Outcome::Closed)),
        count(|outcome| matches!(outcome, Outcome::Silence)),
    ));
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_stop_nobody() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let honest = HonestPair::join(&world);
    let memory_before = appliance.resident_bytes();

    honest.relay_while(|| {
        // Over loopback, where no limit for one address applies: the worst a directory can be asked to hold.
        let idle = IdleConnections::open(&world.relay_host(), Ipv4Addr::LOCALHOST, IDLE_CONNECTIONS);
        assert_eq!(idle.count, IDLE_CONNECTIONS, "the directory does not hold them:\n{}", appliance.log_tail());
        let watch = Stopwatch::start();
        assert_directory_serves(&world);
        let served = watch.elapsed();
        let grown = appliance.resident_bytes().saturating_sub(memory_before);
        assert_memory_bounded(
            &appliance,
            memory_before,
            RECEIVE_BUFFERS_BYTES + IDLE_CONNECTIONS as u64 * IDLE_CONNECTION_BYTES_MAX,
        );
        let each = grown / IDLE_CONNECTIONS as u64;
        evidence(format!("{} idle connections cost {each} bytes each; a newcomer is served in {served:?}", idle.count));
    });

    honest.relay_while(|| {
        // From one address of the network: it gets its share, and the neighbours keep theirs.
        let idle = IdleConnections::open(&world.host("hoarder"), RELAY_V4, IDLE_CONNECTIONS);
        assert_directory_serves(&world);
        evidence(format!("one address connected {} times and kept nobody out", idle.count));
    });
    assert!(appliance.is_running(), "the appliance is gone:\n{}", appliance.log_tail());
}

#[test]
fn clients_that_never_read_fill_no_memory() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let honest = HonestPair::join(&world);
    let memory_before = appliance.resident_bytes();
    let host = world.relay_host();

    let written = honest.relay_while(|| {
        let frame = frame(json!({ "type": "list_networks" }).to_string().as_bytes());
        let requests = frame.repeat(1000);
        let clients: Vec<_> = (0..SILENT_CLIENTS).filter_map(|_| connect(&host, Ipv4Addr::LOCALHOST).ok()).collect();
        let watch = Stopwatch::start();
        let mut written = 0;
        // Until nobody takes more, or for a while.
        for mut client in clients.iter().cycle() {
            client.set_write_timeout(Some(Duration::from_millis(20))).expect("a socket takes a time-out");
            written += client.write(&requests).unwrap_or_default();
            if watch.elapsed() > SILENT_CLIENTS_WRITE_FOR {
                break;
            }
        }
        assert_directory_serves(&world);
        written
    });

    assert!(appliance.is_running(), "the appliance is gone:\n{}", appliance.log_tail());
    // A client costs its buffers and no more, however much it asks for.
    assert_memory_bounded(&appliance, memory_before, SILENT_CLIENTS as u64 * MEBIBYTE);
    let grown = appliance.resident_bytes().saturating_sub(memory_before);
    evidence(format!(
        "{SILENT_CLIENTS} clients wrote {written} bytes and read none; memory grew by {} KiB",
        grown / 1024
    ));
}

fn assert_directory_serves(world: &World) {
    let mut newcomer = DirectoryClient::connect(&world.host("newcomer"), "newcomer").expect("the directory accepts");
    newcomer
        .register(([198, 18, 0, 99], 4000).into(), "newcomer@pilot.test")
        .expect("the directory registers a newcomer");
    newcomer.call_signed("heartbeat", &[], json!({})).expect("the directory takes a heartbeat");
}

fn assert_memory_bounded(appliance: &Appliance, before: u64, allowed: u64) {
    let grown = appliance.resident_bytes().saturating_sub(before);
    let bound = allowed + GROWTH_SLACK_BYTES;
    assert!(grown <= bound, "memory grew by {} KiB, at most {} KiB are allowed", grown / 1024, bound / 1024);
}
