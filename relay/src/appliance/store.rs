//! The store of the service manager: sockets and sessions are kept there under their names while this process lives, so
//! that whoever is started after its end, however it ends, goes on with them.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use relay::inheritance::Descriptor;
use relay::metrics::Gauge;
use relay::runtime::Relay;

use super::service_manager::ServiceManager;

/// Between two looks whether all sessions are in the new ledger.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What is kept.
#[derive(Debug)]
pub struct Store {
    manager: ServiceManager,
    kept: BTreeSet<String>,
}

impl Store {
    /// A store in which `names` lie already.
    pub fn new<'a>(manager: ServiceManager, names: impl Iterator<Item = &'a str>) -> Self {
        Self { manager, kept: names.map(str::to_owned).collect() }
    }

    /// Whose store it is.
    #[must_use]
    pub const fn manager(&self) -> &ServiceManager {
        &self.manager
    }

    /// Keeps what is not kept yet.
    pub fn keep(&mut self, descriptors: &[Descriptor]) {
        for Descriptor { name, file } in descriptors {
            if self.kept.insert(name.clone()) {
                self.manager.store(name, file);
            }
        }
    }

    /// Gives up what is kept under `name`.
    pub fn forget(&mut self, name: &str) {
        if self.kept.remove(name) {
            self.manager.forget(name);
        }
    }

    /// Keeps what the relay has and `others`, and nothing else, for as long as the process lives. What the relay before
    /// knew is given up when this one's ledger holds it all.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn follow(mut self, relay: Arc<Relay>, others: &[Descriptor]) -> io::Result<()> {
        if !self.manager.is_there() {
            return Ok(());
        }
        let (changed, changes) = mpsc::channel();
        relay.tell_of_changes(changed);
        self.keep(others);
        let others: BTreeSet<String> = others.iter().map(|one| one.name.clone()).collect();
        let body = move || {
            // The relay before may have known what is not written here yet; a crash now still finds its ledger.
            while relay.counters().iter().any(|shard| shard.gauge(Gauge::Unwritten) > 0) {
                let _ = changes.recv_timeout(LOOK_INTERVAL);
            }
            loop {
                match relay.descriptors() {
                    Ok(sockets) => self.equal(&sockets, &others),
                    Err(error) => tracing::warn!(%error, "the service manager's store does not follow the addresses"),
                }
                if changes.recv().is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("store".to_owned()).spawn(body).map(drop)
    }

    fn equal(&mut self, sockets: &[Descriptor], others: &BTreeSet<String>) {
        let wanted = |name: &String| others.contains(name) || sockets.iter().any(|one| one.name == *name);
        let gone: Vec<String> = self.kept.iter().filter(|name| !wanted(name)).cloned().collect();
        gone.iter().for_each(|name| self.forget(name));
        self.keep(sockets);
    }
}
