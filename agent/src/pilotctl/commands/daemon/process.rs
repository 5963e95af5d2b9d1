//! The daemon as a process: found, started, and told to end. Its number is in a file that the daemon alone writes and
//! removes. The file may be old, or of another daemon; so a process is believed to be the daemon only when it runs the
//! daemon's program, with the socket that is asked about.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pilotctl::arguments::Start;
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::places::Places;
use crate::pilotctl::session::Session;

const PROGRAM: &str = "pilot-agent";
const SOCKET_OPTION: &str = "--socket";
/// How the daemon begins the line in which it says why it does not start.
pub(super) const COMPLAINT: &str = "pilot-agent: ";
/// Its status when it does not like its options.
pub(super) const WRONG_OPTIONS: i32 = 2;
/// Where the program is, when it lies elsewhere.
const PROGRAM_VARIABLE: &str = "PILOT_AGENT_BIN";
/// Bytes of a log whose last lines are shown.
const TAIL_BYTES_MAX: u64 = 16 << 10;

/// The daemon of the pid file, running.
pub(super) struct Process(Pid);

impl Process {
    /// The process of the pid file, if it is a daemon of ours.
    pub(super) fn of(places: &Places) -> Option<Self> {
        Self::numbered(fs::read_to_string(places.pid_file()).ok()?.trim().parse().ok()?)
    }

    /// The process of this number, if it is a daemon of ours.
    pub(super) fn numbered(pid: i32) -> Option<Self> {
        let process = Self(Pid::from_raw(pid));
        (pid > 1 && process.is_running()).then_some(process)
    }

    pub(super) const fn pid(&self) -> i32 {
        self.0.as_raw()
    }

    /// Whether it runs the daemon's program and has not ended; one that nobody has awaited counts as ended.
    pub(super) fn is_running(&self) -> bool {
        let state = fs::read_to_string(self.folder().join("stat")).unwrap_or_default();
        let is_alive = state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']));
        let is_program = |word: &OsString| {
            let word = word.as_encoded_bytes();
            word == PROGRAM.as_bytes() || word.ends_with(b"/pilot-agent")
        };
        is_alive && self.command_line().iter().take(2).any(is_program)
    }

    /// Whether its command line names `socket`; `otherwise` where it names none.
    pub(super) fn listens_on(&self, socket: &Path, otherwise: bool) -> bool {
        let words = self.command_line();
        let after = words.iter().position(|word| word == SOCKET_OPTION).and_then(|at| words.get(at + 1));
        let within = words.iter().find_map(|word| {
            let path = word.as_encoded_bytes().strip_prefix(SOCKET_OPTION.as_bytes())?.strip_prefix(b"=")?;
            Some(OsStr::from_bytes(path))
        });
        let Some(named) = after.map(OsString::as_os_str).or(within) else { return otherwise };
        let named = fs::read_link(self.folder().join("cwd")).unwrap_or_default().join(named);
        std::path::absolute(socket).is_ok_and(|socket| socket == named)
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.0))
    }

    fn command_line(&self) -> Vec<OsString> {
        let command = fs::read(self.folder().join("cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).map(|word| OsStr::from_bytes(word).to_owned()).collect()
    }

    pub(super) fn terminate(&self) -> Result<(), Failure> {
        kill(self.0, Signal::SIGTERM).map_err(|error| {
            Failure::new(Code::Internal, format!("cannot end process {}: {error}", self.0))
                .hint("run pilotctl as the user that started the daemon")
        })
    }
}

/// A daemon that was just started.
pub(super) struct Started {
    child: Child,
    /// Where its part of the log begins.
    pub log_start: u64,
}

impl Started {
    /// How it has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

/// The daemon's program: named by the environment, beside this one, or in the path.
pub(super) fn program() -> Result<PathBuf, Failure> {
    if let Some(named) = std::env::var_os(PROGRAM_VARIABLE).filter(|named| !named.is_empty()) {
        return Ok(named.into());
    }
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(PROGRAM)));
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&paths).map(|folder| folder.join(PROGRAM));
    let found = beside.into_iter().chain(in_path).find(|program| program.is_file());
    found.ok_or_else(|| {
        Failure::new(Code::NotFound, format!("{PROGRAM} is neither beside pilotctl nor in PATH"))
            .hint(format!("install it, or name it: {PROGRAM_VARIABLE}=/path/to/{PROGRAM}"))
    })
}

/// What the daemon is told; only what the user said, the rest is its own affair.
pub(super) fn arguments(session: &Session, how: &Start) -> Vec<OsString> {
    let mut arguments = Vec::new();
    let mut with_value = |flag: &str, value: Option<&OsStr>| {
        if let Some(value) = value {
            arguments.push(flag.into());
            arguments.push(value.to_owned());
        }
    };
    with_value("--registry", session.registry.as_deref().map(OsStr::new));
    let fingerprint = session.registry_fingerprint.map(|fingerprint| OsString::from(fingerprint.to_string()));
    with_value("--registry-fingerprint", fingerprint.as_deref());
    with_value("--beacon", how.beacon.as_deref().map(OsStr::new));
    with_value("--listen", how.listen.as_deref().map(OsStr::new));
    with_value(SOCKET_OPTION, Some(session.socket.as_os_str()));
    with_value("--identity", how.identity.as_deref().map(Path::as_os_str));
    with_value("--hostname", how.hostname.as_deref().map(OsStr::new));
    with_value("--capability", how.capability.as_deref().map(OsStr::new));
    with_value("--capability-text", how.capability_text.as_deref().map(OsStr::new));
    with_value("--capability-file", how.capability_file.as_deref().map(Path::as_os_str));
    how.tag.iter().for_each(|tag| with_value("--tag", Some(OsStr::new(tag))));
    with_value("--otlp-endpoint", how.otlp_endpoint.as_deref().map(OsStr::new));
    with_value("--trace-sample", how.trace_sample.as_deref().map(OsStr::new));
    with_value("--http", how.http.as_deref().map(OsStr::new));
    with_value("--config", how.config.as_deref().map(Path::as_os_str));
    with_value("--data-dir", how.data_dir.as_deref().map(Path::as_os_str));
    let switches = [
        ("--public", how.public),
        ("--trust-auto-approve", how.trust_auto_approve),
        ("--relay-only", how.relay_only),
        ("--no-event-log", how.no_event_log),
    ];
    arguments.extend(switches.into_iter().filter(|(_, on)| *on).map(|(flag, _)| flag.into()));
    arguments
}

/// Starts the daemon in the background: its own process group, so that the keyboard does not reach it, nothing to read,
/// and a log to write.
pub(super) fn spawn(program: &Path, arguments: &[OsString], places: &Places) -> Result<Started, Failure> {
    let path = places.log();
    let (log, log_start) = open_log(places).map_err(|error| unwritable(&path, &error))?;
    let errors = log.try_clone().map_err(|error| unwritable(&path, &error))?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|error| not_startable(program, &error))?;
    Ok(Started { child, log_start })
}

/// Becomes the daemon; returns only when that fails.
pub(super) fn replace(program: &Path, arguments: &[OsString], places: &Places) -> Failure {
    if let Err(failure) = prepare(places).map_err(|error| unwritable(places.folder(), &error)) {
        return failure;
    }
    let error = Command::new(program).args(arguments).exec();
    not_startable(program, &error)
}

fn prepare(places: &Places) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(places.folder())
}

fn open_log(places: &Places) -> io::Result<(File, u64)> {
    prepare(places)?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(places.log())?;
    let length = log.metadata()?.len();
    Ok((log, length))
}

/// The last lines of a log, from `start` on.
pub(super) fn tail(log: &Path, start: u64, lines: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(TAIL_BYTES_MAX))))?;
        let mut text = Vec::new();
        file.take(TAIL_BYTES_MAX).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

/// What to do about a daemon that did not start, from what it said last.
pub(super) fn advice(tail: &[String], log: &Path) -> String {
    let said = tail.join("\n").to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if tail.is_empty() {
        format!("it said nothing; run it yourself: {PROGRAM} --help")
    } else if says(&["address already in use", "in use"]) {
        "another program has the address; choose another with --listen, or --socket".to_owned()
    } else if says(&["permission denied", "operation not permitted"]) {
        "it may not use a file or an address; see which, or run it as another user".to_owned()
    } else if says(&["unexpected argument", "usage:"]) {
        format!("{PROGRAM} and pilotctl are of different releases; install both of one")
    } else if says(&["registry", "directory", "resolve", "lookup"]) {
        "is the directory reachable? name it with --registry HOST:PORT".to_owned()
    } else {
        format!("see all of it: {}", log.display())
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::Internal, format!("cannot write {}: {error}", path.display()))
        .hint("choose another folder with --data-dir")
}

fn not_startable(program: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::Internal, format!("cannot run {}: {error}", program.display()))
        .hint(format!("is it a program for this machine? name another: {PROGRAM_VARIABLE}=/path/to/{PROGRAM}"))
}
