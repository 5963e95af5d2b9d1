//! Bounds and deadlines of connections: one client, or many of one address, cannot keep the others out.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use directory::http::connections::Patience;
use directory::http::places::Bounds;

use crate::client::{Events, PATIENCE, connect, connect_from, get, ticks_of};
use crate::world::{State, serve_with, serve_within};

const SOON: Duration = Duration::from_millis(300);

/// A request that leaves its connection open.
const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: pilot\r\n\r\n";

/// A connection from `ip` that has been answered, or 503.
fn stay(ip: &str, address: SocketAddr) -> Result<TcpStream, String> {
    let mut stream = connect_from(ip, address);
    // Whom there is no place for may be told so before this is said.
    let _ = stream.write_all(HEALTH);
    let mut answer = [0; 12];
    match stream.read_exact(&mut answer) {
        Ok(()) if answer == *b"HTTP/1.1 200" => Ok(stream),
        Ok(()) => Err(String::from_utf8_lossy(&answer).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test gives up at some time")]
fn one_address_has_its_share_and_this_host_always_gets_in() {
    let bounds = Bounds { total: 6, kept: 2, per_address: 3, exempt: vec!["127.0.0.1".parse().unwrap()] };
    let served = serve_within(bounds, State::default(), |_| {}, Patience::default());
    let address = served.address();
    let mut greedy: Vec<_> = (0..3).map(|_| stay("127.0.0.2", address).unwrap()).collect();
    stay("127.0.0.2", address).unwrap_err();
    let _other = stay("127.0.0.3", address).expect("others have a place");
    stay("127.0.0.4", address).unwrap_err();
    assert_eq!(get(address, "/healthz").status, 200, "two places are kept");
    let refused = Events::open_on(connect_from("127.0.0.4", address), address, "/");
    assert_eq!(refused.status, 503);
    greedy.pop();
    let began = Instant::now();
    while stay("127.0.0.4", address).is_err() {
        assert!(began.elapsed() < PATIENCE, "the place never came free");
    }
}

/// Says a byte now and then until the connection ends; what was answered to it.
fn trickle(mut stream: TcpStream) -> String {
    let mut writer = stream.try_clone().unwrap();
    let talker = std::thread::spawn(move || {
        let ticks = ticks_of(SOON / 6, 6 * 100);
        ticks.take_while(|()| writer.write_all(b"x").is_ok()).count()
    });
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    // A reset is an end too.
    while let Ok(read @ 1..) = stream.read(&mut part) {
        answer.extend(&part[..read]);
    }
    let _ = stream.shutdown(std::net::Shutdown::Both);
    assert!(talker.join().unwrap() < 6 * 100, "it went on for ever");
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_header_that_comes_byte_by_byte_is_not_waited_for() {
    let patience = Patience { header: SOON, ..Patience::default() };
    let served = serve_with(State::default(), |_| {}, patience);
    let mut stream = connect(served.address());
    stream.write_all(b"GET / HTTP/1.1\r\nX-Long: ").unwrap();
    trickle(stream);

    let mut stream = connect(served.address());
    stream.write_all(HEALTH).unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nX-Long: ").unwrap();
    let answer = trickle(stream);
    assert!(answer.ends_with("ok\n"), "the second one too: {answer}");
}

#[test]
fn a_body_that_comes_byte_by_byte_is_not_waited_for() {
    let patience = Patience { answer: SOON, ..Patience::default() };
    let served = serve_with(State::default(), |_| {}, patience);
    let mut stream = connect(served.address());
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 4000\r\n";
    write!(stream, "POST /operator/login HTTP/1.1\r\nHost: pilot\r\n{form}\r\ntoken=").unwrap();
    let answer = trickle(stream);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[test]
fn a_connection_that_says_nothing_is_ended() {
    for patience in [Patience { idle: SOON, ..Patience::default() }, Patience { header: SOON, ..Patience::default() }] {
        let served = serve_with(State::default(), |_| {}, patience);
        let mut silent = connect(served.address());
        assert_eq!(silent.read(&mut [0; 1]).unwrap_or(0), 0);
    }
}
