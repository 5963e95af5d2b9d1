//! What the relay may still do once it serves; how, says the crate `confinement`. The steps lie in [`super::run`]: hardened
//! first of all, confined when the sockets are bound and no second thread is there, sealed when every ring is made.
//!
//! Needed later: the data folder; the folder of the socket that successors ask at; whatever a reload reads again; name
//! servers and the collector of spans. A successor is started by `pilot-relay upgrade` or the service manager, never by a
//! relay at work, which can start nothing.

use std::path::Path;

use ::confinement::Confinement;
use relay::config::Config;

use super::cli::Settings;
use super::data_dir::DataDir;

/// Ports below are the system's own, which takes a capability to bind.
const LOW_PORTS_END: u16 = 1024;

/// What a relay with these settings needs, whose settings are in `file` and whose successors ask at `place`.
#[must_use]
pub fn needs(
    settings: &Settings,
    file: Option<&Path>,
    data_dir: Option<&DataDir>,
    place: Option<&Path>,
) -> Confinement {
    let files = settings.files_read_again();
    Confinement {
        mode: settings.confinement,
        reads: files.into_iter().chain(file.map(Path::to_owned)).collect(),
        writes: data_dir.map(|data_dir| data_dir.path().to_owned()).into_iter().collect(),
        socket_folders: place.and_then(Path::parent).map(Path::to_owned).into_iter().collect(),
        connects: settings.otlp.as_ref().and_then(telemetry::export::Options::port).into_iter().collect(),
        binds: Vec::new(),
        low_ports: has_low_port(&settings.relay),
    }
}

/// An address that appears later is bound then.
fn has_low_port(config: &Config) -> bool {
    let ports = [config.beacon, config.stun].into_iter().flatten().map(|bound| bound.port());
    ports.into_iter().any(|port| port != 0 && port < LOW_PORTS_END)
}
