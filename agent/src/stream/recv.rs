//! Reassembly: puts segments in order, bounds what is held, and says what to advertise and to acknowledge.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use wire::stream::{SACK_BLOCKS_MAX, SackBlocks, Sequence};

/// The longest segment that is taken; no version sends more (section 8.2).
pub(super) const SEGMENT_BYTES_MAX: usize = 4096;
/// Arrivals beyond a hole that are remembered, to name the newest blocks first (RFC 2018, 4).
const RECENT_MAX: usize = 2 * SACK_BLOCKS_MAX;

/// How a segment fits to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next one, and nothing is missing.
    InOrder,
    /// The next one, or the next of several that are missing.
    FillsHole,
    /// Beyond a hole, and kept.
    OutOfOrder,
    /// All of it was here before.
    Duplicate,
    /// There is no room for it, or it is not of this stream.
    Refused,
}

/// What has arrived and was not read yet.
#[derive(Clone, Debug)]
pub(super) struct ReceiveBuffer {
    /// The next byte in order.
    next: u64,
    slots: usize,
    ready: VecDeque<u8>,
    /// The lengths of the segments in `ready`: each takes a slot until it is read (section 8.2).
    ready_segments: VecDeque<usize>,
    /// Segments beyond a hole, by their first byte; none overlaps another.
    held: BTreeMap<u64, Vec<u8>>,
    /// The runs that `held` makes, first byte to one past the last; none touches another.
    runs: BTreeMap<u64, u64>,
    recent: VecDeque<u64>,
    /// The application wants no more: what comes is acknowledged and thrown away.
    discards: bool,
}

impl ReceiveBuffer {
    pub(super) const fn new(first: u64, slots: u16) -> Self {
        Self {
            next: first,
            slots: slots as usize,
            ready: VecDeque::new(),
            ready_segments: VecDeque::new(),
            held: BTreeMap::new(),
            runs: BTreeMap::new(),
            recent: VecDeque::new(),
            discards: false,
        }
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn readable_bytes(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn has_hole(&self) -> bool {
        !self.held.is_empty()
    }

    /// Free slots. Segments beyond a hole count as in flight with their sender, so they take none here.
    pub(super) fn window_segments(&self) -> u16 {
        (self.slots - self.ready_segments.len().min(self.slots)) as u16
    }

    /// Whether the window has grown so much since `advertised` that the sender should hear of it (RFC 9293, 3.8.6.2.2).
    pub(super) fn has_opened(&self, advertised: u16) -> bool {
        usize::from(self.window_segments().saturating_sub(advertised)) >= (self.slots / 4).max(1)
    }

    /// Takes in `payload`, whose first byte is `start`; nothing from `end` on belongs to the stream.
    pub(super) fn insert(&mut self, start: u64, payload: &[u8], end: Option<u64>) -> Arrival {
        let beyond = end.map_or(0, |end| (start + payload.len() as u64).saturating_sub(end));
        let payload = &payload[..payload.len().saturating_sub(beyond as usize)];
        let stop = start + payload.len() as u64;
        if payload.len() > SEGMENT_BYTES_MAX || payload.is_empty() {
            return Arrival::Refused;
        }
        if stop <= self.next {
            return Arrival::Duplicate;
        }
        if start > self.next {
            return self.hold(start, payload);
        }
        if self.window_segments() == 0 {
            return Arrival::Refused;
        }
        let fills = self.has_hole();
        self.deliver(&payload[(self.next - start) as usize..]);
        self.join();
        if fills { Arrival::FillsHole } else { Arrival::InOrder }
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> usize {
        let (front, back) = self.ready.as_slices();
        let from_front = front.len().min(out.len());
        let from_back = back.len().min(out.len() - from_front);
        out[..from_front].copy_from_slice(&front[..from_front]);
        out[from_front..from_front + from_back].copy_from_slice(&back[..from_back]);
        self.consume(from_front + from_back);
        from_front + from_back
    }

    pub(super) fn discard(&mut self) {
        self.discards = true;
        self.consume(self.ready.len());
    }

    /// The runs beyond the first hole, those with the newest arrivals first.
    pub(super) fn sack_blocks(&self) -> SackBlocks {
        let mut named: Vec<Range<u64>> = Vec::with_capacity(SACK_BLOCKS_MAX);
        let newest = self.recent.iter().filter_map(|at| self.run_around(*at));
        for run in newest.chain(self.runs.iter().map(|(start, end)| *start..*end)) {
            if named.len() == SACK_BLOCKS_MAX {
                break;
            }
            if !named.contains(&run) {
                named.push(run);
            }
        }
        named.into_iter().map(|run| (Sequence::of(run.start), Sequence::of(run.end))).collect()
    }

    fn run_around(&self, at: u64) -> Option<Range<u64>> {
        let (start, end) = self.runs.range(..=at).next_back()?;
        (*start..*end).contains(&at).then_some(*start..*end)
    }

    fn consume(&mut self, mut bytes: usize) {
        self.ready.drain(..bytes);
        while let Some(first) = self.ready_segments.front_mut() {
            if *first > bytes {
                *first -= bytes;
                break;
            }
            bytes -= *first;
            self.ready_segments.pop_front();
        }
    }

    fn deliver(&mut self, payload: &[u8]) {
        self.next += payload.len() as u64;
        if !self.discards {
            self.ready.extend(payload);
            self.ready_segments.push_back(payload.len());
        }
    }

    /// Moves what has become the next in order.
    fn join(&mut self) {
        while self.held.first_key_value().is_some_and(|(start, _)| *start <= self.next) {
            let Some((start, payload)) = self.held.pop_first() else { break };
            let known = (self.next - start) as usize;
            if let Some(fresh) = payload.get(known..).filter(|fresh| !fresh.is_empty()) {
                self.deliver(fresh);
            }
        }
        let next = self.next;
        while self.runs.first_key_value().is_some_and(|(_, end)| *end <= next) {
            self.runs.pop_first();
        }
    }

    /// Keeps those parts of `payload` that are not here yet.
    fn hold(&mut self, start: u64, payload: &[u8]) -> Arrival {
        let stop = start + payload.len() as u64;
        if start - self.next > (self.slots * SEGMENT_BYTES_MAX) as u64 {
            return Arrival::Refused;
        }
        let mut kept = false;
        let mut at = start;
        while at < stop {
            if let Some(run) = self.run_around(at) {
                at = run.end;
                continue;
            }
            if self.held.len() >= self.slots {
                return if kept { Arrival::OutOfOrder } else { Arrival::Refused };
            }
            let until = self.runs.range(at..).next().map_or(stop, |(next, _)| stop.min(*next));
            self.held.insert(at, payload[(at - start) as usize..(until - start) as usize].to_vec());
            self.add_run(at, until);
            (at, kept) = (until, true);
        }
        if !kept {
            return Arrival::Duplicate;
        }
        self.recent.push_front(start);
        self.recent.truncate(RECENT_MAX);
        Arrival::OutOfOrder
    }

    fn add_run(&mut self, mut start: u64, mut end: u64) {
        if let Some((before, until)) = self.runs.range(..start).next_back()
            && *until == start
        {
            start = *before;
        }
        if let Some(after) = self.runs.remove(&end) {
            end = after;
        }
        self.runs.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(buffer: &mut ReceiveBuffer) -> Vec<u8> {
        let mut out = vec![0; buffer.readable_bytes()];
        buffer.read(&mut out);
        out
    }

    fn blocks(buffer: &ReceiveBuffer) -> Vec<(u32, u32)> {
        buffer.sack_blocks().iter().map(|(left, right)| (left.0, right.0)).collect()
    }

    #[test]
    fn a_hole_is_named_and_filled() {
        let mut buffer = ReceiveBuffer::new(1, 8);
        assert_eq!(buffer.insert(4, b"def", None), Arrival::OutOfOrder);
        assert_eq!(buffer.insert(10, b"jk", None), Arrival::OutOfOrder);
        assert_eq!(blocks(&buffer), [(10, 12), (4, 7)], "the newest first");
        assert_eq!(buffer.insert(1, b"abc", None), Arrival::FillsHole);
        assert_eq!((all(&mut buffer), blocks(&buffer)), (b"abcdef".to_vec(), vec![(10, 12)]));
        assert_eq!(buffer.insert(7, b"ghi", None), Arrival::FillsHole);
        assert_eq!((all(&mut buffer), buffer.next()), (b"ghijk".to_vec(), 12));
    }

    #[test]
    fn overlaps_keep_what_came_first() {
        let mut buffer = ReceiveBuffer::new(1, 8);
        buffer.insert(3, b"CD", None);
        buffer.insert(7, b"GH", None);
        assert_eq!(buffer.insert(2, b"bcdefghi", None), Arrival::OutOfOrder);
        assert_eq!(blocks(&buffer), [(2, 10)]);
        buffer.insert(1, b"abc", None);
        assert_eq!(all(&mut buffer), b"abcDefGHi");
        assert_eq!(buffer.insert(1, b"abc", None), Arrival::Duplicate);
    }

    #[test]
    fn slots_are_segments_whatever_their_size() {
        let mut buffer = ReceiveBuffer::new(1, 2);
        buffer.insert(1, b"a", None);
        buffer.insert(2, b"b", None);
        assert_eq!((buffer.window_segments(), buffer.insert(3, b"c", None)), (0, Arrival::Refused));
        buffer.read(&mut [0]);
        assert_eq!((buffer.window_segments(), buffer.has_opened(0)), (1, true));
    }

    #[test]
    fn nothing_is_held_without_bound() {
        let mut buffer = ReceiveBuffer::new(1, 2);
        assert_eq!(buffer.insert(3, b"c", None), Arrival::OutOfOrder);
        assert_eq!(buffer.insert(5, b"e", None), Arrival::OutOfOrder);
        assert_eq!(buffer.insert(7, b"g", None), Arrival::Refused);
        assert_eq!(buffer.insert(1 << 40, b"far", None), Arrival::Refused);
        assert_eq!(buffer.insert(1, &[0; SEGMENT_BYTES_MAX + 1], None), Arrival::Refused);
    }

    #[test]
    fn nothing_after_the_end() {
        let mut buffer = ReceiveBuffer::new(1, 8);
        assert_eq!(buffer.insert(1, b"abc", Some(3)), Arrival::InOrder);
        assert_eq!(all(&mut buffer), b"ab");
        assert_eq!(buffer.insert(3, b"c", Some(3)), Arrival::Refused);
    }
}
