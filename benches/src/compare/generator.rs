//! The one generator that drives all contenders: a thread that is every node, sends in its name and receives at its
//! address, so that what it counts is what arrived.
//!
//! Two modes. *Saturated*: a bounded number of datagrams is on its way at any time, so the relay is always busy and
//! nothing is lost for want of buffers; gives the cost. *Paced*: datagrams are due at fixed times whatever happens;
//! gives the latency.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use wire::beacon::{DELIVER_HEADER_LEN, Message, RELAY_HEADER_LEN, kind};
use wire::codec::Writer;
use wire::{NodeId, beacon};

use crate::load::{Arrivals, BURST, Load};
use crate::pairs::{Lane, Pairs};
use crate::turn;
use crate::udp::{Inbox, Outbox, Socket};

/// Datagrams on their way at any time: enough to keep a relay busy, few enough for its socket buffer.
const WINDOW: u64 = 768;
/// Nothing arriving for so long means that what is on its way is lost. Shorter would take a descheduled relay for loss.
const PATIENCE: Duration = Duration::from_millis(60);
/// Discovers that wait for an answer together.
const DISCOVERS: usize = 256;
const DISCOVER_PATIENCE: Duration = Duration::from_millis(50);
const DISCOVER_TRIES: u32 = 40;
/// Slice number, due time, session: what a payload begins with.
const STAMP_BYTES: usize = 16;
const PAYLOAD_MAX: usize = 2000;
/// What fills a payload after its stamp.
const FILLER: u8 = 0xA5;
/// Session 0 belongs to this node.
const FIRST_NODE: u32 = 1;
/// Bursts that are looked at one by one before a contender is measured.
const CHECKED_BURSTS: u32 = 8;
const CHECK_PATIENCE: Duration = Duration::from_secs(3);

/// A relay as the generator sees it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddrV4,
    /// What its datagrams look like.
    pub framing: Framing,
}

/// What a datagram to and from a relay looks like.
#[derive(Clone, Debug)]
pub enum Framing {
    /// Relay (05) in, deliver (06) out.
    Beacon,
    /// Relay (05) in, the same bytes less the first four out: what passes a relay that does not look at them.
    Unparsed,
    /// TURN `ChannelData` in, the bare payload out.
    Channel {
        /// The channel of each session.
        channels: Vec<u16>,
        /// Client sockets; number `session % clients` opened the session's channel.
        clients: usize,
    },
    /// No relay: straight to the destination.
    Direct,
}

/// What became of one slice.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// From the first datagram to the last arrival.
    pub elapsed: Duration,
    /// Handed over.
    pub sent: u64,
    /// Arrived intact.
    pub delivered: u64,
}

/// Sockets and memory of the generator at one place.
pub struct Generator {
    /// All nodes: one socket on every address, told apart by it.
    nodes: Socket,
    port: u16,
    first: Ipv4Addr,
    /// Clients of a TURN server, which knows them by their sockets.
    clients: Vec<Socket>,
    client_ip: Ipv4Addr,
    merging: bool,
    single: Inbox,
    merged: Inbox,
    outbox: Outbox,
    memory: Vec<u8>,
    slice: u32,
    began: Instant,
}

impl Generator {
    /// Nodes live at `first` and the addresses after it, all of them local; TURN clients at `client_ip`.
    ///
    /// # Errors
    /// What the kernel says of the socket.
    #[expect(clippy::disallowed_methods, reason = "the generator is a driver: it sends on time and measures")]
    pub fn new(client_ip: Ipv4Addr, first: Ipv4Addr) -> io::Result<Self> {
        let nodes = Socket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), true)?;
        Ok(Self {
            port: nodes.address()?.port(),
            nodes,
            first,
            clients: Vec::new(),
            client_ip,
            merging: false,
            single: Inbox::new(64, 2048),
            merged: Inbox::new(16, 64 << 10),
            outbox: Outbox::new(DISCOVERS, DISCOVERS),
            memory: vec![0; DISCOVERS.max(BURST) * (RELAY_HEADER_LEN + PAYLOAD_MAX)],
            slice: 0,
            began: Instant::now(),
        })
    }

    /// Where the node of session `session` is.
    #[must_use]
    pub fn endpoint(&self, session: u32) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from(u32::from(self.first) + session), self.port)
    }

    /// The first `count` client sockets, opened as needed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn clients(&mut self, count: usize) -> io::Result<&[Socket]> {
        while self.clients.len() < count {
            self.clients.push(Socket::bind(SocketAddrV4::new(self.client_ip, 0), true)?);
        }
        Ok(&self.clients[..count])
    }

    /// Gives `sessions` nodes a session each at a beacon.
    ///
    /// # Errors
    /// When some get no answer.
    pub fn register(&mut self, beacon: SocketAddrV4, sessions: u32) -> anyhow::Result<()> {
        let mut answered = vec![false; sessions as usize];
        for _ in 0..DISCOVER_TRIES {
            let missing: Vec<u32> = (0..sessions).filter(|session| !answered[*session as usize]).collect();
            if missing.is_empty() {
                return Ok(());
            }
            for some in missing.chunks(DISCOVERS) {
                self.discover(beacon, some, &mut answered)?;
            }
        }
        let missing = answered.iter().filter(|answered| !**answered).count();
        bail!("{missing} of {sessions} discovers got no answer from {beacon}")
    }

    /// Waits for a relay that answers no discovers, until a datagram for session 0 has come through.
    ///
    /// # Errors
    /// When none does.
    pub fn await_first(&mut self, target: &Target) -> anyhow::Result<()> {
        self.prepare(false)?;
        for _ in 0..DISCOVER_TRIES {
            let datagram = Datagram { sender: 0, session: 0, due_ns: 0, payload_bytes: STAMP_BYTES };
            let range = self.encode(target, datagram, 0);
            self.outbox.push_one(target.address, None, range);
            // Refused as long as nobody listens.
            let _ = self.outbox.flush(&self.nodes, &self.memory);
            let until = self.now() + DISCOVER_PATIENCE;
            while self.now() < until {
                if self.drain(target, STAMP_BYTES, |_| {})? > 0 {
                    return Ok(());
                }
            }
        }
        bail!("nothing comes through {}", target.address)
    }

    fn discover(&mut self, beacon: SocketAddrV4, sessions: &[u32], answered: &mut [bool]) -> io::Result<()> {
        let mut at = 0;
        for session in sessions {
            let len = encode_discover(&mut self.memory[at..], node(*session));
            let source = Some(*self.endpoint(*session).ip());
            self.outbox.push_one(beacon, source, at..at + len);
            at += len;
        }
        self.outbox.flush(&self.nodes, &self.memory);
        let mut left = sessions.len();
        let mut last = self.now();
        while left > 0 && self.now() < last + DISCOVER_PATIENCE {
            let count = self.single.receive(&self.nodes, false)?;
            for index in 0..count {
                let bytes = self.single.message(index).bytes;
                let Ok(Message::DiscoverReply(std::net::SocketAddr::V4(address))) =
                    Message::decode(&self.single.memory()[bytes])
                else {
                    continue;
                };
                let session = u32::from(*address.ip()).wrapping_sub(u32::from(self.first)) as usize;
                if let Some(answered @ false) = answered.get_mut(session) {
                    *answered = true;
                    left -= 1;
                }
            }
            if count > 0 {
                last = self.now();
            }
        }
        Ok(())
    }

    /// Sends some bursts as they will be measured, and checks that each datagram arrives unharmed at its session's address
    /// and nowhere else.
    ///
    /// # Errors
    /// What did not arrive, or arrived elsewhere.
    pub fn check(&mut self, target: &Target, load: &Load) -> anyhow::Result<()> {
        self.nodes.set_packet_info(true)?;
        let result = (0..CHECKED_BURSTS).try_for_each(|number| self.check_burst(target, load, number));
        self.nodes.set_packet_info(false)?;
        result
    }

    fn check_burst(&mut self, target: &Target, load: &Load, number: u32) -> anyhow::Result<()> {
        self.prepare(false)?;
        // Later datagrams may be lost to a relay that has only just begun; these few must not.
        let mut pairs = Pairs::new(load, u64::from(number));
        self.memory.fill(FILLER);
        let mut awaited = self.send_burst(target, load, &mut pairs, BURST, 0).sessions;
        let sent = self.now();
        while !awaited.is_empty() {
            ensure!(self.now() < sent + CHECK_PATIENCE, "{} of {BURST} datagrams did not arrive", awaited.len());
            for index in 0..self.single.receive(&self.nodes, false)? {
                let message = self.single.message(index);
                let datagram = &self.single.memory()[message.bytes];
                // Anything else: an answer to a discover that was asked twice.
                let Some(stamp) = read_stamp(&target.framing, self.slice, load.payload_bytes, datagram) else {
                    continue;
                };
                let filler = &datagram[datagram.len() - (load.payload_bytes - STAMP_BYTES)..];
                ensure!(
                    filler.iter().all(|byte| *byte == FILLER),
                    "a datagram for session {} is damaged",
                    stamp.session
                );
                let place = message.to.context("the kernel did not tell where a datagram arrived")?;
                let expected = *self.endpoint(stamp.session).ip();
                ensure!(place == expected, "a datagram for {expected} arrived at {place}");
                let position = awaited.iter().position(|session| *session == stamp.session);
                awaited.swap_remove(position.with_context(|| format!("{expected} got a datagram twice"))?);
            }
        }
        Ok(())
    }

    /// As fast as the relay goes, for `length`.
    ///
    /// # Errors
    /// What the kernel says to a receive.
    pub fn saturate(&mut self, target: &Target, load: &Load, round: u64, length: Duration) -> io::Result<Tally> {
        self.prepare(load.sink_merges)?;
        let mut pairs = Pairs::new(load, round);
        let mut tally = Tally::default();
        let mut lost = 0;
        let start = self.now();
        let mut last_arrival = start;
        loop {
            let now = self.now();
            let sending = now < start + length;
            while sending && tally.sent.saturating_sub(tally.delivered + lost) + BURST as u64 <= WINDOW {
                lost += self.send_burst(target, load, &mut pairs, BURST, 0).refused;
                tally.sent += BURST as u64;
            }
            let arrived = self.drain(target, load.payload_bytes, |_| {})?;
            tally.delivered += arrived;
            // What was given up may come after all, from a relay that was not scheduled.
            lost = lost.min(tally.sent.saturating_sub(tally.delivered));
            let now = self.now();
            if arrived > 0 {
                last_arrival = now;
            } else if now > last_arrival + PATIENCE {
                lost = tally.sent.saturating_sub(tally.delivered);
                last_arrival = now;
            }
            if !sending && tally.delivered + lost >= tally.sent {
                tally.elapsed = last_arrival - start;
                return Ok(tally);
            }
        }
    }

    /// `rate_pps` datagrams a second in bursts of `burst`, for `length`. Latencies, in nanoseconds from the instant each
    /// was due, go into `latencies`.
    ///
    /// # Errors
    /// What the kernel says to a receive.
    #[expect(clippy::too_many_arguments, reason = "one call site; a struct would only rename them")]
    pub fn pace(
        &mut self,
        target: &Target,
        load: &Load,
        round: u64,
        length: Duration,
        rate_pps: u64,
        burst: u32,
        latencies: &mut Histogram<u64>,
    ) -> io::Result<Tally> {
        self.prepare(load.sink_merges)?;
        let mut pairs = Pairs::new(load, round);
        let mut tally = Tally::default();
        let bursts = (length.as_nanos() as u64 * rate_pps / 1_000_000_000 / u64::from(burst)).max(1);
        let due = |number: u64| number * u64::from(burst) * 1_000_000_000 / rate_pps;
        let start = self.now().as_nanos() as u64;
        let (mut next, mut lost, mut last_arrival) = (0, 0, self.now());
        while tally.delivered + lost < tally.sent || next < bursts {
            while next < bursts && self.now().as_nanos() as u64 >= start + due(next) {
                let stamp = start + due(next);
                lost += self.send_burst(target, load, &mut pairs, burst as usize, stamp).refused;
                tally.sent += u64::from(burst);
                next += 1;
            }
            let began = self.began;
            let arrived = self.drain(target, load.payload_bytes, |stamp| {
                let now = elapsed_ns(began);
                latencies.saturating_record(now.saturating_sub(stamp.due_ns).max(1));
            })?;
            tally.delivered += arrived;
            let now = self.now();
            if arrived > 0 {
                last_arrival = now;
            } else if next == bursts && now > last_arrival + PATIENCE {
                break;
            }
        }
        tally.elapsed = Duration::from_nanos(self.now().as_nanos() as u64 - start);
        Ok(tally)
    }

    /// A new slice: what is still on its way from the last one will not be counted.
    fn prepare(&mut self, merging: bool) -> io::Result<()> {
        self.slice = self.slice.wrapping_add(1);
        if merging != self.merging {
            self.nodes.set_merging(merging)?;
            self.merging = merging;
        }
        Ok(())
    }

    /// Sends `count` datagrams, all due at `due_ns`, as the load has them arrive.
    fn send_burst(&mut self, target: &Target, load: &Load, pairs: &mut Pairs, count: usize, due_ns: u64) -> Sent {
        let client = match target.framing {
            Framing::Channel { clients, .. } => Some((pairs.sender() as usize % clients, clients)),
            Framing::Beacon | Framing::Unparsed | Framing::Direct => None,
        };
        let lane = client.map(|(client, clients)| Lane { lane: client as u32, of: clients as u32 });
        // Without a relay there is no common destination for a burst.
        let singly = load.arrivals == Arrivals::Singly || matches!(target.framing, Framing::Direct);
        let mut sessions = Vec::with_capacity(count);
        let (mut sender, mut end, mut segment) = (pairs.sender(), 0, 0);
        for _ in 0..count {
            let session = pairs.destination(lane);
            let range =
                self.encode(target, Datagram { sender, session, due_ns, payload_bytes: load.payload_bytes }, end);
            (end, segment) = (range.end, range.len());
            sessions.push(session);
            if singly {
                let to = if let Framing::Direct = target.framing { self.endpoint(session) } else { target.address };
                self.outbox.push_one(to, self.source(client, sender), range);
                sender = pairs.sender();
            }
        }
        if !singly {
            let source = self.source(client, sender);
            self.outbox.push(target.address, source, Some(segment as u16), std::iter::once(0..end));
        }
        let socket = client.map_or(&self.nodes, |(client, _)| &self.clients[client]);
        let refused = self.outbox.flush(socket, &self.memory) * if singly { 1 } else { count };
        Sent { sessions, refused: refused as u64 }
    }

    /// Nodes send from their own address, clients from that of their socket.
    fn source(&self, client: Option<(usize, usize)>, sender: u32) -> Option<Ipv4Addr> {
        client.is_none().then(|| *self.endpoint(sender).ip())
    }

    /// Writes one datagram at `at` and returns where it lies.
    fn encode(&mut self, target: &Target, datagram: Datagram, at: usize) -> Range<usize> {
        let Datagram { sender, session, due_ns, payload_bytes } = datagram;
        let mut writer = At { bytes: &mut self.memory, at };
        match &target.framing {
            Framing::Beacon | Framing::Unparsed => {
                writer.put(&[kind::RELAY]);
                writer.put(&node(sender).0.to_be_bytes());
                writer.put(&node(session).0.to_be_bytes());
            }
            Framing::Channel { channels, .. } => {
                writer.put(&turn::channel_header(channels[session as usize], payload_bytes as u16));
            }
            Framing::Direct => {}
        }
        let payload = writer.at;
        writer.put(&self.slice.to_be_bytes());
        writer.put(&due_ns.to_be_bytes());
        writer.put(&session.to_be_bytes());
        at..payload + payload_bytes
    }

    /// Takes in what has arrived; returns how many datagrams of this slice.
    fn drain(&mut self, target: &Target, payload_bytes: usize, mut seen: impl FnMut(Stamp)) -> io::Result<u64> {
        let inbox = if self.merging { &mut self.merged } else { &mut self.single };
        let mut arrived = 0;
        for index in 0..inbox.receive(&self.nodes, false)? {
            for bytes in inbox.message(index).datagrams() {
                if let Some(stamp) = read_stamp(&target.framing, self.slice, payload_bytes, &inbox.memory()[bytes]) {
                    seen(stamp);
                    arrived += 1;
                }
            }
        }
        Ok(arrived)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(elapsed_ns(self.began))
    }
}

#[expect(clippy::disallowed_methods, reason = "the generator is a driver: it sends on time and measures")]
fn elapsed_ns(began: Instant) -> u64 {
    began.elapsed().as_nanos() as u64
}

/// One datagram to be written.
#[derive(Clone, Copy, Debug)]
struct Datagram {
    sender: u32,
    session: u32,
    due_ns: u64,
    payload_bytes: usize,
}

/// What became of a burst.
#[derive(Clone, Debug)]
struct Sent {
    /// Where its datagrams go.
    sessions: Vec<u32>,
    /// How many the kernel refused.
    refused: u64,
}

/// What a payload tells of itself.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    due_ns: u64,
    session: u32,
}

/// The stamp of a datagram of slice `slice` that arrived whole; `None` for any other.
fn read_stamp(framing: &Framing, slice: u32, payload_bytes: usize, datagram: &[u8]) -> Option<Stamp> {
    let payload = match framing {
        Framing::Beacon if datagram.first() == Some(&kind::DELIVER) => datagram.get(DELIVER_HEADER_LEN..)?,
        Framing::Beacon => return None,
        Framing::Unparsed => datagram.get(DELIVER_HEADER_LEN..)?,
        Framing::Channel { .. } | Framing::Direct => datagram,
    };
    let (stamp, _) = payload.split_first_chunk::<STAMP_BYTES>()?;
    let due_ns = u64::from_be_bytes(*stamp[4..].first_chunk()?);
    let session = u32::from_be_bytes(*stamp[12..].first_chunk()?);
    (payload.len() == payload_bytes && stamp[..4] == slice.to_be_bytes()).then_some(Stamp { due_ns, session })
}

struct At<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl At<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

fn encode_discover(bytes: &mut [u8], node: NodeId) -> usize {
    let mut writer = Writer::new(bytes);
    beacon::Message::Discover { node, extended: false }.encode(&mut writer);
    writer.len()
}

const fn node(session: u32) -> NodeId {
    NodeId(FIRST_NODE + session)
}
