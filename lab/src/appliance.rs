//! The appliance under test: started as a user starts it, killed without warning, asked for its health and counters.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

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
    log: PathBuf,
}

impl Appliance {
    #[track_caller]
    pub(crate) fn start(stage: Arc<Stage>, flags: ApplianceFlags) -> Self {
        let log = stage.scratch().join("pilot-relay.log");
        let process = spawn(&stage, &flags, &log);
        let mut appliance = Self { stage, flags, process, log };
        appliance.wait_healthy();
        appliance
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
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
        self.process.kill().expect("the appliance was running");
        self.process.wait().expect("a killed child ends");
    }

    /// Starts it again on the same data folder; returns how long it took to be healthy.
    #[track_caller]
    pub fn restart(&mut self) -> Duration {
        let watch = Stopwatch::start();
        self.process = spawn(&self.stage, &self.flags, &self.log);
        self.wait_healthy();
        watch.elapsed()
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

    /// CPU time it has used, in user space and in the kernel.
    #[must_use]
    #[track_caller]
    pub fn cpu_time(&self) -> Duration {
        process::cpu_time(self.process.id())
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
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- pilot-relay, last lines ---\n{}", self.log_tail());
        }
    }
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
