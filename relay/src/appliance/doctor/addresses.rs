//! Addresses: which families there are, whether the ports are free, whether nodes reach what is handed out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::check::Check;
use super::topics::{ADVERTISE, FAMILIES, PORTS};

/// What is known of them.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The addresses the beacon serves, loopback included.
    pub served: Vec<IpAddr>,
    /// The ports that are wanted.
    pub ports: Vec<Port>,
    /// What `--advertise` names, and what came of asking there.
    pub advertised: Vec<(SocketAddr, Reached)>,
}

/// A port one of the flags asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The flag.
    pub flag: &'static str,
    /// UDP or TCP.
    pub transport: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// Whose it is now.
    pub holder: Holder,
}

/// Whose a port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody's.
    Free,
    /// A relay's at work, with its process where that can be told.
    Relay(Option<u32>),
    /// Another program's.
    Other(String, u32),
    /// Somebody's.
    Unknown,
    /// The address cannot be used, and why.
    Unusable(String),
}

/// What came of asking an advertised address where we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// No relay runs here that could answer.
    NotAsked,
    /// It answered, and saw us at this address.
    Answered(SocketAddr),
    /// No answer.
    Silent,
}

/// Who can reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Everyone,
    LocalNetwork,
    ThisHost,
}

/// The verdicts.
pub fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![families(&facts.served)];
    checks.extend(facts.ports.iter().map(port));
    if facts.advertised.is_empty() {
        checks.push(default_address(&facts.served));
    } else {
        checks.extend(facts.advertised.iter().map(|(address, reached)| advertised(*address, *reached, &facts.served)));
    }
    checks
}

fn families(served: &[IpAddr]) -> Check {
    let has = |v4: bool| served.iter().any(|ip| ip.is_ipv4() == v4 && !ip.is_loopback());
    let check = match (has(true), has(false)) {
        (true, true) => FAMILIES.ok("IPv4 and IPv6"),
        (true, false) => FAMILIES.note("IPv4 only; nodes that have only IPv6 cannot come"),
        (false, true) => FAMILIES.warn("IPv6 only; most nodes have only IPv4", "give this host an IPv4 address"),
        (false, false) => FAMILIES.note("loopback only; no other host can come"),
    };
    check.value("addresses", served.iter().map(IpAddr::to_string).collect::<Vec<_>>())
}

fn port(port: &Port) -> Check {
    let Port { flag, transport, address, holder } = port;
    let place = format!("{transport} {address} ({flag})");
    let check = match holder {
        Holder::Free => PORTS.ok(format!("{place} is free")),
        Holder::Relay(Some(pid)) => PORTS.ok(format!("{place} is served by a relay at work (process {pid})")),
        Holder::Relay(None) => PORTS.ok(format!("{place} is served by a relay at work")),
        Holder::Other(program, pid) => PORTS.problem(
            format!("{place} is held by {program} (process {pid})"),
            format!("stop it, or choose another port with {flag}"),
        ),
        Holder::Unknown => PORTS.problem(
            format!("{place} is held by a program that this user may not see"),
            format!("run doctor as root to see which, or choose another port with {flag}"),
        ),
        Holder::Unusable(why) => PORTS
            .problem(format!("{place} cannot be used: {why}"), format!("choose an address of this host with {flag}")),
    };
    check.value("flag", *flag).value("address", address.to_string())
}

fn default_address(served: &[IpAddr]) -> Check {
    let best = |is_wanted: fn(&IpAddr) -> bool| {
        served.iter().filter(|ip| is_wanted(ip)).map(|ip| (reach(*ip), ip)).min_by_key(|(reach, _)| *reach)
    };
    let v4 = best(|ip| ip.is_ipv4() && !ip.is_loopback());
    let v6 = best(|ip| ip.is_ipv6() && !ip.is_loopback());
    // Nodes of one family are not helped by an address of the other. Of equals the first, IPv4, concerns more of them.
    let worst = [v4, v6].into_iter().flatten().rev().max_by_key(|(reach, _)| *reach).or_else(|| best(|_| true));
    let advice = "--advertise HOST names the address nodes reach, such as that of the NAT before this host";
    let check = match worst {
        None => ADVERTISE.note("the beacon is off, so no address is handed out"),
        Some((Reach::Everyone, ip)) => {
            ADVERTISE.ok(format!("nodes are given the address they reach the directory at, such as {ip}"))
        }
        Some((Reach::LocalNetwork, ip)) => {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let finding =
                format!("nodes that come by {family} are given {ip}, which means nothing outside the local network");
            ADVERTISE.warn(finding, advice)
        }
        Some((Reach::ThisHost, ip)) => {
            ADVERTISE.warn(format!("nodes are given {ip}, which only this host reaches"), advice)
        }
    };
    check.value("address", worst.map(|(_, ip)| ip.to_string()))
}

fn advertised(address: SocketAddr, reached: Reached, served: &[IpAddr]) -> Check {
    let is_own = served.contains(&address.ip());
    let from_outside = format!("ask from another host: turnutils_stunclient -p {} {}", address.port(), address.ip());
    let check = match (reached, reach(address.ip())) {
        (Reached::Silent, _) => ADVERTISE.warn(
            format!("{address} does not answer, asked from this host within a second"),
            format!(
                "open UDP {} in firewall and NAT, then {from_outside} (some NATs never lead back inside)",
                address.port()
            ),
        ),
        (_, Reach::ThisHost) => ADVERTISE
            .warn(format!("{address} is reached by this host alone"), "--advertise HOST with the address nodes reach"),
        (_, Reach::LocalNetwork) => ADVERTISE.warn(
            format!("{address} means nothing outside the local network"),
            "--advertise HOST with the public address, unless all nodes are on this network",
        ),
        (Reached::NotAsked, _) => ADVERTISE
            .note(format!("{address} could not be asked: no relay is running here"))
            .advise("start the relay, then run doctor with the same flags again"),
        (Reached::Answered(seen), _) if is_own => ADVERTISE
            .ok(format!("{address} answers and sees {}; it is this host's own, so no firewall was crossed", seen.ip()))
            .advise(from_outside),
        (Reached::Answered(seen), _) => ADVERTISE.ok(format!("{address} answers and sees this host at {}", seen.ip())),
    };
    check.value("address", address.to_string()).value("answered", matches!(reached, Reached::Answered(_)))
}

/// By the registries of special-purpose addresses (RFC 6890).
fn reach(ip: IpAddr) -> Reach {
    match ip {
        _ if ip.is_loopback() || ip.is_unspecified() => Reach::ThisHost,
        IpAddr::V4(ip) if is_local_v4(ip) => Reach::LocalNetwork,
        IpAddr::V6(ip) if is_local_v6(ip) => Reach::LocalNetwork,
        _ => Reach::Everyone,
    }
}

fn is_local_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    // Shared by the customers of a carrier (RFC 6598); reserved for measurements (RFC 2544).
    let shared = a == 100 && b & 0xC0 == 64;
    let benchmarking = a == 198 && b & 0xFE == 18;
    ip.is_private() || ip.is_link_local() || ip.is_documentation() || shared || benchmarking
}

fn is_local_v6(ip: Ipv6Addr) -> bool {
    let documentation = ip.segments()[..2] == [0x2001, 0xdb8];
    ip.is_unique_local() || ip.is_unicast_link_local() || documentation
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn both_families_are_best() {
        let of = |texts: &[&str]| families(&ips(texts)).status;
        assert_eq!(of(&["127.0.0.1", "::1", "8.8.8.8", "2600::1"]), Status::Ok);
        assert_eq!([of(&["8.8.8.8", "::1"]), of(&["127.0.0.1"])], [Status::Note; 2]);
        assert_eq!(of(&["127.0.0.1", "2600::1"]), Status::Warn);
    }

    #[test]
    fn a_port_of_others_is_a_problem_and_one_of_ours_is_not() {
        let of = |holder: Holder| {
            let address = "[::]:9001".parse().unwrap();
            let check = port(&Port { flag: "--beacon", transport: "UDP", address, holder });
            assert!(check.finding.contains("UDP [::]:9001 (--beacon)"), "{}", check.finding);
            check.status
        };
        assert_eq!([Holder::Free, Holder::Relay(Some(7)), Holder::Relay(None)].map(of), [Status::Ok; 3]);
        let others = [Holder::Other("named".to_owned(), 7), Holder::Unknown, Holder::Unusable("no".to_owned())];
        assert_eq!(others.map(of), [Status::Problem; 3]);
    }

    #[test]
    fn without_advertise_the_best_address_of_each_family_counts() {
        let of = |texts: &[&str]| default_address(&ips(texts)).status;
        assert_eq!(of(&["127.0.0.1", "10.0.0.1", "8.8.8.8"]), Status::Ok);
        assert_eq!([of(&["10.0.0.1", "fd00::2", "127.0.0.1"]), of(&["127.0.0.1"])], [Status::Warn; 2]);
        assert_eq!(of(&[]), Status::Note);
        assert_eq!(of(&["8.8.8.8", "2600::1", "::1"]), Status::Ok);
        let cloud = default_address(&ips(&["127.0.0.1", "10.0.0.1", "2600::1"]));
        assert_eq!((cloud.status, &cloud.values["address"]), (Status::Warn, &"10.0.0.1".into()), "IPv4 nodes fail");
        assert!(cloud.finding.contains("come by IPv4"), "{}", cloud.finding);
        let site = default_address(&ips(&["8.8.8.8", "fd00::2"]));
        assert_eq!((site.status, &site.values["address"]), (Status::Warn, &"fd00::2".into()));
        let both = default_address(&ips(&["10.0.0.1", "fd00::2"]));
        assert_eq!(both.values["address"], "10.0.0.1", "the family of most nodes");
        for local in ["100.64.3.1", "198.18.0.2", "192.0.2.2", "169.254.1.1", "2001:db8::1", "fe80::1"] {
            assert_eq!(of(&[local]), Status::Warn, "{local}");
        }
    }

    #[test]
    fn what_is_advertised_is_asked() {
        let of = |address: &str, reached| {
            let check = advertised(address.parse().unwrap(), reached, &ips(&["8.8.4.4"]));
            (check.status, check.finding, check.advice)
        };
        let seen = Reached::Answered("9.9.9.9:5".parse().unwrap());
        assert_eq!(of("8.8.8.8:9001", seen).0, Status::Ok);
        let own = of("8.8.4.4:9001", seen);
        assert!(own.0 == Status::Ok && own.1.contains("no firewall was crossed"), "{own:?}");
        let unasked = of("8.8.8.8:9001", Reached::NotAsked);
        assert!(unasked.0 == Status::Note && unasked.1.contains("could not be asked"), "{unasked:?}");
        assert_eq!(of("8.8.8.8:9001", Reached::Silent).0, Status::Warn);
        assert_eq!([of("10.0.0.1:9001", seen).0, of("127.0.0.1:9001", seen).0], [Status::Warn; 2]);
    }
}
