//! Accepting connections: how many in all and from one address, and TLS or not by the first byte.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use wire::cidr::Cidr;

use crate::config::Limits;
use crate::connection::{self, Budget, within};
use crate::driver::{Driver, Peer};
use crate::limits::address_unit;
use crate::metrics::{CloseReason, Transport};
use crate::service::ConnectionId;
use crate::tls::{HANDSHAKE_RECORD, Identity};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// A vanished client is noticed after 20 s + 3 × 5 s. Until then it would keep its node's old address proven.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(20)).with_interval(Duration::from_secs(5)).with_retries(3);
/// After an accept that failed: the system is out of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Failures in a row between two lines of the log: a minute of them.
const ACCEPT_FAILURES_PER_LINE: u64 = 600;
/// The part of all connections that is kept for addresses of nodes.
const RESERVED_PART: usize = 4;
/// Files the process needs besides connections.
const OTHER_FILES: u64 = 256;

/// Opens a listening socket on each address.
///
/// # Errors
/// An address is taken, not of this host, or not allowed.
pub fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<StdListener>> {
    let bind = |address: &SocketAddr| {
        bind_one(*address).with_context(|| {
            // Embedded in `pilot-relay`, the flag has another name.
            format!(
                "cannot listen on {address}; stop the program that uses it, or choose another address with \
                 --listen (pilot-relay: --registry)"
            )
        })
    };
    addresses.iter().map(bind).collect()
}

fn bind_one(address: SocketAddr) -> io::Result<StdListener> {
    let bound = bind_exactly(address);
    match bound {
        // No IPv6 on this host: the wildcard means its IPv4 addresses.
        Err(error) if is_missing_family(&error) && address.ip().is_unspecified() => {
            bind_exactly(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        bound => bound,
    }
}

fn bind_exactly(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn is_missing_family(error: &io::Error) -> bool {
    use nix::errno::Errno;
    [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL].iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// Raises the process's limit of open files as far as allowed, and returns how many connections fit under it.
#[must_use]
pub fn connections_within_file_limit(wanted: usize) -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let raised = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    let fit = usize::try_from(raised.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    if fit < wanted {
        tracing::warn!(
            connections = fit,
            "the limit of open files allows fewer connections than configured; raise it with ulimit -n"
        );
    }
    fit.min(wanted)
}

/// What all connections share.
pub struct Doors {
    /// Answers requests.
    pub driver: Arc<Driver>,
    /// Bounds and deadlines.
    pub limits: Limits,
    /// Sources without limits.
    pub exempt: Vec<Cidr>,
    /// The certificate, when TLS is offered.
    pub identity: Option<Identity>,
    /// Refuse plain connections.
    pub tls_required: bool,
    /// Turns true when the directory shuts down.
    pub shutdown: watch::Receiver<bool>,
    /// Memory that busy connections share.
    pub budget: Arc<Budget>,
    /// Who is connected.
    pub guests: Arc<Guests>,
}

/// Open connections, in all and by address.
#[derive(Debug, Default)]
pub struct Guests {
    open: Mutex<Open>,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// Of these, from addresses at which no node is known, and on which none has signed.
    strangers: HashSet<ConnectionId>,
    by_address: HashMap<IpAddr, usize>,
}

impl Guests {
    /// A node has signed on `connection`, or at its address.
    fn befriend(&self, connection: ConnectionId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).strangers.remove(&connection);
    }
}

impl Doors {
    /// Accepts connections until shutdown. `alive` is held by every connection, so that its last drop tells that all
    /// have ended.
    pub async fn accept(self: Arc<Self>, listener: StdListener, alive: mpsc::Sender<()>) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let mut shutdown = self.shutdown.clone();
        let mut failures = 0;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = shutdown.wait_for(|shutdown| *shutdown) => return Ok(()),
            };
            match accepted {
                Ok((stream, from)) => {
                    if failures > 0 {
                        tracing::info!(failures, "connections are accepted again");
                        failures = 0;
                    }
                    self.admit(stream, from.ip().to_canonical(), &alive);
                }
                Err(error) => {
                    if failures % ACCEPT_FAILURES_PER_LINE == 0 {
                        tracing::warn!(%error, "cannot accept connections; those that wait are tried again all the time");
                    }
                    failures += 1;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, ip: IpAddr, alive: &mpsc::Sender<()>) {
        let exempt = self.exempt.iter().any(|range| range.contains(ip));
        let per_address = if exempt { usize::MAX } else { self.limits.connections_per_ip_max };
        let id = ConnectionId(self.guests.next_id.fetch_add(1, Ordering::Relaxed));
        let stranger = (!exempt && !self.driver.knows(ip)).then_some(id);
        let seat = match Seat::take(&self.guests, ip, self.limits.connections_max, per_address, stranger) {
            Ok(seat) => seat,
            Err(reason) => return self.driver.metrics().closed(reason),
        };
        let Ok(local) = stream.local_addr() else { return };
        // Failing to set an option costs speed, not correctness.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
        let peer = Peer { connection: id, ip, local_ip: local.ip().to_canonical(), exempt };
        let (doors, alive) = (Arc::clone(self), alive.clone());
        tokio::spawn(async move {
            doors.welcome(stream, peer).await;
            drop((seat, alive));
        });
    }

    async fn welcome(&self, stream: TcpStream, peer: Peer) {
        self.driver.metrics().connection_opened();
        self.speak(stream, peer).await;
        self.driver.closed(peer.connection).await;
        self.driver.metrics().connection_closed();
    }

    /// Tells TLS from plain by the first byte, and serves. What serving needs is boxed, so that a connection that
    /// never speaks costs no more than the wait for its first byte.
    async fn speak(&self, stream: TcpStream, peer: Peer) {
        let metrics = self.driver.metrics();
        let mut shutdown = self.shutdown.clone();
        let mut first = [0];
        let peeked = within(self.limits.idle_timeout, &mut shutdown, stream.peek(&mut first)).await;
        match peeked {
            Some(Ok(1..)) => {}
            Some(_) => return,
            None => return metrics.closed(CloseReason::IdleTimeout),
        }
        let secured = first[0] == HANDSHAKE_RECORD;
        let befriend = || self.guests.befriend(peer.connection);
        match &self.identity {
            Some(_) if secured && !self.driver.may_shake_hands(&peer).await => metrics.closed(CloseReason::Busy),
            Some(identity) if secured => {
                let handshake = identity.acceptor.accept(stream);
                let stream = within(self.limits.frame_timeout, &mut shutdown, handshake).await;
                let Some(Ok(stream)) = stream else { return metrics.closed(CloseReason::Tls) };
                metrics.connection_served(Transport::Tls);
                Box::pin(connection::run(stream, peer, &self.driver, &self.limits, &self.budget, &befriend, shutdown))
                    .await;
            }
            _ if secured || self.tls_required => metrics.closed(CloseReason::Tls),
            _ => {
                metrics.connection_served(Transport::Plain);
                Box::pin(connection::run(stream, peer, &self.driver, &self.limits, &self.budget, &befriend, shutdown))
                    .await;
            }
        }
    }
}

/// A place among the connections; given back on drop.
struct Seat {
    guests: Arc<Guests>,
    unit: IpAddr,
    stranger: Option<ConnectionId>,
}

impl Seat {
    fn take(
        guests: &Arc<Guests>,
        ip: IpAddr,
        limit: usize,
        per_address: usize,
        stranger: Option<ConnectionId>,
    ) -> Result<Self, CloseReason> {
        let unit = address_unit(ip);
        let mut open = guests.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has many addresses must not keep the nodes out.
        if open.total >= limit || (stranger.is_some() && open.strangers.len() >= limit - limit / RESERVED_PART) {
            return Err(CloseReason::Full);
        }
        let count = open.by_address.entry(unit).or_default();
        if *count >= per_address {
            return Err(CloseReason::FullForAddress);
        }
        *count += 1;
        open.total += 1;
        open.strangers.extend(stranger);
        drop(open);
        Ok(Self { guests: Arc::clone(guests), unit, stranger })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.guests.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(stranger) = &self.stranger {
            open.strangers.remove(stranger);
        }
        if let Some(count) = open.by_address.get_mut(&self.unit) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.unit);
            }
        }
    }
}
