//! coturn as a contender: how its `turnserver` is started, and the channels a client opens on it.
//!
//! A session is a channel of an allocation, and an allocation belongs to a client's socket. Channel data goes in, plain
//! datagrams come out at the peer.

use std::collections::HashMap;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use wire::stun::TransactionId;

use crate::turn::{CHANNELS, Outcome, REQUEST_MAX, Request, Response};

/// Debian's package `coturn` installs it.
pub const PROGRAM: &str = "turnserver";

/// Nothing expires during a run, so nothing has to be refreshed.
const LIFETIME_SECONDS: u32 = 7200;
/// Requests under way at a time; the server's receive buffer holds as many by far.
const WINDOW: usize = 64;
/// First retransmission time, doubled each time, and transmissions in all (RFC 8489, section 6.2.1).
const RTO: Duration = Duration::from_millis(500);
const TRANSMISSIONS_MAX: u32 = 7;

/// The arguments of `turnserver` for a relay at `listen`: UDP alone, nobody asked who they are, one relay thread.
#[must_use]
pub fn arguments(listen: SocketAddrV4) -> Vec<String> {
    let (ip, port) = (listen.ip(), listen.port());
    // It takes most values after a blank, but some only after an equals sign.
    let settings = [
        format!("--listening-ip={ip}"),
        format!("--listening-port={port}"),
        format!("--relay-ip={ip}"),
        "--relay-threads=1".to_owned(),
        "--min-port=49152".to_owned(),
        "--max-port=65535".to_owned(),
        format!("--max-allocate-lifetime={LIFETIME_SECONDS}"),
        format!("--channel-lifetime={LIFETIME_SECONDS}"),
        format!("--permission-lifetime={LIFETIME_SECONDS}"),
        "--log-file=/dev/null".to_owned(),
        "--pidfile=/dev/null".to_owned(),
        "--userdb=:memory:".to_owned(),
    ];
    // `-n`: no configuration file.
    let switches = "-n --no-auth --allow-loopback-peers --no-tcp --no-tls --no-dtls --no-tcp-relay --no-cli --no-rfc5780 \
                    --no-dynamic-ip-list --no-dynamic-realms --no-auth-pings --no-stdout-log --simple-log";
    switches.split_whitespace().map(str::to_owned).chain(settings).collect()
}

/// Opens `sessions` channels: session `i` is one of socket `i % sockets.len()` and leads to `peer(i)`. Returns the
/// channel of each. What a new channel costs the server grows with the channels of the same allocation (10 000 took
/// 20 s with 8 sockets, 2 s with 64; 100 000 took 39 s with 512), so have a socket for every few hundred sessions.
///
/// # Errors
/// When the server refuses or does not answer, or for more sessions than the sockets' allocations have [`CHANNELS`].
pub fn open_channels(
    server: SocketAddrV4,
    sockets: &[UdpSocket],
    sessions: u32,
    peer: impl Fn(u32) -> SocketAddrV4,
) -> anyhow::Result<Vec<u16>> {
    let channels_max = sockets.len() * CHANNELS.len();
    ensure!(
        sessions as usize <= channels_max,
        "{sessions} sessions are more than the {channels_max} channels of {} sockets; use {} sockets",
        sockets.len(),
        (sessions as usize).div_ceil(CHANNELS.len())
    );
    let place = |session: u32| (session as usize % sockets.len(), session as usize / sockets.len());
    let channel = |nth: usize| *CHANNELS.start() + u16::try_from(nth).expect("fewer than CHANNELS has, as ensured");

    let mut client = Client { server, sockets, sequence: 0, waiting: HashMap::with_capacity(WINDOW) };
    let lifetime_seconds = LIFETIME_SECONDS;
    client.exchange((0..sockets.len()).map(|socket| (socket, Request::Allocate { lifetime_seconds })))?;
    client.exchange((0..sessions).map(|session| {
        let (socket, nth) = place(session);
        (socket, Request::ChannelBind { channel: channel(nth), peer: peer(session) })
    }))?;
    Ok((0..sessions).map(|session| channel(place(session).1)).collect())
}

/// Requests and answers of some sockets.
struct Client<'a> {
    server: SocketAddrV4,
    sockets: &'a [UdpSocket],
    /// Requests so far: the transaction id of the next. Nobody can guess at answers here, so it need not be random.
    sequence: u64,
    waiting: HashMap<TransactionId, Waiting>,
}

/// A request that has no answer yet.
#[derive(Clone, Copy)]
struct Waiting {
    socket: usize,
    request: Request,
    transmissions: u32,
    due: Instant,
}

impl Client<'_> {
    /// Sends every request and waits until each has succeeded, at most [`WINDOW`] at a time.
    fn exchange(&mut self, requests: impl Iterator<Item = (usize, Request)>) -> anyhow::Result<()> {
        let mut requests = requests.fuse();
        loop {
            let now = now();
            self.retransmit(now)?;
            for (socket, request) in requests.by_ref().take(WINDOW - self.waiting.len()) {
                self.sequence += 1;
                let mut random = [0; 12];
                random[4..].copy_from_slice(&self.sequence.to_be_bytes());
                let (transaction, waiting) =
                    (TransactionId::new(random), Waiting { socket, request, transmissions: 1, due: now + RTO });
                self.waiting.insert(transaction, waiting);
                self.transmit(&transaction, &waiting)?;
            }
            let Some(due) = self.waiting.values().map(|waiting| waiting.due).min() else { return Ok(()) };
            self.receive(due.saturating_duration_since(now))?;
        }
    }

    fn retransmit(&mut self, now: Instant) -> anyhow::Result<()> {
        let overdue: Vec<_> =
            self.waiting.iter().filter(|(_, waiting)| waiting.due <= now).map(|(id, _)| *id).collect();
        for transaction in overdue {
            let waiting = self.waiting.get_mut(&transaction).expect("it was there a line above");
            ensure!(
                waiting.transmissions < TRANSMISSIONS_MAX,
                "the TURN server at {} does not answer; is {PROGRAM} running there?",
                self.server
            );
            waiting.due = now + RTO * 2u32.pow(waiting.transmissions);
            waiting.transmissions += 1;
            let waiting = *waiting;
            self.transmit(&transaction, &waiting)?;
        }
        Ok(())
    }

    fn transmit(&self, transaction: &TransactionId, waiting: &Waiting) -> anyhow::Result<()> {
        let mut datagram = [0; REQUEST_MAX];
        let len = waiting.request.encode(transaction, &mut datagram);
        match self.sockets[waiting.socket].send_to(&datagram[..len], self.server) {
            // A refused connection tells of an earlier datagram, to a server that is still starting.
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionRefused => {
                Err(error).with_context(|| format!("cannot send to the TURN server at {}", self.server))
            }
            _ => Ok(()),
        }
    }

    /// Waits for a datagram, at most so long, and takes all that have come.
    fn receive(&mut self, timeout: Duration) -> anyhow::Result<()> {
        // Rounded up: a poll that ends just before the time would end again and again.
        let timeout = PollTimeout::try_from(timeout.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let mut polled: Vec<_> = self.sockets.iter().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for the TURN server"),
        }
        let ready = polled.iter().map(|one| one.any() == Some(true));
        let ready: Vec<_> =
            self.sockets.iter().zip(ready).filter_map(|(socket, ready)| ready.then_some(socket)).collect();
        let mut datagram = [0; 1500];
        for socket in ready {
            loop {
                match recv(socket.as_raw_fd(), &mut datagram, MsgFlags::MSG_DONTWAIT) {
                    Ok(len) => self.answered(&datagram[..len])?,
                    Err(Errno::EINTR | Errno::ECONNREFUSED) => {}
                    Err(Errno::EAGAIN) => break,
                    Err(error) => return Err(error).context("cannot receive from the TURN server"),
                }
            }
        }
        Ok(())
    }

    /// What belongs to no request under way is the answer to a retransmission, or of no concern here.
    fn answered(&mut self, datagram: &[u8]) -> anyhow::Result<()> {
        let Ok(Response { transaction, outcome }) = Response::decode(datagram) else { return Ok(()) };
        let Some(Waiting { request, .. }) = self.waiting.remove(&transaction) else { return Ok(()) };
        match outcome {
            Outcome::Refused { code } => bail!("the TURN server at {} refuses {request:?} with {code}", self.server),
            Outcome::Allocated { lifetime_seconds, .. } => ensure!(
                lifetime_seconds >= LIFETIME_SECONDS,
                "the TURN server at {} grants {lifetime_seconds} s instead of {LIFETIME_SECONDS} s; start it with the \
                 arguments of this program",
                self.server
            ),
            Outcome::ChannelBound => {}
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "retransmissions are this driver's business")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::Ipv4Addr;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::place::enter_private_network;
    use crate::test_sink::{Arrived, Sink};
    use crate::turn::channel_header;

    const SOCKETS: usize = 64;
    const SESSIONS: u32 = 10_000;

    struct Server(Child);

    impl Drop for Server {
        fn drop(&mut self) {
            self.0.kill().and_then(|()| self.0.wait()).expect("our own child can be ended");
        }
    }

    fn start(listen: SocketAddrV4) -> Option<Server> {
        if let Err(error) = enter_private_network() {
            eprintln!("SKIPPED: {error:#}");
            return None;
        }
        match Command::new(PROGRAM).args(arguments(listen)).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => Some(Server(child)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                eprintln!("SKIPPED: no {PROGRAM} here; apt-get install coturn");
                None
            }
            Err(error) => panic!("{PROGRAM} does not start: {error}"),
        }
    }

    #[test]
    fn what_is_sent_to_a_channel_arrives_at_its_peer() {
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3478);
        let Some(_running) = start(server) else { return };
        let sockets: Vec<_> = (0..SOCKETS).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let sink = Sink::bind(4000);
        let peer_ip = |session: u32| Ipv4Addr::from_bits(Ipv4Addr::new(127, 64, 0, 0).to_bits() + session);

        let channels =
            open_channels(server, &sockets, SESSIONS, |session| SocketAddrV4::new(peer_ip(session), 4000)).unwrap();

        assert_eq!(channels.len(), SESSIONS as usize);
        for (session, channel) in (0..).zip(channels) {
            let datagram = [channel_header(channel, 4), u32::to_be_bytes(session)].concat();
            sockets[session as usize % SOCKETS].send_to(&datagram, server).unwrap();
            let Arrived { payload, destination, .. } = sink.receive();
            assert_eq!((payload, destination), (session.to_be_bytes().to_vec(), peer_ip(session)));
        }
    }

    #[test]
    fn more_sessions_than_channels_are_refused_at_once() {
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
        let socket = [UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()];
        let error = open_channels(server, &socket, 16_384, |_| server).unwrap_err();
        assert_eq!(error.to_string(), "16384 sessions are more than the 16383 channels of 1 sockets; use 2 sockets");
    }
}
