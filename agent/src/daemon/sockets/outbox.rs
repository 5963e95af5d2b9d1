//! Datagrams out: a run to one destination, all of one size but the last, becomes one send (GSO).
//!
//! ```text
//!  ┌──────┬──────┬──────┬───┬───────────────┐
//!  │ size │ size │ size │ … │ room for one  │   the train, and the datagram that may or may not join it
//!  └──────┴──────┴──────┴───┴───────────────┘
//! ```

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;
use quinn_udp::{Transmit, UdpSockRef};
use tokio::io::Interest;

use super::{Socket, Sockets};
use crate::node::{self, DATAGRAM_MAX};

/// Bytes of a train: what one IP packet could hold.
const TRAIN_BYTES_MAX: usize = 65_000;
/// Longer datagrams go alone: a segment must fit the MTU, and this one fits all.
const SEGMENT_BYTES_MAX: usize = 1232;

/// Rest before another attempt where the runtime cannot say when a full socket has room.
const FULL_SOCKET_REST: Duration = Duration::from_millis(1);

/// Datagrams on their way out, at most one train.
#[derive(Debug)]
pub struct Outbox {
    buffer: Box<[u8]>,
    train: Option<Train>,
    /// A datagram that did not join the train and waits behind it, while the socket is full.
    behind: Option<node::Transmit>,
    has_gso: bool,
    sent: Sent,
}

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// System calls.
    pub sends: u64,
    /// Datagrams that the kernel took.
    pub datagrams: u64,
    /// Datagrams it did not take, or for which there is no socket.
    pub dropped: u64,
}

#[derive(Clone, Copy, Debug)]
struct Train {
    to: SocketAddr,
    /// Of each datagram but the last.
    size: usize,
    len: usize,
    /// A shorter one has ended it, or it is full.
    complete: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            buffer: vec![0; 2 * DATAGRAM_MAX].into(),
            train: None,
            behind: None,
            has_gso: true,
            sent: Sent::default(),
        }
    }
}

impl Outbox {
    /// Sends what `next` writes until there is nothing more, the socket takes no more, or `limit` datagrams have gone.
    /// Says whether there may be more.
    pub fn send(
        &mut self,
        sockets: &Sockets,
        limit: usize,
        mut next: impl FnMut(&mut [u8]) -> Option<node::Transmit>,
    ) -> Sending {
        for _ in 0..limit {
            if let Some(datagram) = self.behind {
                if self.depart(sockets).is_err() {
                    return Sending::Blocked;
                }
                self.behind = None;
                self.train = Some(Train::new(datagram));
            }
            let start = self.train.map_or(0, |train| train.len);
            match next(&mut self.buffer[start..start + DATAGRAM_MAX]) {
                Some(datagram) if self.join(datagram) => {}
                Some(datagram) => self.behind = Some(datagram),
                None if self.depart(sockets).is_err() => return Sending::Blocked,
                None => return Sending::Done,
            }
        }
        Sending::More
    }

    /// Returns when the socket that is full takes more.
    pub async fn writable(&self, sockets: &Sockets) {
        let socket = self.train.and_then(|train| sockets.towards(train.to.ip()));
        let Some(socket) = socket else { return };
        // Once an error was reported (ICMP), the runtime takes the socket for closed to writers, and always ready.
        if socket.io.ready(Interest::WRITABLE).await.is_ok_and(|ready| ready.is_write_closed()) {
            tokio::time::sleep(FULL_SOCKET_REST).await;
        }
    }

    /// Sums since the start.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.sent
    }

    /// Whether the datagram behind the train has become part of it.
    fn join(&mut self, datagram: node::Transmit) -> bool {
        let Some(train) = &mut self.train else {
            self.train = Some(Train::new(datagram));
            return true;
        };
        let joins = !train.complete
            && train.to == datagram.to
            && train.size <= SEGMENT_BYTES_MAX
            && datagram.len <= train.size
            && train.len + datagram.len <= TRAIN_BYTES_MAX;
        if joins {
            train.len += datagram.len;
            train.complete = datagram.len < train.size || train.len / train.size >= SEGMENTS_MAX;
        }
        joins
    }

    /// Hands the train to the kernel; what waits behind it then stands at the start of the buffer.
    fn depart(&mut self, sockets: &Sockets) -> Result<(), Full> {
        let Some(train) = self.train else { return Ok(()) };
        let end = train.len + self.behind.map_or(0, |datagram| datagram.len);
        let outcome = self.hand_over(sockets, train);
        if let Ok(()) | Err(Kept { from: 1.. }) = &outcome {
            let from = outcome.as_ref().err().map_or(train.len, |kept| kept.from);
            self.buffer.copy_within(from..end, 0);
        }
        self.train = outcome.as_ref().err().map(|kept| Train { len: train.len - kept.from, ..train });
        if outcome.is_ok() { Ok(()) } else { Err(Full) }
    }

    /// Sends the train as one or, where the device cannot, one by one.
    fn hand_over(&mut self, sockets: &Sockets, train: Train) -> Result<(), Kept> {
        let datagrams = train.len.div_ceil(train.size) as u64;
        let Some(socket) = sockets.towards(train.to.ip()) else {
            self.sent.dropped += datagrams;
            return Ok(());
        };
        if datagrams == 1 || socket.state.max_gso_segments() > 1 {
            match self.put(socket, train.to, 0..train.len, train.size) {
                Ok(()) => {
                    self.sent.datagrams += datagrams;
                    return Ok(());
                }
                Err(Refused::Full) => return Err(Kept { from: 0 }),
                Err(Refused::Other(Errno::EIO | Errno::EINVAL)) if datagrams > 1 => {
                    if std::mem::take(&mut self.has_gso) {
                        tracing::info!(
                            "the network device takes no segmentation offload; sending datagrams one by one"
                        );
                    }
                }
                Err(Refused::Other(_)) => {
                    self.sent.dropped += datagrams;
                    return Ok(());
                }
            }
        }
        for from in (0..train.len).step_by(train.size) {
            match self.put(socket, train.to, from..(from + train.size).min(train.len), train.size) {
                Ok(()) => self.sent.datagrams += 1,
                Err(Refused::Full) => return Err(Kept { from }),
                Err(Refused::Other(_)) => self.sent.dropped += 1,
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        socket: &Socket,
        to: SocketAddr,
        part: std::ops::Range<usize>,
        size: usize,
    ) -> Result<(), Refused> {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: &self.buffer[part],
            segment_size: Some(size),
            src_ip: None,
        };
        // The first refusal may be the news of an earlier datagram (ICMP); then this one has not been tried yet.
        let mut attempt = || {
            self.sent.sends += 1;
            socket.io.try_io(Interest::WRITABLE, || socket.state.try_send(UdpSockRef::from(&socket.io), &transmit))
        };
        let refused = match attempt() {
            Err(error) if error.raw_os_error().map(Errno::from_raw).is_some_and(may_be_old_news) => attempt(),
            outcome => outcome,
        };
        match refused {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Refused::Full),
            Err(error) => Err(Refused::Other(Errno::from_raw(error.raw_os_error().unwrap_or(0)))),
        }
    }
}

/// How [`Outbox::send`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// There is nothing more.
    Done,
    /// There may be more; it is the turn of others.
    More,
    /// The socket is full; see [`Outbox::writable`].
    Blocked,
}

/// Datagrams of one train, as the kernel allows.
const SEGMENTS_MAX: usize = 64;

impl Train {
    const fn new(datagram: node::Transmit) -> Self {
        // An empty datagram counts as one.
        let size = if datagram.len == 0 { 1 } else { datagram.len };
        Self { to: datagram.to, size, len: datagram.len, complete: false }
    }
}

/// The socket takes nothing now.
struct Full;

/// The socket takes nothing now; the train from this byte on has not left.
struct Kept {
    from: usize,
}

enum Refused {
    Full,
    Other(Errno),
}

const fn may_be_old_news(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNREFUSED
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENOPROTOOPT
            | Errno::EPROTO
            | Errno::EACCES
            | Errno::EMSGSIZE
    )
}
