//! A node of our own that speaks the beacon's datagrams by hand: for stories in which every single datagram counts.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ed25519_dalek::Signer as _;
use nix::sys::socket::{setsockopt, sockopt};
use sha2::{Digest as _, Sha256};

use crate::directory_client::{CallError, DirectoryClient};
use crate::wait::{Stopwatch, wait_until};
use crate::world::Host;

const DISCOVER: u8 = 0x01;
const DISCOVER_REPLY: u8 = 0x02;
const PUNCH_COMMAND: u8 = 0x04;
const RELAY: u8 = 0x05;
const DELIVER: u8 = 0x06;
/// What a daemon answers to a punch command, and thereby to a relay that asks whether it is still there.
const PUNCH_PROBE: &[u8] = b"PILP";
const AUTHENTICATED_KEY_EXCHANGE: &[u8] = b"PILA";
/// Daemons take five key exchanges a second from one sender.
const KNOCK_INTERVAL: Duration = Duration::from_millis(250);

const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
const REPLY_DEADLINE: Duration = Duration::from_secs(5);
const RESEND_INTERVAL: Duration = Duration::from_millis(250);

/// A registered node with a socket and a connection to the directory.
#[derive(Debug)]
pub struct Peer {
    /// Its connection to the directory.
    pub directory: DirectoryClient,
    node: u32,
    socket: UdpSocket,
    beacon: SocketAddr,
    key_exchanges: AtomicU32,
}

/// What the relay delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The node the relay says it is from.
    pub sender: u32,
    /// The payload.
    pub inner: Vec<u8>,
}

impl Peer {
    /// Registers with the directory and introduces itself to the relay over IPv4, as a daemon does.
    #[must_use]
    #[track_caller]
    pub fn join(host: &Host, name: &str) -> Self {
        Self::join_over(host, name, false)
    }

    /// As [`Self::join`], over IPv6 toward the relay when `over_v6`.
    #[must_use]
    #[track_caller]
    pub fn join_over(host: &Host, name: &str, over_v6: bool) -> Self {
        let beacon = host.beacon(over_v6);
        let socket = bind(host, beacon);
        let observed =
            discover(&socket, beacon, 0).unwrap_or_else(|| panic!("{name}: {beacon} does not answer discover"));
        let registered = DirectoryClient::connect(host, name).and_then(|mut directory| {
            directory.register(observed, &format!("{name}@pilot.test"))?;
            Ok::<_, CallError>(directory)
        });
        let directory = registered.unwrap_or_else(|error| panic!("{name} cannot register: {error}"));
        let peer = Self { node: directory.node(), directory, socket, beacon, key_exchanges: AtomicU32::new(0) };
        peer.discover().unwrap_or_else(|| panic!("{name}: {beacon} does not answer discover"));
        peer
    }

    /// Its node id.
    #[must_use]
    pub fn node(&self) -> u32 {
        self.node
    }

    /// Its socket, for datagrams no honest node would send.
    #[must_use]
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Introduces itself again; the address the relay saw.
    #[must_use]
    pub fn discover(&self) -> Option<SocketAddr> {
        discover(&self.socket, self.beacon, self.node)
    }

    /// Sends `inner` to another node through the relay.
    #[track_caller]
    pub fn relay(&self, dest: u32, inner: &[u8]) {
        let mut datagram = vec![RELAY];
        datagram.extend(self.node.to_be_bytes());
        datagram.extend(dest.to_be_bytes());
        datagram.extend(inner);
        self.socket.send_to(&datagram, self.beacon).unwrap_or_else(|error| panic!("cannot send to the relay: {error}"));
    }

    /// The next delivery, or none within the time. Answers the relay's questions whether this node is still there.
    #[must_use]
    pub fn receive(&self, within: Duration) -> Option<Delivery> {
        let watch = Stopwatch::start();
        let mut buffer = vec![0; 65_536];
        while let Some(left) = within.checked_sub(watch.elapsed()).filter(|left| !left.is_zero()) {
            let (length, _) = receive_from(&self.socket, &mut buffer, left)?;
            match buffer[..length] {
                [DELIVER, a, b, c, d, ref inner @ ..] => {
                    return Some(Delivery { sender: u32::from_be_bytes([a, b, c, d]), inner: inner.to_vec() });
                }
                [PUNCH_COMMAND, ref endpoint @ ..] => {
                    if let Some(target) = decode_endpoint(endpoint) {
                        // A refused probe is a datagram lost on the way, which every node must stand.
                        let _ = self.socket.send_to(PUNCH_PROBE, target);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Sends `inner` to another peer and awaits it there.
    #[must_use]
    #[track_caller]
    pub fn reaches(&self, other: &Self, inner: &[u8], within: Duration) -> bool {
        self.relay(other.node, inner);
        let watch = Stopwatch::start();
        let wanted = Delivery { sender: self.node, inner: inner.to_vec() };
        while let Some(left) = within.checked_sub(watch.elapsed()) {
            match other.receive(left) {
                Some(delivery) if delivery == wanted => return true,
                Some(_) => {}
                None => break,
            }
        }
        false
    }
}

fn bind(host: &Host, beacon: SocketAddr) -> UdpSocket {
    let any = if beacon.is_ipv6() { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let socket = host.namespace().enter(|| UdpSocket::bind((any, 0))).expect("a host has free UDP ports");
    // What is lost is to be the relay's doing, not that of a test thread that waits for a CPU.
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).expect("the laboratory runs as root");
    socket
}

/// Asks the relay what address it sees, again and again like any client of an unreliable network.
fn discover(socket: &UdpSocket, beacon: SocketAddr, node: u32) -> Option<SocketAddr> {
    let mut request = vec![DISCOVER];
    request.extend(node.to_be_bytes());
    let mut buffer = [0; 2048];
    let watch = Stopwatch::start();
    while watch.elapsed() < REPLY_DEADLINE {
        socket.send_to(&request, beacon).ok()?;
        if let Some((length, from)) = receive_from(socket, &mut buffer, RESEND_INTERVAL)
            && from == beacon
            && let [DISCOVER_REPLY, endpoint @ ..] = &buffer[..length]
        {
            return decode_endpoint(endpoint);
        }
    }
    None
}

fn receive_from(socket: &UdpSocket, buffer: &mut [u8], within: Duration) -> Option<(usize, SocketAddr)> {
    socket.set_read_timeout(Some(within)).ok()?;
    loop {
        match socket.recv_from(buffer) {
            Ok(received) => return Some(received),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // An earlier datagram met a closed port; that says nothing about the next one.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(_) => return None,
        }
    }
}

/// `iplen=1, ip, port=2` (SPEC section 4.1).
fn decode_endpoint(bytes: &[u8]) -> Option<SocketAddr> {
    let (length, rest) = bytes.split_first()?;
    let (ip, port) = rest.split_at_checked(usize::from(*length))?;
    let port = u16::from_be_bytes(port.get(..2)?.try_into().ok()?);
    let ip = match ip.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

impl Peer {
    /// Offers a real daemon one new key after the other through the relay until it answers with its own; how long that
    /// took. A daemon answers an authenticated key exchange with a key it has not seen (SPEC section 3.2).
    #[track_caller]
    pub fn time_until_answered_by(&self, daemon: u32, within: Duration) -> Duration {
        let watch = Stopwatch::start();
        wait_until(&format!("node {daemon} to answer node {}", self.node), within, || {
            self.discard_received();
            self.relay(daemon, &self.next_key_exchange());
            let delivery = self.receive(KNOCK_INTERVAL)?;
            (delivery.sender == daemon && delivery.inner.starts_with(AUTHENTICATED_KEY_EXCHANGE)).then_some(())
        });
        watch.elapsed()
    }

    /// `sender=4, x25519=32, ed25519=32, signature=64` (SPEC section 3). Nothing is ever sealed with the key, so any
    /// point on the curve will do.
    fn next_key_exchange(&self) -> Vec<u8> {
        let number = self.key_exchanges.fetch_add(1, Ordering::Relaxed);
        let identity = self.directory.key();
        let exchanged = Sha256::digest(format!("key {number} of node {}", self.node));
        let body = [self.node.to_be_bytes().as_slice(), &exchanged].concat();
        let signature = identity.sign(&[b"auth".as_slice(), &body].concat()).to_bytes();
        [AUTHENTICATED_KEY_EXCHANGE, &body, identity.verifying_key().as_bytes(), &signature].concat()
    }

    /// Forgets what came unasked, such as a daemon's own announcements: they prove nothing about the way to it.
    fn discard_received(&self) {
        self.socket.set_nonblocking(true).expect("a socket can be non-blocking");
        while self.socket.recv(&mut [0; 1]).is_ok() {}
        self.socket.set_nonblocking(false).expect("a socket can be blocking");
    }

    /// Waits until datagrams of this peer reach the other one: sessions may take a moment to settle.
    #[track_caller]
    pub fn wait_reaching(&self, other: &Self, within: Duration) -> Duration {
        let watch = Stopwatch::start();
        let what = format!("node {} to reach node {}", self.node, other.node);
        wait_until(&what, within, || self.reaches(other, b"are you there?", RESEND_INTERVAL).then_some(()));
        watch.elapsed()
    }
}
