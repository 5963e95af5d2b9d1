//! What a person sees at start: the addresses, the status page, the data folder, and the commands that join this backbone.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use relay::locals::Service;
use relay::runtime::Relay;

use super::admin::Admin;
use super::cli::Settings;
use super::data_dir::DataDir;
use super::directory_link::is_private;

/// What is to be said.
pub fn text(
    settings: &Settings,
    relay: &Relay,
    directory: Option<&directory::Running>,
    admin: Option<&Admin>,
    data_dir: Option<&DataDir>,
) -> String {
    let mut text = format!("pilot-relay {}\n", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<11}{value}\n"));
    let locals = relay.locals();
    let served = |service| {
        let bound = locals.iter().filter(|(_, local)| local.service == service && local.present);
        let bound: Vec<String> = bound.map(|(_, local)| local.bound.to_string()).collect();
        if bound.is_empty() { "off".to_owned() } else { bound.join("  ") }
    };
    line("beacon", served(Service::Beacon));
    line("stun", served(Service::Stun));
    let registry = directory.map(|directory| directory.local_addrs().to_vec()).unwrap_or_default();
    line("directory", join(&registry));
    let fingerprint = directory.and_then(|directory| directory.tls_fingerprint());
    if let Some(fingerprint) = &fingerprint {
        line("TLS pin", fingerprint.clone());
    }
    let beacon = beacon_host(settings, relay);
    // As another host would name it.
    let named = |address: SocketAddr| match beacon {
        Some(beacon) if address.ip().is_unspecified() => SocketAddr::new(beacon.ip(), address.port()),
        _ => address,
    };
    line("admin", admin.map_or_else(|| "off".to_owned(), |admin| format!("http://{}", admin.address())));
    // A relay without a directory has no page to look at.
    if let (Some(admin), Some(_)) = (admin, directory) {
        line("status", format!("http://{}/", named(admin.address())));
    }
    if let Some(data_dir) = data_dir {
        line("data", data_dir.path().display().to_string());
    }
    line("shards", format!("{} on CPUs {:?}", settings.relay.shards(), settings.relay.cpus));
    line("memory", settings.relay.memory().to_string());
    if let (Some(beacon), Some(registry)) = (beacon, registry.first()) {
        let registry = named(*registry);
        // A certificate from elsewhere is renewed now and then, and its fingerprint with it; without need it is not pinned.
        let is_own = !matches!(settings.tls, directory::Tls::Files { .. });
        let pin = fingerprint.filter(|_| is_own || settings.tls_required);
        let agent = pin.as_ref().map(|pin| format!(" --registry-fingerprint {pin}")).unwrap_or_default();
        // Those of its command line that ask the directory themselves speak plain TCP alone.
        let daemon = pin.filter(|_| settings.tls_required);
        let daemon = daemon.map(|pin| format!(" -registry-tls -registry-fingerprint {pin}")).unwrap_or_default();
        text.push_str(&format!(
            "Join it from any host, with the agent or with a Pilot daemon:\n  \
             pilotctl daemon start --hostname NAME --registry {registry}{agent}\n  \
             pilot-daemon -registry {registry}{daemon} -beacon {beacon}\n"
        ));
    }
    text
}

/// Prints it to standard output. A reader that has gone away is no error.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn join(addresses: &[SocketAddr]) -> String {
    if addresses.is_empty() {
        return "off".to_owned();
    }
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join("  ")
}

/// The beacon as another host would name it: advertised, else public, else at least not loopback; IPv4 first, since
/// every daemon has that.
fn beacon_host(settings: &Settings, relay: &Relay) -> Option<SocketAddr> {
    if let Some(advertised) = settings.relay.advertise.first() {
        return Some(*advertised);
    }
    let rank = |ip: IpAddr| (ip.is_loopback(), is_private(ip), ip.is_ipv6());
    let locals = relay.locals();
    let beacons = locals.iter().filter(|(_, local)| local.service == Service::Beacon && local.present);
    beacons.map(|(_, local)| local.bound).min_by_key(|bound| rank(bound.ip()))
}
