//! What capability records cost: indexing, disk, memory, restart, queries. Processor time of this thread, so that it
//! holds per core whatever else the machine does.
//!
//! `cargo run --release -p directory --example capabilities -- [RECORDS] [FOLDER]`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use directory::config::Limits;
use directory::facts::{CapabilityFact, Change, NodeFact, Searchable};
use directory::service::{Caller, ConnectionId, Decision, Now, Service};
use directory::store::{FILE_NAME, Reader, Store};
use nix::time::{ClockId, clock_gettime};
use wire::NodeId;
use wire::registry::capability::{FORMAT, Record};
use wire::registry::request::Query;
use wire::registry::{Answer, Base64, Operation, Request};

const WORDS: usize = 4000;
const COMMIT: usize = 500;
const QUERIES: usize = 400;
const UNIX_SECONDS: u64 = 1_795_000_000;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().map_or(Ok(100_000), |count| count.parse())?;
    let folder = arguments.next().map_or_else(|| std::env::temp_dir().join("capabilities-example"), PathBuf::from);
    let mut out = io::stdout().lock();
    // Left from a run before.
    let _ = std::fs::remove_dir_all(&folder);

    let mut speech = Speech::new();
    let mut store = Store::open(&folder, UNIX_SECONDS)?;
    let (mut nodes, mut records, mut words) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut record_bytes = 0;
    let (mut size_before, mut size_words) = (0, 0);
    for first in (1..=count).step_by(COMMIT) {
        let batch: Vec<_> = (first..(first + COMMIT).min(count + 1)).map(|number| speech.node(number)).collect();
        record_bytes += batch.iter().map(|(_, fact, _)| fact.record.len()).sum::<usize>();
        let (mut facts, mut capabilities, mut searchable) = (Vec::new(), Vec::new(), Vec::new());
        for (node, capability, entry) in batch {
            facts.push(Change::Node(Box::new(node)));
            capabilities.push(Change::Capability(Box::new(capability)));
            searchable.push(Change::Searchable(Box::new(entry)));
        }
        nodes += timed(|| store.commit(&facts))?.1;
        records += timed(|| store.commit(&capabilities))?.1;
        words += timed(|| store.commit(&searchable))?.1;
    }
    drop(store);
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    size_before += size(&folder.join(FILE_NAME));
    let resident_before = resident_kib();
    let (store, opening) = timed(|| Store::open(&folder, UNIX_SECONDS))?;
    let (facts, loading) = timed(|| store.load())?;
    let limits = Limits { nodes_max: 10_000_000, ..Limits::default() };
    let (mut service, making) = timed(|| anyhow::Ok(Service::new(facts, &limits, None)))?;
    let resident = resident_kib();
    let index: u64 = rusqlite::Connection::open(folder.join(FILE_NAME))?.query_row(
        "SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'search%'",
        (),
        |row| row.get(0),
    )?;
    size_words += index;

    writeln!(out, "{count} records, {} bytes of text each", record_bytes / count)?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    writeln!(
        out,
        "commits of {COMMIT}: nodes {:.1} µs, records {:.1} µs, index {:.1} µs each; all of the index {:.2} s",
        each(nodes),
        each(records),
        each(words),
        words.as_secs_f64()
    )?;
    writeln!(out, "database {:.1} MB, of this the index {:.1} MB", mb(size_before), mb(size_words))?;
    writeln!(out, "restart: open and check {opening:.2?}, load {loading:.2?}, make the service {making:.2?}")?;
    writeln!(out, "RSS {resident_before} KiB before, {resident} KiB after loading nodes and records")?;

    let mut reader = store.reader()?;
    for (kind, common) in [("as people write (Zipf)", true), ("any word alike", false)] {
        for number in 1..=3 {
            let mut times = Vec::new();
            let mut found = 0;
            for _ in 0..QUERIES {
                let text: Vec<_> = (0..number).map(|_| speech.word(common)).collect();
                let query = Query { text: text.join(" "), offline: true, limit: 10, ..Query::default() };
                let (hits, time) = timed(|| ask(&mut service, &mut reader, query))?;
                found += usize::from(hits > 0);
                times.push(time);
            }
            times.sort_unstable();
            let total: Duration = times.iter().sum();
            writeln!(
                out,
                "{number} words, {kind}: {:.0} queries/s, p50 {:.2?}, p99 {:.2?}, most {:.2?}; {found} of {QUERIES} found somebody",
                QUERIES as f64 / total.as_secs_f64(),
                times[QUERIES / 2],
                times[QUERIES * 99 / 100],
                times[QUERIES - 1],
            )?;
        }
    }
    let (hits, time) =
        timed(|| ask(&mut service, &mut reader, Query { offline: true, limit: 50, ..Query::default() }))?;
    writeln!(out, "everybody, newest first: {hits} hits in {time:.2?}")?;
    writeln!(out, "RSS {} KiB at the end", resident_kib())?;
    Ok(())
}

/// Asks as the driver does.
fn ask(service: &mut Service, reader: &mut Reader, query: Query) -> anyhow::Result<usize> {
    let now = Now { monotonic: Duration::from_secs(1000), unix_seconds: UNIX_SECONDS };
    let caller = Caller {
        connection: ConnectionId(1),
        ip: [192, 0, 2, 1].into(),
        exempt: true,
        advertised: &[],
        extensions: &[],
        relay_key: None,
    };
    let request = Request::from(Operation::Query(query));
    let mut decision = service.handle(now, &caller, &request, None);
    loop {
        match decision {
            Decision::Search(search) => decision = service.handle_found(now, &request, reader.find(*search)?),
            Decision::Pick(found) => decision = service.handle_found(now, &request, *found),
            Decision::Done(outcome) => match outcome.answer {
                Answer::Query { hits } => return Ok(hits.len()),
                other => anyhow::bail!("{other:?}"),
            },
            Decision::Check(_) => anyhow::bail!("nothing is signed here"),
        }
    }
}

/// Text with the statistics of language: few words make up most of it.
struct Speech {
    words: Vec<String>,
    /// Summed weights of words, the most common first.
    weights: Vec<f64>,
    state: u64,
}

impl Speech {
    fn new() -> Self {
        let mut this = Self { words: Vec::new(), weights: Vec::new(), state: 7 };
        let mut sum = 0.0;
        for rank in 0..WORDS {
            let mut word = String::new();
            for _ in 0..this.between(1, 4) {
                word.push(char::from(b"bcdfglmnprstv"[this.between(0, 12)]));
                word.push(char::from(b"aeiou"[this.between(0, 4)]));
            }
            // The number keeps words apart.
            this.words.push(format!("{word}{}", ["n", "s", "r", "x"][rank % 4]));
            sum += 1.0 / (rank + 1) as f64;
            this.weights.push(sum);
        }
        this
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.state >> 33
    }

    fn between(&mut self, least: usize, most: usize) -> usize {
        least + usize::try_from(self.next()).expect("33 bits") % (most - least + 1)
    }

    fn word(&mut self, common: bool) -> String {
        if !common {
            let index = self.between(0, WORDS - 1);
            return self.words[index].clone();
        }
        let point = self.next() as f64 / (1_u64 << 31) as f64 * self.weights[WORDS - 1];
        self.words[self.weights.partition_point(|weight| *weight < point).min(WORDS - 1)].clone()
    }

    fn words(&mut self, least: usize, most: usize) -> String {
        let count = self.between(least, most);
        (0..count).map(|_| self.word(true)).collect::<Vec<_>>().join(" ")
    }

    fn node(&mut self, number: usize) -> (NodeFact, CapabilityFact, Searchable) {
        let id = NodeId(u32::try_from(number).expect("few nodes"));
        let mut key = [0; 32];
        key[..4].copy_from_slice(&id.0.to_be_bytes());
        let hostname = format!("node-{number}");
        let fact = NodeFact {
            public: true,
            hostname: Some(hostname.clone()),
            endpoint: "198.51.100.7:4000".into(),
            ..NodeFact::new(id, Base64(key), UNIX_SECONDS)
        };
        let (title, text, tag) = (self.words(3, 5), self.words(20, 60), self.word(true));
        let record = Record {
            format: FORMAT,
            node: id,
            public_key: Base64(key),
            serial: UNIX_SECONDS * 1000,
            withdrawn: false,
            title: title.clone(),
            text: text.clone(),
            tags: vec![tag.clone()],
            input: Some(serde_json::json!({"type": "string"})),
            output: None,
            price: None,
            limits: None,
            version: "1.0".into(),
        };
        let record = record.encode().expect("within its bounds").into();
        let capability = CapabilityFact {
            node: id,
            serial: UNIX_SECONDS * 1000,
            withdrawn: false,
            record,
            tags: vec![tag.clone()],
            signature: Base64([7; 64]),
        };
        (fact, capability, Searchable { node: id, title, tags: tag, hostname, text })
    }
}

/// The result and the processor time it took.
fn timed<T, E: Into<anyhow::Error>>(work: impl FnOnce() -> Result<T, E>) -> anyhow::Result<(T, Duration)> {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let before = now()?;
    let result = work().map_err(Into::into)?;
    Ok((result, now()?.saturating_sub(before)))
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
