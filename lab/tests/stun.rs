//! STUN clients that other people wrote get the right answers, on every kind of path.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use lab::{BEACON_PORT, Host, Nat, RELAY_V4, RELAY_V4_SECOND, RELAY_V6, RELAY_V6_SECOND, STUN_PORT, World, evidence};

const VERDICT_WITHIN: Duration = Duration::from_secs(60);

/// RFC 8489 section 5: type Binding, no attributes, magic cookie, transaction id.
const BINDING_REQUEST: &[u8] = b"\x00\x01\x00\x00\x21\x12\xa4\x42twelve-bytes";
const BINDING_SUCCESS: &[u8] = b"\x01\x01";
/// SPEC section 4.1: type 01, node 0.
const DISCOVER: &[u8] = b"\x01\x00\x00\x00\x00";
const DISCOVER_REPLY: &[u8] = b"\x02";

#[test]
fn a_stun_client_learns_its_address_over_ipv4_and_ipv6() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let host = world.host("client");
    for relay in [IpAddr::V4(RELAY_V4), IpAddr::V6(RELAY_V6)] {
        // The client goes on to ask for RESPONSE-PORT and waits for ever at that port, also when told that a server
        // does not do that (it invites reflection); by then it has printed its address.
        let printed = run(&host, Duration::from_secs(3), &["turnutils_stunclient", &relay.to_string()]);
        let own = if relay.is_ipv4() { host.v4().to_string() } else { host.v6().to_string() };
        let line = printed.lines().find(|line| line.contains("UDP reflexive addr"));
        let line = line.unwrap_or_else(|| panic!("no reflexive address from {relay}: {printed}"));
        assert!(line.contains(&format!("{own}:")), "{relay} told another address than {own}: {printed}");
        evidence(format!("turnutils_stunclient {relay}: {}", line.trim()));
    }
}

#[test]
fn nat_discovery_recognises_every_nat() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    behind_every_nat(&world, |nat, host| {
        let printed = run(host, VERDICT_WITHIN, &["turnutils_natdiscovery", "-m", "-f", &RELAY_V4.to_string()]);
        let (mapping, filtering) = rfc5780_names(nat);
        for verdict in [format!("NAT with {mapping} Mapping!"), format!("NAT with {filtering} Filtering!")] {
            assert!(printed.contains(&verdict), "{nat:?}: no `{verdict}` in {printed}");
        }
        evidence(format!("turnutils_natdiscovery behind {nat:?}: {mapping} Mapping, {filtering} Filtering"));
    });
}

#[test]
fn the_classic_client_recognises_every_nat() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let open = run(&world.host("open"), VERDICT_WITHIN, &["stun", &RELAY_V4.to_string()]);
    assert!(open.contains("Primary: Open"), "not behind anything: {open}");
    behind_every_nat(&world, |nat, host| {
        let printed = run(host, VERDICT_WITHIN, &["stun", &RELAY_V4.to_string()]);
        let verdict = rfc3489_name(nat);
        assert!(printed.contains(verdict), "{nat:?}: no `{verdict}` in {printed}");
        evidence(format!("stun behind {nat:?}: {verdict}"));
    });
}

/// A relay that answers from another address than it was asked at does not get through a translator.
#[test]
fn asked_at_its_second_address_the_relay_answers_from_there() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    let host = world.host("client");
    for address in [IpAddr::V4(RELAY_V4_SECOND), IpAddr::V6(RELAY_V6_SECOND)] {
        for (port, question, answer) in [
            (STUN_PORT, BINDING_REQUEST, BINDING_SUCCESS),
            (BEACON_PORT, BINDING_REQUEST, BINDING_SUCCESS),
            (BEACON_PORT, DISCOVER, DISCOVER_REPLY),
        ] {
            let asked = SocketAddr::new(address, port);
            let (answered_from, reply) = ask(&host, asked, question);
            assert_eq!(answered_from, asked, "the answer comes from elsewhere");
            assert!(reply.starts_with(answer), "{asked} answered {question:02x?} with {reply:02x?}");
        }
        evidence(format!("{address} answers for itself"));
    }
}

fn behind_every_nat(world: &World, check: impl Fn(Nat, &Host) + Sync) {
    thread::scope(|scope| {
        for nat in Nat::ALL {
            let (host, check) = (world.site(nat).host(&format!("behind-{nat:?}").to_lowercase()), &check);
            let thread = thread::Builder::new().name(format!("behind {nat:?}"));
            thread.spawn_scoped(scope, move || check(nat, &host)).expect("the system has threads");
        }
    });
}

/// Mapping and filtering behaviour in the words of RFC 4787.
fn rfc5780_names(nat: Nat) -> (&'static str, &'static str) {
    match nat {
        Nat::FullCone => ("Endpoint Independent", "Endpoint Independent"),
        Nat::AddressRestricted => ("Endpoint Independent", "Address Dependent"),
        Nat::PortRestricted => ("Endpoint Independent", "Address and Port Dependent"),
        Nat::Symmetric => ("Address and Port Dependent", "Address and Port Dependent"),
    }
}

/// The same in the words of the classic client.
fn rfc3489_name(nat: Nat) -> &'static str {
    match nat {
        Nat::FullCone => "Independent Mapping, Independent Filter",
        Nat::AddressRestricted => "Independent Mapping, Address Dependent Filter",
        Nat::PortRestricted => "Independent Mapping, Port Dependent Filter",
        Nat::Symmetric => "Dependent Mapping",
    }
}

/// Runs a client to its end, or for so long; these tools report their verdict as exit status, so only the text counts.
fn run(host: &Host, within: Duration, command: &[&str]) -> String {
    let mut bounded = host.namespace().command("timeout");
    let output = bounded.arg(within.as_secs().to_string()).args(command).output().expect("ip can be run");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Sends a question from a socket that takes answers from anywhere; who answered, and what.
fn ask(host: &Host, relay: SocketAddr, question: &[u8]) -> (SocketAddr, Vec<u8>) {
    let socket = host.namespace().enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)));
    let socket = socket.expect("a host has free UDP ports");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket takes a time-out");
    let destination = match relay.ip() {
        IpAddr::V4(v4) => SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), relay.port()),
        IpAddr::V6(_) => relay,
    };
    socket.send_to(question, destination).expect("the relay's address is reachable");
    let mut buffer = [0; 2048];
    let (length, from) =
        socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{relay} does not answer: {error}"));
    (SocketAddr::new(from.ip().to_canonical(), from.port()), buffer[..length].to_vec())
}
