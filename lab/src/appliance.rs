//! The appliance under test: started as a user starts it, killed without warning, asked for its health and counters.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::command;
use crate::metrics::{Accounting, Metrics};
use crate::process;
use crate::wait::{Stopwatch, wait_until};
use crate::world::{BEACON_PORT, REGISTRY_PORT, STUN_PORT, Stage};

const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 3000);
const START_DEADLINE: Duration = Duration::from_secs(20);
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// How many lines of a program's log a failing test shows.
pub(crate) const LOG_LINES_SHOWN: usize = 40;

/// Flags besides the addresses and the data folder.
#[derive(Clone, Debug, Default)]
pub struct ApplianceFlags {
    flags: Vec<String>,
    environment: Vec<(String, String)>,
}

impl ApplianceFlags {
    /// Adds one flag with its value.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running `pilot-relay`.
#[derive(Debug)]
pub struct Appliance {
    stage: Arc<Stage>,
    flags: ApplianceFlags,
    process: Child,
    /// Who serves after an upgrade: no child of ours.
    successor: Option<u32>,
    log: PathBuf,
}

impl Appliance {
    #[track_caller]
    pub(crate) fn start(stage: Arc<Stage>, flags: ApplianceFlags) -> Self {
        let log = stage.scratch().join("pilot-relay.log");
        let process = spawn(&stage, &flags, &log);
        let mut appliance = Self { stage, flags, process, successor: None, log };
        appliance.wait_healthy();
        appliance
    }

    /// Its process: the one started, or the one that has succeeded it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.successor.unwrap_or_else(|| self.process.id())
    }

    /// Whether it answers its health check, just now.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.get("/healthz").is_ok()
    }

    /// Everything it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the process has ended; how it did.
    #[track_caller]
    pub fn wait_ended(&mut self, within: Duration) -> std::process::ExitStatus {
        wait_until("pilot-relay to end", within, || self.process.try_wait().ok().flatten())
    }

    /// `kill -9`: no farewell, no flush.
    #[track_caller]
    pub fn kill(&mut self) {
        if let Some(pid) = self.successor.take() {
            kill_stranger(pid);
            wait_until("a killed successor to end", START_DEADLINE, || (!is_alive(pid)).then_some(()));
            return;
        }
        self.process.kill().expect("the appliance was running");
        self.process.wait().expect("a killed child ends");
    }

    /// `pilot-relay upgrade`: the same program succeeds itself. What it says of it, when the successor serves and the one
    /// before has ended.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn upgrade(&mut self) -> Value {
        let stage = &self.stage;
        let report = stage.scratch().join("upgrade.json");
        let output = File::create(&report).expect("the scratch folder is writable");
        let errors = File::options().append(true).open(&self.log).expect("the relay has a log");
        let mut command = stage.relay().command(&stage.programs.pilot_relay);
        command.args(["upgrade", "--json", "--data-dir"]).arg(stage.folder("pilot-relay"));
        // No pipes: the successor goes on with what its launcher had.
        let status = command.stdin(Stdio::null()).stdout(output).stderr(errors).status();
        let status = status.unwrap_or_else(|error| panic!("pilot-relay upgrade cannot be run: {error}"));
        assert!(status.success(), "pilot-relay upgrade: {status}\n{}", self.log_tail());
        let text = fs::read_to_string(&report).expect("it was written just now");
        let line = text.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no report in {text}"));
        let told: Value = serde_json::from_str(line).expect("a report is JSON");
        if self.successor.is_none() {
            self.process.wait().expect("who has been succeeded ends");
        }
        let pid = told["after"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        self.successor = Some(pid.expect("a report names the successor"));
        told
    }

    /// Starts it again on the same data folder; returns how long it took to be healthy.
    #[track_caller]
    pub fn restart(&mut self) -> Duration {
        let watch = Stopwatch::start();
        self.process = spawn(&self.stage, &self.flags, &self.log);
        self.wait_healthy();
        watch.elapsed()
    }

    /// Gives an appliance that was killed the nodes of another registry's snapshot in the place of its own.
    #[track_caller]
    pub fn import(&self, snapshot: &serde_json::Value) {
        let (folder, file) = (self.stage.folder("pilot-relay"), self.stage.scratch().join("snapshot.json"));
        fs::remove_dir_all(&folder).expect("its data folder is there");
        fs::write(&file, snapshot.to_string()).expect("the scratch folder is writable");
        let mut import = std::process::Command::new(&self.stage.programs.pilot_relay);
        let done = import.arg("import").arg(&file).arg("--data-dir").arg(&folder).output().expect("it can be started");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&[done.stdout, done.stderr].concat()));
    }

    /// The fingerprint of its certificate, as it printed it.
    ///
    /// # Panics
    /// It has printed none.
    #[must_use]
    #[track_caller]
    pub fn tls_fingerprint(&self) -> String {
        let log = fs::read_to_string(&self.log).expect("it logs");
        let pin = log.lines().rev().find_map(|line| line.trim().strip_prefix("TLS pin"));
        pin.expect("it offers TLS").trim().to_owned()
    }

    /// Whether the process still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.successor.map_or_else(|| matches!(self.process.try_wait(), Ok(None)), is_alive)
    }

    /// Resident memory in bytes.
    #[must_use]
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        process::resident_bytes(self.pid())
    }

    /// CPU time it has used, in user space and in the kernel.
    #[must_use]
    #[track_caller]
    pub fn cpu_time(&self) -> Duration {
        process::cpu_time(self.pid())
    }

    /// One scrape of its metrics.
    #[must_use]
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let body = self.get("/metrics").unwrap_or_else(|error| panic!("no metrics: {error}\n{}", self.log_tail()));
        Metrics::new(body)
    }

    /// Its books, read when nothing is under way any more: two scrapes in a row agree.
    #[must_use]
    #[track_caller]
    pub fn settled_accounting(&self) -> Accounting {
        let mut last = Accounting::of(&self.metrics());
        wait_until("the relay's counters to settle", Duration::from_secs(5), || {
            let now = Accounting::of(&self.metrics());
            let settled = now == last;
            last = now;
            settled.then_some(now)
        })
    }

    /// What `pilot-relay nodes` prints beside it, as its administrator uses it.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn nodes(&self, arguments: &[&str]) -> Value {
        let mut command = self.stage.relay().command(&self.stage.programs.pilot_relay);
        command.arg("nodes").args(["--json", "--http", &HTTP.to_string(), "--data-dir"]);
        let output = command::output(command.arg(self.stage.folder("pilot-relay")).args(arguments));
        assert!(output.status.success(), "pilot-relay nodes {arguments:?}: {}", command::text(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", command::text(&output)))
    }

    #[track_caller]
    fn wait_healthy(&mut self) {
        let what = format!("pilot-relay to answer http://{HTTP}/healthz");
        let log = self.log.clone();
        wait_until(&what, START_DEADLINE, || {
            if let Ok(Some(status)) = self.process.try_wait() {
                panic!("pilot-relay ended at start ({status}):\n{}", tail(&log));
            }
            self.get("/healthz").ok()
        });
    }

    /// The last lines it logged.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    fn get(&self, path: &str) -> io::Result<String> {
        self.stage.relay().enter(|| {
            let mut stream = TcpStream::connect_timeout(&HTTP, HTTP_TIMEOUT)?;
            stream.set_read_timeout(Some(HTTP_TIMEOUT))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {HTTP}\r\nConnection: close\r\n\r\n")?;
            let mut response = String::new();
            stream.read_to_string(&mut response)?;
            let (head, body) = response.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = head.split(' ').nth(1).unwrap_or_default();
            if status == "200" { Ok(body.to_owned()) } else { Err(io::Error::other(format!("{path}: HTTP {status}"))) }
        })
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.successor.into_iter().for_each(kill_stranger);
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- pilot-relay, last lines ---\n{}", self.log_tail());
        }
    }
}

fn kill_stranger(pid: u32) {
    // One that has ended by itself is no news here.
    let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
}

/// A process that has ended may stay as an entry until its parent has looked.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[track_caller]
fn spawn(stage: &Stage, flags: &ApplianceFlags, log: &PathBuf) -> Child {
    let output = File::options().create(true).append(true).open(log).expect("the scratch folder is writable");
    let errors = output.try_clone().expect("a file can be shared");
    stage
        .relay()
        .command(&stage.programs.pilot_relay)
        .args(["--data-dir".as_ref(), stage.folder("pilot-relay").as_os_str()])
        .args(["--beacon", &format!("[::]:{BEACON_PORT}"), "--stun", &format!("[::]:{STUN_PORT}")])
        .args(["--registry", &format!("[::]:{REGISTRY_PORT}"), "--http", &HTTP.to_string()])
        .args(&flags.flags)
        .envs(flags.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", stage.programs.pilot_relay.display()))
}

/// The last lines of a log file.
pub(crate) fn tail(log: &PathBuf) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}
