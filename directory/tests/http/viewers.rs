//! Bounds: viewers, those who take nothing.

use std::io::Read as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use directory::http::Settings;
use directory::http::connections::Patience;
use socket2::{Domain, Socket, Type};

use crate::client::{Events, PATIENCE, connect_from, send, ticks_of};
use crate::world::{Served, State, group, serve_with};

/// Steps until another viewer is served.
#[expect(clippy::disallowed_methods, reason = "a test gives up at some time")]
fn wait_for_a_seat(served: &Served) -> Events {
    let began = Instant::now();
    loop {
        served.step(|state| state.overview.online += 1);
        let events = Events::open(served.address(), "/status/events");
        if events.status == 200 {
            return events;
        }
        assert_eq!(events.status, 503);
        assert!(began.elapsed() < PATIENCE, "nobody was disconnected");
    }
}

#[test]
fn viewers_are_bounded_and_a_seat_comes_free() {
    let served = serve_with(State::default(), |settings| settings.viewers.total = 2, Patience::default());
    let first = Events::open(served.address(), "/status/events");
    let _second = Events::open(served.address(), "/status/events");
    let third = Events::open(served.address(), "/status/events");
    assert_eq!((first.status, third.status), (200, 503));
    assert!(third.headers.iter().any(|(name, _)| name == "retry-after"));
    drop(first);
    wait_for_a_seat(&served);
}

#[test]
fn one_address_cannot_take_all_seats() {
    let bound = |settings: &mut Settings| (settings.viewers.per_address, settings.viewers.exempt) = (1, vec![]);
    let served = serve_with(State::default(), bound, Patience::default());
    let open = |ip| Events::open_on(connect_from(ip, served.address()), served.address(), "/status/events");
    let (first, again, other) = (open("127.0.0.2"), open("127.0.0.2"), open("127.0.0.3"));
    assert_eq!([first.status, again.status, other.status], [200, 503, 200]);
}

#[test]
fn a_viewer_that_takes_nothing_is_disconnected() {
    // Events of some size, so that the kernel's buffers are full soon.
    let mut state = State::default();
    state.overview.groups = (1..25).map(|id| group(id, &"N".repeat(4000), "open", 1, 1)).collect();
    let patience = Patience { stalled: Duration::from_millis(200), ..Patience::default() };
    let served = serve_with(state, |settings| settings.viewers.total = 1, patience);
    let mut deaf = deaf(served.address());
    send(&mut deaf, served.address(), "GET", "/status/events", &[], "");
    // The answer has begun, so the seat is taken.
    deaf.read_exact(&mut [0; 12]).unwrap();
    wait_for_a_seat(&served);
}

/// A connection whose kernel takes as little as it can.
fn deaf(address: SocketAddr) -> std::net::TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

#[test]
fn a_viewer_that_only_listens_is_not_idle() {
    let patience = Patience { idle: Duration::from_millis(300), ..Patience::default() };
    let served = serve_with(State::default(), |_| {}, patience);
    let mut events = Events::open(served.address(), "/status/events");
    // Each event is awaited, so this takes as long as it takes: the idle deadline passes at least once in all.
    let ticks = ticks_of(Duration::from_millis(50), 12);
    for (online, ()) in (1..).zip(ticks) {
        served.step(|state| state.overview.online = online);
        while events.next()["nodes"]["online"] != online {}
    }
}
