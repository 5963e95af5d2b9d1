//! Settings from a file and from the environment, read again at SIGHUP; the snapshot of another registry taken over.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wire::NodeId;
use wire::registry::answer::Registered;
use wire::registry::request::Register;
use wire::registry::{Answer, Base64, LENGTH_BYTES, Operation, Request, push_message};

const PATIENCE: Duration = Duration::from_secs(30);
const FILE: &str = "beacon = \"127.0.0.1:0\"\nstun = \"off\"\nregistry = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nshards = 1\nsessions-max = 1000\n";

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-relay"));
    command.args(arguments).env("PILOT_RELAY_DATA_DIR", folder.join("data")).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn settings(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("relay.toml");
    fs::write(&path, text).unwrap();
    path
}

fn output(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = program(folder, arguments).output().unwrap();
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

/// A relay at work; ended when it is dropped.
struct Relay {
    child: Child,
    directory: SocketAddr,
    log: Receiver<String>,
}

impl Relay {
    fn start(folder: &Path, file: &Path) -> Self {
        let mut child = program(folder, &["--config", file.to_str().unwrap()]).spawn().unwrap();
        let log = lines(child.stderr.take().unwrap());
        let printed = lines(child.stdout.take().unwrap());
        let mut this = Self { child, directory: SocketAddr::from(([0; 4], 0)), log };
        let line = await_line(&printed, "directory ");
        this.directory = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        await_line(&printed, "pilot-daemon ");
        this
    }

    fn hang_up(&self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGHUP).unwrap();
    }

    /// As daemons do since 1.12: signed.
    fn register(&self, key: &SigningKey) -> NodeId {
        let mut stream = TcpStream::connect(self.directory).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let register = Register {
            listen_addr: ":4000".to_owned(),
            public_key: Base64(key.verifying_key().to_bytes()),
            owner: String::new(),
            hostname: String::new(),
            version: String::new(),
            lan_addrs: Vec::new(),
            relay_only: false,
        };
        let mut frame = Vec::new();
        let operation = Operation::Register(register);
        let signature = key.sign(operation.signed_text().unwrap().as_bytes()).to_bytes();
        push_message(&mut frame, &Request { signature: Some(Base64(signature)), ..Request::from(operation) });
        stream.write_all(&frame).unwrap();
        let mut length = [0; LENGTH_BYTES];
        stream.read_exact(&mut length).unwrap();
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut message).unwrap();
        match Answer::decode(&message).unwrap() {
            Answer::Register(Registered { node_id, .. }) => node_id,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(source: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (say, said) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(source).lines().map_while(Result::ok).try_for_each(|line| say.send(line))
    });
    said
}

fn await_line(said: &Receiver<String>, words: &str) -> String {
    let mut before = Vec::new();
    loop {
        match said.recv_timeout(PATIENCE) {
            Ok(line) if line.contains(words) => return line,
            Ok(line) => before.push(line),
            Err(error) => panic!("{error} while waiting for {words:?} after {before:#?}"),
        }
    }
}

#[test]
fn the_environment_wins_over_the_file_and_wrong_settings_are_told_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = settings(folder, FILE);
    let file = file.to_str().unwrap();
    let shown = program(folder, &["config", "show", "--config", file, "--enrol", "approve"])
        .env("PILOT_RELAY_SESSIONS_MAX", "2000")
        .env("PILOT_RELAY_EXEMPT", "10.0.0.0/8,fd00::/8")
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for (key, value, origin) in [
        ("stun", "off", "relay.toml:2"),
        ("sessions-max", "2000", "PILOT_RELAY_SESSIONS_MAX"),
        ("exempt", "10.0.0.0/8,fd00::/8", "PILOT_RELAY_EXEMPT"),
        ("enrol", "approve", "flag"),
        ("admission", "grace", "default"),
    ] {
        let line = shown.lines().find(|line| line.split_whitespace().next() == Some(key));
        let line = line.unwrap_or_else(|| panic!("{key} is missing in {shown}"));
        assert!(line.contains(value) && line.ends_with(origin), "{line}");
    }
    let (exit, text) = output(folder, &["config", "check", "--config", file]);
    assert_eq!(exit, Some(0), "{text}");

    settings(folder, "stun = \"off\"\nsesions-max = 1\n");
    let (exit, text) = output(folder, &["--config", file]);
    assert_eq!(exit, Some(2));
    assert!(text.contains("relay.toml:2: there is no setting sesions-max; did you mean sessions-max?"), "{text}");
    let wrong = program(folder, &[]).env("PILOT_RELAY_SHARDS", "many").output().unwrap();
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(text.contains("PILOT_RELAY_SHARDS in the environment"), "{text}");
}

#[test]
fn what_a_relay_would_trip_over_is_found_before() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http = format!("http = \"{}\"\n", taken.local_addr().unwrap());
    for (line, words, expected) in [
        ("tls-self-signed = true\ntls-cert = \"no.pem\"\ntls-key = \"no.pem\"\n", "choose one", 2),
        ("tls-self-signed = false\ntls-cert = \"no.pem\"\ntls-key = \"no.pem\"\n", "from no.pem", 3),
        ("tls-cert = \"no.pem\"\ntls-key = \"no.pem\"\n", "no.pem", 3),
        ("tls = \"off\"\ntls-cert = \"no.pem\"\ntls-key = \"no.pem\"\n", "leave one of them out", 2),
        ("tls = \"off\"\n", "leave --tls off out", 0),
        ("tls-required = true\n", "will be made at the first start", 0),
        ("admin-token-file = \"/does/not/exist\"\n", "/does/not/exist", 3),
        ("enrol = \"allowlist\"\nallowlist = \"/does/not/exist\"\n", "--allowlist /does/not/exist", 3),
        ("allowlist = \"/does/not/exist\"\n", "--enrol open lets everyone in", 3),
        ("enrol = \"allowlist\"\n", "name it with --allowlist FILE", 3),
        ("enrol = \"allowlist\"\nallowlist = \"/dev/null\"\n", "/dev/null names no key, so it lets nobody in", 0),
        (&http.replace("http", "#"), "every value", 0),
        ("sessions-max = 0\n", "--sessions-max must lie between", 2),
        ("log-level = \"=,=\"\n", "--log-level", 2),
    ] {
        let text = FILE.replace("sessions-max = 1000\n", "") + line;
        let file = settings(folder, &text);
        let (exit, text) = output(folder, &["config", "check", "--config", file.to_str().unwrap()]);
        assert_eq!(exit, Some(expected), "{line}: {text}");
        assert!(text.contains(words), "{line}: {text}");
    }
    let file = settings(folder, &FILE.replace("http = \"127.0.0.1:0\"\n", &http));
    let (exit, text) = output(folder, &["config", "check", "--json", "--config", file.to_str().unwrap()]);
    assert_eq!(exit, Some(3), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(
        report.as_array().unwrap().iter().any(|found| found["id"] == "port" && found["status"] == "problem"),
        "{text}"
    );
}

#[test]
fn a_check_beside_the_relay_at_work_tells_what_a_reload_cannot_change() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let relay = Relay::start(folder, &settings(folder, FILE));
    // This change is in the log alone.
    relay.register(&SigningKey::from_bytes(&[1; 32]));
    let check = |address: &str| {
        let text = FILE.replace("registry = \"127.0.0.1:0\"", &format!("registry = \"{address}\""));
        let file = folder.join("checked.toml");
        fs::write(&file, text).unwrap();
        output(folder, &["config", "check", "--config", file.to_str().unwrap()])
    };
    let (exit, text) = check(&relay.directory.to_string());
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains(&format!("{} is that of the relay at work", relay.directory)), "{text}");
    assert!(text.contains("directory.sqlite is whole"), "{text}");
    let moved = format!("0.0.0.0:{}", relay.directory.port());
    let (exit, text) = check(&moved);
    assert_eq!(exit, Some(0), "{text}");
    let line = text.lines().find(|line| line.contains(&moved)).unwrap();
    let why = format!("the relay at work listens at {}; it has the port until it ends", relay.directory);
    assert!(line.contains("note") && line.contains(&why) && line.contains("systemctl restart"), "{text}");
}

#[test]
fn files_that_a_relay_would_refuse_are_found_before_and_none_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = folder.join("data");
    let file = settings(folder, FILE);
    let check = || output(folder, &["config", "check", "--config", file.to_str().unwrap()]);
    drop(Relay::start(folder, &file));
    let files = || {
        let entries = fs::read_dir(&data).unwrap().flatten().filter(|entry| entry.path().is_file());
        let read = entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()));
        read.collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = files();
    let (exit, text) = check();
    assert_eq!(exit, Some(0), "after a kill, with a log: {text}");
    assert!(files() == before, "a check changes nothing");

    let key = data.join("relay-key");
    let secret = fs::read(&key).unwrap();
    let set_mode = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    let refuses = |words: &[&str]| {
        let (exit, text) = check();
        assert_eq!(exit, Some(3), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
        let (exit, said) = output(folder, &["--config", file.to_str().unwrap()]);
        assert_eq!(exit, Some(1), "the relay says the same: {said}");
    };
    set_mode(0o644);
    refuses(&["relay-key", "chmod 600"]);
    set_mode(0o600);
    fs::write(&key, "no key").unwrap();
    refuses(&["relay-key", "no relay key"]);
    fs::write(&key, &secret).unwrap();

    let token = data.join("admin-token");
    let kept = fs::read(&token).unwrap();
    fs::write(&token, [0xFF, 0xFE]).unwrap();
    refuses(&["admin-token", "cannot read"]);
    fs::write(&token, kept).unwrap();

    // An orderly end leaves no log in which pages could be whole.
    let mut relay = Relay::start(folder, &file);
    kill(Pid::from_raw(relay.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(relay.child.wait().unwrap().success());
    let database = data.join("directory.sqlite");
    let whole = fs::read(&database).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&database, bytes).unwrap();
    };
    changed(&|bytes| bytes[4096..4 * 4096].fill(0xA5));
    refuses(&["database", "directory.sqlite", "pilot-relay restore FILE"]);
    // Where SQLite keeps the version of the schema.
    changed(&|bytes| bytes[60..64].copy_from_slice(&99_u32.to_be_bytes()));
    refuses(&["database", "schema 99"]);
    changed(&|_| ());
    assert_eq!(check().0, Some(0));
}

#[test]
fn a_hang_up_reads_the_settings_again_and_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = settings(folder.path(), FILE);
    let relay = Relay::start(folder.path(), &file);
    relay.hang_up();
    await_line(&relay.log, "settings were read again");
    settings(folder.path(), &FILE.replace("1000", "2000"));
    relay.hang_up();
    let line = await_line(&relay.log, "these take a restart");
    assert!(line.contains("sessions-max"), "{line}");
    settings(folder.path(), "nonsense\n");
    relay.hang_up();
    let line = await_line(&relay.log, "cannot reload");
    assert!(line.contains("relay.toml:1"), "{line}");
    assert_eq!(relay.register(&SigningKey::from_bytes(&[1; 32])), NodeId(1));
}

#[test]
fn whoever_is_taken_off_the_list_is_out_although_the_certificate_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let key = |seed: u8| SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes();
    let list = |seeds: &[u8]| {
        let lines: String = seeds.iter().map(|seed| format!("{}\n", Base64(key(*seed)))).collect();
        fs::write(&keys, lines).unwrap();
    };
    list(&[1, 2]);
    let more = format!("tls-self-signed = true\nenrol = \"allowlist\"\nallowlist = \"{}\"\n", keys.display());
    let relay = Relay::start(folder.path(), &settings(folder.path(), &(FILE.to_owned() + &more)));
    list(&[1]);
    fs::write(folder.path().join("data/tls-cert.pem"), "half renewed").unwrap();
    relay.hang_up();
    let line = await_line(&relay.log, "the list of keys that may join was read again");
    assert!(line.contains("keys=1"), "{line}");
    let line = await_line(&relay.log, "cannot reload the certificate");
    assert!(line.contains("tls-cert.pem"), "{line}");
    // Nor does a setting that is wrong keep the list.
    settings(folder.path(), "nonsense\n");
    list(&[1, 2, 3]);
    relay.hang_up();
    let line = await_line(&relay.log, "the list of keys that may join was read again");
    assert!(line.contains("keys=3"), "{line}");
    await_line(&relay.log, "cannot reload the settings");
}

#[test]
fn a_list_that_is_suddenly_empty_puts_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let key = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
    let line = |seed: u8| format!("{}\n", Base64(key(seed).verifying_key().to_bytes()));
    fs::write(&keys, "# nobody yet\n").unwrap();
    let list = format!("enrol = \"allowlist\"\nallowlist = \"{}\"\n", keys.display());
    let file = settings(folder.path(), &(FILE.to_owned() + &list));
    let relay = Relay::start(folder.path(), &file);
    await_line(&relay.log, "names no key, so it lets nobody in");
    fs::write(&keys, line(1) + &line(2)).unwrap();
    relay.hang_up();
    await_line(&relay.log, "was read again");
    assert_eq!((relay.register(&key(1)), relay.register(&key(2))), (NodeId(1), NodeId(2)));
    fs::write(&keys, "").unwrap();
    relay.hang_up();
    let said = await_line(&relay.log, "it stays as it was");
    assert!(said.contains("names no key; write the keys into it and reload again"), "{said}");
    assert_eq!(relay.register(&key(1)), NodeId(1), "it is in as before");
    fs::write(&keys, line(1)).unwrap();
    relay.hang_up();
    let said = await_line(&relay.log, "was read again");
    assert!(said.contains("WARN") && said.contains("put_out=1") && said.contains("let_in=0"), "{said}");

    fs::write(&keys, "").unwrap();
    let refused = "names no key, and nodes that are in by it would be out: 1;";
    // Of the relay at work, and of one that was killed.
    let (exit, said) = output(folder.path(), &["config", "check", "--config", file.to_str().unwrap()]);
    assert!(exit == Some(3) && said.contains(refused), "{said}");
    drop(relay);
    let (exit, said) = output(folder.path(), &["--config", file.to_str().unwrap()]);
    assert!(exit == Some(1) && said.contains(refused), "{said}");
    // What only whoever opens the database can see.
    fs::remove_file(folder.path().join("data/directory.sqlite-shm")).unwrap();
    let (exit, said) = output(folder.path(), &["--config", file.to_str().unwrap()]);
    assert!(exit == Some(1) && said.contains(refused), "{said}");
    fs::write(&keys, line(3)).unwrap();
    let relay = Relay::start(folder.path(), &file);
    let said = await_line(&relay.log, "are out and wait");
    assert!(said.contains("WARN") && said.contains("put_out=1"), "{said}");
}

#[test]
fn an_imported_key_gets_its_number_back() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let key = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
    let text = |seed: u8| Base64(key(seed).verifying_key().to_bytes()).to_string();
    let snapshot = folder.join("snapshot.json");
    let mut registry = serde_json::json!({
        "next_node": 12,
        "nodes": { "4": { "id": 4, "public_key": text(4), "hostname": "alice" }, "9": { "id": 9, "public_key": "broken" } },
        "trust_pairs": [],
        "pub_key_idx": { text(4): 4, text(7): 7 },
    });
    let write = |registry: &serde_json::Value| fs::write(&snapshot, registry.to_string()).unwrap();
    write(&registry);
    let path = snapshot.to_str().unwrap();
    let (exit, said) = output(folder, &["import", path]);
    assert_eq!(exit, Some(3), "{said}");
    assert!(said.contains("node 9: its key is not 32 bytes") && said.contains("Nothing was written"), "{said}");
    assert!(!folder.join("data").exists());
    registry["nodes"].as_object_mut().unwrap().remove("9");
    write(&registry);
    assert_eq!(output(folder, &["import", path, "--dry-run"]).0, Some(0));
    assert!(!folder.join("data").exists());
    let (exit, said) = output(folder, &["import", path, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((exit, report["done"].as_bool(), report["summary"]["nodes"].as_u64()), (Some(0), Some(true), Some(1)));
    let (exit, said) = output(folder, &["import", path]);
    assert_eq!(exit, Some(1));
    assert!(said.contains("nodes already"), "{said}");

    let relay = Relay::start(folder, &settings(folder, FILE));
    assert_eq!(relay.register(&key(4)), NodeId(4));
    assert_eq!(relay.register(&key(7)), NodeId(7), "its node was away");
    assert_eq!(relay.register(&key(20)), NodeId(12), "a new one gets the next number, and no gap");
}
