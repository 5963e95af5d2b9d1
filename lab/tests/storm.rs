//! A storm of registrations, as after an outage of a whole region: a fleet introduces itself within seconds, each node
//! from an address of its own. Everyone is answered at the first try, and those whose packets the relay carries all the
//! while lose none.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use lab::{Appliance, ApplianceFlags, BEACON_PORT, DirectoryClient, Host, Peer, Stopwatch, World, evidence, full_run};

/// A hundred thousand in five seconds. The bounded run registers fewer, and they come at the same rate.
const STORM: usize = 100_000;
const STORM_PPS: u32 = 20_000;
/// Two thousand packets a second, thinly spread: a receiver that is not scheduled for a second loses none. One address
/// may register ten new nodes a minute.
const PAIRS: usize = 10;
const STEADY_PPS_OF_A_PAIR: u32 = 200;
/// The stream runs this long before the storm and after it.
const CALM: Duration = Duration::from_millis(500);
/// Nodes of the storm that await their answers at once: a fifth of a second of the storm.
const AWAITING_MAX: usize = 4096;
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
const DELIVERED_WITHIN: Duration = Duration::from_secs(2);
/// Descriptors besides those of the storm.
const OTHER_DESCRIPTORS: u64 = 512;
/// How much slower than planned it may be sent and still be the storm it claims to be, in percent of the planned time.
const TIME_PERCENT_MAX: u32 = 120;
/// Storms that are raised until one was fast enough, on a host that is busy with other things. None may do harm.
const STORMS_MAX: usize = 3;
/// Two storms at once would be another storm.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// Connections over which nodes are registered beforehand.
const REGISTRARS: u32 = 64;
/// Ids nobody has registered, where nobody has to.
const FIRST_MADE_UP: u32 = 1_000_000;
const DISCOVER: u8 = 0x01;
const DISCOVER_REPLY: u8 = 0x02;
/// The port of every node of the storm; their addresses differ.
const NODE_PORT: u16 = 4000;

#[test]
fn a_storm_of_new_sessions_costs_the_others_no_packet() {
    raise_storms(|| {
        let world = World::open()?;
        let appliance = world.appliance_with(ApplianceFlags::default().flag("--admission", "open"));
        let nodes: Vec<u32> = (FIRST_MADE_UP..).take(STORM).collect();
        Some(assert_unharmed(&world, &appliance, &nodes))
    });
}

/// The same with every node known to the directory, as the rules want it.
#[test]
fn a_storm_of_registered_nodes_costs_the_others_no_packet() {
    raise_storms(|| {
        let world = World::open()?;
        let appliance = world.appliance();
        let watch = Stopwatch::start();
        let nodes = register(&world.relay_host(), if full_run() { STORM as u32 } else { 10_000 });
        evidence(format!("{} nodes registered in {:.1?}", nodes.len(), watch.elapsed()));
        Some(assert_unharmed(&world, &appliance, &nodes))
    });
}

/// How fast a storm came.
struct Pace {
    sent_within: Duration,
    planned: Duration,
}

impl Pace {
    fn is_a_storm(&self) -> bool {
        self.sent_within * 100 <= self.planned * TIME_PERCENT_MAX
    }
}

/// Raises storms, each in a world of its own, until one was as fast as it claims to be. Where none was, a full run has
/// failed, and a bounded one says that it has shown less.
fn raise_storms(storm: impl Fn() -> Option<Pace>) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    allow_open_files(AWAITING_MAX as u64 + OTHER_DESCRIPTORS);
    let mut slow = Vec::new();
    while slow.len() < STORMS_MAX {
        let Some(pace) = storm() else { return };
        if pace.is_a_storm() {
            return;
        }
        slow.push(format!("{:.1?} instead of {:.1?}", pace.sent_within, pace.planned));
    }
    let finding = format!("this host was too busy to send a storm as fast as planned: {}", slow.join(", "));
    assert!(!full_run(), "{finding}");
    evidence(format!("NOT SHOWN AT FULL RATE: {finding}; nothing was lost at the rates it could send"));
}

/// Raises this process' limit of open files to `count`; a shell of Debian's has 1024.
fn allow_open_files(count: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a process knows its limits");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(count), hard.max(count)).expect("the laboratory runs as root");
}

fn assert_unharmed(world: &World, appliance: &Appliance, nodes: &[u32]) -> Pace {
    let (senders, receivers) = (world.host("senders"), world.host("receivers"));
    let join =
        |pair| (Peer::join(&senders, &format!("sender {pair}")), Peer::join(&receivers, &format!("receiver {pair}")));
    let pairs: Vec<(Peer, Peer)> = (0..PAIRS).map(join).collect();
    let is_over = AtomicBool::new(false);
    let (storm, streams) = thread::scope(|scope| {
        let streams: Vec<_> = pairs.iter().map(|pair| scope.spawn(|| stream(pair, &is_over))).collect();
        pause(CALM);
        let storm = world.relay_host().namespace().enter(|| storm(nodes));
        pause(CALM);
        is_over.store(true, Ordering::Relaxed);
        let streams: Vec<_> =
            streams.into_iter().map(|stream| stream.join().expect("a stream does not panic")).collect();
        (storm, streams)
    });
    let Storm { answered, sent_within } = storm;

    let (sent, arrived) = streams.iter().fold((0, 0), |sum, one| (sum.0 + one.sent, sum.1 + one.arrived));
    let metrics = appliance.metrics();
    let dropped = metrics.non_zero("pilot_relay_datagrams_dropped_total");
    let sessions = metrics.sum("pilot_relay_sessions");
    let unread = metrics.sum("pilot_relay_kernel_drops_total");
    let unsent = metrics.sum("pilot_relay_sends_failed_total");
    evidence(format!(
        "{} nodes came within {sent_within:.2?}, {answered} were answered, {sessions} sessions; {arrived} of {sent} packets \
         of {PAIRS} pairs arrived meanwhile; the relay dropped {dropped:?}, failed to send {unsent}, and left {unread} \
         unread",
        nodes.len()
    ));
    assert_eq!(answered, nodes.len(), "nodes without an answer");
    assert_eq!(sessions, (nodes.len() + 2 * PAIRS) as u64, "every node has a session");
    assert_eq!(arrived, sent, "packets of others were lost");
    assert_eq!(unread, 0, "the kernel dropped what the relay did not read in time");
    let books = appliance.settled_accounting();
    assert!(books.balances(), "{books}");
    let planned = Duration::from_secs(1) * u32::try_from(nodes.len()).expect("a fleet") / STORM_PPS;
    Pace { sent_within, planned }
}

/// What became of one pair's packets.
struct Stream {
    sent: u32,
    arrived: u32,
}

/// Sends at a steady rate until `is_over`, and receives on another thread what arrives.
fn stream((sender, receiver): &(Peer, Peer), is_over: &AtomicBool) -> Stream {
    thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut seen = Vec::new();
            // The last packet is followed by silence.
            loop {
                let was_over = is_over.load(Ordering::Relaxed);
                while let Some(delivery) = receiver.receive(DELIVERED_WITHIN) {
                    let number = u32::from_be_bytes(delivery.inner.try_into().expect("a packet is its number"));
                    assert_eq!(delivery.sender, sender.node());
                    seen.push(number);
                }
                if was_over {
                    break;
                }
            }
            seen.sort_unstable();
            seen.dedup();
            seen.len()
        });
        let watch = Stopwatch::start();
        let mut sent = 0;
        while !is_over.load(Ordering::Relaxed) {
            wait_until_due(&watch, sent, STEADY_PPS_OF_A_PAIR);
            sender.relay(receiver.node(), &sent.to_be_bytes());
            sent += 1;
        }
        let arrived = receiving.join().expect("receiving does not panic");
        Stream { sent, arrived: u32::try_from(arrived).expect("no more than were sent") }
    })
}

/// What came of a storm.
struct Storm {
    /// Nodes answered with the address they asked from.
    answered: usize,
    /// The time in which all of them asked.
    sent_within: Duration,
}

/// Each node says discover once, from a loopback address of its own.
fn storm(nodes: &[u32]) -> Storm {
    let beacon = SocketAddr::from((Ipv4Addr::LOCALHOST, BEACON_PORT));
    let watch = Stopwatch::start();
    let mut awaiting = VecDeque::with_capacity(AWAITING_MAX);
    let mut answered = 0;
    for (number, node) in (0..).zip(nodes) {
        if awaiting.len() == AWAITING_MAX {
            answered += awaiting.pop_front().map_or(0, |socket| usize::from(is_answered(&socket)));
        }
        wait_until_due(&watch, number, STORM_PPS);
        let socket = UdpSocket::bind((address(number), NODE_PORT)).expect("all of 127.0.0.0/8 is this host");
        let mut request = [DISCOVER; 5];
        request[1..].copy_from_slice(&node.to_be_bytes());
        socket.send_to(&request, beacon).expect("loopback takes every datagram");
        awaiting.push_back(socket);
    }
    let sent_within = watch.elapsed();
    answered += awaiting.iter().filter(|socket| is_answered(socket)).count();
    Storm { answered, sent_within }
}

/// The answer names the address asked from (SPEC section 4.1).
fn is_answered(socket: &UdpSocket) -> bool {
    let Ok(SocketAddr::V4(own)) = socket.local_addr() else { return false };
    let mut expected = vec![DISCOVER_REPLY, 4];
    expected.extend(own.ip().octets());
    expected.extend(own.port().to_be_bytes());
    let mut answer = [0; 64];
    let _ = socket.set_read_timeout(Some(ANSWERED_WITHIN));
    socket.recv(&mut answer).is_ok_and(|len| answer[..len] == expected)
}

/// 127.1.0.0 and up.
fn address(number: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + number).into()
}

/// Registers so many nodes, over loopback, where the directory's limits for one address do not apply.
fn register(relay_host: &Host, count: u32) -> Vec<u32> {
    let registrar = |first: u32| {
        let numbers = (first..count).step_by(REGISTRARS as usize);
        let nodes = numbers.map(|number| {
            let endpoint = SocketAddr::new(address(number), NODE_PORT);
            let name = format!("storm {number}");
            let registered = DirectoryClient::connect_over_loopback(relay_host, &name)
                .and_then(|mut directory| directory.register(endpoint, &format!("{number}@storm.test")));
            registered.unwrap_or_else(|error| panic!("{name} cannot register: {error}"))
        });
        nodes.collect::<Vec<u32>>()
    };
    thread::scope(|scope| {
        let registrars: Vec<_> = (0..REGISTRARS).map(|first| scope.spawn(move || registrar(first))).collect();
        registrars.into_iter().flat_map(|registrar| registrar.join().expect("registering does not panic")).collect()
    })
}

/// Waits until the `number`th of `rate` a second is due.
fn wait_until_due(watch: &Stopwatch, number: u32, rate: u32) {
    let due = Duration::from_secs(1) * number / rate;
    while let Some(left) = due.checked_sub(watch.elapsed()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

fn pause(length: Duration) {
    let watch = Stopwatch::start();
    while let Some(left) = length.checked_sub(watch.elapsed()) {
        thread::park_timeout(left);
    }
}
