//! Hostile frames: wrong lengths, huge, deep, wrong-typed, half-sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use lab::{Host, REGISTRY_PORT, RELAY_V4, Stopwatch};
use serde_json::{Value, json};

/// More than any directory takes.
const LENGTH_TOO_LARGE: u32 = 65 << 20;
const ANSWER_WITHIN: Duration = Duration::from_millis(150);
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

/// What the directory made of some bytes.
#[derive(Debug)]
pub enum Outcome {
    /// It answered.
    Answered(Vec<Value>),
    /// It hung up without a word.
    Closed,
    /// It waits for more.
    Silence,
}

/// A body behind its length.
pub fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).expect("bodies are short").to_be_bytes(), body].concat()
}

/// Ways to open a connection that no client uses, by name.
pub fn hostile_frames() -> Vec<(String, Vec<u8>)> {
    let request = json!({ "type": "lookup", "node_id": 1 }).to_string();
    let mut all = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| all.push((name.to_owned(), bytes));

    for length in [0_u32, 1, LENGTH_TOO_LARGE, i32::MAX as u32, u32::MAX] {
        add(&format!("a length of {length} and nothing else"), length.to_be_bytes().to_vec());
        add(&format!("a length of {length} before a request"), [&length.to_be_bytes(), request.as_bytes()].concat());
    }
    add("a length one too long", [&(request.len() as u32 + 1).to_be_bytes(), request.as_bytes()].concat());
    add("a length one too short", [&(request.len() as u32 - 1).to_be_bytes(), request.as_bytes()].concat());
    add("the opening of the binary mode", b"PILT\x01".to_vec());
    add("a web browser", b"GET / HTTP/1.1\r\nHost: directory\r\n\r\n".to_vec());
    add("half a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec());
    add("a deep array", frame("[".repeat(100_000).as_bytes()));
    add("a deep object", frame(r#"{"type":"lookup","node_id":"#.repeat(20_000).as_bytes()));
    add("a huge string", frame(format!(r#"{{"type":"{}"}}"#, "x".repeat(500_000)).as_bytes()));
    add(
        "a huge list",
        frame(format!(r#"{{"type":"set_tags","node_id":1,"tags":[{}1]}}"#, "1,".repeat(200_000)).as_bytes()),
    );
    add("no JSON", frame(b"hello"));
    add("no UTF-8", frame(b"{\"type\":\"\xff\xfe\"}"));
    add("an empty object", frame(b"{}"));
    add("two objects in one frame", frame(b"{\"type\":\"lookup\",\"node_id\":1}{}"));
    for body in [
        json!(null),
        json!([]),
        json!("lookup"),
        json!({ "type": 5 }),
        json!({ "type": "no_such_request" }),
        json!({ "type": "lookup" }),
        json!({ "type": "lookup", "node_id": -1 }),
        json!({ "type": "lookup", "node_id": 1.5 }),
        json!({ "type": "lookup", "node_id": 1e300 }),
        json!({ "type": "lookup", "node_id": "1" }),
        json!({ "type": "lookup", "node_id": [1] }),
        json!({ "type": "register" }),
        json!({ "type": "register", "listen_addr": 7, "public_key": {} }),
        json!({ "type": "register", "listen_addr": "198.18.0.9:1", "public_key": "short" }),
        json!({ "type": "register", "listen_addr": "x".repeat(100_000), "public_key": "x".repeat(100_000) }),
        json!({ "type": "heartbeat", "node_id": 1, "signature": "not base64!" }),
        json!({ "type": "resolve", "node_id": 1, "requester_id": 1, "signature": null }),
        json!({ "type": "set_hostname", "node_id": 1, "hostname": { "a": 1 }, "signature": "" }),
        json!({ "type": "set_tags", "node_id": 1, "tags": "no list", "signature": "" }),
        json!({ "type": "create_network", "node_id": 1, "name": [], "join_rule": 3 }),
        json!({ "type": "beacon_register", "beacon_id": 1, "addr": "198.18.0.9:9001" }),
    ] {
        let mut name = format!("a request like {body}");
        name.truncate(100);
        add(&name, frame(body.to_string().as_bytes()));
    }
    for length in 0..request.len() + 4 {
        add(&format!("the first {length} bytes of a request"), frame(request.as_bytes())[..length].to_vec());
    }
    all
}

/// Sends the bytes and looks at what comes back within a moment.
pub fn provoke(host: &Host, bytes: &[u8]) -> Outcome {
    let mut stream = connect(host, RELAY_V4).expect("the directory accepts a newcomer");
    stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a socket takes a time-out");
    // Being shut out while still writing is an answer as well.
    let _ = stream.write_all(bytes);
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    let closed = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(length) => received.extend_from_slice(&buffer[..length]),
            Err(error) => break !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    };
    let _ = stream.shutdown(Shutdown::Both);
    let answers = decode_frames(&received);
    match (answers.is_empty(), closed) {
        (false, _) => Outcome::Answered(answers),
        (true, true) => Outcome::Closed,
        (true, false) => Outcome::Silence,
    }
}

/// Sends the bytes, then nothing more; how long the directory puts up with that.
pub fn time_until_shut_out(host: &Host, bytes: &[u8], within: Duration) -> Duration {
    let mut stream = connect(host, RELAY_V4).expect("the directory accepts a newcomer");
    stream.write_all(bytes).expect("a newcomer may write");
    stream.set_read_timeout(Some(within)).expect("a socket takes a time-out");
    let watch = Stopwatch::start();
    let ended = stream.read(&mut [0; 64]);
    let held = matches!(&ended, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    assert!(!held, "the directory still waits for the rest of a frame after {within:?}");
    watch.elapsed()
}

fn decode_frames(mut bytes: &[u8]) -> Vec<Value> {
    let mut answers = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let Some((body, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
        answers.push(serde_json::from_slice(body).expect("the directory answers in JSON"));
        bytes = rest;
    }
    answers
}

/// Connects to the directory from a host.
pub fn connect(host: &Host, directory: Ipv4Addr) -> std::io::Result<TcpStream> {
    let address = SocketAddr::new(IpAddr::V4(directory), REGISTRY_PORT);
    host.namespace().enter(|| TcpStream::connect_timeout(&address, CONNECTED_WITHIN))
}
