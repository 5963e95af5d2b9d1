//! The one generator that drives all contenders: a thread that sends from a few sockets and receives at every
//! destination, so that what it counts is what arrived.
//!
//! Two modes. *Saturated*: a bounded number of datagrams is on its way at any time, so the relay is always busy and
//! nothing is lost for want of buffers; gives the cost. *Paced*: datagrams are due at fixed times whatever happens;
//! gives the latency.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use wire::beacon::{DELIVER_HEADER_LEN, Message, RELAY_HEADER_LEN, kind};
use wire::codec::Writer;
use wire::{NodeId, beacon};

use crate::destinations::{Destinations, Lane};
use crate::load::{Arrivals, BURST, Load};
use crate::turn;
use crate::udp::{Inbox, Outbox, Socket};

/// Sockets that send, each in the name of one node.
pub const SOURCES: usize = 8;
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
/// Sessions belong to nodes from here on; the nodes before are the senders.
const FIRST_NODE: u32 = 1000;

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
    /// TURN `ChannelData` in, the bare payload out; the channel of each session, opened by source `session % SOURCES`.
    Channel(Vec<u16>),
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
    sources: Vec<Socket>,
    sink: Socket,
    sink_port: u16,
    first_sink: Ipv4Addr,
    merging: bool,
    single: Inbox,
    merged: Inbox,
    outbox: Outbox,
    memory: Vec<u8>,
    slice: u32,
    began: Instant,
}

impl Generator {
    /// Sends from `source`; destinations are `first_sink` and the addresses after it, all of them local.
    ///
    /// # Errors
    /// What the kernel says of the sockets.
    #[expect(clippy::disallowed_methods, reason = "the generator is a driver: it sends on time and measures")]
    pub fn new(source: Ipv4Addr, first_sink: Ipv4Addr) -> io::Result<Self> {
        let bind = |ip| Socket::bind(SocketAddrV4::new(ip, 0), true);
        let sink = bind(Ipv4Addr::UNSPECIFIED)?;
        Ok(Self {
            sources: (0..SOURCES).map(|_| bind(source)).collect::<io::Result<_>>()?,
            sink_port: sink.address()?.port(),
            sink,
            first_sink,
            merging: false,
            single: Inbox::new(64, 2048),
            merged: Inbox::new(16, 64 << 10),
            outbox: Outbox::new(DISCOVERS, DISCOVERS),
            memory: vec![0; DISCOVERS.max(BURST) * (RELAY_HEADER_LEN + PAYLOAD_MAX)],
            slice: 0,
            began: Instant::now(),
        })
    }

    /// Where session `session` receives.
    #[must_use]
    pub fn sink(&self, session: u32) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from(u32::from(self.first_sink) + session), self.sink_port)
    }

    /// The sockets that send.
    #[must_use]
    pub fn sources(&self) -> &[Socket] {
        &self.sources
    }

    /// Gives the senders and `sessions` destinations a session each at a beacon.
    ///
    /// # Errors
    /// When some get no answer.
    pub fn register(&mut self, beacon: SocketAddrV4, sessions: u32) -> anyhow::Result<()> {
        for source in 0..SOURCES {
            self.register_source(beacon, source)?;
        }
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
            let range = self.encode(target, 0, 0, 0, STAMP_BYTES, 0);
            self.outbox.push_one(target.address, None, range);
            self.outbox.flush(&self.sources[0], &self.memory);
            let until = self.now() + DISCOVER_PATIENCE;
            while self.now() < until {
                if self.drain(target, STAMP_BYTES, |_| {})? > 0 {
                    return Ok(());
                }
            }
        }
        bail!("nothing comes through {}", target.address)
    }

    fn register_source(&mut self, beacon: SocketAddrV4, source: usize) -> anyhow::Result<()> {
        let socket = self.sources[source].as_std()?;
        socket.set_read_timeout(Some(DISCOVER_PATIENCE))?;
        let (mut question, mut answer) = ([0; 64], [0; 64]);
        let len = encode_discover(&mut question, sender(source));
        for _ in 0..DISCOVER_TRIES {
            // Refused as long as nobody listens.
            let _ = socket.send_to(&question[..len], beacon);
            let Ok(len) = socket.recv(&mut answer) else { continue };
            if matches!(Message::decode(&answer[..len]), Ok(Message::DiscoverReply(_))) {
                socket.set_read_timeout(None)?;
                return Ok(());
            }
        }
        bail!("no answer from a beacon at {beacon}")
    }

    fn discover(&mut self, beacon: SocketAddrV4, sessions: &[u32], answered: &mut [bool]) -> io::Result<()> {
        let mut at = 0;
        for session in sessions {
            let len = encode_discover(&mut self.memory[at..], node(*session));
            let source = Some(*self.sink(*session).ip());
            self.outbox.push_one(beacon, source, at..at + len);
            at += len;
        }
        self.outbox.flush(&self.sink, &self.memory);
        let mut left = sessions.len();
        let mut last = self.now();
        while left > 0 && self.now() < last + DISCOVER_PATIENCE {
            let count = self.single.receive(&self.sink, false)?;
            for index in 0..count {
                let bytes = self.single.message(index).bytes;
                let Ok(Message::DiscoverReply(std::net::SocketAddr::V4(address))) =
                    Message::decode(&self.single.memory()[bytes])
                else {
                    continue;
                };
                let session = u32::from(*address.ip()).wrapping_sub(u32::from(self.first_sink)) as usize;
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

    /// Sends one datagram to each of some sessions, and checks that it arrives unharmed at that session's address and
    /// nowhere else.
    ///
    /// # Errors
    /// What did not arrive, or arrived elsewhere.
    pub fn check(&mut self, target: &Target, sessions: u32) -> anyhow::Result<()> {
        self.prepare(false)?;
        self.sink.set_packet_info(true)?;
        for step in 0..BURST.min(sessions as usize) as u32 {
            let session = (u64::from(sessions) * u64::from(step) / BURST as u64) as u32;
            let source = session as usize % SOURCES;
            let range = self.encode(target, source, session, 0, 64, 0);
            let to = self.address(target, session);
            self.outbox.push_one(to, None, range);
            self.outbox.flush(&self.sources[source], &self.memory);
            let sent = self.now();
            let arrived = loop {
                if self.now() > sent + Duration::from_secs(2) {
                    bail!("a datagram for session {session} did not arrive");
                }
                if self.single.receive(&self.sink, false)? > 0 {
                    break self.single.message(0);
                }
            };
            let arrived_at = arrived.to.context("the kernel did not tell where a datagram arrived")?;
            let found = read_stamp(&target.framing, self.slice, 64, &self.single.memory()[arrived.bytes]);
            if found.map(|stamp| stamp.session) != Some(session) || arrived_at != *self.sink(session).ip() {
                bail!("a datagram for session {session} arrived at {arrived_at}, as {found:?}");
            }
        }
        self.sink.set_packet_info(false)?;
        Ok(())
    }

    /// As fast as the relay goes, for `length`.
    ///
    /// # Errors
    /// What the kernel says to a receive.
    pub fn saturate(&mut self, target: &Target, load: &Load, round: u64, length: Duration) -> io::Result<Tally> {
        self.prepare(load.sink_merges)?;
        let mut destinations = Destinations::new(load, round);
        let mut tally = Tally::default();
        let (mut source, mut lost) = (0, 0);
        let start = self.now();
        let mut last_arrival = start;
        loop {
            let now = self.now();
            let sending = now < start + length;
            while sending && tally.sent - tally.delivered - lost + BURST as u64 <= WINDOW {
                let refused = self.send_burst(target, load, &mut destinations, source, BURST, 0, load.arrivals);
                tally.sent += BURST as u64;
                lost += refused;
                source = (source + 1) % SOURCES;
            }
            let arrived = self.drain(target, load.payload_bytes, |_| {})?;
            tally.delivered += arrived;
            let now = self.now();
            if arrived > 0 {
                last_arrival = now;
            } else if now > last_arrival + PATIENCE {
                lost = tally.sent - tally.delivered;
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
        let mut destinations = Destinations::new(load, round);
        let mut tally = Tally::default();
        let bursts = (length.as_nanos() as u64 * rate_pps / 1_000_000_000 / u64::from(burst)).max(1);
        let due = |number: u64| number * u64::from(burst) * 1_000_000_000 / rate_pps;
        let start = self.now().as_nanos() as u64;
        let (mut next, mut lost, mut last_arrival) = (0, 0, self.now());
        while tally.delivered + lost < tally.sent || next < bursts {
            while next < bursts && self.now().as_nanos() as u64 >= start + due(next) {
                let stamp = start + due(next);
                let source = next as usize % SOURCES;
                lost +=
                    self.send_burst(target, load, &mut destinations, source, burst as usize, stamp, Arrivals::Singly);
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
            self.sink.set_merging(merging)?;
            self.merging = merging;
        }
        Ok(())
    }

    /// Returns how many datagrams the kernel refused.
    #[expect(clippy::too_many_arguments, reason = "private; the two modes differ in just these")]
    fn send_burst(
        &mut self,
        target: &Target,
        load: &Load,
        destinations: &mut Destinations,
        source: usize,
        count: usize,
        due_ns: u64,
        arrivals: Arrivals,
    ) -> u64 {
        let lane = match target.framing {
            Framing::Channel(_) => Some(Lane { lane: source as u32, of: SOURCES as u32 }),
            Framing::Beacon | Framing::Unparsed | Framing::Direct => None,
        };
        let mut end = 0;
        let mut first = 0..0;
        for index in 0..count {
            let session = destinations.next(lane);
            let range = self.encode(target, source, session, due_ns, load.payload_bytes, end);
            end = range.end;
            // Without a relay there is no common destination for a burst.
            if arrivals == Arrivals::Singly || matches!(target.framing, Framing::Direct) {
                self.outbox.push_one(self.address(target, session), None, range);
            } else if index == 0 {
                first = range;
            }
        }
        if self.outbox.len() == 0 {
            self.outbox.push(target.address, None, Some(first.len() as u16), std::iter::once(0..end));
            return self.outbox.flush(&self.sources[source], &self.memory) as u64 * count as u64;
        }
        self.outbox.flush(&self.sources[source], &self.memory) as u64
    }

    fn address(&self, target: &Target, session: u32) -> SocketAddrV4 {
        if let Framing::Direct = target.framing { self.sink(session) } else { target.address }
    }

    /// Writes one datagram at `at` and returns where it lies.
    fn encode(
        &mut self,
        target: &Target,
        source: usize,
        session: u32,
        due_ns: u64,
        payload_bytes: usize,
        at: usize,
    ) -> Range<usize> {
        let mut writer = At { bytes: &mut self.memory, at };
        match &target.framing {
            Framing::Beacon | Framing::Unparsed => {
                writer.put(&[kind::RELAY]);
                writer.put(&sender(source).0.to_be_bytes());
                writer.put(&node(session).0.to_be_bytes());
            }
            Framing::Channel(channels) => {
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
        for index in 0..inbox.receive(&self.sink, false)? {
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
        Framing::Channel(_) | Framing::Direct => datagram,
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

const fn sender(source: usize) -> NodeId {
    NodeId(source as u32 + 1)
}

const fn node(session: u32) -> NodeId {
    NodeId(FIRST_NODE + session)
}
