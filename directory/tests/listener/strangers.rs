//! Strangers from many addresses ask more than the directory can do, while nodes go on.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use directory::limits::overall::WAIT_MAX;
use socket2::{Domain, Socket, Type};

use crate::*;

/// Each of these has a rate of its own that all of them together are far above.
const STRANGERS: u8 = 100;
const OF_STRANGERS: u32 = 10;
/// Heartbeats at the least, each so long after the one before: within what a known address has of its own.
const BEATS: usize = 100;
const BEAT_PAUSE: Duration = Duration::from_millis(55);

/// From another address of this host.
fn connect_from(address: SocketAddr, own: Ipv4Addr) -> Client<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((own, 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Client { stream }
}

/// Asks until the connection is closed, or it is told to stop; how many answers were none of busyness.
fn flood(client: &mut Client<TcpStream>, stop: &AtomicBool) -> u64 {
    let mut frame = Vec::new();
    push_message(&mut frame, &Request::from(Operation::Lookup { node_id: NodeId(1) }));
    let mut served = 0;
    while !stop.load(Relaxed) {
        let mut length = [0; LENGTH_BYTES];
        if client.stream.write_all(&frame).and_then(|()| client.stream.read_exact(&mut length)).is_err() {
            break;
        }
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        if client.stream.read_exact(&mut message).is_err() {
            break;
        }
        match Answer::decode(&message).unwrap() {
            Answer::Error { error } => assert!(error.starts_with("rate limited"), "{error}"),
            _ => served += 1,
        }
    }
    served
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it measures how long heartbeats take, and how much a rate allows")]
fn strangers_from_many_addresses_do_not_keep_a_node_from_its_heartbeats() {
    let served = serve_with(|config| {
        config.exempt.clear();
        config.limits.requests_of_strangers_per_second = OF_STRANGERS;
        // What the node has of its own is all it needs.
        config.limits.requests_of_known_per_second = 10;
        // So that nothing else holds anybody back.
        config.limits.requests_per_ip_per_second = 1_000_000;
        config.limits.requests_per_connection_per_second = 1_000_000;
        config.limits.arrivals_per_connection_max = 1_000_000;
    });
    let address = served.address();
    let alice = key(1);
    let mut node = connect_from(address, Ipv4Addr::LOCALHOST);
    let node_id = number(&node.ask(registration(&alice)));
    let beat = signed(&alice, Operation::Heartbeat { node_id, report: None, bans_since: None });
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        for number in 0..STRANGERS {
            let (stop, answered) = (&stop, &answered);
            scope.spawn(move || {
                while !stop.load(Relaxed) {
                    let mut client = connect_from(address, Ipv4Addr::new(127, 1, number, 1));
                    answered.fetch_add(flood(&mut client, stop), Relaxed);
                }
            });
        }
        let mut took = Vec::new();
        while served.closed("busy") < u64::from(STRANGERS) || took.len() < BEATS {
            let asked = Instant::now();
            let answer = node.ask(beat.clone());
            assert!(matches!(answer, Answer::Heartbeat { .. }), "{answer:?}");
            took.push(asked.elapsed());
            std::thread::sleep(BEAT_PAUSE);
        }
        stop.store(true, Relaxed);
        took
    });
    let lasted = began.elapsed();
    // A second's worth at once, and what comes of the rate while they ask and wait.
    let seconds = (lasted + WAIT_MAX).as_secs() + 2;
    let answered = answered.load(Relaxed);
    assert!(answered <= seconds * u64::from(OF_STRANGERS), "{answered} in {seconds} s");
    took.sort_unstable();
    let refused = served.closed("busy");
    eprintln!(
        "{} heartbeats, all answered, while {STRANGERS} addresses got {answered} answers in {lasted:?}, and {refused} \
         connections were turned away: p50 {:?}, p99 {:?}",
        took.len(),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
    );
    assert!(took[took.len() * 99 / 100] < WAIT_MAX / 2, "heartbeats wait for others");

    // Whoever comes back from where a node is known is no stranger, and others are served again.
    let mut again = connect_from(address, Ipv4Addr::LOCALHOST);
    assert!(matches!(again.ask(beat), Answer::Heartbeat { .. }));
}

#[test]
fn strangers_leave_connections_and_handshakes_to_those_who_are_known() {
    let served = serve_with(|config| {
        config.exempt.clear();
        config.limits.connections_max = 8;
        config.limits.requests_of_strangers_per_second = 1;
        config.tls = Tls::SelfSigned;
    });
    let address = served.address();
    let mut node = connect_from(address, Ipv4Addr::LOCALHOST);
    number(&node.ask(registration(&key(1))));
    let mut strangers: Vec<_> = (1..=6).map(|host| connect_from(address, Ipv4Addr::new(127, 1, 0, host))).collect();
    for stranger in &mut strangers {
        stranger.ask(Operation::BeaconList);
    }
    assert!(connect_from(address, Ipv4Addr::new(127, 1, 0, 9)).is_closed(), "a quarter is kept free");
    assert_eq!(served.closed("full"), 1);
    connect_from(address, Ipv4Addr::LOCALHOST).ask(Operation::BeaconList);
    drop(strangers);
    while served.metric("connections_open") > 1 {
        std::thread::yield_now();
    }
    // A TLS handshake costs more than a question, and there is no room for one more.
    let mut stranger = connect_from(address, Ipv4Addr::new(127, 2, 0, 1));
    stranger.stream.write_all(&[0x16, 3, 1]).unwrap();
    assert!(stranger.is_closed());
    assert_eq!(served.closed("busy"), 1);
    let mut known = Client { stream: tls(address, &served.folder) };
    assert!(!matches!(known.ask(Operation::BeaconList), Answer::Error { .. }));
}

/// A registration at whatever address it comes from.
fn registration_here(key: &SigningKey) -> Request {
    let Operation::Register(register) = registration(key).operation else { unreachable!("it is one") };
    signed(key, Operation::Register(Register { listen_addr: "0.0.0.0:4000".into(), ..register }))
}

#[test]
fn after_a_restart_nodes_are_served_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let start = |of_strangers| {
        let mut config = settings(&folder);
        config.exempt.clear();
        config.limits.requests_of_strangers_per_second = of_strangers;
        directory::start(config, Arc::new(NoRelay::default())).unwrap()
    };
    let running = start(100);
    let alice = key(1);
    let mut node = connect_from(running.local_addrs()[0], Ipv4Addr::LOCALHOST);
    let node_id = number(&node.ask(registration_here(&alice)));
    drop(node);
    running.shutdown();

    let running = start(0);
    let address = running.local_addrs()[0];
    let mut node = connect_from(address, Ipv4Addr::LOCALHOST);
    let answer = node.ask(signed(&alice, Operation::Heartbeat { node_id, report: None, bans_since: None }));
    assert!(matches!(answer, Answer::Heartbeat { .. }), "{answer:?}");
    let refused = error(connect_from(address, Ipv4Addr::new(127, 1, 0, 1)).ask(Operation::BeaconList));
    assert!(refused.contains("too many ask the directory at once"), "{refused}");
}

/// Three quarters of eight connections are the most that strangers may have.
fn serve_eight() -> Served {
    serve_with(|config| {
        config.exempt.clear();
        config.limits.connections_max = 8;
    })
}

/// That many strangers who have been heard.
fn strangers(address: SocketAddr, count: u8) -> Vec<Client<TcpStream>> {
    let mut strangers: Vec<_> = (1..=count).map(|host| connect_from(address, Ipv4Addr::new(127, 1, 0, host))).collect();
    for stranger in &mut strangers {
        assert!(!matches!(stranger.ask(Operation::BeaconList), Answer::Error { .. }));
    }
    strangers
}

#[test]
fn a_connection_from_before_its_address_was_known_is_no_strangers_for_ever() {
    let served = serve_eight();
    let address = served.address();
    let mut earlier = connect_from(address, Ipv4Addr::LOCALHOST);
    earlier.ask(Operation::BeaconList);
    let mut node = connect_from(address, Ipv4Addr::LOCALHOST);
    number(&node.ask(registration(&key(1))));
    // It asks nothing that a node signs.
    earlier.ask(Operation::BeaconList);
    let _six = strangers(address, 6);
}

#[test]
fn an_address_is_known_no_longer_than_its_node_belongs() {
    let served = serve_eight();
    let address = served.address();
    let mut node = connect_from(address, Ipv4Addr::LOCALHOST);
    let node_id = number(&node.ask(registration(&key(1))));
    let _six = strangers(address, 6);
    let mut second = connect_from(address, Ipv4Addr::LOCALHOST);
    second.ask(Operation::BeaconList);
    drop(second);
    while served.metric("connections_open") > 7 {
        std::thread::yield_now();
    }
    node.ask(signed(&key(1), Operation::Deregister { node_id }));
    assert!(connect_from(address, Ipv4Addr::LOCALHOST).is_closed(), "it is one more stranger's now");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a refusal has to take its time")]
fn strangers_who_are_served_nothing_wait_for_it_however_much_they_send_at_once() {
    for (of_strangers, of_address, answers) in [(0, 5, 1), (100, 0, 40)] {
        let served = serve_with(|config| {
            config.exempt.clear();
            config.limits.requests_of_strangers_per_second = of_strangers;
            config.limits.requests_per_ip_per_second = of_address;
        });
        let mut frames = Vec::new();
        (0..40).for_each(|_| push_message(&mut frames, &Request::from(Operation::BeaconList)));
        let mut stranger = served.connect();
        let asked = Instant::now();
        stranger.stream.write_all(&frames).unwrap();
        for _ in 0..answers {
            let refused = error(stranger.answer());
            assert!(refused.starts_with("rate limited"), "{refused}");
            assert!(asked.elapsed() >= WAIT_MAX);
        }
        if answers == 1 {
            assert!(stranger.is_closed());
            assert_eq!(served.closed("busy"), 1);
        }
    }
}
