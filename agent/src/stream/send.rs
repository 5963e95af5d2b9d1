//! What the application has written and what was never sent: cut into segments as it comes, so that each byte is copied
//! once here and once into its datagram.

use std::collections::VecDeque;
use std::time::Duration;

use wire::stream::SackBlocks;

use crate::Time;

/// A short write waits no longer than this for an acknowledgement (section 8.3).
const NAGLE_DELAY: Duration = Duration::from_millis(40);

/// Segments that wait for their first transmission.
#[derive(Clone, Debug)]
pub(super) struct SendBuffer {
    segments: VecDeque<Vec<u8>>,
    bytes: usize,
    segment_bytes_max: usize,
    nagle: bool,
    /// When what is now the first segment was begun, or became the first.
    waits_since: Time,
}

impl SendBuffer {
    pub(super) const fn new(segment_bytes_max: usize, nagle: bool) -> Self {
        Self { segments: VecDeque::new(), bytes: 0, segment_bytes_max, nagle, waits_since: Time(0) }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(super) fn write(&mut self, now: Time, mut bytes: &[u8]) {
        if self.is_empty() {
            self.waits_since = now;
        }
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            let room = self.segments.back().map_or(0, |last| self.segment_bytes_max - last.len());
            if room == 0 {
                self.segments.push_back(Vec::with_capacity(self.segment_bytes_max.min(bytes.len())));
                continue;
            }
            let (head, rest) = bytes.split_at(room.min(bytes.len()));
            self.segments.back_mut().expect("there is room in it").extend_from_slice(head);
            bytes = rest;
        }
    }

    /// Bytes of the segment that [`SendBuffer::take`] gives.
    pub(super) fn next_bytes(&self) -> Option<u64> {
        self.segments.front().map(|first| if looks_like_sack(first) { 1 } else { first.len() as u64 })
    }

    /// Until when the next segment waits for `acknowledgements` to come (RFC 896).
    pub(super) fn held_until(&self, awaits_acknowledgements: bool) -> Option<Time> {
        let first = self.segments.front()?;
        let short = self.segments.len() == 1 && first.len() < self.segment_bytes_max;
        (self.nagle && short && awaits_acknowledgements).then(|| self.waits_since + NAGLE_DELAY)
    }

    /// The next segment. Data that begins like a selective acknowledgement would never be delivered: its first byte goes
    /// alone (section 8.4).
    pub(super) fn take(&mut self, now: Time) -> Option<Vec<u8>> {
        let mut first = self.segments.pop_front()?;
        if looks_like_sack(&first) {
            self.segments.push_front(first.split_off(1));
        }
        self.bytes -= first.len();
        self.waits_since = now;
        Some(first)
    }

    pub(super) fn clear(&mut self) {
        self.segments.clear();
        self.bytes = 0;
    }
}

fn looks_like_sack(payload: &[u8]) -> bool {
    SackBlocks::decode(payload).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_fill_segments() {
        let mut buffer = SendBuffer::new(4, false);
        buffer.write(Time(0), b"ab");
        buffer.write(Time(0), b"cdefg");
        let segments: Vec<_> = std::iter::from_fn(|| buffer.take(Time(0))).collect();
        assert_eq!(segments, [&b"abcd"[..], b"efg"]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn no_segment_looks_like_a_sack() {
        let data = b"SACK\x01SACK\x01\0\0\0SACK\x02________________________";
        let mut buffer = SendBuffer::new(1152, false);
        buffer.write(Time(0), data);
        let segments: Vec<_> = std::iter::from_fn(|| buffer.take(Time(0))).collect();
        assert_eq!(segments, [&b"S"[..], &data[1..]]);
    }

    #[test]
    fn nagle_holds_a_short_segment_only() {
        let mut buffer = SendBuffer::new(4, true);
        buffer.write(Time(0), b"ab");
        assert_eq!(buffer.held_until(false), None);
        assert_eq!(buffer.held_until(true), Some(Time(0) + NAGLE_DELAY));
        buffer.write(Time(0), b"cd");
        assert_eq!(buffer.held_until(true), None);
    }
}
