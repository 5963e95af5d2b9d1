//! How much one directory carries, with 100 000 nodes: decisions a second in the engine, answers a second over loopback,
//! and what it costs to wake all who wait for changes. Prints figures; `cargo run --release -p directory --example
//! capacity -- [WAITERS]`.
//!
//! Answers over sockets are counted per second of the directory's own CPU time: that of this process without that of the
//! thread that plays the clients.

#![expect(clippy::print_stdout, reason = "its figures are what it is for")]

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use directory::config::Limits;
use directory::facts::{Change, NodeFact};
use directory::service::{Caller, ConnectionId, Decision, Now, Service};
use directory::store::Store;
use directory::{Config, NoRelay};
use ed25519_dalek::{Signer as _, SigningKey};
use nix::sys::resource::{UsageWho, getrusage};
use wire::NodeId;
use wire::registry::request::Changes;
use wire::registry::{Answer, Base64, LENGTH_BYTES, Operation, Request, push_message};

const NODES: u32 = 100_000;
/// Nodes whose keys are known here.
const SIGNERS: u32 = 1000;
const REQUESTS: u32 = 200_000;
const SIGNED_REQUESTS: u32 = 40_000;
/// Requests on their way at once.
const PIPELINED: usize = 256;

fn key(number: u32) -> SigningKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    SigningKey::from_bytes(&bytes)
}

fn fact(number: u32) -> NodeFact {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    let identity = if number <= SIGNERS { key(number).verifying_key().to_bytes() } else { bytes };
    NodeFact {
        hostname: Some(format!("node-{number}")),
        tags: vec!["papers".into(), "citations".into()],
        public: true,
        signs: true,
        version: "1.18.0".into(),
        endpoint: format!("198.51.{}.{}:4000", number >> 8 & 255, number & 255),
        ..NodeFact::new(NodeId(number), Base64(identity), 1_795_000_000)
    }
}

fn signed(number: u32, operation: Operation) -> Request {
    let text = operation.signed_text().expect("these are signed");
    Request { signature: Some(Base64(key(number).sign(text.as_bytes()).to_bytes())), ..operation.into() }
}

/// Numbers far apart, so that what is asked is not in a cache because it has just been.
fn far(step: u32) -> NodeId {
    NodeId(step.wrapping_mul(40_503) % NODES + 1)
}

fn lookups() -> Vec<Request> {
    (0..REQUESTS).map(|step| Operation::Lookup { node_id: far(step) }.into()).collect()
}

fn resolves() -> Vec<Request> {
    let resolve = |step| {
        let requester = step % SIGNERS + 1;
        signed(requester, Operation::Resolve { node_id: far(step), requester_id: NodeId(requester) })
    };
    (0..SIGNED_REQUESTS).map(resolve).collect()
}

#[expect(clippy::disallowed_methods, reason = "measures")]
fn now() -> Instant {
    Instant::now()
}

fn cpu_of(who: UsageWho) -> Duration {
    let usage = getrusage(who).expect("Linux tells");
    let part = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), 1000 * u32::try_from(time.tv_usec()).expect("below a million"))
    };
    part(usage.user_time()) + part(usage.system_time())
}

/// CPU time of all threads but this one.
fn cpu_of_others() -> Duration {
    cpu_of(UsageWho::RUSAGE_SELF).saturating_sub(cpu_of(UsageWho::RUSAGE_THREAD))
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has one");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn per_second(count: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(count).expect("few")) / time.as_secs_f64()
}

/// Decisions of the engine on this thread, signatures included.
fn engine(service: &mut Service, name: &str, requests: &[Request]) {
    let caller = Caller {
        connection: ConnectionId(1),
        ip: [127, 0, 0, 1].into(),
        exempt: true,
        advertised: &[],
        extensions: &[],
        relay_key: None,
    };
    let at = Now { monotonic: Duration::from_secs(1000), unix_seconds: 1_795_000_000 };
    let start = cpu_of(UsageWho::RUSAGE_THREAD);
    for request in requests {
        let mut checked = None;
        let outcome = loop {
            match service.handle(at, &caller, request, checked.as_ref()) {
                Decision::Check(check) => checked = Some(check.run()),
                Decision::Done(outcome) => break outcome,
                Decision::Search(_) | Decision::Pick(_) => unreachable!("nothing here is searched for"),
            }
        };
        assert!(!matches!(outcome.answer, Answer::Error { .. }), "{:?}", outcome.answer);
    }
    let time = cpu_of(UsageWho::RUSAGE_THREAD) - start;
    println!("engine, {name}: {:.0} a second of CPU", per_second(requests.len(), time));
}

fn read_answer(stream: &mut impl std::io::Read, message: &mut Vec<u8>) {
    let mut length = [0; LENGTH_BYTES];
    stream.read_exact(&mut length).expect("an answer");
    message.resize(u32::from_be_bytes(length) as usize, 0);
    stream.read_exact(message).expect("an answer");
}

/// Answers over one connection with many requests on their way.
fn loopback(address: SocketAddr, name: &str, requests: &[Request]) {
    let stream = TcpStream::connect(address).expect("it listens");
    let (mut answers, mut message) = (std::io::BufReader::with_capacity(1 << 18, &stream), Vec::new());
    let (start, cpu_before) = (now(), cpu_of_others());
    for batch in requests.chunks(PIPELINED) {
        let mut frames = Vec::new();
        batch.iter().for_each(|request| push_message(&mut frames, request));
        (&stream).write_all(&frames).expect("it reads");
        for _ in batch {
            read_answer(&mut answers, &mut message);
            assert!(!message.starts_with(b"{\"type\":\"error\""), "{}", String::from_utf8_lossy(&message));
        }
    }
    let (time, cpu) = (now() - start, cpu_of_others() - cpu_before);
    println!(
        "loopback, {name}: {:.0} a second of CPU, {:.0} a second on one connection, {PIPELINED} on their way",
        per_second(requests.len(), cpu),
        per_second(requests.len(), time)
    );
}

fn pause(time: Duration) {
    let (_sender, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

/// Waits until the directory has nothing to do.
fn rest() {
    let mut before = Duration::MAX;
    while cpu_of_others().saturating_sub(before) > Duration::from_millis(5) || before == Duration::MAX {
        before = cpu_of_others();
        pause(Duration::from_millis(200));
    }
}

/// `count` connections that wait for changes of public nodes, one event, and all their answers.
fn waiters(address: SocketAddr, count: usize) {
    let (mut message, mut cursor) = (Vec::new(), 0);
    let ask = move |mut stream: &TcpStream, after| {
        let mut frame = Vec::new();
        let changes = Changes { after, wait_seconds: 60, ..Changes::default() };
        push_message(&mut frame, &Request::from(Operation::Changes(changes)));
        stream.write_all(&frame).expect("it reads");
    };
    let mut streams: Vec<_> = (0..count).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    let before = rss_kib();
    for stream in &mut streams {
        ask(stream, 0);
        read_answer(stream, &mut message);
        if let Ok(Answer::Changes { cursor: present, .. }) = Answer::decode(&message) {
            cursor = present;
        }
    }
    let idle = rss_kib();
    streams.iter().for_each(|stream| ask(stream, cursor));
    let mut actor = TcpStream::connect(address).expect("it listens");
    let mut act = |tag: u32| {
        let tags = vec![format!("t{tag}")];
        let mut frame = Vec::new();
        push_message(&mut frame, &signed(1, Operation::SetTags { node_id: NodeId(1), tags }));
        actor.write_all(&frame).expect("it reads");
        let mut message = Vec::new();
        read_answer(&mut actor, &mut message);
    };
    rest();
    let held = rss_kib();
    let (start, cpu_before) = (now(), cpu_of_others());
    act(1);
    let mut read = |stream: &mut TcpStream| {
        read_answer(stream, &mut message);
        let Ok(Answer::Changes { cursor, .. }) = Answer::decode(&message) else { panic!("no changes") };
        cursor
    };
    let cursors: Vec<_> = streams.iter_mut().map(&mut read).collect();
    let (time, cpu) = (now() - start, cpu_of_others() - cpu_before);
    println!(
        "{count} who wait for one event: {:.0} ms to the last answer, {:.0} ms of CPU, {:.1} µs each",
        time.as_secs_f64() * 1e3,
        cpu.as_secs_f64() * 1e3,
        cpu.as_secs_f64() * 1e6 / f64::from(u32::try_from(count).expect("few"))
    );
    // All ask again, and one event comes every few milliseconds for five seconds.
    streams.iter().zip(cursors).for_each(|(stream, cursor)| ask(stream, cursor));
    rest();
    let reader = std::thread::spawn(move || {
        let (mut answers, mut message) = (0, Vec::new());
        let start = now();
        while now() - start < Duration::from_secs(5) {
            for stream in &mut streams {
                read_answer(stream, &mut message);
                let Ok(Answer::Changes { cursor, .. }) = Answer::decode(&message) else { panic!("no changes") };
                answers += 1;
                ask(stream, cursor);
            }
        }
        (answers, cpu_of(UsageWho::RUSAGE_THREAD))
    });
    let (start, cpu_before, mut events) = (now(), cpu_of_others(), 0);
    while !reader.is_finished() {
        events += 1;
        act(1 + events % 2);
        pause(Duration::from_millis(5));
    }
    let (answers, readers) = reader.join().expect("it counts");
    let (time, cpu) = (now() - start, cpu_of_others() - cpu_before - readers);
    println!(
        "{count} who wait under churn: {events} events in {:.1} s, {:.2} answers a second to each, {:.0} % of a core",
        time.as_secs_f64(),
        per_second(answers, time) / f64::from(u32::try_from(count).expect("few")),
        100.0 * cpu.as_secs_f64() / time.as_secs_f64()
    );
    let each = |later: u64, earlier: u64| 1024 * later.saturating_sub(earlier) / count as u64;
    println!(
        "memory of the process: {} bytes each idle after one request, {} bytes each more with a question held",
        each(idle, before),
        each(held, idle)
    );
}

fn main() {
    let waiting = std::env::args().nth(1).map_or(15_000, |count| count.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = Store::open(folder.path(), 1_795_000_000).expect("a database");
    let facts: Vec<_> = (1..=NODES).map(|number| Change::Node(Box::new(fact(number)))).collect();
    facts.chunks(8192).for_each(|chunk| store.commit(chunk).expect("a disk"));
    let (lookups, resolves) = (lookups(), resolves());

    let mut service = Service::new(store.load().expect("facts"), &Limits::default(), None);
    engine(&mut service, "unsigned lookups", &lookups);
    engine(&mut service, "signed resolves", &resolves);
    drop((service, store, facts));

    let mut config = Config::new(folder.path());
    config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let start = now();
    let running = directory::start(config, Arc::new(NoRelay::default())).expect("it starts");
    println!("start with {NODES} nodes: {:.0} ms, RSS {} MiB", (now() - start).as_secs_f64() * 1e3, rss_kib() / 1024);
    let address = running.local_addrs()[0];
    loopback(address, "unsigned lookups", &lookups);
    loopback(address, "signed resolves", &resolves);
    waiters(address, waiting);
    running.shutdown();
}
