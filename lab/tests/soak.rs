//! A minute at full rate, in the long run only: nobody grows.

use std::time::Duration;

use lab::{Appliance, Daemon, DaemonFlags, Program, Stopwatch, World, evidence, full_run};

const SOAK: Duration = Duration::from_secs(60);
/// By then every buffer has its size.
const WARM: Duration = Duration::from_secs(15);
const BENCH_MEGABYTES: u32 = 50;
const MEGABYTE: u64 = 1024 * 1024;
/// What may be added between warm and done.
const GROWTH_BYTES_MAX: u64 = 16 * MEGABYTE;
const DESCRIPTORS_MAX: usize = 8;
const REACHED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_minute_at_full_rate_direct() {
    soak("direct", |flags| flags);
}

#[test]
fn a_minute_at_full_rate_relayed() {
    soak("relayed", DaemonFlags::relay_only);
}

fn soak(path: &str, flags: fn(DaemonFlags) -> DaemonFlags) {
    if !full_run() {
        return evidence("only in the long run");
    }
    for program in Program::available() {
        let Some(world) = World::open() else { return };
        let appliance = world.appliance();
        let start = |name: &str| {
            let flags = flags(DaemonFlags::named(name).program(program).public().fixed_port());
            Daemon::start_ready(&world.host(name), flags)
        };
        let (near, far) = (start("near"), start("far"));
        near.time_to_reach("far", REACHED_WITHIN);

        let watch = Stopwatch::start();
        let mut megabytes = 0;
        let mut samples = vec![Sample::of(watch.elapsed(), &near, &far, &appliance)];
        while watch.elapsed() < SOAK {
            let answer = near.bench("far", BENCH_MEGABYTES).unwrap_or_else(|error| panic!("{program}: bench: {error}"));
            assert_eq!(answer["complete"], true, "{program}: {answer}");
            megabytes += BENCH_MEGABYTES;
            samples.push(Sample::of(watch.elapsed(), &near, &far, &appliance));
        }
        let speed = f64::from(megabytes) / watch.elapsed().as_secs_f64();
        evidence(format!("{program}, {path}: {megabytes} MB there and back at {speed:.1} MB/s"));
        samples.iter().step_by(samples.len().div_ceil(6)).chain(samples.last()).for_each(|sample| sample.tell(program));

        let warm = samples.iter().find(|sample| sample.at >= WARM).expect("a minute is longer");
        let done = samples.last().expect("there are samples");
        if program == Program::Ours {
            for (warm, done) in warm.resident.iter().zip(done.resident).take(2) {
                assert!(done < warm + GROWTH_BYTES_MAX, "{program}, {path}: from {warm} to {done} bytes");
            }
            for (warm, done) in warm.descriptors.iter().zip(done.descriptors) {
                assert!(done <= warm + DESCRIPTORS_MAX, "{program}, {path}: from {warm} to {done} descriptors");
            }
        }
        assert!(done.resident[2] < warm.resident[2] + GROWTH_BYTES_MAX, "{path}: the relay grew");
    }
}

struct Sample {
    at: Duration,
    /// Of the two daemons and the relay.
    resident: [u64; 3],
    descriptors: [usize; 2],
}

impl Sample {
    fn of(at: Duration, near: &Daemon, far: &Daemon, appliance: &Appliance) -> Self {
        Self {
            at,
            resident: [near.resident_bytes(), far.resident_bytes(), appliance.resident_bytes()],
            descriptors: [near.descriptors(), far.descriptors()],
        }
    }

    fn tell(&self, program: Program) {
        let [near, far, relay] = self.resident.map(|bytes| bytes / MEGABYTE);
        let at = self.at;
        evidence(format!(
            "{program}: after {at:.0?}: {near} and {far} MiB, {:?} descriptors; the relay {relay} MiB",
            self.descriptors
        ));
    }
}
