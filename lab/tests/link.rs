//! The played line is what it says: as long, as lossy, and faster than the programs it lies between.

use std::fmt;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use lab::{Host, Link, Stopwatch, World, evidence};
use nix::sys::socket::{setsockopt, sockopt};

const ONE_WAY: Duration = Duration::from_millis(15);
const DATAGRAM: [u8; 1250] = [7; 1250];
const RECEIVE_BUFFER_BYTES: usize = 32 << 20;
const QUIET: Duration = Duration::from_millis(300);
/// What the laboratory needs, and measurements before a busy machine may say that it cannot be had.
const BYTES_PER_SECOND_MIN: f64 = 50e6;
const TRIES: usize = 5;

#[test]
fn a_ping_takes_twice_the_delay() {
    let Some(world) = World::open() else { return };
    let near = world.host_over(Link::delay(ONE_WAY), "near");
    let far = world.host("far");
    let ping = |count: &str| {
        let target = far.v4().to_string();
        let output = near.namespace().command("ping").args(["-n", "-i", "0.02", "-c", count, &target]).output();
        let text = String::from_utf8(output.expect("ping runs").stdout).expect("ping prints text");
        let times = text.lines().filter_map(|line| line.split("time=").nth(1)?.split(' ').next()?.parse::<f64>().ok());
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        times
    };
    assert_eq!(ping("1").len(), 1, "the two have found each other");
    let times = ping("100");
    assert_eq!(times.len(), 100, "nothing is lost");
    let (least, median, most) = (times[0], times[50], times[99]);
    evidence(format!("round trip of 30 ms: least {least:.2}, median {median:.2}, most {most:.2} ms"));
    assert!((30.0..32.0).contains(&least) && median < 36.0, "{least} … {median}");
}

#[test]
fn it_loses_its_share() {
    let Some(world) = World::open() else { return };
    let near = world.host_over(Link::delay(Duration::from_millis(1)).loss_percent(2.0), "near");
    let far = world.host("far");
    let (sent, arrived) = send_paced(&near, &far, 20_000, 20e6);
    let lost = 100.0 * (sent - arrived) as f64 / sent as f64;
    evidence(format!("{arrived} of {sent} datagrams arrived: {lost:.2} % lost"));
    assert!((1.5..2.5).contains(&lost), "{lost} %; {:?}", near.link_statistics());
    assert!(near.link_statistics().outward.lost >= sent - arrived, "the link's own books tell of it");
}

/// What it can carry is judged by its CPU time, because the machine is shared with whoever else is at work.
#[test]
fn it_carries_more_than_the_programs_do() {
    let Some(world) = World::open() else { return };
    let near = world.host_over(Link::delay(ONE_WAY), "near");
    let far = world.host("far");
    let served = (0..TRIES).any(|_| {
        let measured = Carried::at(60e6, &near, &far);
        evidence(format!("asked for 60 MB/s: {measured}"));
        measured.bytes_per_cpu_second > BYTES_PER_SECOND_MIN && measured.lost < 0.001
    });
    assert!(served, "never more than 50 MB in a second of CPU and less than a thousandth lost");
    evidence(format!("asked for 1 Gbit/s: {}", Carried::at(125e6, &near, &far)));
}

struct Carried {
    bytes_per_second: f64,
    bytes_per_cpu_second: f64,
    /// Shares of the datagrams: that did not come, and that came a millisecond late or more.
    lost: f64,
    late: f64,
}

impl Carried {
    fn at(bytes_per_second: f64, near: &Host, far: &Host) -> Self {
        let (before, cpu_before) = (near.link_statistics().outward, near.link_cpu_time());
        let watch = Stopwatch::start();
        let (sent, arrived) = send_paced(near, far, 100_000, bytes_per_second);
        let seconds = (watch.elapsed() - QUIET - ONE_WAY).as_secs_f64();
        let bytes = (arrived * DATAGRAM.len() as u64) as f64;
        Self {
            bytes_per_second: bytes / seconds,
            bytes_per_cpu_second: bytes / (near.link_cpu_time() - cpu_before).as_secs_f64(),
            lost: (sent - arrived) as f64 / sent as f64,
            late: (near.link_statistics().outward.late - before.late) as f64 / sent as f64,
        }
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (carried, able) = (self.bytes_per_second / 1e6, self.bytes_per_cpu_second / 1e6);
        let (lost, late) = (100.0 * self.lost, 100.0 * self.late);
        write!(out, "{carried:.0} MB/s, {able:.0} MB in a second of CPU; {lost:.3} % lost, {late:.2} % late")
    }
}

#[test]
fn a_slow_line_is_as_slow_as_it_says() {
    let Some(world) = World::open() else { return };
    let near = world.host_over(Link::delay(Duration::ZERO).bits_per_second(80_000_000), "near");
    let far = world.host("far");
    let watch = Stopwatch::start();
    let (_, arrived) = send_paced(&near, &far, 3_000, 1e9);
    let rate = arrived as f64 * DATAGRAM.len() as f64 / (watch.elapsed() - QUIET).as_secs_f64();
    evidence(format!("80 Mbit/s carried {:.2} MB/s", rate / 1e6));
    assert!((4e6..10.2e6).contains(&rate), "{rate}");
}

/// Sends so many datagrams at this many bytes a second; how many were sent, and how many came before it was quiet.
fn send_paced(from: &Host, to: &Host, count: u64, bytes_per_second: f64) -> (u64, u64) {
    let bind = |host: &Host| host.namespace().enter(|| UdpSocket::bind((host.v4(), 0))).expect("a port is free");
    let (sender, receiver) = (bind(from), bind(to));
    let target = receiver.local_addr().expect("it is bound");
    setsockopt(&receiver, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).expect("the laboratory runs as root");
    receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("there are timeouts");
    // The first datagram waits for ARP, and those behind it in a queue of a few.
    sender.send_to(&[0], target).expect("there is a route");
    while receiver.recv(&mut [0; 64]).is_err() {
        sender.send_to(&[0], target).expect("there is a route");
    }
    receiver.set_read_timeout(Some(QUIET)).expect("there are timeouts");
    thread::scope(|scope| {
        let arriving = scope.spawn(|| {
            let mut buffer = [0; 2048];
            std::iter::from_fn(|| receiver.recv(&mut buffer).ok()).count() as u64
        });
        let watch = Stopwatch::start();
        for number in 0..count {
            let due = Duration::from_secs_f64(number as f64 * DATAGRAM.len() as f64 / bytes_per_second);
            while let Some(left) = due.checked_sub(watch.elapsed()).filter(|left| !left.is_zero()) {
                // Short waits are spent, or the pace would be the scheduler's.
                if left > Duration::from_millis(1) { thread::park_timeout(left) } else { thread::yield_now() }
            }
            sender.send_to(&DATAGRAM, target).expect("there is a route");
        }
        (count, arriving.join().expect("the receiver counts"))
    })
}
