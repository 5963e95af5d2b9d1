//! The directory over real sockets: framing, deadlines, limits, TLS, restart. Every wait is for an event, and every
//! socket has a deadline, so a failure is an error and not a hang.

mod capabilities;
mod certificates;
mod changes;
mod program;
mod strangers;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use directory::{Config, Known, NoRelay, RelayLink, Running, Tls};
use ed25519_dalek::{Signer as _, SigningKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use wire::NodeId;
use wire::registry::request::Register;
use wire::registry::{Answer, Base64, LENGTH_BYTES, MESSAGE_BYTES_MAX, Operation, Request, push_message};

const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    running: Running,
    folder: TempDir,
}

fn settings(folder: &TempDir) -> Config {
    let mut config = Config::new(folder.path());
    config.listen = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
    config
}

fn serve_with(change: impl FnOnce(&mut Config)) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let mut config = settings(&folder);
    change(&mut config);
    let running = directory::start(config, Arc::new(NoRelay::default())).unwrap();
    Served { running, folder }
}

fn serve() -> Served {
    serve_with(|_| {})
}

impl Served {
    fn address(&self) -> SocketAddr {
        self.running.local_addrs()[0]
    }

    fn connect(&self) -> Client<TcpStream> {
        Client { stream: plain(self.address()) }
    }

    /// The value of a counter.
    fn metric(&self, name: &str) -> u64 {
        let text = self.running.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("pilot_directory_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    fn closed(&self, reason: &str) -> u64 {
        self.metric(&format!("connections_closed_total{{reason=\"{reason}\"}}"))
    }
}

fn plain(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

struct Client<S> {
    stream: S,
}

impl<S: Read + Write> Client<S> {
    fn ask(&mut self, request: impl Into<Request>) -> Answer {
        let mut frame = Vec::new();
        push_message(&mut frame, &request.into());
        self.stream.write_all(&frame).unwrap();
        self.answer()
    }

    fn answer(&mut self) -> Answer {
        let mut length = [0; LENGTH_BYTES];
        self.stream.read_exact(&mut length).unwrap();
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut message).unwrap();
        Answer::decode(&message).unwrap()
    }

    fn send(&mut self, message: &[u8]) {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        self.stream.write_all(&[&length, message].concat()).unwrap();
    }

    /// Whether the directory has ended the connection without saying more.
    fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(error) => matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
        }
    }
}

fn key(seed: u32) -> SigningKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&seed.to_be_bytes());
    SigningKey::from_bytes(&bytes)
}

fn signed(key: &SigningKey, operation: Operation) -> Request {
    let text = operation.signed_text().unwrap();
    Request { signature: Some(Base64(key.sign(text.as_bytes()).to_bytes())), ..operation.into() }
}

fn registration(key: &SigningKey) -> Request {
    let register = Register {
        listen_addr: "192.0.2.7:4000".into(),
        public_key: Base64(key.verifying_key().to_bytes()),
        owner: String::new(),
        hostname: String::new(),
        version: String::new(),
        lan_addrs: vec![],
        relay_only: false,
    };
    signed(key, Operation::Register(register))
}

fn number(answer: &Answer) -> NodeId {
    match answer {
        Answer::Register(registered) => registered.node_id,
        other => panic!("{other:?}"),
    }
}

fn error(answer: Answer) -> String {
    match answer {
        Answer::Error { error } => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_are_answered_in_order_however_they_are_cut() {
    let served = serve();
    let mut client = served.connect();
    let mut frames = Vec::new();
    for seed in 0..100 {
        push_message(&mut frames, &registration(&key(seed)));
        push_message(&mut frames, &Request::from(Operation::Lookup { node_id: NodeId(seed + 1) }));
        push_message(
            &mut frames,
            &signed(&key(seed), Operation::Heartbeat { node_id: NodeId(seed + 1), report: None, bans_since: None }),
        );
    }
    for piece in frames.chunks(777) {
        client.stream.write_all(piece).unwrap();
    }
    for seed in 0..100 {
        assert_eq!(number(&client.answer()), NodeId(seed + 1));
        assert!(matches!(client.answer(), Answer::Lookup(found) if found.node_id == NodeId(seed + 1)));
        assert!(matches!(client.answer(), Answer::Heartbeat { .. }), "signed by a key that came in the same batch");
    }
    let mut slow = served.connect();
    let mut frame = Vec::new();
    push_message(&mut frame, &Request::from(Operation::BeaconList));
    for byte in frame {
        slow.stream.write_all(&[byte]).unwrap();
        slow.stream.flush().unwrap();
    }
    assert_eq!(slow.answer(), Answer::BeaconList { beacons: vec![] });
}

#[test]
fn both_families_are_served() {
    let served = serve();
    for address in served.running.local_addrs() {
        let mut client = Client { stream: plain(*address) };
        assert_eq!(client.ask(Operation::BeaconList), Answer::BeaconList { beacons: vec![] });
    }
}

#[test]
fn bad_messages_are_answered_and_the_connection_goes_on() {
    let served = serve();
    let mut client = served.connect();
    let deep = "[".repeat(100_000);
    let wide = format!("{{\"type\":\"lookup\",\"x\":[{}0]}}", "0,".repeat(100_000));
    for (message, text) in [
        (&b""[..], "invalid request: expected one JSON object"),
        (b"\xff\xfe\x00", "invalid request: expected one JSON object"),
        (b"{\"type\":\"lookup\"", "invalid request: expected one JSON object"),
        (b"{\"type\":\"nope\"}", "invalid request type \"nope\""),
        (b"{\"type\":7}", "invalid type: expected a text"),
        (b"{\"type\":\"lookup\"}", "invalid request: node_id is required"),
        (b"{\"type\":\"lookup\",\"node_id\":\"1\"}", "invalid node_id: expected a whole number from 0 to 4294967295"),
        (b"{\"type\":\"get_polo_score\",\"node_id\":1}", "invalid request type \"get_polo_score\""),
        (b"{\"type\":\"set_polo_score\",\"node_id\":1,\"score\":9}", "invalid request type \"set_polo_score\""),
        (b"{\"type\":\"update_polo_score\",\"node_id\":1,\"delta\":9}", "invalid request type \"update_polo_score\""),
        (deep.as_bytes(), "invalid request: nested deeper than 16 levels"),
        (wide.as_bytes(), "invalid request: too many values, at most 4096"),
        (&[b' '; MESSAGE_BYTES_MAX], "invalid request: expected one JSON object"),
    ] {
        client.send(message);
        assert_eq!(error(client.answer()), text);
    }
    assert_eq!(client.ask(Operation::BeaconList), Answer::BeaconList { beacons: vec![] });
    assert_eq!(served.metric("requests_invalid_total"), 13);
}

#[test]
fn a_length_beyond_the_limit_is_told_and_ends_the_connection() {
    let served = serve();
    let mut client = served.connect();
    let mut frames = Vec::new();
    push_message(&mut frames, &Request::from(Operation::BeaconList));
    frames.extend_from_slice(&u32::MAX.to_be_bytes());
    client.stream.write_all(&frames).unwrap();
    assert_eq!(client.answer(), Answer::BeaconList { beacons: vec![] }, "what came before is served");
    assert_eq!(error(client.answer()), "message too long: at most 1048576 bytes");
    assert!(client.is_closed());
    assert_eq!(served.closed("too_long"), 1);
}

#[test]
fn the_binary_mode_is_declined_by_closing() {
    let served = serve();
    let mut client = served.connect();
    client.stream.write_all(b"PILT\x01").unwrap();
    assert!(client.is_closed());
    assert_eq!(served.closed("binary_mode"), 1);
}

#[test]
fn half_a_frame_and_silence_have_their_deadlines() {
    let served = serve_with(|config| {
        config.limits.frame_timeout = Duration::from_millis(200);
        config.limits.idle_timeout = Duration::from_millis(400);
    });
    let mut halves = served.connect();
    halves.stream.write_all(&[0, 0, 0, 100, b'{']).unwrap();
    let mut silent = served.connect();
    let mut once = served.connect();
    once.ask(Operation::BeaconList);
    for client in [&mut halves, &mut silent, &mut once] {
        assert!(client.is_closed());
    }
    assert_eq!((served.closed("frame_timeout"), served.closed("idle_timeout")), (1, 2));
}

#[test]
fn a_client_that_never_reads_is_disconnected_and_disturbs_nobody() {
    let served = serve_with(|config| config.limits.write_timeout = Duration::from_millis(300));
    let mut deaf = served.connect();
    let mut frames = Vec::new();
    for _ in 0..1000 {
        push_message(&mut frames, &Request::from(Operation::ListNetworks));
    }
    // Until the directory hangs up, which a write then notices.
    let hung_up = (0..10_000).find(|_| deaf.stream.write_all(&frames).is_err());
    assert!(hung_up.is_some());
    assert_eq!(served.closed("write_timeout"), 1);
    assert_eq!(served.connect().ask(Operation::BeaconList), Answer::BeaconList { beacons: vec![] });
}

#[test]
fn rates_slow_then_refuse_then_close_whoever_is_not_exempt() {
    let served = serve_with(|config| {
        config.exempt.clear();
        config.limits.requests_per_ip_per_second = 50;
        config.limits.registrations_per_ip_per_minute = 2;
    });
    let mut client = served.connect();
    let answers: Vec<_> = (0..60).map(|_| client.ask(Operation::BeaconList)).collect();
    let refused = answers.into_iter().filter(|answer| matches!(answer, Answer::Error { .. })).map(error);
    assert!(refused.inspect(|text| assert!(text.starts_with("rate limited"), "{text}")).count() > 0);

    let mut frames = Vec::new();
    for _ in 0..700 {
        push_message(&mut frames, &Request::from(Operation::BeaconList));
    }
    let mut flood = served.connect();
    let _ = flood.stream.write_all(&frames);
    let mut rest = Vec::new();
    let _ = flood.stream.read_to_end(&mut rest);
    assert_eq!(served.closed("rate_limited"), 1);
}

#[test]
fn connections_are_bounded_in_all_and_per_address() {
    let served = serve_with(|config| config.limits.connections_max = 3);
    let mut seated: Vec<_> = (0..3).map(|_| served.connect()).collect();
    for client in &mut seated {
        client.ask(Operation::BeaconList);
    }
    assert!(served.connect().is_closed());
    assert_eq!(served.closed("full"), 1);

    let served = serve_with(|config| {
        config.exempt.clear();
        config.limits.connections_per_ip_max = 1;
    });
    let mut first = served.connect();
    first.ask(Operation::BeaconList);
    assert!(served.connect().is_closed());
    assert_eq!(served.closed("full_for_address"), 1);
}

#[test]
fn tls_and_plain_share_the_port_and_the_fingerprint_stays() {
    let folder = tempfile::tempdir().unwrap();
    let start = |required| {
        let mut config = settings(&folder);
        config.tls = Tls::SelfSigned;
        config.tls_required = required;
        directory::start(config, Arc::new(NoRelay::default())).unwrap()
    };
    let running = start(false);
    let fingerprint = running.tls_fingerprint().unwrap();
    assert_eq!(fingerprint.len(), 64);
    let address = running.local_addrs()[0];
    let mut secure = Client { stream: tls(address, &folder) };
    assert_eq!(secure.ask(Operation::BeaconList), Answer::BeaconList { beacons: vec![] });
    assert_eq!(number(&secure.ask(registration(&key(1)))), NodeId(1));
    let mut bare = Client { stream: plain(address) };
    assert_eq!(number(&bare.ask(registration(&key(1)))), NodeId(1));
    running.shutdown();

    let running = start(true);
    assert_eq!(running.tls_fingerprint(), Some(fingerprint.clone()));
    let address = running.local_addrs()[0];
    assert_eq!(number(&Client { stream: tls(address, &folder) }.ask(registration(&key(1)))), NodeId(1));
    let mut bare = Client { stream: plain(address) };
    bare.stream.write_all(&[0, 0, 0, 2, b'{', b'}']).unwrap();
    assert!(bare.is_closed());
}

fn tls(address: SocketAddr, folder: &TempDir) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.path().join("tls-cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), plain(address))
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let served = serve();
    let mut client = served.connect();
    let alice = key(1);
    let node_id = number(&client.ask(registration(&alice)));
    client.ask(signed(&alice, Operation::SetHostname { node_id, hostname: "alpha".into() }));
    let address = served.address();
    let Served { running, folder } = served;
    running.shutdown();
    assert!(client.is_closed());
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");

    let running = directory::start(settings(&folder), Arc::new(NoRelay::default())).unwrap();
    let mut client = Client { stream: plain(running.local_addrs()[0]) };
    let found = client.ask(Operation::ResolveHostname { hostname: "alpha".into() });
    assert!(matches!(found, Answer::ResolveHostname { node_id: found, .. } if found == node_id));
}

#[test]
fn a_busy_port_is_named_with_advice() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = settings(&folder);
    config.listen = vec![taken.local_addr().unwrap()];
    let text = format!("{:#}", directory::start(config, Arc::new(NoRelay::default())).unwrap_err());
    assert!(text.contains("cannot listen on 127.0.0.1:") && text.contains("--listen"), "{text}");
}

/// A relay that remembers what it was told, in order.
#[derive(Default)]
struct Recorder(Mutex<Vec<Told>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Publish(NodeId, Vec<IpAddr>),
    Withdraw(NodeId),
    Notify(NodeId),
}

impl Recorder {
    fn told(&self) -> Vec<Told> {
        self.0.lock().unwrap().clone()
    }
}

impl RelayLink for Recorder {
    fn publish(&self, node: NodeId, known: &Known) {
        self.0.lock().unwrap().push(Told::Publish(node, known.proven.clone()));
    }

    fn withdraw(&self, node: NodeId) {
        self.0.lock().unwrap().push(Told::Withdraw(node));
    }

    fn notify(&self, node: NodeId) {
        self.0.lock().unwrap().push(Told::Notify(node));
    }

    fn advertised(&self, local: IpAddr) -> Vec<String> {
        vec![SocketAddr::new(local, 9001).to_string()]
    }
}

#[test]
fn the_relay_knows_before_the_answer_and_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Arc::new(Recorder::default());
    let running = directory::start(settings(&folder), Arc::clone(&relay) as _).unwrap();
    let (alice, bob) = (key(1), key(2));
    let mut client = Client { stream: plain(running.local_addrs()[0]) };
    let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();

    let one = number(&client.ask(registration(&alice)));
    assert_eq!(relay.told(), [Told::Publish(one, ips(&["192.0.2.7", "127.0.0.1"]))]);
    let two = number(&client.ask(registration(&bob)));
    let ask = Operation::RequestHandshake { from_node_id: two, to_node_id: one, justification: String::new() };
    client.ask(signed(&bob, ask));
    assert_eq!(relay.told().last(), Some(&Told::Notify(one)));
    client.ask(signed(&bob, Operation::Deregister { node_id: two }));
    assert_eq!(relay.told().last(), Some(&Told::Withdraw(two)));
    match client.ask(Operation::BeaconList) {
        Answer::BeaconList { beacons } => assert_eq!(beacons[0].addr, "127.0.0.1:9001"),
        other => panic!("{other:?}"),
    }
    drop(client);
    running.shutdown();
    assert_eq!(relay.told().last(), Some(&Told::Publish(one, ips(&["192.0.2.7"]))), "the connection's proof has ended");

    let relay = Arc::new(Recorder::default());
    let _running = directory::start(settings(&folder), Arc::clone(&relay) as _).unwrap();
    assert_eq!(relay.told(), [Told::Publish(one, ips(&["192.0.2.7"]))], "before the first connection");
}

#[test]
fn metrics_tell_what_happened() {
    let served = serve();
    let mut client = served.connect();
    client.ask(registration(&key(1)));
    client.ask(Operation::Lookup { node_id: NodeId(9) });
    assert_eq!(served.metric("requests_total{type=\"register\"}"), 1);
    assert_eq!(served.metric("errors_total"), 1);
    assert_eq!(served.metric("connections_open"), 1);
    assert_eq!((served.metric("nodes"), served.metric("nodes_online")), (1, 1));
    assert!(served.metric("commit_duration_seconds_count") >= 1);
    assert_eq!(served.metric("commit_duration_seconds_count"), served.metric("commit_changes_count"));
    assert_eq!(served.metric("request_duration_seconds_count{type=\"register\"}"), 1);
    assert_eq!(served.metric("connections_served_total{transport=\"plain\"}"), 1);
}

#[test]
fn what_cannot_be_stored_is_refused_in_time_and_lookups_go_on() {
    let served = serve_with(|config| {
        config.limits.commit_timeout = Duration::from_millis(200);
        config.limits.waiting_bytes_max = 1;
    });
    let mut client = served.connect();
    let alice = key(1);
    let node_id = number(&client.ask(registration(&alice)));
    let name = |hostname: &str| signed(&alice, Operation::SetHostname { node_id, hostname: hostname.into() });
    let named = |client: &mut Client<TcpStream>, hostname: &str| {
        client.ask(Operation::ResolveHostname { hostname: hostname.into() })
    };
    let database = rusqlite::Connection::open(served.folder.path().join("directory.sqlite")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = "cannot store the change at the moment, try again later";
    assert_eq!(error(client.ask(name("first"))), refused);
    assert_eq!(error(client.ask(name("second"))), refused);
    assert!(matches!(named(&mut client, "first"), Answer::ResolveHostname { .. }), "decided, and on its way");
    assert!(error(named(&mut client, "second")).contains("not found"), "not even decided");
    database.execute_batch("ROLLBACK").unwrap();
    while served.metric("commit_changes_count") < 2 {
        std::thread::yield_now();
    }
    assert!(!matches!(client.ask(name("third")), Answer::Error { .. }));
}
