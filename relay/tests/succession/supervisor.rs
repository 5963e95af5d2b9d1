//! A service manager of a hundred lines: it starts the relay, hears its notifications, keeps its descriptors, and passes
//! them to the next.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use relay::socket::receive_with_descriptors;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

pub const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Passed descriptors are parked above this number on their way to the child.
const PARKED_FROM: i32 = 200;
/// While descriptors are open to children, no other test may start one.
static SPAWNING: Mutex<()> = Mutex::new(());

/// What the relay has told.
#[derive(Default)]
pub struct State {
    pub store: Vec<(String, OwnedFd)>,
    pub ready: usize,
    pub signs_of_life: usize,
    pub main_pid: Option<u32>,
    pub stopping: usize,
    pub status: String,
}

impl State {
    fn hear(&mut self, text: &str, files: Vec<OwnedFd>) {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let name = value("FDNAME").unwrap_or("stored");
        if value("FDSTORE").is_some() {
            self.store.extend(files.into_iter().map(|file| (name.to_owned(), file)));
        }
        if value("FDSTOREREMOVE").is_some() {
            self.store.retain(|(kept, _)| kept != name);
        }
        self.ready += usize::from(value("READY").is_some());
        self.signs_of_life += usize::from(value("WATCHDOG").is_some());
        self.stopping += usize::from(value("STOPPING").is_some());
        self.main_pid = value("MAINPID").and_then(|pid| pid.parse().ok()).or(self.main_pid);
        if let Some(status) = value("STATUS") {
            status.clone_into(&mut self.status);
        }
    }

    pub fn names(&self) -> Vec<&str> {
        self.store.iter().map(|(name, _)| name.as_str()).collect()
    }
}

pub struct Supervisor {
    pub folder: PathBuf,
    flags: Vec<String>,
    /// Addresses that have been set otherwise.
    moved: Vec<(String, String)>,
    heard: Arc<(Mutex<State>, Condvar)>,
    child: Option<Child>,
    /// A successor that is not our child.
    adopted: Option<u32>,
}

impl Supervisor {
    /// A relay with these flags beside its addresses, which are free ports of loopback; it is ready.
    pub fn start(name: &str, flags: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("succession").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("data")).unwrap();
        let heard = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let notifications = UnixDatagram::bind(folder.join("notify")).unwrap();
        let hear = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut bytes = vec![0; 4096];
            while let Ok((len, files)) = receive_with_descriptors(&notifications, &mut bytes) {
                // A barrier's file is closed as soon as it is heard.
                let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
                hear.0.lock().unwrap_or_else(PoisonError::into_inner).hear(&text, files);
                hear.1.notify_all();
            }
        });
        let mut supervisor = Self {
            folder,
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            moved: Vec::new(),
            heard,
            child: None,
            adopted: None,
        };
        supervisor.start_again();
        supervisor
    }

    /// From the next start on, the relay's `flag` is `value`.
    pub fn set(&mut self, flag: &str, value: &str) {
        self.moved = vec![(flag.to_owned(), value.to_owned())];
    }

    /// Starts the relay on what is kept, and waits until it is ready.
    pub fn start_again(&mut self) {
        self.spawn();
        let before = self.state(|state| std::mem::take(&mut state.ready));
        assert!(before <= 1);
        self.wait("readiness", |state| state.ready > 0);
    }

    pub fn spawn(&mut self) {
        self.state(|state| state.ready = 0);
        let _alone = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
        let parked: Vec<(String, i32)> = self.state(|state| {
            let park = |file: &OwnedFd| fcntl(file.as_fd(), FcntlArg::F_DUPFD(PARKED_FROM)).unwrap();
            state.store.iter().map(|(name, file)| (name.clone(), park(file))).collect()
        });
        let places = parked.iter().zip(3..).map(|((_, raw), place)| format!("{place}<&{raw} {raw}<&-"));
        let script = format!("LISTEN_PID=$$ exec \"$0\" \"$@\" {}", places.collect::<Vec<_>>().join(" "));
        let names: Vec<&str> = parked.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = Command::new("bash");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_pilot-relay")]).args(self.flags());
        if !parked.is_empty() {
            command.env("LISTEN_FDS", parked.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        }
        command.env("NOTIFY_SOCKET", self.folder.join("notify")).env("WATCHDOG_USEC", "2000000");
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        self.adopted = None;
        for (_, raw) in parked {
            nix::unistd::close(raw).unwrap();
        }
    }

    /// The flags, with addresses: a port of 0 is whichever is kept.
    pub fn flags(&self) -> Vec<String> {
        let data_dir = self.folder.join("data").display().to_string();
        let addresses =
            ["--beacon", "127.0.0.1:0", "--stun", "off", "--registry", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let flags = ["--data-dir", &data_dir].into_iter().chain(addresses).map(str::to_owned);
        let mut flags: Vec<String> = flags.chain(self.flags.iter().cloned()).collect();
        for (flag, value) in &self.moved {
            let at = flags.iter().position(|one| one == flag).expect("a flag with a value");
            flags[at + 1].clone_from(value);
        }
        flags
    }

    pub fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.heard.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn wait(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let state = self.heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.heard.1.wait_timeout_while(state, PATIENCE, |state| !is_so(state));
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{what} did not come; kept: {:?}\n{}", state.names(), self.log());
    }

    pub fn pid(&self) -> u32 {
        self.adopted.unwrap_or_else(|| self.child.as_ref().expect("started").id())
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
    }

    /// How our child ended.
    pub fn end(&mut self) -> ExitStatus {
        self.child.take().expect("started").wait().unwrap()
    }

    /// The same, as anybody calls it who has this variable set.
    pub fn upgrade_from_without(&self, (name, value): (&str, &str)) -> Output {
        self.upgrade_by(&[], |command| {
            command.env_remove("MAINPID").env(name, value);
        })
    }

    /// `pilot-relay upgrade`, as the reload of a unit, with these flags of the successor.
    pub fn upgrade(&self, flags: &[String]) -> Output {
        self.upgrade_by(flags, |_| ())
    }

    fn upgrade_by(&self, flags: &[String], change: impl FnOnce(&mut Command)) -> Output {
        let _alone = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-relay"));
        command.args(["upgrade", "--json", "--data-dir"]).arg(self.folder.join("data"));
        if !flags.is_empty() {
            command.arg("--").args(flags);
        }
        command.env("NOTIFY_SOCKET", self.folder.join("notify")).env("MAINPID", self.pid().to_string());
        change(&mut command);
        // The successor goes on with the standard output of its launcher; nobody must wait for the end of that.
        let (out, errors) = (self.folder.join("upgrade.out"), self.folder.join("upgrade.err"));
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&errors).unwrap());
        let status = command.status().unwrap();
        Output { status, stdout: fs::read(out).unwrap(), stderr: fs::read(errors).unwrap() }
    }

    /// The successor is the one we look after now.
    pub fn adopt(&mut self, pid: u32) {
        self.adopted = Some(pid);
    }

    pub fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        read("log") + &read("upgrade.out") + &read("upgrade.err")
    }

    /// Waits until the relay has logged a line with these words; a file tells nobody when it grows.
    pub fn wait_for_line(&self, words: &str) {
        let (_alive, never) = mpsc::channel::<()>();
        for _ in 0..PATIENCE.as_millis() / LOOK_INTERVAL.as_millis() {
            if self.log().contains(words) {
                return;
            }
            let _ = never.recv_timeout(LOOK_INTERVAL);
        }
        panic!("no line says {words:?}\n{}", self.log());
    }

    /// An address of the welcome; the first that was printed, since they stay.
    pub fn address(&self, name: &str) -> SocketAddr {
        let log = self.log();
        let value = log.lines().find_map(|line| line.trim().strip_prefix(name).map(str::trim)).unwrap();
        value.trim_start_matches("http://").parse().unwrap()
    }

    /// Where successors and operators ask.
    pub fn office(&self) -> Office {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        socket.connect(&SockAddr::unix(self.folder.join("data/pilot-relay.sock")).unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Office(socket)
    }

    /// An answer of the admin address: status line and body.
    pub fn get(&self, path: &str) -> (String, String) {
        let stream = TcpStream::connect(self.address("admin")).unwrap();
        get_over(stream, path)
    }
}

pub fn ask(stream: &mut TcpStream, path: &str) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
}

pub fn get_over(mut stream: TcpStream, path: &str) -> (String, String) {
    ask(&mut stream, path);
    answer(stream)
}

pub fn answer(mut stream: TcpStream) -> (String, String) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// A connection to the relay's own socket.
pub struct Office(Socket);

impl Office {
    pub fn says(&self, request: &str) {
        self.0.send(request.as_bytes()).unwrap();
    }

    /// The next answer; null at the end. Files that come with it are closed.
    pub fn hears(&self) -> Value {
        let mut bytes = vec![0; 96 << 10];
        let (len, _) = receive_with_descriptors(&self.0, &mut bytes).unwrap();
        if len == 0 { Value::Null } else { serde_json::from_slice(&bytes[..len]).unwrap() }
    }

    pub fn asks(&self, request: &str) -> Value {
        self.says(request);
        self.hears()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(pid) = self.adopted {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A node by hand.
pub struct Node(pub UdpSocket, pub u32);

impl Node {
    /// Introduces itself and is answered.
    pub fn join(beacon: SocketAddr, id: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(beacon).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let node = Self(socket, id);
        node.0.send(&[&[1], &id.to_be_bytes()[..]].concat()).unwrap();
        assert_eq!(node.hear()[0], 2, "the answer to a discover");
        node
    }

    pub fn send(&self, to: &Self, number: u32) {
        let [from, to] = [self.1, to.1].map(u32::to_be_bytes);
        self.0.send(&[&[5], &from[..], &to, &number.to_be_bytes()].concat()).unwrap();
    }

    pub fn hear(&self) -> Vec<u8> {
        let mut bytes = [0; 1500];
        let len = self.0.recv(&mut bytes).expect("something comes");
        bytes[..len].to_vec()
    }

    /// The number of the next delivery.
    pub fn number(&self) -> u32 {
        let bytes = self.hear();
        assert_eq!(bytes[0], 6, "a delivery");
        u32::from_be_bytes(bytes[bytes.len() - 4..].try_into().unwrap())
    }
}
