//! A world of streams over shared links: events in order of time, the same for the same seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::LazyLock;

use agent::Time;
use agent::stream::{Segment, Stream};
use wire::packet::Flags;
use wire::stream::Sequence;

use crate::link::{Chance, Conditions, Link};

/// A segment that owns its payload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Datagram {
    pub flags: u8,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub window_segments: u16,
    pub payload: Vec<u8>,
}

impl Datagram {
    pub fn of(segment: &Segment<'_>) -> Self {
        Self {
            flags: segment.flags.bits(),
            sequence: segment.sequence.0,
            acknowledgement: segment.acknowledgement.0,
            window_segments: segment.window_segments,
            payload: segment.payload.to_vec(),
        }
    }

    pub fn segment(&self) -> Segment<'_> {
        Segment {
            flags: Flags::from_bits(self.flags),
            sequence: Sequence(self.sequence),
            acknowledgement: Sequence(self.acknowledgement),
            window_segments: self.window_segments,
            payload: &self.payload,
        }
    }

    pub fn is(&self, flags: Flags) -> bool {
        self.flags == flags.bits()
    }
}

/// One end of a connection, whoever wrote it.
pub trait End {
    fn handle(&mut self, now: Time, datagram: &Datagram);
    fn handle_timeout(&mut self, now: Time);
    fn poll_transmit(&mut self, now: Time) -> Option<Datagram>;
    fn poll_timeout(&self) -> Option<Time>;
}

/// A stream with an application that writes a given number of bytes, closes, and checks what it reads.
pub struct Ours {
    /// None at the responder before a SYN came.
    pub stream: Option<Stream>,
    config: agent::stream::Config,
    to_write: u64,
    written: u64,
    pub read: u64,
    pub finished_at: Option<Time>,
    pub closes: bool,
    /// The application reads no faster than this.
    pub read_bytes_per_second: u64,
}

/// The most the application reads or writes at once.
const CHUNK_BYTES: usize = 16 << 10;
/// A slow application takes so much at once.
const SLOW_READ_BYTES: u64 = 4_000;
/// A prime, so that no segment size divides it.
const PERIOD_BYTES: u64 = 65_521;
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut chance = Chance(0);
    let period: Vec<u8> = (0..PERIOD_BYTES).map(|_| chance.next() as u8).collect();
    [period.as_slice(), &period[..CHUNK_BYTES]].concat()
});

/// What stands at `offset` of every test's stream; at most [`CHUNK_BYTES`].
pub fn pattern(offset: u64, bytes: usize) -> &'static [u8] {
    &PATTERN[(offset % PERIOD_BYTES) as usize..][..bytes]
}

impl Ours {
    pub fn new(config: agent::stream::Config, to_write: u64) -> Self {
        let (closes, read_bytes_per_second) = (to_write > 0, u64::MAX);
        Self { stream: None, config, to_write, written: 0, read: 0, finished_at: None, closes, read_bytes_per_second }
    }

    pub fn connect(&mut self, now: Time) {
        self.stream = Some(Stream::connect(now, self.config));
        self.work(now);
    }

    pub fn stream(&self) -> &Stream {
        self.stream.as_ref().expect("connected")
    }

    /// The application: writes, closes, reads.
    fn work(&mut self, now: Time) {
        let Some(stream) = &mut self.stream else { return };
        while self.written < self.to_write && stream.writable_bytes() > 0 {
            let count = (self.to_write - self.written).min(stream.writable_bytes() as u64).min(CHUNK_BYTES as u64);
            self.written += stream.write(now, pattern(self.written, count as usize)) as u64;
        }
        if self.closes && self.written == self.to_write {
            stream.close(now);
        }
        let allowed = (u128::from(now.0) * u128::from(self.read_bytes_per_second) / 1_000_000_000) as u64;
        let mut buffer = [0; CHUNK_BYTES];
        loop {
            let room = allowed.saturating_sub(self.read).min(buffer.len() as u64) as usize;
            let count = stream.read(&mut buffer[..room]);
            if count == 0 {
                break;
            }
            assert!(buffer[..count] == *pattern(self.read, count), "wrong bytes from {} on", self.read);
            self.read += count as u64;
        }
        if stream.end().is_some() && stream.readable_bytes() == 0 {
            self.finished_at.get_or_insert(now);
        }
    }
}

impl End for Ours {
    fn handle(&mut self, now: Time, datagram: &Datagram) {
        let segment = datagram.segment();
        match &mut self.stream {
            Some(stream) => stream.handle_segment(now, &segment),
            None if segment.flags == Flags::SYN => self.stream = Some(Stream::accept(now, self.config, &segment)),
            None => {}
        }
        self.work(now);
    }

    fn handle_timeout(&mut self, now: Time) {
        if let Some(stream) = &mut self.stream {
            stream.handle_timeout(now);
        }
        self.work(now);
    }

    fn poll_transmit(&mut self, now: Time) -> Option<Datagram> {
        self.stream.as_mut()?.poll_transmit(now).map(|segment| Datagram::of(&segment))
    }

    fn poll_timeout(&self) -> Option<Time> {
        let readable = self.stream.as_ref()?.readable_bytes() as u64;
        let reads = (self.read_bytes_per_second < u64::MAX && readable > 0).then(|| {
            let next = self.read + readable.min(SLOW_READ_BYTES);
            Time((u128::from(next) * 1_000_000_000).div_ceil(u128::from(self.read_bytes_per_second)) as u64)
        });
        [self.stream.as_ref()?.poll_timeout(), reads].into_iter().flatten().min()
    }
}

/// When, in which order among equals, at which pair, at its responder or initiator, what.
type Arrival = (Time, u64, usize, bool, Datagram);

/// Pairs of ends. All initiators share one link towards their responders, and all responders one back.
pub struct World<A, B> {
    pub now: Time,
    pub pairs: Vec<(A, B)>,
    pub there: Link,
    pub back: Link,
    arriving: BinaryHeap<Reverse<Arrival>>,
    events: u64,
    /// Segments with data that went there.
    pub data_segments: u64,
    /// Segments without data that went there.
    pub other_segments: u64,
}

impl<A: End, B: End> World<A, B> {
    pub fn new(conditions: Conditions, seed: u64, pairs: Vec<(A, B)>) -> Self {
        Self {
            now: Time(0),
            pairs,
            there: Link::new(conditions, seed),
            back: Link::new(conditions, seed ^ 0x5555),
            arriving: BinaryHeap::new(),
            events: 0,
            data_segments: 0,
            other_segments: 0,
        }
    }

    /// Runs until `done` or `deadline`; says whether it was done.
    pub fn run(&mut self, deadline: Time, done: impl Fn(&Self) -> bool) -> bool {
        loop {
            (0..self.pairs.len()).for_each(|pair| self.transmit(pair));
            if done(self) {
                return true;
            }
            let timers = self.pairs.iter().flat_map(|(a, b)| [a.poll_timeout(), b.poll_timeout()]).flatten().min();
            let arrival = self.arriving.peek().map(|Reverse((at, ..))| *at);
            let Some(next) = [timers, arrival].into_iter().flatten().min() else { return false };
            self.now = self.now.max(next);
            if self.now > deadline {
                return false;
            }
            while let Some(Reverse((at, _, pair, there, datagram))) = self.arriving.pop() {
                if at > self.now {
                    self.arriving.push(Reverse((at, self.events, pair, there, datagram)));
                    break;
                }
                let (a, b) = &mut self.pairs[pair];
                if there {
                    b.handle(self.now, &datagram)
                } else {
                    a.handle(self.now, &datagram)
                }
                self.transmit(pair);
            }
            for (a, b) in &mut self.pairs {
                for end in [a as &mut dyn End, b] {
                    if end.poll_timeout().is_some_and(|due| due <= self.now) {
                        end.handle_timeout(self.now);
                    }
                }
            }
        }
    }

    fn transmit(&mut self, pair: usize) {
        let (a, b) = &mut self.pairs[pair];
        for (end, link, there) in [(a as &mut dyn End, &mut self.there, true), (b, &mut self.back, false)] {
            // An end that never stops talking at one moment is a storm.
            for talk in 0.. {
                let Some(datagram) = end.poll_transmit(self.now) else { break };
                assert!(talk < 10_000, "a storm at {:?}", self.now);
                self.data_segments += u64::from(there && !datagram.payload.is_empty());
                self.other_segments += u64::from(there && datagram.payload.is_empty());
                for at in link.carry(self.now, datagram.payload.len()) {
                    self.events += 1;
                    self.arriving.push(Reverse((at, self.events, pair, there, datagram.clone())));
                }
            }
        }
    }
}
