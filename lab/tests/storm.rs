//! A storm of registrations, as after an outage of a whole region: a fleet introduces itself within seconds, each node
//! from an address of its own. Everyone is answered at the first try, and those whose packets the relay carries all the
//! while lose none.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

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
/// How much longer than planned a storm may take, on a host that is busy with other things, and still be one.
const SLACK: u32 = 6;
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
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(world) = World::open() else { return };
    let appliance = world.appliance_with(ApplianceFlags::default().flag("--admission", "open"));
    let nodes: Vec<u32> = (FIRST_MADE_UP..).take(STORM).collect();
    assert_unharmed(&world, &appliance, &nodes);
}

/// The same with every node known to the directory, as the rules want it.
#[test]
fn a_storm_of_registered_nodes_costs_the_others_no_packet() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(world) = World::open() else { return };
    let appliance = world.appliance();
    let watch = Stopwatch::start();
    let nodes = register(&world.relay_host(), if full_run() { STORM as u32 } else { 10_000 });
    evidence(format!("{} nodes registered in {:.1?}", nodes.len(), watch.elapsed()));
    assert_unharmed(&world, &appliance, &nodes);
}

fn assert_unharmed(world: &World, appliance: &Appliance, nodes: &[u32]) {
    let (senders, receivers) = (world.host("senders"), world.host("receivers"));
    let join =
        |pair| (Peer::join(&senders, &format!("sender {pair}")), Peer::join(&receivers, &format!("receiver {pair}")));
    let pairs: Vec<(Peer, Peer)> = (0..PAIRS).map(join).collect();
    let is_over = AtomicBool::new(false);
    let (answered, took, streams) = thread::scope(|scope| {
        let streams: Vec<_> = pairs.iter().map(|pair| scope.spawn(|| stream(pair, &is_over))).collect();
        pause(CALM);
        let watch = Stopwatch::start();
        let answered = world.relay_host().namespace().enter(|| storm(nodes));
        let took = watch.elapsed();
        pause(CALM);
        is_over.store(true, Ordering::Relaxed);
        let streams: Vec<_> =
            streams.into_iter().map(|stream| stream.join().expect("a stream does not panic")).collect();
        (answered, took, streams)
    });

    let (sent, arrived) = streams.iter().fold((0, 0), |sum, one| (sum.0 + one.sent, sum.1 + one.arrived));
    let metrics = appliance.metrics();
    let dropped = metrics.non_zero("pilot_relay_datagrams_dropped_total");
    let sessions = metrics.sum("pilot_relay_sessions");
    let unread = metrics.sum("pilot_relay_kernel_drops_total");
    let unsent = metrics.sum("pilot_relay_sends_failed_total");
    evidence(format!(
        "{answered} of {} nodes answered within {took:.2?}, {sessions} sessions; {arrived} of {sent} packets of {PAIRS} \
         pairs arrived meanwhile; the relay dropped {dropped:?}, failed to send {unsent}, and left {unread} unread",
        nodes.len()
    ));
    let planned = Duration::from_secs(1) * u32::try_from(nodes.len()).expect("a fleet") / STORM_PPS;
    assert!(took <= planned * SLACK, "this host was too busy to make it a storm: {took:?} instead of {planned:?}");
    assert_eq!(answered, nodes.len(), "nodes without an answer");
    assert_eq!(sessions, (nodes.len() + 2 * PAIRS) as u64, "every node has a session");
    assert_eq!(arrived, sent, "packets of others were lost");
    assert_eq!(unread, 0, "the kernel dropped what the relay did not read in time");
    let books = appliance.settled_accounting();
    assert!(books.balances(), "{books}");
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

/// Each node says discover once, from a loopback address of its own; how many are answered with that address.
fn storm(nodes: &[u32]) -> usize {
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
    answered + awaiting.iter().filter(|socket| is_answered(socket)).count()
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
