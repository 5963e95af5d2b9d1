//! `pilot-relay` as its user meets it: what it prints, what it refuses and how, how it ends.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATIENCE: Duration = Duration::from_secs(30);
/// Every part of the appliance at a free port of loopback.
const ANYWHERE: [&str; 8] =
    ["--beacon", "127.0.0.1:0", "--stun", "127.0.0.1:0", "--registry", "127.0.0.1:0", "--http", "127.0.0.1:0"];
/// The last words of the welcome.
const COMMAND: &str = "pilot-daemon ";

/// An empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn program<'a>(data_dir: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-relay"));
    command.arg("--data-dir").arg(data_dir).args(arguments);
    command.env("RUST_LOG", "error").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// What the program has said by its end; one that does not come to an end is killed.
fn end(child: Child) -> Output {
    let pid = pid(&child);
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = is_done.recv_timeout(PATIENCE) else {
        let _ = kill(pid, Signal::SIGKILL);
        panic!("it still runs after {PATIENCE:?}");
    };
    output.unwrap()
}

/// Runs a program that is expected to end by itself.
fn run(mut command: Command) -> Output {
    end(command.spawn().unwrap())
}

/// The one line a refusal consists of.
fn refusal(name: &str, arguments: &[&str]) -> String {
    let output = run(program(&folder(name), arguments.iter().copied()));
    one_line(&output)
}

fn one_line(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!output.status.success(), "accepted: {text}");
    assert!(output.status.code().is_some(), "ended by a signal: {}", output.status);
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    assert!(!text.contains("panicked") && !text.contains("os error 0"), "{text}");
    text
}

/// `ANYWHERE` with another value for one flag.
fn anywhere_but<'a>(flag: &str, value: &'a str) -> Vec<&'a str> {
    let at = ANYWHERE.iter().position(|argument| *argument == flag).expect("one of the address flags");
    let mut arguments: Vec<&str> = ANYWHERE.to_vec();
    arguments[at + 1] = value;
    arguments
}

/// The appliance at work, and what it has printed.
struct Appliance {
    /// `None` once its end is waited for.
    child: Option<Child>,
    welcome: Vec<String>,
}

impl Appliance {
    fn start(data_dir: &Path, arguments: &[&str]) -> Self {
        let mut child = program(data_dir, arguments.iter().copied()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut started = Self { child: Some(child), welcome: Vec::new() };
        let (print, printed) = mpsc::channel();
        std::thread::spawn(move || lines.try_for_each(|line| print.send(line)));
        while !started.welcome.last().is_some_and(|line| line.trim_start().starts_with(COMMAND)) {
            match printed.recv_timeout(PATIENCE) {
                Ok(line) => started.welcome.push(line),
                Err(error) => {
                    let last_words = started.last_words();
                    panic!("{error} after {:#?}; {last_words}", started.welcome);
                }
            }
        }
        started
    }

    fn last_words(&mut self) -> String {
        let Some(mut child) = self.child.take() else { return String::new() };
        let _ = child.kill();
        String::from_utf8_lossy(&end(child).stderr).into_owned()
    }

    /// What stands behind a name in the welcome.
    fn value(&self, name: &str) -> &str {
        let line = self.welcome.iter().find_map(|line| line.trim_start().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {:#?}", self.welcome)).trim()
    }

    fn address(&self, name: &str) -> SocketAddr {
        let text = self.value(name).trim_start_matches("http://");
        text.parse().unwrap_or_else(|error| panic!("{name} is {text}: {error}"))
    }

    /// The flags that start another one at the same ports.
    fn same_ports(&self) -> Vec<String> {
        [("--beacon", "beacon"), ("--stun", "stun"), ("--registry", "directory"), ("--http", "admin")]
            .into_iter()
            .flat_map(|(flag, name)| [flag.to_owned(), self.address(name).to_string()])
            .collect()
    }

    fn end_by(mut self, signal: Signal) -> ExitStatus {
        let child = self.child.take().expect("it runs until here");
        kill(pid(&child), signal).unwrap();
        end(child).status
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.last_words();
    }
}

/// Asks the beacon where we are, as a daemon does.
fn is_answered(beacon: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&[0x01, 0, 0, 0, 0], beacon).unwrap();
    let mut answer = [0; 64];
    let (len, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!((from, answer[0]), (beacon, 0x02), "{:02x?}", &answer[..len]);
}

/// The whole response to a request with `headers`, each ending in a line's end.
fn ask(admin: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: relay\r\n{headers}Connection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn get(admin: SocketAddr, path: &str) -> String {
    let text = ask(admin, path, "");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

#[test]
fn the_welcome_says_where_everything_is_and_how_to_join() {
    let data_dir = folder("welcome");
    let appliance = Appliance::start(&data_dir, &ANYWHERE);
    let (beacon, directory) = (appliance.address("beacon"), appliance.address("directory"));
    assert_eq!(appliance.value("data"), data_dir.display().to_string());
    let [.., agent, daemon] = &appliance.welcome[..] else { panic!("{:?}", appliance.welcome) };
    let pin = appliance.value("TLS pin");
    assert_eq!(pin.len(), 64);
    let agent_line = "pilotctl daemon start --hostname NAME --registry";
    assert_eq!(agent.trim(), format!("{agent_line} {directory} --registry-fingerprint {pin}"));
    assert_eq!(daemon.trim(), format!("pilot-daemon -registry {directory} -beacon {beacon}"));
    let admin = appliance.address("admin");
    assert_eq!(appliance.value("status"), format!("http://{admin}/"));
    assert!(get(admin, "/").contains("<!doctype html>"), "the status page");
    assert!(appliance.value("memory").contains("MiB"));
    is_answered(beacon);
    TcpStream::connect(directory).unwrap();
    assert!(get(appliance.address("admin"), "/healthz").ends_with("ok\n"));
    let metrics = get(appliance.address("admin"), "/metrics");
    assert!(metrics.contains("pilot_relay_datagrams_answered_total"), "{metrics}");
    assert!(appliance.end_by(Signal::SIGTERM).success());
}

#[test]
fn it_ends_on_request_and_the_same_ports_serve_again_at_once() {
    let data_dir = folder("again");
    let mut appliance = Appliance::start(&data_dir, &ANYWHERE);
    for (signal, is_success) in [(Signal::SIGTERM, true), (Signal::SIGINT, true), (Signal::SIGKILL, false)] {
        is_answered(appliance.address("beacon"));
        let ports = appliance.same_ports();
        assert_eq!(appliance.end_by(signal).success(), is_success, "{signal}");
        appliance = Appliance::start(&data_dir, &ports.iter().map(String::as_str).collect::<Vec<_>>());
    }
    is_answered(appliance.address("beacon"));
    assert!(appliance.end_by(Signal::SIGTERM).success());
}

#[test]
fn a_busy_port_is_named_with_the_flag_to_change() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (udp, tcp) = (udp.local_addr().map(|a| (a.to_string(), udp)), tcp.local_addr().map(|a| (a.to_string(), tcp)));
    let ((udp, _holds_udp), (tcp, _holds_tcp)) = (udp.unwrap(), tcp.unwrap());
    for (flag, address) in [("--beacon", &udp), ("--stun", &udp), ("--registry", &tcp), ("--http", &tcp)] {
        let line = refusal("busy", &anywhere_but(flag, address));
        assert!(line.contains(address.as_str()) && line.contains(flag), "{line}");
    }
}

#[test]
fn an_address_of_another_host_is_named_with_the_flag_to_change() {
    for flag in ["--beacon", "--stun", "--registry", "--http"] {
        let line = refusal("foreign", &anywhere_but(flag, "198.51.100.1:0"));
        assert!(line.contains("198.51.100.1") && line.contains(flag), "{line}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_write_instead() {
    for (arguments, hint) in [
        (&["--exempt", "10.0.0.0/99"][..], "ADDRESS/BITS"),
        (&["--exempt", "everyone"], "ADDRESS/BITS"),
        (&["--shards", "0"], "--shards must lie between 1 and"),
        (&["--shards", "100000"], "--shards must lie between 1 and"),
        (&["--shards", "two"], "--shards <N>"),
        (&["--sessions-max", "0"], "--sessions-max must lie between 1 and"),
        (&["--sessions-max", "268435457"], "--sessions-max must lie between 1 and 268435456"),
        (&["--sessions-max", "many"], "--sessions-max <N>"),
        (&["--beacon", "off", "--stun", "off", "--registry", "off"], "leave one of them on"),
        (&["--advertise", "no such host"], "--advertise"),
        (&["--bacon", "127.0.0.1:0"], "'--beacon'"),
        (&["--stun", "127.0.0.1"], "ADDRESS:PORT"),
        (&["--data-dir"], "DIR"),
        (&["--admission", "closed"], "grace"),
        (&["--admission", "strict", "--registry", "off"], "grace"),
        (&["--cpus", "3-1"], "0-3,8"),
        (&["--cpus", ""], "0-3,8"),
        (&["--cpus", "99999"], "0-3,8"),
        (&["--cpus", "1023"], "CPU 1023, which this process may not use"),
        (&["--cpus", "0", "--shards", "2"], "between 1 and 1, the number of CPUs"),
        (&["--tls-cert", "cert.pem"], "--tls-key"),
        (&["--tls", "off", "--tls-required"], "leave --tls off out"),
        (&["--tls", "off", "--tls-self-signed"], "leave one of them out"),
        (&["--tls", "perhaps"], "self-signed, off"),
    ] {
        let given = |flag: &str| arguments.contains(&flag);
        let others = ANYWHERE.chunks(2).filter(|pair| !given(pair[0])).flatten();
        let output = run(program(&folder("nonsense"), others.copied().chain(arguments.iter().copied())));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}, {}: {text}", output.status);
        assert!(text.contains(hint), "{arguments:?}: {text}");
        // One line says it, with the possible values below where there are some; the way to the help may follow.
        let mut complaint = text.split("\n\n").next().unwrap_or_default().lines().skip(1);
        assert!(!text.contains("panicked") && complaint.all(|line| line.starts_with("  ")), "{arguments:?}: {text}");
    }
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named() {
    let inside = folder("no-folder");
    let file = inside.join("a-file");
    fs::write(&file, "").unwrap();
    let line = one_line(&run(program(&file.join("below"), ANYWHERE)));
    assert!(line.contains("a-file/below") && line.contains("--data-dir"), "{line}");

    let appliance = Appliance::start(&inside, &ANYWHERE);
    let line = one_line(&run(program(&inside, ANYWHERE)));
    assert!(line.contains(&inside.display().to_string()), "a folder in use: {line}");
    is_answered(appliance.address("beacon"));
    assert!(appliance.end_by(Signal::SIGTERM).success());
}

#[test]
fn parts_can_be_switched_off() {
    let data_dir = folder("off");
    let off = |flags: &[&'static str]| {
        let mut arguments = ANYWHERE.to_vec();
        for flag in flags {
            let at = arguments.iter().position(|argument| argument == flag).unwrap();
            arguments[at + 1] = "off";
        }
        arguments
    };
    let appliance = Appliance::start(&data_dir, &off(&["--stun", "--http"]));
    assert_eq!((appliance.value("stun"), appliance.value("admin")), ("off", "off"));
    is_answered(appliance.address("beacon"));
    assert!(appliance.end_by(Signal::SIGTERM).success());
}

/// Two nodes that the beacon has answered, and a trace message of the first for the second.
fn traced_pair(beacon: SocketAddr) -> (UdpSocket, UdpSocket) {
    let [one, two] = [1, 2].map(|node| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(beacon).unwrap();
        socket.send(&[0x01, 0, 0, 0, node]).unwrap();
        assert_eq!(socket.recv(&mut [0; 64]).unwrap(), 8);
        socket
    });
    let ids = [&[0xAB; 16][..], &[0xCD; 8]].concat();
    one.send(&[&[0x0D, 0, 0, 0, 1, 0, 0, 0, 2][..], &ids, &[0x01]].concat()).unwrap();
    (one, two)
}

/// Relays a packet from the first to the second.
fn is_relayed((one, two): &(UdpSocket, UdpSocket)) {
    one.send(b"\x05\0\0\0\x01\0\0\0\x02inner").unwrap();
    let mut delivered = [0; 64];
    let len = two.recv(&mut delivered).unwrap();
    assert_eq!(&delivered[..len], b"\x06\0\0\0\x01inner");
}

/// The flags of a relay alone.
const ALONE: [&str; 10] =
    ["--beacon", "127.0.0.1:0", "--stun", "off", "--registry", "off", "--http", "127.0.0.1:0", "--admission", "open"];

impl Appliance {
    /// One that serves relayed packets alone, which nobody can join.
    fn start_alone(data_dir: &Path, more: &[&str]) -> Self {
        let mut child = program(data_dir, ALONE.iter().chain(more).copied()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let last = |line: &String| line.trim_start().starts_with("memory");
        let mut welcome = Vec::new();
        while !welcome.last().is_some_and(last) {
            welcome.push(lines.next().expect("the welcome goes on"));
        }
        Self { child: Some(child), welcome }
    }
}

#[test]
fn what_befell_a_node_is_told_to_the_administrator() {
    let data_dir = folder("events");
    let token_file = data_dir.join("token");
    fs::write(&token_file, "secret\n").unwrap();
    let appliance = Appliance::start_alone(&data_dir, &["--admin-token-file", token_file.to_str().unwrap()]);
    let pair = traced_pair(appliance.address("beacon"));
    is_relayed(&pair);
    let admin = appliance.address("admin");
    let guess = "Authorization: Bearer wrong\r\n";
    for (path, headers) in [("/events", ""), ("/events/1", ""), ("/events/1", guess)] {
        let refused = ask(admin, path, headers);
        assert!(refused.starts_with("HTTP/1.1 401") && !refused.contains("session"), "{refused}");
    }
    let shown = "Authorization: Bearer secret\r\n";
    let of_one = ask(admin, "/events/1", shown);
    let place = pair.0.local_addr().unwrap();
    for part in [
        format!("\"endpoint\":\"{place}\""),
        "\"what\":\"session started\"".to_owned(),
        "to node 2, session: trace abababababababababababababababab".to_owned(),
    ] {
        assert!(of_one.contains(&part), "{part} is not in {of_one}");
    }
    assert!(ask(admin, "/events/0:0000.0000.0002", shown).contains("from node 1: trace abab"));
    let latest = ask(admin, "/events", shown);
    assert!(latest.contains("\"node\":1") && latest.contains("\"node\":2"), "{latest}");
    assert!(ask(admin, "/events/3", shown).starts_with("HTTP/1.1 404"));
    assert!(ask(admin, "/events/%1B%5B2J", shown).starts_with("HTTP/1.1 400"));
    let at_once = get(admin, "/");
    assert!(["/healthz", "/metrics", "/counters", "/events"].iter().all(|path| at_once.contains(path)), "{at_once}");
    let wrong = |guess| ask(admin, "/events", &format!("Authorization: Bearer wrong{guess}\r\n"));
    let guesses: Vec<_> = (0..5).map(|guess| wrong(guess)[9..12].to_owned()).collect();
    assert_eq!(guesses, ["401", "401", "401", "401", "429"], "with the one before");
    assert!(ask(admin, "/events", shown).starts_with("HTTP/1.1 429"), "nor does a right one tell that it is");
    assert!(appliance.end_by(Signal::SIGTERM).success());
}

#[test]
fn guesses_at_the_events_and_at_the_operator_view_count_together() {
    let appliance = Appliance::start(&folder("guesses"), &ANYWHERE);
    let mut guesses = 0;
    let mut guess = |path| {
        guesses += 1;
        let token = format!("Authorization: Bearer guess{guesses}\r\n");
        ask(appliance.address("admin"), path, &token)[9..12].to_owned()
    };
    let paths = ["/events", "/operator/status.json", "/events/1", "/operator", "/events", "/events"];
    assert_eq!(paths.map(&mut guess), ["401", "401", "401", "401", "401", "429"]);
    assert_eq!(guess("/operator/status.json"), "429");
    assert!(get(appliance.address("admin"), "/metrics").contains("outcome=\"exported\"} 0\n"));
    assert!(appliance.end_by(Signal::SIGTERM).success());
}

/// The body of the next request, which is answered as taken.
fn take_post(collector: &TcpListener) -> Vec<u8> {
    let (mut stream, _) = collector.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut len = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => len = value.parse().unwrap(),
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    body
}

#[test]
fn a_traced_message_leaves_the_relays_spans_with_a_collector() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", collector.local_addr().unwrap());
    let (post, posted) = mpsc::channel();
    std::thread::spawn(move || while post.send(take_post(&collector)).is_ok() {});
    let appliance = Appliance::start_alone(&folder("spans"), &["--otlp", &url]);
    let pair = traced_pair(appliance.address("beacon"));
    is_relayed(&pair);
    let has = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let mut spans = Vec::new();
    while !has(&spans, b"pilot.relay.forward") {
        spans.extend(posted.recv_timeout(PATIENCE).expect("the spans come"));
    }
    for part in [&b"pilot-relay"[..], b"pilot.relay.introduce", b"pilot.relay.destination", &[0xAB; 16], &[0xCD; 8]] {
        assert!(has(&spans, part), "{part:02x?} is not in {spans:02x?}");
    }
    assert!(!has(&spans, b"127.0.0.1"), "no address leaves");
    let counted = |outcome, count| format!("pilot_relay_spans_total{{outcome=\"{outcome}\"}} {count}\n");
    let expected = [counted("exported", 2), counted("failed", 0), counted("lost", 0)].concat();
    // The collector's word on the last may be on its way still.
    let is_told = |_| get(appliance.address("admin"), "/metrics").contains(&expected);
    assert!((0..10_000).any(is_told), "{}", get(appliance.address("admin"), "/metrics"));
    assert!(appliance.end_by(Signal::SIGTERM).success());

    let line = refusal("otlp", &[&ALONE[..], &["--otlp", "ftp://nowhere"]].concat());
    assert!(line.contains("--otlp") && line.contains("http://"), "{line}");
}

#[test]
fn a_backup_is_made_and_restored_while_it_serves() {
    let inside = folder("backup");
    let (data_dir, file) = (inside.join("data"), inside.join("one.backup"));
    let file_name = file.display().to_string();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-relay"));
        command.args(arguments).arg("--data-dir").arg(&data_dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        run(command)
    };
    let line = one_line(&command(&["backup", "--to", &file_name]));
    assert!(line.contains("there is no data folder") && line.contains("--data-dir"), "{line}");

    let appliance = Appliance::start(&data_dir, &ANYWHERE);
    let token = fs::read_to_string(data_dir.join("admin-token")).unwrap();
    let made = command(&["backup", "--to", &file_name, "--json"]);
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!((&made["file"], &made["nodes"]), (&file_name.as_str().into(), &0.into()), "{made}");
    let line = one_line(&command(&["backup", "--to", &file_name]));
    assert!(line.contains("--force"), "{line}");
    assert!(command(&["backup", "--to", &file_name, "--force"]).status.success());

    let waits = command(&["restore", &file_name]);
    let text = String::from_utf8_lossy(&waits.stdout).into_owned();
    assert!(waits.status.success() && text.contains("at its next start") && text.contains("--cancel"), "{text}");
    assert!(command(&["restore", "--cancel"]).status.success());
    assert!(!data_dir.join("restore-pending.sqlite").exists());
    assert!(command(&["restore", &file_name]).status.success());
    fs::write(data_dir.join("admin-token"), "another\n").unwrap();
    assert!(appliance.end_by(Signal::SIGTERM).success());
    let appliance = Appliance::start(&data_dir, &ANYWHERE);
    assert_eq!(fs::read_to_string(data_dir.join("admin-token")).unwrap(), token, "the token comes along");
    assert!(!data_dir.join("restore-pending.sqlite").exists());
    assert!(appliance.end_by(Signal::SIGTERM).success());

    fs::write(&file, "nothing of the kind").unwrap();
    let line = one_line(&command(&["restore", &file_name]));
    assert!(line.contains("nothing was changed"), "{line}");
    let elsewhere = inside.join("elsewhere");
    let missing = one_line(&run({
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-relay"));
        command.args(["restore", "--data-dir"]).arg(&elsewhere).arg(inside.join("no-such-file"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }));
    assert!(missing.contains("no-such-file"), "{missing}");
}

#[test]
fn root_restores_as_the_owner_of_the_folder_and_follows_no_link_of_it() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

    const SERVICE: u32 = 65_534;
    if !nix::unistd::geteuid().is_root() {
        // Nobody else can become another.
        return;
    }
    let inside = tempfile::tempdir().unwrap();
    fs::set_permissions(inside.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let [data_dir, source, secrets] = ["data", "source", "secrets"].map(|name| inside.path().join(name));
    for path in [&data_dir, &source, &secrets] {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    drop(directory::store::Store::open(&source, 1_795_000_000).unwrap());
    let backup = secrets.join("one.backup");
    directory::store::backup::write(&source, &backup, false, "test", 1_795_000_000).unwrap();
    // What a service that was taken over would plant.
    let victim = secrets.join("victim");
    symlink(&victim, data_dir.join("directory.lock")).unwrap();
    chown(&data_dir, Some(SERVICE), Some(SERVICE)).unwrap();
    let restore = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-relay"));
        command.arg("restore").arg(&backup).arg("--data-dir").arg(&data_dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        run(command)
    };
    assert!(!restore().status.success() && !victim.exists());
    fs::remove_file(data_dir.join("directory.lock")).unwrap();
    let output = restore();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for entry in fs::read_dir(&data_dir).unwrap().flatten() {
        assert_eq!(entry.metadata().unwrap().uid(), SERVICE, "{}", entry.path().display());
    }
    assert!(data_dir.join("directory.sqlite").exists());
}
