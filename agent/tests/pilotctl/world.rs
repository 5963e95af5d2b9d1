//! A daemon without a network: it answers requests as the captured one did, echoes on port 7, receives on port 1001. And
//! the program under test, in a home of its own.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use wire::ipc::{Reply, Request, command};
use wire::services::exchange::{Content, Frame, PAYLOAD_MAX, Step, acknowledgement};

pub const CAPTURE: &str = include_str!("../vectors/ipc_capture_1_18.json");
pub const PRINTED: &str = include_str!("../vectors/cli_json_1_18.json");

/// Answers by request, both without their lengths.
type Script = HashMap<Vec<u8>, Vec<u8>>;

/// A home with a daemon's socket in it.
pub struct World {
    folder: tempfile::TempDir,
    /// What the daemon was asked, in the order it came.
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
    registry: Option<String>,
}

impl World {
    /// A home where no daemon runs.
    pub fn without_daemon() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), asked: Arc::default(), registry: None }
    }

    /// A home with the captured daemon; `changed` replaces its answers.
    pub fn with_daemon(changed: &[(Request<'_>, &str)]) -> Self {
        let mut script = captured();
        for (request, json) in changed {
            let mut question = Vec::new();
            request.encode(&mut question);
            let question = question[4..].to_vec();
            let mut answer = vec![question[0] + 1];
            answer.extend(json.as_bytes());
            script.insert(question, answer);
        }
        let world = Self::without_daemon();
        let listener = UnixListener::bind(world.socket()).unwrap();
        let (script, asked) = (Arc::new(script), Arc::clone(&world.asked));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
                std::thread::spawn(move || serve(socket, &script, &asked));
            }
        });
        world
    }

    /// How often the daemon was asked this.
    pub fn times_asked(&self, request: Request<'_>) -> usize {
        let mut question = Vec::new();
        request.encode(&mut question);
        self.asked.lock().unwrap().iter().filter(|asked| **asked == question[4..]).count()
    }

    /// Adds a directory that answers every lookup with `found`.
    pub fn and_directory(mut self, found: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.registry = Some(listener.local_addr().unwrap().to_string());
        std::thread::spawn(move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                let mut length = [0; 4];
                socket.read_exact(&mut length).unwrap();
                let mut question = vec![0; u32::from_be_bytes(length) as usize];
                socket.read_exact(&mut question).unwrap();
                let mut answer = Vec::new();
                wire::registry::push_message(&mut answer, &found);
                socket.write_all(&answer).unwrap();
            }
        });
        self
    }

    pub fn home(&self) -> &Path {
        self.folder.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.home().join("pilot.sock")
    }

    /// The program, told where everything is; its standard input is empty.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilotctl"));
        command.args(arguments).env_clear().env("HOME", self.home()).env("PILOT_SOCKET", self.socket());
        command.env("PILOT_REGISTRY", self.registry.as_deref().unwrap_or("127.0.0.1:1"));
        command.current_dir(self.home()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.command(arguments).output().unwrap())
    }
}

/// What the program did.
pub struct Ran(pub Output);

impl Ran {
    pub fn status(&self) -> i32 {
        self.0.status.code().expect("it ended by itself")
    }

    pub fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// The one line of JSON it printed.
    #[track_caller]
    pub fn json(&self) -> Value {
        let out = self.out();
        assert_eq!(out.lines().count(), 1, "one line expected: {out}{}", self.err());
        serde_json::from_str(&out).unwrap()
    }

    /// The one line of JSON it complained with.
    #[track_caller]
    pub fn complaint(&self) -> Value {
        assert_eq!(self.out(), "");
        serde_json::from_str(&self.err()).unwrap_or_else(|error| panic!("{error}: {}", self.err()))
    }
}

fn captured() -> Script {
    let capture: Value = serde_json::from_str(CAPTURE).unwrap();
    let mut script = Script::new();
    for entry in capture["entries"].as_array().unwrap() {
        let mut question = None;
        for frame in entry["frames"].as_array().unwrap() {
            let bytes = unhex(frame["hex"].as_str().unwrap());
            if frame["direction"].as_str().unwrap().starts_with("client") {
                question = Some(bytes);
            } else if let Some(question) = question.take()
                && frame["truncated"] != true
                && bytes[0] == question[0].wrapping_add(1)
            {
                script.entry(question).or_insert(bytes);
            }
        }
    }
    script
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn serve(mut socket: UnixStream, script: &Script, asked: &Mutex<Vec<Vec<u8>>>) {
    let mut ports = HashMap::new();
    let mut exchanges: HashMap<u32, Exchange> = HashMap::new();
    loop {
        let mut length = [0; 4];
        if socket.read_exact(&mut length).is_err() {
            return;
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        socket.read_exact(&mut frame).unwrap();
        asked.lock().unwrap().push(frame.clone());
        let mut out = Vec::new();
        match Request::decode(&frame) {
            Ok(Request::Dial { to }) if [7, 1001, 1002].contains(&to.port) => {
                let connection = u32::try_from(ports.len()).unwrap() + 1;
                ports.insert(connection, to.port);
                Reply::DialOk { connection }.encode(&mut out);
            }
            Ok(Request::Dial { .. }) => Reply::Error { code: 1, text: "connection refused" }.encode(&mut out),
            Ok(Request::Send { connection, data }) => match ports[&connection] {
                7 => Reply::Recv { connection, data }.encode(&mut out),
                1001 => {
                    let answer = exchanges.entry(connection).or_default().take(data);
                    if !answer.is_empty() {
                        Reply::Recv { connection, data: &answer }.encode(&mut out);
                    }
                }
                _ => {}
            },
            Ok(Request::Close { connection }) => {
                // A closer sees it twice.
                Reply::CloseOk { connection }.encode(&mut out);
                Reply::CloseOk { connection }.encode(&mut out);
            }
            Ok(Request::Bind { port }) => {
                Reply::BindOk { port }.encode(&mut out);
                let remote = "0:0000.0000.0002:50000".parse().unwrap();
                Reply::Accept { listen_port: port, connection: 77, remote }.encode(&mut out);
                Reply::Recv { connection: 77, data: b"from a peer" }.encode(&mut out);
            }
            Ok(Request::Info) => {
                answer(&mut out, script, &frame);
                let source = "0:0000.0000.0002:50001".parse().unwrap();
                Reply::RecvFrom { source, port: 2000, data: b"a datagram" }.encode(&mut out);
            }
            _ => answer(&mut out, script, &frame),
        }
        if socket.write_all(&out).is_err() {
            return;
        }
    }
}

fn answer(out: &mut Vec<u8>, script: &Script, question: &[u8]) {
    match script.get(question) {
        Some(answer) => wire::framing::write_frame(out, |out| out.extend(answer)),
        None if question[0] == command::RESOLVE_HOSTNAME => {
            Reply::Error { code: 1, text: "resolve_hostname: registry: hostname not found" }.encode(out);
        }
        None => {
            Reply::Error { code: 1, text: &format!("unknown command 0x{:02X}", question[0]) }.encode(out);
        }
    }
}

/// The receiving end of the data exchange: acknowledges everything.
#[derive(Default)]
struct Exchange {
    collected: Vec<u8>,
    size_bytes: u64,
}

impl Exchange {
    fn take(&mut self, data: &[u8]) -> Vec<u8> {
        self.collected.extend(data);
        let collected = std::mem::take(&mut self.collected);
        let (mut rest, mut out) = (&collected[..], Vec::new());
        while let Some((frame, len)) = Frame::decode(rest, PAYLOAD_MAX).unwrap() {
            rest = &rest[len..];
            let text = match frame.content {
                Content::Text(bytes) | Content::Json(bytes) | Content::Binary(bytes) => {
                    acknowledgement(&frame.content, bytes.len())
                }
                _ => String::new(),
            };
            let content = match frame.content {
                Content::FileStream { id, step } => {
                    let step = match step {
                        Step::Init { size_bytes, .. } => {
                            self.size_bytes = size_bytes;
                            Step::InitAck { offset: 0 }
                        }
                        Step::Chunk { offset, data } => Step::Ack { offset: offset + data.len() as u64 },
                        Step::Done => Step::Complete { status: 0, text: b"" },
                        other => panic!("a sender does not send {other:?}"),
                    };
                    Content::FileStream { id, step }
                }
                _ => Content::Text(text.as_bytes()),
            };
            Frame { tag: None, content }.encode(&mut out, PAYLOAD_MAX).unwrap();
        }
        self.collected = rest.to_vec();
        out
    }
}
