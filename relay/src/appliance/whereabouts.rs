//! Where nodes are, kept across a restart: a small file beside the database, written while sessions change.
//!
//! It is a hint, never a fact: after a restart the relay asks a node that is wanted, and only its answer makes a session
//! (see [`relay::contests`]). So a lost or torn file costs a minute at most, until daemons say by themselves where they
//! are, and nothing is flushed to the disk for it. Nodes that have not spoken since the restart stay in the file for as
//! long as a silent session would live: the next crash may come before their next word.
//!
//! ```text
//! magic=8, then for each session: node=4, address=16 (IPv4 mapped), port=2; integers are big-endian
//! ```

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::Ipv6Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use relay::metrics::{Counter, Counters};
use relay::runtime::Relay;
use relay::{Endpoint, Time};
use wire::NodeId;
use wire::codec::Reader;

const FILE: &str = "whereabouts";
const MAGIC: &[u8; 8] = b"PRWHERE1";
const RECORD_BYTES: usize = 4 + 16 + 2;
/// How stale the file may be at least, and how many times longer than writing it takes.
const INTERVAL: Duration = Duration::from_secs(1);
const INTERVAL_PER_WRITE: u32 = 50;
/// How long silent nodes of before the restart are kept: a session's life.
const SILENT_FOR: Duration = Duration::from_secs(600);

/// The file of one data folder.
#[derive(Debug)]
pub struct Whereabouts(PathBuf);

/// Writes the file until dropped, and then once more.
#[derive(Debug)]
pub struct Keeper {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Whereabouts {
    /// The file in `folder`, whether it exists or not.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self(folder.join(FILE))
    }

    /// What was last written; empty, with a word in the log, when that cannot be read.
    #[must_use]
    pub fn load(&self) -> HashMap<NodeId, Endpoint> {
        match fs::read(&self.0) {
            Ok(bytes) => decode(&bytes).unwrap_or_else(|| {
                tracing::warn!(file = %self.0.display(), "not a file of whereabouts; nodes are found as they speak up");
                HashMap::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => {
                tracing::warn!(file = %self.0.display(), %error, "cannot read the whereabouts of nodes");
                HashMap::new()
            }
        }
    }

    /// Forgets what was written: the numbers are those of another database.
    pub fn remove(&self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %self.0.display(), %error, "cannot remove the whereabouts of nodes");
            }
            _ => {}
        }
    }

    /// Keeps the file up to date with `relay` on a thread of its own.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn keep(self, relay: Arc<Relay>, before: HashMap<NodeId, Endpoint>) -> io::Result<Keeper> {
        let (stop, stopped) = mpsc::channel();
        let body = move || {
            let mut before = before;
            let started = Time::read_clock();
            let mut interval = INTERVAL;
            let mut written = None;
            let mut fails = false;
            loop {
                let last = stopped.recv_timeout(interval) != Err(mpsc::RecvTimeoutError::Timeout);
                let now = Time::read_clock();
                if now.since(started) > SILENT_FOR {
                    before = HashMap::new();
                    relay.membership().forget();
                }
                let changes = changes(&relay.counters());
                if written != Some(changes) {
                    let result = self.write(&merged(&before, &relay));
                    self.log(&result, fails);
                    fails = result.is_err();
                    if !fails {
                        written = Some(changes);
                        interval = INTERVAL.max(Time::read_clock().since(now) * INTERVAL_PER_WRITE);
                    }
                }
                if last {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("whereabouts".to_owned()).spawn(body)?;
        Ok(Keeper { stop: Some(stop), thread: Some(thread) })
    }

    /// Written beside and renamed, so that a crash leaves the old file or the new.
    fn write(&self, endpoints: &HashMap<NodeId, Endpoint>) -> io::Result<()> {
        let beside = self.0.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&encode(endpoints))?;
        fs::rename(&beside, &self.0)
    }

    /// A line when it begins to fail and one when it ends: a disk may be gone for days.
    fn log(&self, result: &io::Result<()>, failed_before: bool) {
        let file = self.0.display();
        match result {
            Err(error) if !failed_before => tracing::warn!(
                %file, %error, "cannot write the whereabouts of nodes, which is tried again; after a restart they are found as they speak up"
            ),
            Ok(()) if failed_before => tracing::info!(%file, "the whereabouts of nodes are written again"),
            _ => {}
        }
    }
}

/// Where nodes are now, and where those were that have not spoken yet.
fn merged(before: &HashMap<NodeId, Endpoint>, relay: &Relay) -> HashMap<NodeId, Endpoint> {
    let mut endpoints = before.clone();
    endpoints.extend(relay.table().iter().map(|(node, session)| (node, session.path.remote)));
    endpoints.retain(|node, _| !relay.membership().has_authority() || relay.membership().knows(*node));
    endpoints
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A number that differs once any session began, moved or ended.
fn changes(shards: &[Counters]) -> u64 {
    let of = |counters: &Counters| {
        [Counter::SessionsStarted, Counter::SessionsMoved, Counter::SessionsExpired].map(|kind| counters.get(kind))
    };
    shards.iter().flat_map(of).sum()
}

fn encode(endpoints: &HashMap<NodeId, Endpoint>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAGIC.len() + endpoints.len() * RECORD_BYTES);
    bytes.extend(MAGIC);
    for (NodeId(node), Endpoint { ip, port }) in endpoints {
        bytes.extend(node.to_be_bytes());
        bytes.extend(ip.octets());
        bytes.extend(port.to_be_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<HashMap<NodeId, Endpoint>> {
    let records = bytes.strip_prefix(MAGIC)?;
    let mut reader = Reader::new(records);
    let mut endpoints = HashMap::with_capacity(records.len() / RECORD_BYTES);
    while !reader.rest().is_empty() {
        let node = NodeId(reader.u32().ok()?);
        let ip = Ipv6Addr::from(*reader.array::<16>().ok()?);
        endpoints.insert(node, Endpoint { ip, port: reader.u16().ok()? });
    }
    Some(endpoints)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_told_apart() {
        let at = |text: &str| Endpoint::from(text.parse::<SocketAddr>().unwrap());
        let endpoints = HashMap::from([(NodeId(1), at("198.18.0.7:4001")), (NodeId(9), at("[2001:db8::7]:4002"))]);
        let bytes = encode(&endpoints);
        assert_eq!(decode(&encode(&HashMap::new())), Some(HashMap::new()));
        assert_eq!(decode(&bytes), Some(endpoints));
        for cut in (0..bytes.len()).filter(|cut| *cut != MAGIC.len() && *cut != MAGIC.len() + RECORD_BYTES) {
            assert_eq!(decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }
}
