//! The tunnel's UDP sockets: one for IPv4 and one for IPv6 where the host has both. Receives many datagrams at a time
//! (GRO), sends runs of equal ones as one (GSO), and learns from ICMP which destinations are unreachable.
//!
//! `quinn-udp` does the work without unsafe code of ours, but wants datagrams never to be fragmented. Ours may be: older
//! peers and applications send datagrams beyond the MTU (section 8.2). So its set-up is done on a socket of its own that
//! is thrown away, and the real ones keep the kernel's default, which fragments what is too long.

mod errors;
mod inbox;
mod outbox;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr, UdpGroSegment};
use nix::sys::socket::{SetSockOpt as _, setsockopt};
use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::config::values::Listen;

pub use inbox::Inbox;
pub use outbox::{Outbox, Sending, Sent};

/// Bytes the kernel is asked to hold for us, each way; it gives what it allows.
const BUFFER_BYTES: usize = 4 << 20;
/// Tries to find a port that is free in both families.
const PORT_ATTEMPTS_MAX: usize = 16;

/// The tunnel's sockets.
#[derive(Debug)]
pub struct Sockets {
    v4: Option<Socket>,
    v6: Option<Socket>,
}

/// Tries whether what `listen` asks for could be bound; keeps nothing.
///
/// # Errors
/// As [`Sockets::bind`].
pub fn try_out(listen: Listen) -> io::Result<()> {
    let (v4, v6) = match listen {
        Listen::At(address) => return open(address).map(drop),
        Listen::Anywhere(port) => ((Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()),
    };
    // One family that is missing is no harm.
    for address in [v4, v6] {
        open(address).map(drop).or_else(|error| if is_missing_family(&error) { Ok(()) } else { Err(error) })?;
    }
    Ok(())
}

fn open(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The kernel's limits are the operator's business.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket)
}

/// One socket.
#[derive(Debug)]
pub struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

impl Sockets {
    /// Binds what `listen` asks for.
    ///
    /// # Errors
    /// The address is not this host's, or the port is taken.
    pub fn bind(listen: Listen) -> io::Result<Self> {
        match listen {
            Listen::At(address) => {
                let socket = Socket::bind(address)?;
                Ok(if address.is_ipv4() {
                    Self { v4: Some(socket), v6: None }
                } else {
                    Self { v4: None, v6: Some(socket) }
                })
            }
            Listen::Anywhere(port) => Self::bind_both(port),
        }
    }

    /// One port for both families, where the host has both.
    fn bind_both(port: u16) -> io::Result<Self> {
        let wildcard_v4 = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let wildcard_v6 = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        for _ in 0..PORT_ATTEMPTS_MAX {
            let v4 = match Socket::bind(wildcard_v4(port)) {
                Ok(socket) => socket,
                Err(error) if is_missing_family(&error) => {
                    return Ok(Self { v4: None, v6: Some(Socket::bind(wildcard_v6(port))?) });
                }
                Err(error) => return Err(error),
            };
            match Socket::bind(wildcard_v6(v4.local.port())) {
                Ok(v6) => return Ok(Self { v4: Some(v4), v6: Some(v6) }),
                Err(error) if is_missing_family(&error) => return Ok(Self { v4: Some(v4), v6: None }),
                // Free in one family and taken in the other; another one will do.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && port == 0 => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// Where the sockets are bound.
    pub fn local_addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.all().map(|socket| socket.local)
    }

    /// The endpoint of the tunnel at `ip`, an address of this host; none where no socket takes what comes there.
    #[must_use]
    pub fn endpoint_at(&self, ip: IpAddr) -> Option<SocketAddr> {
        let bound = self.towards(ip)?.local;
        (bound.ip().is_unspecified() || bound.ip() == ip).then(|| SocketAddr::new(ip, bound.port()))
    }

    /// Returns when something has come, or an error has.
    pub async fn readable(&self) {
        tokio::select! {
            () = readable(self.v4.as_ref()) => {}
            () = readable(self.v6.as_ref()) => {}
        }
    }

    fn all(&self) -> impl Iterator<Item = &Socket> {
        self.v4.iter().chain(&self.v6)
    }

    /// The socket that reaches `ip`.
    fn towards(&self, ip: IpAddr) -> Option<&Socket> {
        if ip.is_ipv4() { self.v4.as_ref() } else { self.v6.as_ref() }
    }
}

impl Socket {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = open(address)?;
        let model = socket2::Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        let state = UdpSocketState::new(UdpSockRef::from(&model))?;
        if state.gro_segments() > 1 {
            setsockopt(&socket, UdpGroSegment, &true)?;
        }
        // Without it unreachable destinations are found out by silence.
        let _ = if address.is_ipv4() { Ipv4RecvErr.set(&socket, &true) } else { Ipv6RecvErr.set(&socket, &true) };
        let io = UdpSocket::from_std(socket.into())?;
        let local = io.local_addr()?;
        Ok(Self { io, state, local })
    }
}

/// Never, where there is no socket.
async fn readable(socket: Option<&Socket>) {
    match socket {
        // An error here is one of the runtime's, which ends with the daemon.
        Some(socket) => drop(socket.io.ready(Interest::READABLE | Interest::ERROR).await),
        None => std::future::pending().await,
    }
}

/// The kernel has no such family, or no address of it.
fn is_missing_family(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let known = error.raw_os_error().map(Errno::from_raw);
    matches!(known, Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::EPROTONOSUPPORT))
}
