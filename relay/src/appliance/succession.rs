//! How a relay takes over from the one before it, and hands over to the next.
//!
//! ```text
//! successor                                   the relay at work
//!   connect, Succeed ───────────────────────►  copies of its sockets, of the sessions' ledger
//!   checks them, has rings and threads ready
//!   Take ───────────────────────────────────►  cancels receives, decides on what it has, writes the ledger
//!   reads the ledger, receives  ◄── Stopped ─  (what arrives meanwhile waits in the sockets)
//!   tells the service manager its number
//!   Serving ────────────────────────────────►  ends connections, closes the database, exits
//!   opens the database  ◄────────── the end ─
//! ```
//!
//! Until `Take` anything may go wrong and the relay at work goes on. After it the successor is alone; if it ends then, the
//! old one ends with an error, so that the service manager starts a third on what its store has kept.
//!
//! The same socket answers what state the relay is in, and takes the order to drain. Who may connect: the user the relay
//! runs as, and root. Messages are JSON, one a packet.

mod channel;
mod messages;
mod office;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use relay::Time;
use relay::inheritance::Descriptor;
use relay::runtime::Relay;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

pub use self::channel::{Channel, connect, status};
pub use self::messages::{Answer, Inherited, Request, Status};
use self::office::Office;
use super::phase::CurrentPhase;

/// The socket's name in the run-time folder.
const SOCKET: &str = "pilot-relay.sock";
const BACKLOG: i32 = 8;
/// How long the relay before may take to end its connections and to close its database.
const FAREWELL_WITHIN: Duration = Duration::from_secs(30);

/// Why the relay ends.
#[derive(Debug)]
pub enum End {
    /// A signal.
    Signal,
    /// A successor serves.
    Succeeded,
    /// A successor had taken over, and is gone.
    Abandoned,
    /// It has been drained.
    Drained,
}

/// What the relay at work can do for those who ask.
pub struct Duties {
    /// The relay.
    pub relay: Arc<Relay>,
    /// Its phase.
    pub phase: Arc<CurrentPhase>,
    /// Where open files are listed that are not the relay's own: listening sockets and the ledger.
    pub others: Vec<Descriptor>,
    /// How long the service manager waits for signs of life.
    pub watchdog: Option<Duration>,
    /// How it took over.
    pub inherited: Option<Inherited>,
    /// Begins to drain, within this time.
    pub drain: Box<dyn Fn(Duration) + Send + Sync>,
    /// Is told of the end.
    pub end: Mutex<mpsc::Sender<End>>,
}

impl Duties {
    fn end(&self, end: End) {
        let _ = self.end.lock().unwrap_or_else(PoisonError::into_inner).send(end);
    }

    fn status(&self) -> Status {
        let inherited = self.inherited.clone();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            phase: self.phase.get().text().to_owned(),
            unit: super::service_manager::unit(),
            arguments: without_succeed(
                std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()),
            ),
            environment: Some(settings_of(std::env::vars_os())),
            admin: self.admin(),
            sessions: self.relay.counters().iter().map(|shard| shard.gauge(relay::metrics::Gauge::Sessions)).sum(),
            inherited,
        }
    }

    fn admin(&self) -> Option<SocketAddr> {
        let listener = self.others.iter().find(|one| one.name == super::before::ADMIN)?;
        SockRef::from(&listener.file).local_addr().ok()?.as_socket()
    }

    fn descriptors(&self) -> io::Result<Vec<Descriptor>> {
        let mut descriptors = self.relay.descriptors()?;
        for Descriptor { name, file } in &self.others {
            descriptors.push(Descriptor { name: name.clone(), file: file.try_clone()? });
        }
        Ok(descriptors)
    }
}

/// The settings in an environment.
fn settings_of(variables: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    let lossy = |(name, value): (OsString, OsString)| [name, value].map(|text| text.to_string_lossy().into_owned());
    let ours = variables.map(lossy).filter(|[name, _]| name.starts_with(super::cli::ENVIRONMENT));
    ours.map(|[name, value]| (name, value)).collect()
}

/// The flags of a relay that began as a successor, for the next.
fn without_succeed(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if argument == "--succeed" {
            arguments.next();
        } else {
            kept.push(argument);
        }
    }
    kept
}

/// Where the relay with this data folder is asked.
#[must_use]
pub fn socket_path(data_dir: Option<&Path>) -> Option<PathBuf> {
    // The service manager may name several folders.
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").filter(|folder| !folder.is_empty());
    let runtime = runtime.and_then(|folders| folders.to_str()?.split(':').next().map(PathBuf::from));
    runtime.or_else(|| data_dir.map(Path::to_path_buf)).and_then(|folder| socket_in(&folder))
}

/// The same in a folder; `None` where its name would be too long for a socket.
#[must_use]
pub fn socket_in(folder: &Path) -> Option<PathBuf> {
    let path = folder.join(SOCKET);
    SockAddr::unix(&path).is_ok().then_some(path)
}

/// The relay before this one, which is at work until [`Self::take`].
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
    /// How it is.
    pub status: Status,
    /// How long the service manager waits for signs of life.
    pub watchdog: Option<Duration>,
}

impl Predecessor {
    /// Has copies of its sockets sent.
    ///
    /// # Errors
    /// There is none at `path`, or it refuses.
    pub fn meet(path: &Path) -> anyhow::Result<(Self, Vec<Descriptor>)> {
        let channel = connect(path)?;
        let channel =
            channel.with_context(|| format!("no relay listens at {}, so there is none to succeed", path.display()))?;
        // Its sockets, sessions and words are taken as our own.
        if channel.peer()?.uid() != nix::unistd::geteuid().as_raw() {
            bail!("the relay at {} runs as another user; run this as that user", path.display());
        }
        let status = status(&channel)?;
        let mut descriptors = Vec::new();
        let (mut answer, mut files) = channel.ask(&Request::Succeed)?;
        loop {
            let Answer::Descriptors { names, more, watchdog_micros } = answer else {
                bail!("the relay answers {answer:?}");
            };
            if names.len() != files.len() {
                bail!("{} descriptors came for {} names; raise the limit of open files", files.len(), names.len());
            }
            descriptors.extend(names.into_iter().zip(files).map(|(name, file)| Descriptor { name, file }));
            if !more {
                let watchdog = watchdog_micros.map(Duration::from_micros);
                return Ok((Self { channel, status, watchdog }, descriptors));
            }
            (answer, files) = channel.receive()?.context("the relay has ended")?;
        }
    }

    /// Has it stop, and says since when it does not receive. From now on this process is alone.
    ///
    /// # Errors
    /// It has ended.
    pub fn take(&self) -> anyhow::Result<Time> {
        match self.channel.ask(&Request::Take)? {
            (Answer::Stopped { since_nanos }, _) => Ok(Time(since_nanos)),
            (other, _) => bail!("the relay answers {other:?}"),
        }
    }

    /// Lets it go, and waits until it has closed its database.
    ///
    /// # Errors
    /// It does not end.
    pub fn dismiss(self) -> anyhow::Result<()> {
        self.channel.send(&Request::Serving, &[])?;
        self.channel.0.set_read_timeout(Some(FAREWELL_WITHIN))?;
        match self.channel.receive::<Answer>() {
            Ok(None) => Ok(()),
            Err(error) if error.downcast_ref::<io::Error>().is_some_and(is_end) => Ok(()),
            Ok(Some((other, _))) => bail!("the relay before answers {other:?} instead of ending"),
            Err(error) => Err(error).context("the relay before does not end, and has the database"),
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// The socket at which this relay is asked.
#[derive(Debug)]
pub struct Seat {
    listener: Socket,
    place: Attendance,
}

impl Seat {
    /// Takes the place at `path`, from the relay before if this one succeeds it.
    ///
    /// # Errors
    /// Another relay is there, or the folder cannot be written.
    pub fn take(path: &Path, succeeds: bool) -> anyhow::Result<Self> {
        if !succeeds && Channel::connect(path).is_ok() {
            bail!("another relay is at work with this folder: {} answers", path.display());
        }
        let beside = path.with_extension("new");
        let bind = || {
            // Left by one that was killed.
            if fs::symlink_metadata(&beside).is_ok_and(|found| found.file_type().is_socket()) {
                fs::remove_file(&beside)?;
            }
            let listener = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
            listener.bind(&SockAddr::unix(&beside)?)?;
            fs::set_permissions(&beside, fs::Permissions::from_mode(0o600))?;
            listener.listen(BACKLOG)?;
            let made = fs::symlink_metadata(&beside)?;
            fs::rename(&beside, path)?;
            let place = Attendance { path: path.to_path_buf(), file: (made.dev(), made.ino()) };
            Ok::<_, io::Error>(Self { listener, place })
        };
        bind().with_context(|| format!("cannot make the socket {}", path.display()))
    }

    /// Answers for as long as the process lives.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn attend(self, duties: Arc<Duties>) -> io::Result<Attendance> {
        let Self { listener, place } = self;
        let office = Arc::new(Office::new(duties));
        thread::Builder::new().name("succession".to_owned()).spawn(move || office.open(&listener))?;
        Ok(place)
    }
}

/// The socket's path, to be removed at the end by the one who has made it.
#[derive(Clone, Debug)]
pub struct Attendance {
    path: PathBuf,
    /// Device and number: a successor puts a file of its own at the same path.
    file: (u64, u64),
}

impl Attendance {
    /// Removes it at an end without a successor; what another has put there stays.
    pub fn remove(&self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_successor_gets_the_flags_of_the_first() {
        let flags = ["--http", "off", "--succeed", "/run/x.sock", "--log-json"].map(str::to_owned);
        assert_eq!(without_succeed(flags.into_iter()), ["--http", "off", "--log-json"]);
    }

    #[test]
    fn the_next_successor_gets_the_settings_of_the_environment_and_no_more_of_it() {
        let variables = [("PILOT_RELAY_SHARDS", "2"), ("PATH", "/bin"), ("PILOT_RELAY_HTTP", "off")];
        let settings = settings_of(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        let expected = [("PILOT_RELAY_HTTP", "off"), ("PILOT_RELAY_SHARDS", "2")];
        assert!(settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected), "{settings:?}");
    }

    #[test]
    fn a_place_is_taken_once_and_handed_on_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = socket_in(folder.path()).unwrap();
        assert!(connect(&path).unwrap().is_none(), "nobody is there");
        let first = Seat::take(&path, false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = Seat::take(&path, false).unwrap_err();
        assert!(refused.to_string().contains("another relay is at work"), "{refused}");
        let second = Seat::take(&path, true).unwrap();
        first.place.remove();
        drop(first);
        assert!(connect(&path).unwrap().is_some(), "the second is asked now");
        drop(second);
        assert!(connect(&path).unwrap().is_none(), "a socket file nobody serves");
        Seat::take(&path, false).unwrap().place.remove();
        assert!(!path.exists(), "its own is removed");
        assert!(socket_in(Path::new(&"x".repeat(200))).is_none(), "too long for a socket");
    }
}
