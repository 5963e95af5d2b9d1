//! Tries out what files do not tell: rings, sockets, ports, the clock, an advertised address. Leaves nothing behind.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use relay::Time;
use relay::interfaces::{self, HostAddress};
use relay::locals::LOCALS_MAX;
use relay::socket::bind_group;
use relay::uring::{Ring, RingError};
use wire::NodeId;
use wire::beacon::{ENDPOINT_MESSAGE_MAX, Message};
use wire::codec::Writer;
use wire::stun::{self, Class, Header, MessageWriter, TransactionId};

use super::addresses::{Holder, Reached};
use super::cards::Offloads;
use super::host::Host;

/// Readings of the clock that are timed together.
const READINGS: u32 = 10_000;
/// An address is asked this often, and given this long each time: a second in all.
const TRIES: u32 = 4;
const PATIENCE: Duration = Duration::from_millis(250);
/// Nobody is misled by a known one: an answer to the asking socket is all that is wanted.
const TRANSACTION: [u8; 12] = *b"pilot doctor";
/// Where Debian keeps programs of root that a user's PATH lacks.
const ETHTOOL: [&str; 2] = ["ethtool", "/usr/sbin/ethtool"];

/// Makes a ring for each of so many shards at once, as a relay does.
///
/// # Errors
/// Why there is none.
pub fn rings(shards: usize) -> Result<(), RingError> {
    let made: Result<Vec<Ring>, RingError> = (0..shards).map(|_| Ring::new(2 * LOCALS_MAX as u32 + 1, 0)).collect();
    made.map(drop)
}

/// Bytes that a socket of the relay's may receive and send ahead; the kernel reports twice that, its own cost included.
pub fn socket_buffers() -> Option<(u64, u64)> {
    let (_, sockets) = bind_group((Ipv4Addr::LOCALHOST, 0).into(), 1)
        .or_else(|_| bind_group((Ipv6Addr::LOCALHOST, 0).into(), 1))
        .ok()?;
    let (main, _) = sockets.first()?;
    let halved = |bytes: usize| bytes as u64 / 2;
    Some((halved(getsockopt(main, sockopt::RcvBuf).ok()?), halved(getsockopt(main, sockopt::SndBuf).ok()?)))
}

/// What one reading of the relay's clock takes, the best of a few rounds.
pub fn clock_reading_ns() -> u64 {
    let round = || {
        let start = Time::read_clock();
        let end = (0..READINGS).fold(start, |_, _| Time::read_clock());
        end.since(start).as_nanos() as u64 / u64::from(READINGS)
    };
    (0..5).map(|_| round()).min().unwrap_or_default()
}

/// The addresses of this host that `beacon` serves: a wildcard stands for all of its families.
pub fn served(beacon: SocketAddr) -> Vec<IpAddr> {
    let ip = beacon.ip();
    if !ip.is_unspecified() {
        return vec![ip];
    }
    let host: Vec<HostAddress> = interfaces::host_addresses().unwrap_or_default();
    host.iter().map(|address| address.ip).filter(|own| ip.is_ipv6() || own.is_ipv4()).collect()
}

/// The interfaces that carry `served`, loopback left out.
pub fn interfaces_of(served: &[IpAddr]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(address) = interface.address else { continue };
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())));
        if ip.is_some_and(|ip| served.contains(&ip) && !ip.is_loopback()) {
            // Labels such as eth0:1 are addresses of eth0.
            found.insert(interface.interface_name.split(':').next().unwrap_or_default().to_owned());
        }
    }
    found
}

/// What an interface takes over, where `ethtool` can tell.
pub fn offloads(interface: &str) -> Offloads {
    let ask = |program: &&str| Command::new(program).args(["-k", interface]).stdin(Stdio::null()).output().ok();
    match ETHTOOL.iter().find_map(ask) {
        None => Offloads::NotAsked,
        Some(output) if output.status.success() => Offloads::parse(&String::from_utf8_lossy(&output.stdout)),
        Some(output) => Offloads::refused(&String::from_utf8_lossy(&output.stderr)),
    }
}

/// Whose a port is, `udp` or `tcp`. `relays` are those at work here: their rings hold sockets that no list of open
/// files shows.
pub fn port(host: &Host, transport: &'static str, address: SocketAddr, relays: &[u32]) -> Holder {
    let bound = match transport {
        "udp" => UdpSocket::bind(address).map(drop),
        _ => TcpListener::bind(address).map(drop),
    };
    match bound {
        Ok(()) => Holder::Free,
        Err(error) if error.kind() != ErrorKind::AddrInUse => Holder::Unusable(error.to_string()),
        Err(_) => match host.holder(transport, address) {
            Some((_, pid)) if relays.contains(&pid) => Holder::Relay(Some(pid)),
            Some((program, pid)) => Holder::Other(program, pid),
            None if transport == "udp" && !relays.is_empty() && answers(address) => {
                Holder::Relay(if let [only] = relays { Some(*only) } else { None })
            }
            None => Holder::Unknown,
        },
    }
}

/// Whether a relay's port answers; both of them speak STUN.
fn answers(port: SocketAddr) -> bool {
    let reached = match port.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let mut request = [0; stun::HEADER_LEN];
    let len = MessageWriter::new(&mut request, Class::Request, &TransactionId::new(TRANSACTION)).finish();
    let answer =
        |answer: &[u8]| Header::decode(answer).is_ok_and(|header| header.class == Class::Success).then_some(());
    exchange(SocketAddr::new(reached, port.port()), &request[..len], answer).is_some()
}

/// Asks a beacon where we are, as a daemon does before it has an id.
pub fn ask(beacon: SocketAddr) -> Reached {
    let mut request = [0; ENDPOINT_MESSAGE_MAX];
    let mut writer = Writer::new(&mut request);
    Message::Discover { node: NodeId(0), extended: false }.encode(&mut writer);
    let seen = exchange(beacon, writer.written(), |answer| match Message::decode(answer) {
        Ok(Message::DiscoverReply(seen)) => Some(seen),
        _ => None,
    });
    seen.map_or(Reached::Silent, Reached::Answered)
}

/// Sends `request` until something comes back of which `read` makes sense; gives up after a second.
fn exchange<T>(to: SocketAddr, request: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut answer = [0; 512];
    let mut attempt = || {
        let _ = socket.send(request);
        socket.recv(&mut answer).ok().and_then(|len| read(&answer[..len]))
    };
    (0..TRIES).find_map(|_| attempt())
}
