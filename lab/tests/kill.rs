//! `kill -9` at random moments: nothing the directory has acknowledged is ever lost, and real daemons work again by
//! themselves.
//!
//! Several clients write without pause and note every acknowledged change. The appliance is killed while they do; after
//! its restart a fresh client looks up every note of all rounds so far.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lab::{CallError, Chance, Daemon, DaemonFlags, DirectoryClient, Host, Nat, World, evidence, full_run, wait_until};
use serde_json::{Value, json};

const ROUNDS: usize = 3;
const ROUNDS_FULL: usize = 20;
const WRITERS: usize = 4;
/// A round ends at a random one of so many acknowledged changes.
const CHANGES_PER_ROUND_MAX: usize = 400;
const CHANGES_WITHIN: Duration = Duration::from_secs(60);
/// The promise for real daemons.
const WORKING_WITHIN: Duration = Duration::from_secs(60);
/// The kill moments of a run can be repeated.
const SEED: u64 = 0x5eed_0000_0000_0001;

#[test]
fn nothing_acknowledged_is_lost_and_daemons_recover() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let mut alice = Daemon::start(&world.site(Nat::Symmetric).host("alice"), DaemonFlags::named("alice").public());
    let mut bob = Daemon::start(&world.site(Nat::Symmetric).host("bob"), DaemonFlags::named("bob").public());
    alice.wait_ready();
    bob.wait_ready();
    alice.time_to_reach("bob", WORKING_WITHIN);

    let (notes, mut chance) = (Notes::default(), Chance::seeded(SEED));
    let rounds = if full_run() { ROUNDS_FULL } else { ROUNDS };
    for round in 1..=rounds {
        let already = notes.count();
        let kill_at = already + 1 + chance.below(CHANGES_PER_ROUND_MAX);
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (host, notes) = (world.relay_host(), &notes);
                scope.spawn(move || write_until_killed(&host, &format!("r{round}-w{writer}"), notes));
            }
            wait_until("enough acknowledged changes", CHANGES_WITHIN, || (notes.count() >= kill_at).then_some(()));
            appliance.kill();
        });
        let restarted = appliance.restart();
        let checked = notes.check_all(&world.relay_host());
        let recovered = alice.time_to_reach("bob", WORKING_WITHIN);
        evidence(format!(
            "round {round} of {rounds}: killed after {} more changes, restarted in {restarted:.1?}, \
             {checked} of {checked} acknowledged changes kept, daemons work again after {recovered:.1?}",
            notes.count() - already,
        ));
    }
    let report = bob.ping("alice", 5);
    assert_eq!(report.answered(), 5, "{}", report.text);
}

/// A change the directory has acknowledged.
#[derive(Clone, Debug)]
enum Note {
    Registered { node: u32, public_key: String, name: String },
    Hostname { node: u32, hostname: String },
    Tags { node: u32, tags: Value },
    Group { network: u64, name: String },
    Member { node: u32, network: u64 },
    Trusts { node: u32, peer: u32 },
}

#[derive(Debug, Default)]
struct Notes {
    all: Mutex<Vec<Note>>,
    acknowledged: AtomicUsize,
}

impl Notes {
    fn add(&self, note: Note) {
        self.all.lock().expect("no writer panics while noting").push(note);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Looks every note up; how many there were.
    fn check_all(&self, relay_host: &Host) -> usize {
        let notes = self.all.lock().expect("no writer panics while noting").clone();
        let mut reader = DirectoryClient::connect_over_loopback(relay_host, "reader")
            .unwrap_or_else(|error| panic!("the directory takes no connections: {error}"));
        let networks = ask(&mut reader, &json!({ "type": "list_networks" }));
        let lost: Vec<_> = notes.iter().filter(|note| !note.is_kept(&mut reader, &networks)).collect();
        assert!(lost.is_empty(), "{} of {} acknowledged changes lost: {lost:?}", lost.len(), notes.len());
        // The id belongs to the key for ever, also when the node comes back.
        if let Some(Note::Registered { node, name, .. }) = notes.first() {
            let mut again = DirectoryClient::connect_over_loopback(relay_host, name).expect("one more connection");
            let same = again.register(([198, 18, 0, 99], 4000).into(), "again@pilot.test");
            assert_eq!(same.expect("a known key registers"), *node, "{name} came back as another node");
        }
        notes.len()
    }
}

impl Note {
    fn is_kept(&self, reader: &mut DirectoryClient, networks: &Value) -> bool {
        match self {
            Self::Registered { node, public_key, .. } => lookup(reader, *node)["public_key"] == **public_key,
            Self::Hostname { node, hostname } => {
                ask(reader, &json!({ "type": "resolve_hostname", "hostname": hostname }))["node_id"] == *node
            }
            Self::Tags { node, tags } => lookup(reader, *node)["tags"] == *tags,
            Self::Group { network, name } => {
                let listed = networks["networks"].as_array().map(Vec::as_slice).unwrap_or_default();
                listed.iter().any(|entry| entry["id"] == *network && entry["name"] == **name)
            }
            Self::Member { node, network } => {
                let found = lookup(reader, *node);
                found["networks"].as_array().is_some_and(|joined| joined.contains(&json!(network)))
            }
            Self::Trusts { node, peer } => {
                ask(reader, &json!({ "type": "check_trust", "node_id": node, "peer_id": peer }))["trusted"] == true
            }
        }
    }
}

fn lookup(reader: &mut DirectoryClient, node: u32) -> Value {
    ask(reader, &json!({ "type": "lookup", "node_id": node }))
}

/// An answer, or the refusal as text: to a reader both are what the directory remembers.
fn ask(reader: &mut DirectoryClient, request: &Value) -> Value {
    match reader.call(request) {
        Ok(answer) => answer,
        Err(CallError::Refused(text)) => json!({ "error": text }),
        Err(CallError::Connection(error)) => panic!("the directory hangs up on {request}: {error}"),
    }
}

/// Registers one node after the other and gives each all there is to give, until the connection breaks.
fn write_until_killed(relay_host: &Host, writer: &str, notes: &Notes) {
    let mut previous = None;
    for number in 0.. {
        match write_one_node(relay_host, &format!("{writer}-{number}"), previous, notes) {
            Ok(written) => previous = Some(written),
            Err(CallError::Connection(_)) => return,
            Err(CallError::Refused(text)) => panic!("{writer}: the directory refuses an honest change: {text}"),
        }
    }
}

/// What a node hands on to the next one of the same writer.
#[derive(Clone, Copy)]
struct Written {
    node: u32,
    network: u64,
}

fn write_one_node(host: &Host, name: &str, previous: Option<Written>, notes: &Notes) -> Result<Written, CallError> {
    let mut client = DirectoryClient::connect_over_loopback(host, name)?;
    let node = client.register(([198, 18, 0, 99], 4000).into(), &format!("{name}@pilot.test"))?;
    notes.add(Note::Registered { node, public_key: client.public_key(), name: name.to_owned() });

    client.call_signed("set_visibility", &[], json!({ "public": true }))?;
    client.call_signed("set_hostname", &[], json!({ "hostname": name }))?;
    notes.add(Note::Hostname { node, hostname: name.to_owned() });

    let tags = json!(["lab", format!("t{node}")]);
    client.call_signed("set_tags", &[], json!({ "tags": tags }))?;
    notes.add(Note::Tags { node, tags });

    let network = match previous {
        // Some found a group, the others join it.
        Some(Written { network, .. }) if !node.is_multiple_of(8) => {
            client.call_signed("join_network", &[network], json!({ "network_id": network, "token": "" }))?;
            network
        }
        _ => {
            let request = json!({
                "type": "create_network", "node_id": node, "name": format!("group-{name}"), "join_rule": "open",
                "token": "",
            });
            let network = client.call(&request)?["network_id"].as_u64().expect("a new group has an id");
            notes.add(Note::Group { network, name: format!("group-{name}") });
            network
        }
    };
    notes.add(Note::Member { node, network });

    if let Some(Written { node: peer, .. }) = previous {
        client.call_signed("report_trust", &[peer.into()], json!({ "peer_id": peer }))?;
        notes.add(Note::Trusts { node, peer });
    }
    Ok(Written { node, network })
}
