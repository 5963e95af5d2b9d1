//! A peer as old as v1.2.2: few slots and no mercy for who overruns them, late acknowledgements, keepalives with window
//! zero, and a FIN|ACK for every FIN and every FIN|ACK.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use agent::Time;
use agent::stream::{Config, End as Reason, State};
use wire::packet::Flags;

use crate::link::Conditions;
use crate::world::{Datagram, End, Ours, World, pattern};

const SLOTS: usize = 16;
const ACK_DELAY: Duration = Duration::from_millis(40);
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(70);
/// The application takes one segment in this time.
const READ_INTERVAL: Duration = Duration::from_micros(100);

#[derive(Default)]
struct Old {
    next: u32,
    queue: VecDeque<usize>,
    held: BTreeMap<u32, usize>,
    to_send: VecDeque<Datagram>,
    unacknowledged: u32,
    ack_due: Option<Time>,
    read_due: Option<Time>,
    keepalive_due: Option<Time>,
    read_bytes: u64,
    fins: u64,
    closes_after: Option<u64>,
}

impl Old {
    fn say(&mut self, flags: Flags, sequence: u32, window_segments: usize, payload: Vec<u8>) {
        let (window_segments, acknowledgement) = (window_segments as u16, self.next);
        self.to_send.push_back(Datagram { flags: flags.bits(), sequence, acknowledgement, window_segments, payload });
    }

    fn acknowledge(&mut self) {
        (self.unacknowledged, self.ack_due) = (0, None);
        let mut payload = Vec::new();
        if let Some((start, bytes)) = self.held.first_key_value() {
            payload.extend(b"SACK\x01");
            payload.extend([start.to_be_bytes(), (start + *bytes as u32).to_be_bytes()].concat());
        }
        self.say(Flags::ACK, 1, SLOTS - self.queue.len(), payload);
    }

    fn take(&mut self, now: Time, bytes: usize) {
        self.next += bytes as u32;
        self.queue.push_back(bytes);
        assert!(self.queue.len() <= SLOTS, "the queue overflows: the whole peer would stand still");
        self.read_due.get_or_insert(now + READ_INTERVAL);
    }
}

impl End for Old {
    fn handle(&mut self, now: Time, datagram: &Datagram) {
        if datagram.is(Flags::SYN) {
            self.next = 1;
            self.keepalive_due = Some(now + KEEPALIVE_INTERVAL);
            return self.say(Flags::SYN | Flags::ACK, 0, SLOTS, Vec::new());
        }
        if datagram.flags & Flags::FIN.bits() != 0 {
            self.fins += 1;
            self.next = datagram.sequence + 1;
            self.keepalive_due = None;
            return self.say(Flags::FIN | Flags::ACK, 1, 0, Vec::new());
        }
        let bytes = datagram.payload.len();
        if bytes == 0 || datagram.sequence < self.next {
            return;
        }
        let offset = u64::from(datagram.sequence) - 1;
        assert!(datagram.payload == pattern(offset, bytes), "wrong bytes from {offset} on");
        if datagram.sequence > self.next {
            self.held.insert(datagram.sequence, bytes);
            return self.acknowledge();
        }
        self.take(now, bytes);
        while let Some(bytes) = self.held.remove(&self.next) {
            self.take(now, bytes);
        }
        self.unacknowledged += 1;
        if self.unacknowledged == 2 {
            self.acknowledge();
        } else {
            self.ack_due = Some(now + ACK_DELAY);
        }
    }

    fn handle_timeout(&mut self, now: Time) {
        if self.ack_due.take_if(|due| *due <= now).is_some() {
            self.acknowledge();
        }
        if self.read_due.take_if(|due| *due <= now).is_some() {
            self.read_bytes += self.queue.pop_front().unwrap_or(0) as u64;
            self.read_due = (!self.queue.is_empty()).then(|| now + READ_INTERVAL);
            if self.closes_after.take_if(|after| *after <= self.read_bytes).is_some() {
                self.say(Flags::FIN, 1, 0, Vec::new());
            }
        }
        if self.keepalive_due.take_if(|due| *due <= now).is_some() {
            self.keepalive_due = Some(now + KEEPALIVE_INTERVAL);
            self.say(Flags::ACK, 1, 0, Vec::new());
        }
    }

    fn poll_transmit(&mut self, _: Time) -> Option<Datagram> {
        self.to_send.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        [self.ack_due, self.read_due, self.keepalive_due].into_iter().flatten().min()
    }
}

fn world(lost_per_mille: u64, bytes: u64, old: Old) -> World<Ours, Old> {
    let conditions = Conditions { lost_per_mille, ..Conditions::clean(1_000_000_000, Duration::from_millis(15)) };
    let mut world = World::new(conditions, 1, vec![(Ours::new(Config::default(), bytes), old)]);
    world.pairs[0].0.connect(Time(0));
    world
}

#[test]
fn its_slots_are_respected_and_its_zeros_understood() {
    for lost_per_mille in [0, 20] {
        let mut world = world(lost_per_mille, 500_000, Old::default());
        let done = world.run(Time(60_000_000_000), |world| world.pairs[0].0.finished_at.is_some());
        let (ours, old) = &world.pairs[0];
        println!(
            "old peer with {SLOTS} slots, {lost_per_mille} ‰ lost: 0.5 MB in {:.3} s, {} sent again, {} timeouts",
            world.now.since(Time(0)).as_secs_f64(),
            ours.stream().metrics().retransmissions,
            ours.stream().metrics().timeouts,
        );
        assert!(done);
        assert_eq!((old.read_bytes, ours.stream().end()), (500_000, Some(Reason::Finished)));
    }
}

#[test]
fn its_fin_storm_is_not_fed() {
    let mut world = world(0, 20_000, Old::default());
    assert!(world.run(Time(10_000_000_000), |world| world.pairs[0].0.finished_at.is_some()));
    world.run(Time(30_000_000_000), |_| false);
    assert_eq!((world.pairs[0].1.fins, world.pairs[0].0.stream().state()), (1, State::Closed));
}

#[test]
fn its_own_fin_is_answered_once() {
    let mut world = world(0, 20_000, Old { closes_after: Some(10_000), ..Old::default() });
    world.pairs[0].0.closes = false;
    assert!(world.run(Time(10_000_000_000), |world| world.pairs[0].0.finished_at.is_some()));
    let before = world.other_segments;
    world.run(Time(30_000_000_000), |_| false);
    assert!(world.other_segments <= before + 1, "one FIN|ACK at most");
    assert_eq!((world.pairs[0].1.fins, world.pairs[0].0.stream().end()), (1, Some(Reason::Finished)));
}
