//! Texts of the command line to values: addresses, names, lists of CPUs. A refusal says what to write instead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use nix::sched::CpuSet;
use relay::Time;

/// What the C library says when no name server has answered; any other answer is one.
const NO_ANSWER: &str = "Temporary failure in name resolution";
/// What the standard library says before whatever the C library has said of a name.
const NOT_FOUND: &str = "failed to lookup address information";
/// How long a name server that does not answer is asked again. Then the service manager starts the relay anew.
const NAME_PATIENCE: Duration = Duration::from_secs(15);
const NAME_PAUSE: Duration = Duration::from_secs(1);

/// Where an address flag points: nowhere, or to an address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// The part is switched off.
    Off,
    /// The default: every address, both families where the host has them.
    Anywhere(u16),
    /// Given by the user.
    At(SocketAddr),
}

/// CPU numbers in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

impl Listen {
    /// The address meant on a host with or without IPv6.
    pub fn resolve(self, has_ipv6: bool) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::Anywhere(port) if has_ipv6 => Some((Ipv6Addr::UNSPECIFIED, port).into()),
            Self::Anywhere(port) => Some((Ipv4Addr::UNSPECIFIED, port).into()),
            Self::At(address) => Some(address),
        }
    }
}

/// Reads the value of an address flag.
pub fn listen(text: &str) -> Result<Listen, String> {
    if text == "off" {
        return Ok(Listen::Off);
    }
    if let Some(port) = text.strip_prefix("any:").and_then(|port| port.parse().ok()) {
        return Ok(Listen::Anywhere(port));
    }
    resolve_name(text)
        .map(|addresses| Listen::At(addresses[0]))
        .map_err(|error| format!("{error}; write ADDRESS:PORT, such as 0.0.0.0:9001 or [::]:9001, or `off`"))
}

/// At least one address.
fn resolve_name(text: &str) -> Result<Vec<SocketAddr>, String> {
    let addresses: Vec<_> = text.to_socket_addrs().map_err(|error| error.to_string())?.collect();
    if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(addresses) }
}

/// Whether `refusal` is about a name of which nobody says anything: neither that it is, nor that it is not.
fn is_unanswered(refusal: &str) -> bool {
    refusal.contains(NO_ANSWER)
}

/// Whether `refusal` is about a name without an address. There may be one later: names come and go, and some that ask for
/// them are told that they do not exist while the network is not whole yet.
pub fn is_of_a_name(refusal: &str) -> bool {
    refusal.contains(NOT_FOUND)
}

/// As [`resolve_name`], but a name server that does not answer is asked again for a while: at boot the relay may be there
/// before the network.
fn resolve_patiently(text: &str) -> Result<Vec<SocketAddr>, String> {
    let began = Time::read_clock();
    let mut said = false;
    loop {
        match resolve_name(text) {
            Err(error) if is_unanswered(&error) && Time::read_clock().since(began) < NAME_PATIENCE => {
                if !said {
                    tracing::warn!(name = text, %error, "no name server answers; waiting for one");
                    said = true;
                }
                std::thread::park_timeout(NAME_PAUSE);
            }
            resolved => return resolved,
        }
    }
}

/// What an `--advertise` value names; the port is that of the beacon unless given.
pub fn advertised(text: &str, beacon_port: u16) -> anyhow::Result<Vec<SocketAddr>> {
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, beacon_port)]);
    }
    let with_port = if text.contains(':') { text.to_owned() } else { format!("{text}:{beacon_port}") };
    resolve_patiently(&with_port)
        .map_err(|error| anyhow::anyhow!("--advertise {text}: {error}; write HOST or HOST:PORT as nodes reach it"))
}

/// Reads a list such as `0-3,8`.
pub fn cpu_list(text: &str) -> Result<CpuList, String> {
    let wrong = || format!("`{text}` is no list of CPUs; write something like 0-3,8");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first > last || last >= CpuSet::count() {
            return Err(wrong());
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(CpuList(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read_and_refused() {
        assert_eq!(cpu_list("0-2,5,1"), Ok(CpuList(vec![0, 1, 2, 5])));
        for wrong in ["", "a", "3-1", "1,", "99999"] {
            assert!(cpu_list(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_read_and_refused_with_a_hint() {
        assert_eq!(listen("off"), Ok(Listen::Off));
        assert_eq!(listen("127.0.0.1:0"), Ok(Listen::At("127.0.0.1:0".parse().unwrap())));
        assert_eq!(listen("[::1]:9001"), Ok(Listen::At("[::1]:9001".parse().unwrap())));
        for wrong in ["", "9001", "127.0.0.1", "127.0.0.1:99999"] {
            assert!(listen(wrong).unwrap_err().contains("ADDRESS:PORT"), "{wrong}");
        }
    }
}
