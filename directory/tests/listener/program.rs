//! `pilot-directory` as its user meets it: killed without warning, started with wrong flags.

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pilot-directory");
/// Clients that write at the same time.
const WRITERS: u32 = 4;

struct Program {
    child: Child,
    address: SocketAddr,
}

fn start(data_dir: &Path) -> Program {
    let mut command = Command::new(PROGRAM);
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
    Program { child, address }
}

impl Program {
    /// SIGKILL: nothing of the program runs any more.
    fn kill(self) {
        drop(self);
    }

    fn connect(&self) -> Client<TcpStream> {
        Client { stream: plain(self.address) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Also when a test fails; a program left behind would hold on to the test's output.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one node was told is done.
struct Acknowledged {
    key: SigningKey,
    node_id: NodeId,
    hostname: Option<String>,
    trusts: bool,
    network: Option<u16>,
}

/// Sends a request whose answer may never come.
fn try_ask(client: &mut Client<TcpStream>, request: Request) -> io::Result<Answer> {
    let mut frame = Vec::new();
    push_message(&mut frame, &request);
    client.stream.write_all(&frame)?;
    let mut length = [0; LENGTH_BYTES];
    client.stream.read_exact(&mut length)?;
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    client.stream.read_exact(&mut message)?;
    Answer::decode(&message).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Registers, names itself, trusts node 1, makes a network; notes each step once it is acknowledged.
fn write_one(client: &mut Client<TcpStream>, seed: u32, noted: &mut Vec<Acknowledged>) -> io::Result<()> {
    let key = key(seed);
    let node_id = number(&try_ask(client, registration(&key))?);
    let at = noted.len();
    noted.push(Acknowledged { key: key.clone(), node_id, hostname: None, trusts: false, network: None });

    let hostname = format!("node-{seed}");
    try_ask(client, signed(&key, Operation::SetHostname { node_id, hostname: hostname.clone() }))?;
    noted[at].hostname = Some(hostname.clone());

    if node_id != NodeId(1) {
        let report = try_ask(client, signed(&key, Operation::ReportTrust { node_id, peer_id: NodeId(1) }))?;
        noted[at].trusts = report == Answer::ReportTrust;
    }
    let create = Operation::CreateNetwork { node_id, name: hostname, join_rule: "open".into(), token: String::new() };
    if let Answer::CreateNetwork { network_id, .. } = try_ask(client, create.into())? {
        noted[at].network = Some(network_id);
    }
    Ok(())
}

/// Writers at work until the program is killed under them, after `acknowledged` nodes or more.
fn write_until_killed(program: Program, round: u32, acknowledged: u32) -> Vec<Acknowledged> {
    let (progress, done) = mpsc::channel();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (mut client, progress) = (program.connect(), progress.clone());
            thread::spawn(move || {
                let mut noted = Vec::new();
                for step in 0.. {
                    if write_one(&mut client, round << 24 | writer << 16 | step, &mut noted).is_err() {
                        return noted;
                    }
                    let _ = progress.send(());
                }
                noted
            })
        })
        .collect();
    for _ in 0..acknowledged {
        done.recv_timeout(PATIENCE).unwrap();
    }
    program.kill();
    writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
}

#[test]
fn kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut noted = Vec::new();
    for (round, acknowledged) in [(1, 3), (2, 40), (3, 17)] {
        noted.extend(write_until_killed(start(folder.path()), round, acknowledged));

        let program = start(folder.path());
        let mut client = program.connect();
        let networks = match client.ask(Operation::ListNetworks) {
            Answer::ListNetworks { networks } => networks,
            other => panic!("{other:?}"),
        };
        for Acknowledged { key, node_id, hostname, trusts, network } in &noted {
            assert_eq!(number(&client.ask(registration(key))), *node_id);
            if let Some(hostname) = hostname.clone() {
                let found = client.ask(Operation::ResolveHostname { hostname });
                assert!(matches!(found, Answer::ResolveHostname { node_id: found, .. } if found == *node_id));
            }
            if *trusts {
                let trust = client.ask(Operation::CheckTrust { node_id: *node_id, peer_id: NodeId(1) });
                assert_eq!(trust, Answer::CheckTrust { trusted: true });
            }
            assert!(network.is_none_or(|id| networks.iter().any(|network| network.id == id)));
        }
        program.kill();
    }
    assert!(noted.len() >= 60);
}

/// What the program says, and how it ends, when started with `arguments`.
fn complaint(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM).args(arguments).env("RUST_LOG", "off").output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn wrong_flags_are_answered_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data_dir, missing, empty) = (path("data"), path("missing"), path("empty"));
    std::fs::write(&empty, "\n").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap().to_string();
    for (arguments, code, text) in [
        (vec!["--frobnicate"], 2, "unexpected argument"),
        (vec!["--listen", "nowhere"], 2, "expected an address such as 0.0.0.0:9000"),
        (vec!["--exempt", "10.0.0.0/99"], 2, "is no address range"),
        (vec!["--tls-cert", "x"], 2, "--tls-key"),
        (vec!["--tls", "off", "--tls-required"], 1, "leave --tls off out"),
        (vec!["--tls", "off", "--tls-self-signed"], 1, "leave one of them out"),
        (vec!["--tls", "off", "--tls-cert", &missing, "--tls-key", &missing], 1, "leave one of them out"),
        (vec!["--tls", "self-signed", "--tls-cert", &missing, "--tls-key", &missing], 1, "choose one"),
        (vec!["--tls", "perhaps"], 2, "self-signed"),
        (vec!["--tls-self-signed", "--tls-cert", &missing, "--tls-key", &missing], 1, "choose one"),
        (
            vec!["--tls-self-signed=false", "--tls-cert", &missing, "--tls-key", &missing],
            1,
            "cannot read a PEM certificate",
        ),
        (vec!["--admin-token-file", &missing], 1, "cannot read the admin token"),
        (vec!["--admin-token-file", &empty], 1, "put the admin token into it"),
        (
            vec!["--tls-cert", &missing, "--tls-key", &missing, "--listen", "127.0.0.1:0"],
            1,
            "cannot read a PEM certificate",
        ),
        (vec!["--listen", &busy], 1, "choose another address with --listen"),
    ] {
        let (exit, said) = complaint(&[&["--data-dir", &data_dir], &arguments[..]].concat());
        assert_eq!(exit, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
        if code == 1 {
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}
