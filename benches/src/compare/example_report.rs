//! For tests: a report that could have been measured.

use crate::load::{Arrivals, Load, Pattern, Place};
use crate::report::{Description, Paced, PacedSlice, Report, Saturated, Slice};

pub(crate) const RANDOM: Load = Load {
    place: Place::Loopback,
    payload_bytes: 256,
    sessions: 1000,
    pattern: Pattern::Random,
    arrivals: Arrivals::Bursts,
    sink_merges: false,
};
pub(crate) const RUNS: Load = Load { pattern: Pattern::Runs(16), ..RANDOM };
pub(crate) const ACTIVE: Load = Load { pattern: Pattern::Active(16), sink_merges: true, ..RANDOM };
pub(crate) const MANY: Load = Load { sessions: 100_000, ..RANDOM };
pub(crate) const MILLION: Load = Load { sessions: 1_000_000, ..RANDOM };
pub(crate) const VETH: Load = Load { place: Place::Veth, payload_bytes: 1200, ..RANDOM };

const OTHERS: [Load; 4] = [RUNS, ACTIVE, MANY, VETH];
/// ns per packet: random, then as in `OTHERS`.
const CONTENDERS: [(&str, &str, [u64; 5]); 7] = [
    ("floor", "recvmmsg and sendmmsg to one address, no work", [3490, 2897, 2950, 3600, 3868]),
    ("naive", "recvfrom and sendto, one datagram a time", [4748, 3590, 4100, 5100, 5594]),
    ("mmsg", "recvmmsg and sendmmsg, 64 a time", [3489, 2862, 3020, 3680, 3890]),
    ("mmsg-gro", "the same with GRO and trains by destination", [3010, 905, 420, 3320, 3700]),
    ("pilot-relay", "1 shard", [2720, 719, 262, 2950, 3120]),
    ("pilot-relay-2", "2 shards; the generator needs one of the cores", [2790, 748, 280, 3060, 3190]),
    ("coturn", "turnserver of Debian, ChannelData, 1 thread", [7780, 6900, 7020, 8100, 8400]),
];
/// Microseconds.
const LATENCIES: [(&str, [u64; 3]); 6] = [
    ("direct", [21, 38, 95]),
    ("naive", [33, 61, 180]),
    ("mmsg", [34, 64, 190]),
    ("pilot-relay", [33, 58, 170]),
    ("coturn", [58, 260, 1_100]),
    ("go-beacon", [1_100, 2_300, 4_800]),
];

pub(crate) fn report() -> Report {
    let contenders =
        CONTENDERS.map(|(name, what, _)| Description { name: name.to_owned(), what: what.to_owned(), is_given: false });
    let mut saturated = Vec::new();
    for (nth, load) in [RANDOM].into_iter().chain(OTHERS).enumerate() {
        saturated.extend(CONTENDERS.map(|(name, _, ns)| measured(name, load, ns[nth])));
    }
    let scaled = [(RANDOM, 2720), (MANY, 2950), (MILLION, 3190)].map(|(load, ns)| measured("pilot-relay", load, ns));
    let paced = LATENCIES.map(|(name, [p50, p99, p999])| Paced {
        contender: name.to_owned(),
        load: RANDOM,
        rate_pps: 80_000,
        burst: 8,
        rounds: DRIFT
            .map(|percent| PacedSlice {
                slice: Slice { seconds: 1.0, sent: 80_000, delivered: 80_000, cpu_ns: 400_000_000 },
                p50_ns: p50 * 10 * percent,
                p99_ns: p99 * 10 * percent,
                p999_ns: p999 * 10 * percent,
            })
            .to_vec(),
    });
    Report {
        host: vec![("kernel".to_owned(), "6.18".to_owned()), ("CPU".to_owned(), "2 of some kind".to_owned())],
        contenders: contenders.to_vec(),
        saturated,
        scaled: scaled.to_vec(),
        resident: Vec::new(),
        paced: paced.to_vec(),
        remarks: vec!["go-beacon was not given.".to_owned()],
    }
}

/// How fast the host is in each round, for all alike.
const DRIFT: [u64; 7] = [100, 95, 98, 110, 104, 97, 101];

fn measured(contender: &str, load: Load, ns_per_packet: u64) -> Saturated {
    const PACKETS: u64 = 100_000;
    let rounds = DRIFT.map(|percent| {
        let cpu_ns = PACKETS * ns_per_packet * percent / 100;
        Slice { seconds: cpu_ns as f64 / 0.98e9, sent: PACKETS, delivered: PACKETS, cpu_ns }
    });
    Saturated { contender: contender.to_owned(), load, rounds: rounds.to_vec() }
}
