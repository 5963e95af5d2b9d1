//! What the directory has acknowledged, to be looked up after a fault; and two peers the relay has to keep joined.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lab::{CallError, DirectoryClient, Host, Peer, World, wait_until};
use serde_json::{Value, json};

const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(40);
/// On a machine that is busy with other things a program may wait for a CPU.
const DELIVERED_WITHIN: Duration = Duration::from_secs(10);
const REACHED_WITHIN: Duration = Duration::from_secs(60);

const WRITERS: usize = 3;
/// Entries, of three changes each, before a burst is interrupted.
const BURST: usize = 60;
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);

/// Nodes with their hostnames, and who trusts whom.
#[derive(Debug)]
pub struct Book {
    host: Host,
    title: String,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    node: u32,
    trusts: Option<u32>,
}

impl Book {
    pub fn of(world: &World) -> Self {
        Self::titled(world, "entry")
    }

    /// One whose nodes are others than those of other titles.
    pub fn titled(world: &World, title: &str) -> Self {
        Self { host: world.relay_host(), title: title.to_owned(), entries: Vec::new() }
    }

    /// Registers another node, names it and has it trust the one before; all of it noted once it is acknowledged.
    pub fn write(&mut self) -> Result<u32, CallError> {
        let name = format!("{}-{}", self.title, self.entries.len());
        let mut client = self.client(&name)?;
        client.set_patience(ACKNOWLEDGED_WITHIN)?;
        let node = client.register(([198, 18, 0, 99], 4000).into(), "book@pilot.test")?;
        client.call_signed("set_hostname", &[], json!({ "hostname": name }))?;
        let peer = self.entries.last().map(|entry| entry.node);
        if let Some(peer) = peer {
            client.call_signed("report_trust", &[peer.into()], json!({ "peer_id": peer }))?;
        }
        self.entries.push(Entry { name, node, trusts: peer });
        Ok(node)
    }

    #[track_caller]
    pub fn write_many(&mut self, count: usize) {
        for _ in 0..count {
            self.write().unwrap_or_else(|error| panic!("an honest change is refused: {error}"));
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of the entries the directory does not know any more, or knows otherwise.
    #[track_caller]
    pub fn lost(&self) -> usize {
        let mut reader =
            wait_until("the directory to take a connection", REACHED_WITHIN, || self.client("reader").ok());
        let lost = self.entries.iter().filter(|entry| !entry.is_kept(&mut reader)).count();
        if let Some(first) = self.entries.first() {
            let mut again = self.client(&first.name).expect("one more connection");
            let node = again.register(([198, 18, 0, 99], 4000).into(), "book@pilot.test");
            assert_eq!(node.expect("a known key registers"), first.node, "the key has got another number");
        }
        lost
    }

    /// A connection from the relay's own host.
    pub fn client(&self, name: &str) -> Result<DirectoryClient, CallError> {
        DirectoryClient::connect_over_loopback(&self.host, name)
    }
}

impl Entry {
    fn is_kept(&self, reader: &mut DirectoryClient) -> bool {
        let found = ask(reader, &json!({ "type": "resolve_hostname", "hostname": self.name }));
        let trusted = self.trusts.is_none_or(|peer| {
            let question = json!({ "type": "check_trust", "node_id": self.node, "peer_id": peer });
            ask(reader, &question)["trusted"] == true
        });
        let registered = ask(reader, &json!({ "type": "lookup", "node_id": self.node }))["node_id"] == self.node;
        // Private nodes are not resolved for strangers, which the refusal tells from one that is not there.
        let named =
            found["node_id"] == self.node || found["error"].as_str().is_some_and(|text| !text.contains("not found"));
        registered && trusted && named
    }
}

/// Several write at once and without a pause, until `interrupt` in the middle of it ends that: what was acknowledged by then.
#[track_caller]
pub fn burst(world: &World, interrupt: impl FnOnce()) -> Vec<Book> {
    let written = AtomicUsize::new(0);
    thread::scope(|scope| {
        let writers = (0..WRITERS).map(|number| {
            let (mut book, written) = (Book::titled(world, &format!("writer-{number}")), &written);
            scope.spawn(move || {
                while book.write().is_ok() {
                    written.fetch_add(1, Ordering::Relaxed);
                }
                book
            })
        });
        let writers: Vec<_> = writers.collect();
        let enough = || (written.load(Ordering::Relaxed) >= BURST).then_some(());
        wait_until("a burst of acknowledged entries", WRITTEN_WITHIN, enough);
        interrupt();
        writers.into_iter().map(|writer| writer.join().expect("a writer stops at a failure")).collect()
    })
}

pub fn ask(reader: &mut DirectoryClient, request: &Value) -> Value {
    match reader.call(request) {
        Ok(answer) => answer,
        Err(CallError::Refused(text)) => json!({ "error": text }),
        Err(CallError::Connection(error)) => panic!("the directory hangs up on {request}: {error}"),
    }
}

/// Two nodes on hosts of their own that speak through the relay.
#[derive(Debug)]
pub struct Pair {
    pub one: Peer,
    pub other: Peer,
}

impl Pair {
    #[track_caller]
    pub fn join(world: &World) -> Self {
        Self { one: Peer::join(&world.host("one"), "one"), other: Peer::join(&world.host("other"), "other") }
    }

    /// Whether so many datagrams in a row pass, none of them sent twice.
    pub fn speaks(&self, count: usize) -> bool {
        (0..count).all(|number| self.one.reaches(&self.other, &number.to_be_bytes(), DELIVERED_WITHIN))
    }

    /// How long until datagrams pass both ways, without the peers doing anything but speak.
    #[track_caller]
    pub fn wait_speaking(&self) -> Duration {
        self.one.wait_reaching(&self.other, REACHED_WITHIN) + self.other.wait_reaching(&self.one, REACHED_WITHIN)
    }
}
