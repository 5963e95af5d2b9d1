//! A daemon on a host, the unmodified one or ours, and `pilotctl` to command it.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::appliance::tail;
use crate::command;
use crate::process;
use crate::program::Program;
use crate::wait::{Stopwatch, wait_until};
use crate::world::{Host, REGISTRY_PORT, RELAY_V4};

/// The daemon waits ten seconds for a catalogue host that a laboratory does not have, unless the kernel says at once
/// that there is no route.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// No single `pilotctl` call of a story takes longer.
const PILOTCTL_DEADLINE: Duration = Duration::from_secs(150);

/// How much longer than a second a ping a run of pings may take.
const PING_SLACK_SECONDS: usize = 10;

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct DaemonFlags {
    pub(crate) program: Program,
    pub(crate) hostname: String,
    pub(crate) public: bool,
    pub(crate) relay_only: bool,
    pub(crate) trust_auto_approve: bool,
    pub(crate) beacon_rtt_probe: bool,
    pub(crate) fixed_port: bool,
    pub(crate) extra: Vec<String>,
}

impl DaemonFlags {
    /// A private, unmodified daemon with this hostname in the directory.
    #[must_use]
    pub fn named(hostname: &str) -> Self {
        Self {
            program: Program::Pilot1_18,
            hostname: hostname.to_owned(),
            public: false,
            relay_only: false,
            trust_auto_approve: false,
            beacon_rtt_probe: false,
            fixed_port: false,
            extra: Vec::new(),
        }
    }

    /// Whose daemon it is.
    #[must_use]
    pub fn program(self, program: Program) -> Self {
        Self { program, ..self }
    }

    /// Our daemon.
    #[must_use]
    pub fn ours(self) -> Self {
        self.program(Program::Ours)
    }

    /// Anyone may connect.
    #[must_use]
    pub fn public(self) -> Self {
        Self { public: true, ..self }
    }

    /// Hides its address: reachable through the relay alone.
    #[must_use]
    pub fn relay_only(self) -> Self {
        Self { relay_only: true, ..self }
    }

    /// Trusts whoever asks.
    #[must_use]
    pub fn trust_auto_approve(self) -> Self {
        Self { trust_auto_approve: true, ..self }
    }

    /// Measures the beacon's round-trip time from sockets of their own; ours needs none for that.
    #[must_use]
    pub fn beacon_rtt_probe(self) -> Self {
        Self { beacon_rtt_probe: true, ..self }
    }

    /// A fixed tunnel port. With the default, the unmodified daemon registers the port of a start-up socket that it then
    /// closes, so that nobody finds a direct path to it.
    #[must_use]
    pub fn fixed_port(self) -> Self {
        Self { fixed_port: true, ..self }
    }

    /// Any other flag, as one word.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.extra.push(flag.to_owned());
        self
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    host: Host,
    flags: DaemonFlags,
    folder: PathBuf,
    process: Child,
}

/// What `pilotctl ping` reported.
#[derive(Clone, Debug)]
pub struct PingReport {
    /// Round-trip times of the answered pings, in milliseconds.
    pub round_trips_ms: Vec<f64>,
    /// How many were to be sent.
    pub sent: usize,
    /// The whole report or error, for a person.
    pub text: String,
}

impl PingReport {
    /// How many pings were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.round_trips_ms.len()
    }

    /// The longest round trip of an answered ping.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        Duration::from_secs_f64(self.round_trips_ms.iter().fold(0.0, |slowest, &one| one.max(slowest)) / 1000.0)
    }
}

impl fmt::Display for PingReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} of {} pings", self.answered(), self.sent)
    }
}

impl Daemon {
    /// Starts a daemon; it is not ready yet, so that several can get ready side by side.
    #[must_use]
    #[track_caller]
    pub fn start(host: &Host, flags: DaemonFlags) -> Self {
        let folder = host.stage.folder(&format!("{}-{}", host.name(), flags.hostname));
        let process = spawn(host, &flags, &folder);
        Self { host: host.clone(), flags, folder, process }
    }

    /// Starts a daemon and waits until it is ready.
    #[must_use]
    #[track_caller]
    pub fn start_ready(host: &Host, flags: DaemonFlags) -> Self {
        let mut daemon = Self::start(host, flags);
        daemon.wait_ready();
        daemon
    }

    /// Waits until the daemon is registered and answers `pilotctl info`.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let socket = self.socket();
        let what = format!("{self} to be ready");
        wait_until(&what, READY_DEADLINE, || {
            if let Ok(Some(status)) = self.process.try_wait() {
                panic!("{self} ended ({status}):\n{}", self.log_tail());
            }
            // Ours answers before it is registered.
            let info = socket.exists().then(|| self.pilotctl(&["info"]).ok()).flatten()?;
            info["node_id"].as_u64().filter(|node| *node > 0)
        });
    }

    /// Stops the daemon without warning; identity and trust stay in its folder.
    #[track_caller]
    pub fn kill(&mut self) {
        self.process.kill().expect("the daemon was running");
        self.process.wait().expect("a killed child ends");
        // A socket file without a daemon would look ready to the next start.
        let _ = std::fs::remove_file(self.socket());
    }

    /// Starts the same daemon again and waits until it is ready.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process = spawn(&self.host, &self.flags, &self.folder);
        self.wait_ready();
    }

    /// The hostname it was given.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.flags.hostname
    }

    /// The host it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whose daemon it is.
    #[must_use]
    pub fn program(&self) -> Program {
        self.flags.program
    }

    /// The folder with its files; the home folder of it and its `pilotctl`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the process still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Resident memory in bytes.
    #[must_use]
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        process::resident_bytes(self.process.id())
    }

    /// Open descriptors.
    #[must_use]
    #[track_caller]
    pub fn descriptors(&self) -> usize {
        process::descriptors(self.process.id())
    }

    /// CPU time it has used, in user space and in the kernel.
    #[must_use]
    #[track_caller]
    pub fn cpu_time(&self) -> Duration {
        process::cpu_time(self.process.id())
    }

    /// Its node id.
    #[must_use]
    #[track_caller]
    pub fn node(&self) -> u32 {
        let info = self.pilotctl(&["info"]).unwrap_or_else(|error| panic!("pilotctl info: {error}"));
        let node = info["node_id"].as_u64().and_then(|node| u32::try_from(node).ok());
        node.unwrap_or_else(|| panic!("pilotctl info shows no node id: {info}"))
    }

    /// Its address as text.
    #[must_use]
    #[track_caller]
    pub fn address(&self) -> String {
        let info = self.pilotctl(&["info"]).unwrap_or_else(|error| panic!("pilotctl info: {error}"));
        info["address"].as_str().unwrap_or_else(|| panic!("pilotctl info shows no address: {info}")).to_owned()
    }

    /// Runs the `pilotctl` of the same maker beside this daemon; the data it prints, or the error it reports.
    ///
    /// # Errors
    /// What `pilotctl` wrote when it failed.
    pub fn pilotctl(&self, arguments: &[&str]) -> Result<Value, String> {
        self.pilotctl_of(self.flags.program, arguments)
    }

    /// Runs someone's `pilotctl` beside this daemon.
    ///
    /// # Errors
    /// What `pilotctl` wrote when it failed.
    pub fn pilotctl_of(&self, program: Program, arguments: &[&str]) -> Result<Value, String> {
        let pilotctl = program.pilotctl(&self.host.stage.programs);
        let output = command::output(self.command(pilotctl).arg("--json").args(arguments));
        let printed = serde_json::from_slice::<Value>(&output.stdout);
        match printed {
            Ok(mut answer) if output.status.success() => Ok(answer["data"].take()),
            _ => Err(command::text(&output)),
        }
    }

    /// The `pilotctl` of the same maker, to be run beside this daemon while the story goes on.
    #[must_use]
    pub fn pilotctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(self.flags.program.pilotctl(&self.host.stage.programs));
        command.args(arguments);
        command
    }

    /// A command beside this daemon, in its folder and with its socket in the environment. It is ended when it takes too
    /// long.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.host.namespace().command("timeout");
        command
            .arg(PILOTCTL_DEADLINE.as_secs().to_string())
            .arg(program)
            .current_dir(&self.folder)
            .env("HOME", &self.folder)
            .env("PILOT_SOCKET", self.socket())
            .env("PILOT_REGISTRY", format!("{RELAY_V4}:{REGISTRY_PORT}"));
        command
    }

    /// Pings another node by name or address, one ping a second.
    #[must_use]
    pub fn ping(&self, target: &str, count: usize) -> PingReport {
        // The time-out is one for the whole run.
        let timeout = format!("{}s", count + PING_SLACK_SECONDS);
        let result = self.pilotctl(&["ping", target, "--count", &count.to_string(), "--timeout", &timeout]);
        let (answer, text) = match result {
            Ok(answer) => (answer.clone(), answer.to_string()),
            Err(text) => (Value::Null, text),
        };
        let results = answer["results"].as_array().map(Vec::as_slice).unwrap_or_default();
        let round_trips_ms = results.iter().filter_map(|result| result["rtt_ms"].as_f64()).collect();
        PingReport { round_trips_ms, sent: count, text }
    }

    /// Pings until one is answered; how long that took.
    #[track_caller]
    pub fn time_to_reach(&self, target: &str, within: Duration) -> Duration {
        let watch = Stopwatch::start();
        wait_until(&format!("{} to reach {target}", self.hostname()), within, || {
            let answer = self.pilotctl(&["ping", target, "--count", "1", "--timeout", "2s"]).ok()?;
            answer["results"][0]["rtt_ms"].as_f64()
        });
        watch.elapsed()
    }

    /// Sends so many megabytes to another node's echo port and awaits them back.
    ///
    /// # Errors
    /// What `pilotctl` wrote when it failed.
    pub fn bench(&self, target: &str, megabytes: u32) -> Result<Value, String> {
        self.pilotctl(&["bench", target, &megabytes.to_string()])
    }

    /// Sends a file; what `pilotctl` says of it.
    ///
    /// # Errors
    /// What `pilotctl` wrote when it failed.
    pub fn send_file(&self, target: &str, file: &Path) -> Result<Value, String> {
        self.pilotctl(&["send-file", target, &file.to_string_lossy()])
    }

    /// The file that was received last under this name, or under one that only adds to its stem, wherever below its
    /// folder the daemon keeps such files.
    #[must_use]
    pub fn received_file(&self, name: &str) -> Option<PathBuf> {
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let is_it = |path: &Path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let placed = path.parent().is_some_and(|folder| folder.ends_with("received"));
            placed && file.starts_with(stem) && file.ends_with(extension)
        };
        let mut found = Vec::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if is_it(&path) {
                    found.push((path.metadata().ok()?.modified().ok()?, path));
                }
            }
        }
        found.into_iter().max().map(|(_, path)| path)
    }

    /// Whether this daemon uses the relay toward another, or `None` when it has no tunnel to it.
    #[must_use]
    pub fn relays_to(&self, node: u32) -> Option<bool> {
        let answer = self.pilotctl(&["peers"]).ok()?;
        let peers = answer["peers"].as_array()?;
        peers.iter().find(|peer| peer["node_id"] == node)?["relay"].as_bool()
    }

    /// The last lines it logged.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.folder.join("log"))
    }

    /// Everything it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("pilot.sock")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- {self}, last lines ---\n{}", self.log_tail());
        }
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.flags.hostname, self.flags.program)
    }
}

#[track_caller]
fn spawn(host: &Host, flags: &DaemonFlags, folder: &Path) -> Child {
    let log =
        File::options().create(true).append(true).open(folder.join("log")).expect("the scratch folder is writable");
    let errors = log.try_clone().expect("a file can be shared");
    let program = flags.program.daemon(&host.stage.programs);
    host.namespace()
        .command(&program)
        .args(flags.program.arguments(flags, folder))
        .current_dir(folder)
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()))
}
