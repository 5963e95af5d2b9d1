//! `pilot-relay nodes` as its user meets it, against a relay at work on loopback.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use wire::registry::request::Register;
use wire::registry::{Answer, Base64, LENGTH_BYTES, Operation, Request, push_message};

const PATIENCE: Duration = Duration::from_secs(30);
const ANYWHERE: [&str; 8] =
    ["--beacon", "127.0.0.1:0", "--stun", "off", "--registry", "127.0.0.1:0", "--http", "127.0.0.1:0"];
/// The last words of the welcome.
const COMMAND: &str = "pilot-daemon ";

fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nodes").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-relay"));
    command.env("RUST_LOG", "error").env_remove("PILOT_RELAY_HTTP").env_remove("PILOT_RELAY_ADMIN_TOKEN_FILE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A relay at work.
struct Relay {
    child: Child,
    data_dir: PathBuf,
    welcome: Vec<String>,
}

impl Relay {
    fn start(data_dir: &Path, flags: &[&str]) -> Self {
        let mut command = program();
        let mut child = command.arg("--data-dir").arg(data_dir).args(ANYWHERE).args(flags).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (print, printed) = mpsc::channel();
        std::thread::spawn(move || lines.try_for_each(|line| print.send(line)));
        let mut relay = Self { child, data_dir: data_dir.to_owned(), welcome: Vec::new() };
        while !relay.welcome.last().is_some_and(|line| line.trim_start().starts_with(COMMAND)) {
            let line =
                printed.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{error} after {:?}", relay.welcome));
            relay.welcome.push(line);
        }
        relay
    }

    fn address(&self, name: &str) -> SocketAddr {
        let line = self.welcome.iter().find_map(|line| line.trim_start().strip_prefix(name)).unwrap();
        line.trim().trim_start_matches("http://").parse().unwrap()
    }

    fn end(mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }

    fn nodes(&self, arguments: &[&str]) -> Output {
        nodes(&self.address("admin").to_string(), &self.data_dir, arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.nodes(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn said(&self, arguments: &[&str]) -> String {
        let output = self.nodes(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The exit status and the one line of a refusal.
    fn refusal(&self, arguments: &[&str]) -> (Option<i32>, String) {
        refusal(&self.nodes(arguments))
    }

    /// What the directory answers to a signed registration.
    fn register(&self, seed: u8, hostname: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address("directory")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let operation = Operation::Register(Register {
            listen_addr: "127.0.0.1:4000".into(),
            public_key: Base64(key(seed).verifying_key().to_bytes()),
            owner: String::new(),
            hostname: hostname.into(),
            version: "1.18.0".into(),
            lan_addrs: vec![],
            relay_only: false,
        });
        let signature = key(seed).sign(operation.signed_text().unwrap().as_bytes());
        let mut frame = Vec::new();
        push_message(&mut frame, &Request { signature: Some(Base64(signature.to_bytes())), ..operation.into() });
        stream.write_all(&frame).unwrap();
        let mut length = [0; LENGTH_BYTES];
        stream.read_exact(&mut length).unwrap();
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut message).unwrap();
        Answer::decode(&message).unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nodes(http: &str, data_dir: &Path, arguments: &[&str]) -> Output {
    program().arg("nodes").args(["--http", http, "--data-dir"]).arg(data_dir).args(arguments).output().unwrap()
}

fn refusal(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    (output.status.code(), text)
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> String {
    Base64(key(seed).verifying_key().to_bytes()).to_string()
}

fn error(answer: Answer) -> String {
    match answer {
        Answer::Error { error } => error,
        other => panic!("no error: {other:?}"),
    }
}

#[test]
fn nodes_wait_are_approved_banned_and_removed_and_all_of_it_survives_a_restart() {
    let data_dir = folder("life");
    let relay = Relay::start(&data_dir, &["--enrol", "approve"]);
    for (seed, hostname) in [(1, "alice"), (2, "bob"), (3, "")] {
        assert!(matches!(relay.register(seed, hostname), Answer::Register(_)));
    }
    let list = relay.json(&["list", "--state", "pending"]);
    let numbers = |list: &Value| {
        list["nodes"].as_array().unwrap().iter().map(|node| node["node_id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&list), [1, 2, 3]);
    assert_eq!((&list["nodes"][0]["wished_hostname"], &list["nodes"][0]["hostname"]), (&"alice".into(), &Value::Null));

    assert_eq!(
        relay.said(&["approve", "1", &public(2)]),
        format!("node 1: now approved\nnode 2 ({}): now approved\n", public(2))
    );
    assert_eq!(relay.said(&["approve", "alice"]), "node 1 (alice): nothing to change\n");
    assert_eq!(relay.said(&["ban", "0:0000.0000.0002", "--reason", "spam"]), "node 2 (0:0000.0000.0002): now banned\n");
    assert!(error(relay.register(2, "")).contains("is banned"));
    assert_eq!(relay.json(&["approve", &public(4)])["node"]["standing"], "approved");
    assert_eq!(
        relay.said(&["quota", "alice", "--packets", "20k"]),
        "node 1 (alice): packets: 20000 packets per second; bytes: what everyone may send\n"
    );
    let table = relay.said(&["list"]);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = table.lines().map(words).collect();
    assert_eq!(lines.iter().map(|line| line[0].as_str()).collect::<Vec<_>>(), ["NODE", "1", "2", "3", "key"]);
    assert_eq!((lines[1][2].as_str(), lines[1][4].as_str(), lines[2][2].as_str()), ("approved", "alice", "banned"));
    assert!(public(1).starts_with(&lines[1][5]));

    relay.end();
    let relay = Relay::start(&data_dir, &["--enrol", "approve"]);
    assert_eq!(numbers(&relay.json(&["list", "--state", "banned"])), [2]);
    assert_eq!(relay.json(&["quota", "1"])["packets_per_second"], 20_000);
    assert!(matches!(relay.register(4, ""), Answer::Register(_)));
    assert_eq!(numbers(&relay.json(&["list", "--state", "approved"])), [1, 4]);
    assert!(relay.said(&["show", "2"]).contains("spam"));
    assert_eq!(relay.said(&["unban", "2"]), "node 2: now approved\n");
    assert_eq!(relay.said(&["remove", "alice"]), "node 1 (alice): removed; its number stays with its key\n");
    assert_eq!(numbers(&relay.json(&["list"])), [2, 3, 4]);
    assert!(matches!(relay.register(1, ""), Answer::Register(registered) if registered.node_id.0 == 1));
    assert_eq!(numbers(&relay.json(&["list", "--state", "pending"])), [1, 3]);
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do_and_a_status() {
    let relay = Relay::start(&folder("refusals"), &[]);
    relay.register(1, "alice");
    for (arguments, status, hint) in [
        (&["show", "9"][..], 3, "nodes list"),
        (&["ban", "nobody"], 3, "no node \"nobody\""),
        (&["show", "../../metrics"], 3, "no node"),
        (&["quota", "1", "--packets", "many"], 2, "20k"),
        (&["list", "--state", "friendly"], 2, "pending"),
        (&["list", "--http", "https://127.0.0.1:1"], 1, "ssh -L"),
        (&["list", "--http", "nowhere"], 1, "127.0.0.1:3000"),
        (&["list", "--http", "127.0.0.1:1"], 4, "--http"),
        (&["list", "--admin-token-file", "/nonexistent"], 5, "--data-dir"),
    ] {
        let output = relay.nodes(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        assert!(text.contains(hint) && !text.contains("panicked"), "{arguments:?}: {text}");
    }
    relay.said(&["ban", "1"]);
    let (status, text) = relay.refusal(&["approve", "1"]);
    assert!(status == Some(1) && text.contains("unban it first"), "{text}");
    let (status, text) = relay.refusal(&["quota", &public(9), "--bytes", "1M"]);
    assert!(status == Some(1) && text.contains("has not registered"), "{text}");

    let wrong = folder("wrong").join("token");
    fs::write(&wrong, "not the token\n").unwrap();
    assert_eq!(relay.refusal(&["list", "--admin-token-file", wrong.to_str().unwrap()]).0, Some(5), "not one word");
    for guess in 0..6 {
        fs::write(&wrong, format!("guess{guess}\n")).unwrap();
        let (status, text) = relay.refusal(&["list", "--admin-token-file", wrong.to_str().unwrap()]);
        assert!(status == Some(5) && (text.contains("not the admin token") || text.contains("too many")), "{text}");
    }
    // From where guesses came, the right one is not believed for a while either: it must not tell the guesser apart.
    let (_, text) = relay.refusal(&["list"]);
    assert!(text.contains("too many wrong tokens from your address; try again in a minute"), "{text}");
    assert!(text.contains("some program here"), "{text}");
}

#[test]
fn a_program_that_shows_a_token_of_before_keeps_the_administrator_not_out() {
    let relay = Relay::start(&folder("before"), &[]);
    let before = relay.data_dir.join("token-of-before");
    fs::write(&before, "of-before\n").unwrap();
    for _ in 0..10 {
        let (status, text) = relay.refusal(&["list", "--admin-token-file", before.to_str().unwrap()]);
        assert!(status == Some(5) && text.contains("not the admin token"), "{text}");
    }
    relay.said(&["list"]);
}

#[test]
fn of_several_each_is_tried_and_what_failed_is_said_of_each() {
    let relay = Relay::start(&folder("several"), &["--enrol", "approve"]);
    relay.register(1, "");
    relay.register(2, "");
    let output = relay.nodes(&["approve", "1", "nobody", "2"]);
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), said.as_str()), (Some(3), "node 1: now approved\nnode 2: now approved\n"));
    let lines: Vec<&str> = errors.lines().collect();
    assert!(lines[0].starts_with("pilot-relay: nobody: no node \"nobody\""), "{errors}");
    assert_eq!(lines[1..], ["pilot-relay: 1 of 3 not done"]);

    let both = relay.json(&["ban", "1", "2"]);
    assert_eq!(both.as_array().unwrap().iter().map(|one| &one["node"]["node_id"]).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(relay.json(&["unban", "1"])["node"]["node_id"], 1, "one is no array");
    // Of the statuses 1 and 3 the higher; one that is banned is not approved.
    let output = relay.nodes(&["approve", "--json", "2", "nobody", "1"]);
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &all[2]["changed"]), (Some(3), &false.into()));
    assert!(all[0]["error"].as_str().unwrap().contains("unban it first"), "{all:#}");
    assert_eq!((&all[0]["node"], &all[1]["node"]), (&"2".into(), &"nobody".into()));
    // What would be said of any is said once.
    let token = relay.data_dir.join("other-token");
    fs::write(&token, "guess\n").unwrap();
    let output = relay.nodes(&["approve", "--json", "--admin-token-file", token.to_str().unwrap(), "1", "2", "3"]);
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &all[2]), (Some(5), &serde_json::json!({ "node": "3", "error": "not tried" })));
    assert!(errors.lines().count() == 2 && errors.ends_with("3 of 3 not done; not tried: 2, 3\n"), "{errors}");
}

#[test]
fn of_one_that_is_not_registered_is_said_what_it_would_be() {
    let relay = Relay::start(&folder("gone"), &["--enrol", "approve"]);
    relay.register(1, "");
    for (act, said) in [
        ("approve", "now approved"),
        ("remove", "removed; its number stays with its key"),
        ("remove", "nothing to change"),
        ("approve", "now approved, not registered"),
        ("ban", "now banned, not registered"),
        ("unban", "no longer banned; approved, not registered"),
        ("remove", "removed; its number stays with its key"),
        ("ban", "now banned, not registered"),
        ("unban", "no longer banned; not approved, not registered"),
    ] {
        assert_eq!(relay.said(&[act, "1"]), format!("node 1: {said}\n"), "{act}");
    }
    assert!(relay.said(&["show", "1"]).contains("state       not approved, not registered\n"));
    let stranger = public(2);
    for (act, said) in [
        ("approve", "now approved, not registered"),
        ("remove", "removed; nothing is said of it any more"),
        ("ban", "now banned, not registered"),
        ("unban", "no longer banned"),
    ] {
        assert_eq!(relay.said(&[act, &stranger]), format!("key {stranger}: {said}\n"));
    }
}

#[test]
fn a_relay_without_a_directory_says_that_it_knows_no_nodes() {
    let data_dir = folder("alone");
    fs::write(data_dir.join("admin-token"), "secret\n").unwrap();
    let token = data_dir.join("admin-token");
    let mut command = program();
    command.args(["--beacon", "127.0.0.1:0", "--stun", "off", "--registry", "off", "--http", "127.0.0.1:0"]);
    let mut child = command.arg("--admin-token-file").arg(&token).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let admin = lines.find_map(|line| line.trim().strip_prefix("admin").map(|at| at.trim().to_owned())).unwrap();
    // Serving begins before the welcome is printed.
    let (status, text) = refusal(&nodes(&admin, &data_dir, &["list"]));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(status == Some(1) && text.contains("no directory of its own"), "{text}");
}

#[test]
fn the_relay_at_work_says_where_it_is_asked() {
    let relay = Relay::start(&folder("found"), &[]);
    let output = program().args(["nodes", "list", "--data-dir"]).arg(&relay.data_dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_token_is_not_shown_to_whoever_has_the_port() {
    let data_dir = folder("stranger");
    fs::write(data_dir.join("admin-token"), "secret\n").unwrap();
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap().to_string();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = stranger.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>hello</html>").unwrap();
        String::from_utf8(bytes).unwrap()
    });
    let (status, text) = refusal(&nodes(&address, &data_dir, &["list"]));
    assert!(status == Some(4) && text.contains("is no relay"), "{text}");
    let heard = heard.join().unwrap();
    assert!(!heard.contains("secret") && !heard.contains("Authorization"), "{heard}");
}

#[test]
fn a_list_of_keys_lets_in_and_a_wrong_line_is_named_at_the_start() {
    let data_dir = folder("list");
    let list = data_dir.join("keys");
    fs::write(&list, format!("# ours\n{} alice\n", public(1))).unwrap();
    let flags = ["--enrol", "allowlist", "--allowlist", list.to_str().unwrap()];
    let relay = Relay::start(&data_dir, &flags);
    assert!(matches!(relay.register(1, ""), Answer::Register(_)));
    assert!(error(relay.register(2, "")).contains("only listed keys"));
    relay.end();
    fs::write(&list, "nonsense\n").unwrap();
    for (flags, hint) in
        [(&flags[..], "line 1: \"nonsense\" is no public key"), (&flags[2..], "--enrol open lets everyone in")]
    {
        let output = program().arg("--data-dir").arg(&data_dir).args(ANYWHERE).args(flags).output().unwrap();
        let (status, text) = refusal(&output);
        assert!(status == Some(1) && text.contains(hint), "{text}");
    }
}

#[test]
fn the_admin_token_is_its_owners_alone_and_a_wider_mode_is_tightened() {
    let data_dir = folder("token");
    let token = data_dir.join("admin-token");
    let mode = || fs::metadata(&token).unwrap().permissions().mode() & 0o777;
    Relay::start(&data_dir, &[]).end();
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let before = fs::read_to_string(&token).unwrap();
    Relay::start(&data_dir, &[]).end();
    assert_eq!((mode(), fs::read_to_string(&token).unwrap()), (0o600, before));
}
