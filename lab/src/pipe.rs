//! One direction of an emulated link: what is lost, what has to queue, and when each frame comes out. A plain value; who
//! reads frames and the clock is `bin/link.rs`.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use crate::chance::Chance;
use crate::link::Link;

/// Bytes that may be under way at once, whatever the link's delay: a bound for memory, not a property of the link.
const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;
const ETHERTYPE: std::ops::Range<usize> = 12..14;
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
/// A frame that leaves later than this after its time is one the emulation got wrong.
const LATE: Duration = Duration::from_millis(1);

/// One direction of a [`Link`], as a queue of frames and their times. Times count from any one moment.
#[derive(Debug)]
pub struct Pipe {
    link: Link,
    chance: Chance,
    /// When the last bit of what has been taken will have been put on the line.
    line_free_at: Duration,
    in_flight: VecDeque<(Duration, Vec<u8>)>,
    in_flight_bytes: usize,
    statistics: PipeStatistics,
}

/// What has become of the frames of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipeStatistics {
    /// Frames that came out.
    pub frames: u64,
    /// Bytes of them, link headers included.
    pub bytes: u64,
    /// Frames that chance took.
    pub lost: u64,
    /// Frames that found the queue full.
    pub overflowed: u64,
    /// Frames that came out more than a millisecond after their time.
    pub late: u64,
    /// By how much the latest one was.
    pub late_max: Duration,
}

impl Pipe {
    /// An empty direction; `salt` tells the two of a link apart.
    #[must_use]
    pub fn new(link: Link, salt: u64) -> Self {
        let chance = Chance::seeded((link.seed ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15)).max(1));
        Self {
            link,
            chance,
            line_free_at: Duration::ZERO,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            statistics: PipeStatistics::default(),
        }
    }

    /// Takes a frame at its entrance, or loses it.
    pub fn offer(&mut self, now: Duration, frame: &[u8]) {
        if self.chance_takes(frame) {
            self.statistics.lost += 1;
            return;
        }
        let start = self.line_free_at.max(now);
        if self.queue_is_full(now, frame.len()) {
            self.statistics.overflowed += 1;
            return;
        }
        self.line_free_at = start + self.time_on_line(frame.len());
        self.in_flight_bytes += frame.len();
        self.in_flight.push_back((self.line_free_at + self.link.delay, frame.to_vec()));
    }

    /// The next frame whose time to come out has come.
    pub fn poll(&mut self, now: Duration) -> Option<Vec<u8>> {
        let (due, frame) = self.in_flight.pop_front_if(|(due, _)| *due <= now)?;
        self.in_flight_bytes -= frame.len();
        let late = now - due;
        self.statistics.frames += 1;
        self.statistics.bytes += frame.len() as u64;
        self.statistics.late += u64::from(late > LATE);
        self.statistics.late_max = self.statistics.late_max.max(late);
        Some(frame)
    }

    /// When [`Self::poll`] will have something.
    #[must_use]
    pub fn next_departure(&self) -> Option<Duration> {
        self.in_flight.front().map(|(due, _)| *due)
    }

    /// What has become of the frames so far.
    #[must_use]
    pub fn statistics(&self) -> PipeStatistics {
        self.statistics
    }

    /// ARP is spared: it is how the laboratory's hosts find each other, and no traffic of the story.
    fn chance_takes(&mut self, frame: &[u8]) -> bool {
        const MILLION: usize = 1_000_000;
        let lossy = self.link.loss_ppm > 0 && frame.get(ETHERTYPE) != Some(&ETHERTYPE_ARP);
        lossy && self.chance.below(MILLION) < self.link.loss_ppm as usize
    }

    fn queue_is_full(&self, now: Duration, length: usize) -> bool {
        let waiting = self
            .link
            .bits_per_second
            .map_or(0, |rate| (self.line_free_at.saturating_sub(now).as_secs_f64() * rate as f64 / 8.0) as usize);
        waiting + length > self.link.queue_bytes || self.in_flight_bytes + length > IN_FLIGHT_BYTES_MAX
    }

    fn time_on_line(&self, length: usize) -> Duration {
        self.link
            .bits_per_second
            .map_or(Duration::ZERO, |rate| Duration::from_nanos(length as u64 * 8 * 1_000_000_000 / rate.max(1)))
    }
}

impl PipeStatistics {
    /// As one JSON object.
    #[must_use]
    pub fn to_json(self) -> Value {
        json!({
            "frames": self.frames, "bytes": self.bytes, "lost": self.lost, "overflowed": self.overflowed,
            "late": self.late, "late_max_us": self.late_max.as_micros() as u64,
        })
    }

    /// From what [`Self::to_json`] wrote; what is missing counts as none.
    #[must_use]
    pub fn from_json(json: &Value) -> Self {
        let count = |name: &str| json[name].as_u64().unwrap_or_default();
        Self {
            frames: count("frames"),
            bytes: count("bytes"),
            lost: count("lost"),
            overflowed: count("overflowed"),
            late: count("late"),
            late_max: Duration::from_micros(count("late_max_us")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 1250] = [0; 1250];

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn frames_come_out_in_order_after_the_delay() {
        let mut pipe = Pipe::new(Link::delay(at(15)), 1);
        pipe.offer(at(0), &[1; 60]);
        pipe.offer(at(5), &[2; 60]);
        assert_eq!(pipe.next_departure(), Some(at(15)));
        assert_eq!(pipe.poll(at(14)), None);
        assert_eq!(pipe.poll(at(15)), Some(vec![1; 60]));
        assert_eq!(pipe.poll(at(19)), None);
        assert_eq!(pipe.poll(at(22)), Some(vec![2; 60]));
        let statistics = pipe.statistics();
        assert_eq!((statistics.frames, statistics.bytes, statistics.late), (2, 120, 1));
        assert_eq!(statistics.late_max, at(2));
    }

    #[test]
    fn a_slow_line_spreads_frames_and_drops_what_the_queue_cannot_hold() {
        // 10 Mbit/s: a millisecond for each frame; three fit.
        let link = Link::delay(at(10)).bits_per_second(10_000_000).queue_bytes(3 * FRAME.len());
        let mut pipe = Pipe::new(link, 1);
        for _ in 0..5 {
            pipe.offer(at(0), &FRAME);
        }
        assert_eq!(pipe.statistics().overflowed, 2);
        for due in [11, 12, 13] {
            assert_eq!(pipe.next_departure(), Some(at(due)));
            assert!(pipe.poll(at(due)).is_some());
        }
        assert_eq!(pipe.next_departure(), None);
    }

    #[test]
    fn chance_takes_its_share_and_the_same_with_the_same_seed() {
        let lost = |seed| {
            let mut pipe = Pipe::new(Link::delay(at(0)).loss_percent(2.0).seed(seed), 1);
            (0..100_000).for_each(|_| {
                pipe.offer(at(0), &FRAME);
                pipe.poll(at(0));
            });
            pipe.statistics().lost
        };
        assert!((1_800..2_200).contains(&lost(7)), "{} of 100 000 at 2 %", lost(7));
        assert_eq!(lost(7), lost(7));
        assert_ne!(lost(7), lost(8));
    }

    #[test]
    fn arp_is_spared() {
        let mut pipe = Pipe::new(Link::delay(at(0)).loss_percent(100.0), 1);
        let mut arp = [0; 42];
        arp[ETHERTYPE].copy_from_slice(&ETHERTYPE_ARP);
        pipe.offer(at(0), &arp);
        pipe.offer(at(0), &FRAME);
        assert_eq!(pipe.poll(at(0)), Some(arp.to_vec()));
        assert_eq!(pipe.poll(at(0)), None);
    }
}
