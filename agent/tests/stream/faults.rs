//! Whatever links do, each byte arrives once and in order; whatever peers send, nothing breaks.

use std::time::Duration;

use agent::Time;
use agent::stream::{Algorithm, Config, End, Segment, State, Stream};
use proptest::prelude::*;
use wire::packet::Flags;
use wire::stream::Sequence;

use crate::link::Conditions;
use crate::world::{Ours, World};

const BYTES: u64 = 100_000;

prop_compose! {
    fn conditions()(
        bits_per_second in 1_000_000u64..1_000_000_000,
        delay_ms in 0u64..100,
        queue_bytes in 4_000u64..400_000,
        lost_per_mille in 0u64..120,
        duplicated_per_mille in 0u64..100,
        reordered_per_mille in 0u64..300,
        reordering_ms in 0u64..150,
    ) -> Conditions {
        Conditions {
            bits_per_second,
            delay: Duration::from_millis(delay_ms),
            queue_bytes,
            lost_per_mille,
            duplicated_per_mille,
            reordered_per_mille,
            reordering: Duration::from_millis(reordering_ms),
        }
    }
}

prop_compose! {
    fn config()(
        segment_bytes_max in 100u16..=4096,
        receive_slots in 1u16..1100,
        send_buffer_bytes in 2_000usize..1_000_000,
        nagle: bool,
        cubic: bool,
    ) -> Config {
        let algorithm = if cubic { Algorithm::Cubic } else { Algorithm::Bbr };
        Config { segment_bytes_max, receive_slots, send_buffer_bytes, nagle, algorithm }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn each_byte_arrives_once_and_in_order(
        conditions in conditions(), a in config(), b in config(), seed: u64, slow: bool,
    ) {
        let mut responder = Ours::new(b, 0);
        if slow {
            responder.read_bytes_per_second = 300_000;
        }
        let mut world = World::new(conditions, seed, vec![(Ours::new(a, BYTES), responder)]);
        world.pairs[0].0.connect(Time(0));
        let done = world.run(Time(3_600_000_000_000), |world| world.pairs[0].1.finished_at.is_some());
        let (initiator, responder) = &world.pairs[0];
        prop_assert!(done, "{} of {BYTES} at {:?}: {:?}", responder.read, world.now, initiator.stream().metrics());
        prop_assert_eq!((responder.read, responder.stream().end()), (BYTES, Some(End::Finished)));
    }

    #[test]
    fn both_ways_at_once(conditions in conditions(), a in config(), b in config(), seed: u64) {
        let mut ends = (Ours::new(a, BYTES), Ours::new(b, BYTES));
        (ends.0.closes, ends.1.closes) = (false, false);
        let mut world = World::new(conditions, seed, vec![ends]);
        world.pairs[0].0.connect(Time(0));
        let done = world.run(Time(3_600_000_000_000), |world| {
            let (a, b) = &world.pairs[0];
            a.read == BYTES && b.read == BYTES
        });
        let (a, b) = &world.pairs[0];
        prop_assert!(done, "{} and {} of {BYTES} at {:?}", a.read, b.read, world.now);
    }
}

/// One thing that happens to a stream.
#[derive(Clone, Debug)]
enum Happening {
    Arrives { flags: u8, sequence: u32, acknowledgement: u32, window_segments: u16, payload: Vec<u8> },
    Wait(Duration),
    Write(usize),
    Read(usize),
    Close,
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0u32..5_000, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let sack = prop::collection::vec((number(), number()), 1..5).prop_map(|blocks| {
        let mut payload = b"SACK".to_vec();
        payload.push(blocks.len() as u8);
        blocks.iter().for_each(|(left, right)| payload.extend([left.to_be_bytes(), right.to_be_bytes()].concat()));
        payload
    });
    prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 0..5_000), sack]
}

fn happening() -> impl Strategy<Value = Happening> {
    let arrives = (0u8..16, number(), number(), any::<u16>(), payload()).prop_map(
        |(flags, sequence, acknowledgement, window_segments, payload)| Happening::Arrives {
            // Most streams would not survive an even chance of RST.
            flags: if sequence % 16 == 0 { flags } else { flags & 0x7 },
            sequence,
            acknowledgement,
            window_segments,
            payload,
        },
    );
    prop_oneof![
        6 => arrives,
        4 => (0u64..3_000_000_000).prop_map(|nanoseconds| Happening::Wait(Duration::from_nanos(nanoseconds))),
        1 => (0usize..20_000).prop_map(Happening::Write),
        1 => (0usize..20_000).prop_map(Happening::Read),
        1 => prop::bool::weighted(0.1).prop_map(|close| if close { Happening::Close } else { Happening::Read(1) }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_segment_breaks_a_stream(
        initiates: bool, config in config(), happenings in prop::collection::vec(happening(), 1..80),
    ) {
        let mut now = Time(0);
        let syn = Segment {
            flags: Flags::SYN,
            sequence: Sequence(0),
            acknowledgement: Sequence(0),
            window_segments: 100,
            payload: &[],
        };
        let mut stream =
            if initiates { Stream::connect(now, config) } else { Stream::accept(now, config, &syn) };
        for happening in happenings {
            match happening {
                Happening::Arrives { flags, sequence, acknowledgement, window_segments, payload } => {
                    let segment = Segment {
                        flags: Flags::from_bits(flags),
                        sequence: Sequence(sequence),
                        acknowledgement: Sequence(acknowledgement),
                        window_segments,
                        payload: &payload,
                    };
                    stream.handle_segment(now, &segment);
                }
                Happening::Wait(duration) => {
                    now = now + duration;
                    stream.handle_timeout(now);
                }
                Happening::Write(bytes) => _ = stream.write(now, &vec![7; bytes]),
                Happening::Read(bytes) => _ = stream.read(&mut vec![0; bytes]),
                Happening::Close => stream.close(now),
            }
            let mut sent = 0;
            while let Some(segment) = stream.poll_transmit(now) {
                prop_assert!(segment.payload.len() <= usize::from(config.segment_bytes_max).max(37));
                sent += 1;
                prop_assert!(sent < 10_000, "a storm");
            }
            prop_assert!(stream.readable_bytes() <= 2 * usize::from(config.receive_slots) * 4096);
            prop_assert_eq!(stream.state() == State::Closed, stream.poll_timeout().is_none());
        }
    }
}
