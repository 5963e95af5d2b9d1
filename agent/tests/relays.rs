//! Stories about relays: some of them live, one of them in use.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use agent::Time;
use agent::relays::{
    CONFIRM_AFTER, Event, KEEPALIVE_MAX, KEEPALIVE_MIN, LENGTHEN_AFTER, REPLY_WAITS, REPLY_WINDOW, ROUND_PAUSE_MAX,
    Relays, TRIAL_ANSWERS, TRIAL_INTERVAL_MIN,
};
use proptest::prelude::*;
use wire::NodeId;

const START: Time = Time(3_000_000_000);
const NODE: NodeId = NodeId(7);
const NOBODY: NodeId = NodeId::UNSET;

const A: &str = "198.18.0.1:9001";
const B: &str = "198.18.0.2:9001";
const C: &str = "[2001:db8::3]:9001";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn addresses(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|text| address(text)).collect()
}

fn mapped(port: u16) -> SocketAddr {
    SocketAddr::new(address("198.18.7.7:0").ip(), port)
}

/// A network with relays, some of them alive, and a NAT that forgets.
struct Story {
    now: Time,
    relays: Relays,
    alive: Vec<SocketAddr>,
    /// Port of the mapping, when it was last used, and how long it lives without use.
    port: u16,
    used: Time,
    lifetime: Duration,
    events: Vec<Event>,
    /// Every discover: when, to whom, with which id.
    discovers: Vec<(Time, SocketAddr, NodeId)>,
}

impl Story {
    fn new(list: &[&str], alive: &[&str]) -> Self {
        Self {
            now: START,
            relays: Relays::new(START, &addresses(list)),
            alive: addresses(alive),
            port: 40_000,
            used: START,
            lifetime: Duration::from_hours(1),
            events: Vec::new(),
            discovers: Vec::new(),
        }
    }

    /// One whose relay A is in use, its id known.
    fn settled(list: &[&str]) -> Self {
        let mut story = Self::new(list, list);
        story.relays.set_node(START, NODE);
        story.run(Duration::from_secs(10));
        assert_eq!(story.relays.current(), Some(address(list[0])));
        story.forget();
        story
    }

    /// Lets time pass, event by event.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..100_000 {
            self.relays.handle_timeout(self.now);
            while let Some((relay, node)) = self.relays.poll_discover(self.now) {
                self.discover(relay, node);
            }
            while let Some(event) = self.relays.poll_event() {
                self.events.push(event);
            }
            match self.relays.poll_timeout() {
                Some(due) if due <= end => {
                    assert!(due > self.now, "time goes on");
                    self.now = due;
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("too much happens");
    }

    fn discover(&mut self, relay: SocketAddr, node: NodeId) {
        self.discovers.push((self.now, relay, node));
        if self.now.since(self.used) > self.lifetime {
            self.port += 1;
        }
        self.used = self.now;
        if self.alive.contains(&relay) {
            assert!(self.relays.handle_discover_reply(self.now, relay, mapped(self.port)));
        }
    }

    fn forget(&mut self) {
        self.events.clear();
        self.discovers.clear();
    }

    /// Milliseconds after `since` at which `relay` was asked.
    fn asked(&self, since: Time, relay: &str) -> Vec<u128> {
        let of_it = self.discovers.iter().filter(|(_, to, _)| *to == address(relay));
        of_it.map(|(at, ..)| at.since(since).as_millis()).collect()
    }
}

#[test]
fn before_it_has_an_id_a_node_learns_its_endpoint() {
    let mut story = Story::new(&[A, B], &[A, B]);
    assert_eq!(story.relays.current(), None);
    assert_eq!(story.relays.candidate(), Some(address(A)));
    story.run(Duration::ZERO);
    assert_eq!(story.discovers, [(START, address(A), NOBODY)]);
    assert_eq!(story.events, [Event::InUse(address(A)), Event::Mapped(mapped(40_000))]);
    assert_eq!(story.relays.current(), Some(address(A)));
    assert_eq!(story.relays.mapped(), Some(mapped(40_000)));
}

#[test]
fn the_id_is_told_at_once_a_second_later_and_with_every_keepalive() {
    let mut story = Story::new(&[A], &[A]);
    story.run(Duration::from_millis(300));
    story.forget();
    let then = story.now;
    story.relays.set_node(then, NODE);
    story.run(Duration::from_secs(60));
    assert_eq!(story.asked(then, A), [0, 1000, 26_000, 51_000]);
    assert!(story.discovers.iter().all(|(_, _, node)| *node == NODE));
    assert_eq!(story.events, [], "nothing new");
}

#[test]
fn silence_moves_on_to_the_next_relay_and_round_again() {
    let mut story = Story::new(&[A, B, C], &[]);
    story.run(Duration::from_millis(9_900));
    assert_eq!(story.asked(START, A), [0, 500, 1500, 9500]);
    assert_eq!(story.asked(START, B), [3000, 3500, 4500]);
    assert_eq!(story.asked(START, C), [6000, 6500, 7500]);
    assert_eq!(story.events, []);
    assert_eq!(story.relays.current(), None);

    // For ever, but with longer pauses between the rounds.
    story.run(Duration::from_mins(10));
    story.forget();
    let then = story.now;
    story.run(Duration::from_mins(10));
    let a_round = REPLY_WAITS.iter().sum::<Duration>() * 3 + ROUND_PAUSE_MAX;
    let rounds = 600 / a_round.as_secs();
    let asked = story.asked(then, B).len() as u64;
    assert!((3 * (rounds - 1)..=3 * (rounds + 2)).contains(&asked), "{asked} in {rounds} rounds");

    story.alive = addresses(&[C]);
    story.run(a_round);
    assert_eq!(story.relays.current(), Some(address(C)));
}

#[test]
fn a_lost_discover_is_nothing() {
    let mut story = Story::settled(&[A, B]);
    story.alive.clear();
    let then = story.now;
    let next = story.relays.poll_timeout().unwrap();
    story.run(next.since(then));
    assert_eq!(story.asked(then, A).len(), 1);
    story.alive = addresses(&[A, B]);
    story.run(Duration::from_mins(2));
    assert_eq!(story.asked(then, B), []);
    assert_eq!(story.events, []);
}

#[test]
fn a_relay_that_falls_silent_is_replaced_and_comes_back() {
    let mut story = Story::settled(&[A, B]);
    story.alive = addresses(&[B]);
    story.run(KEEPALIVE_MAX + REPLY_WAITS.iter().sum());
    assert_eq!(story.events, [Event::Lost(address(A)), Event::InUse(address(B))]);
    assert_eq!(story.discovers.last().map(|(_, to, node)| (*to, *node)), Some((address(B), NODE)));
    assert!(story.relays.is_relay(address(A)), "what it had on the way still counts");

    // While A is dead it is asked now and then, without being told the id.
    story.forget();
    let switched = story.now;
    story.run(TRIAL_INTERVAL_MIN * 3);
    assert!((2..=3).contains(&story.asked(switched, A).len()), "{:?}", story.asked(switched, A));
    assert!(story.discovers.iter().all(|(_, to, node)| (*node == NOBODY) == (*to == address(A))));
    assert_eq!(story.events, []);

    // Once it is back, it takes several replies in a row, and B is used until then.
    story.alive = addresses(&[A, B]);
    story.forget();
    let back = story.now;
    story.run(TRIAL_INTERVAL_MIN + Duration::from_secs(10));
    assert_eq!(story.events, [Event::InUse(address(A))]);
    let ids = story.discovers.iter().filter(|(_, to, _)| *to == address(A)).map(|(_, _, node)| *node);
    let ids: Vec<_> = ids.take(TRIAL_ANSWERS as usize).collect();
    assert_eq!(ids, [NOBODY, NOBODY, NODE]);
    assert!(story.asked(back, A)[0] > 1000);
    story.run(Duration::from_mins(10));
    assert_eq!(story.events, [Event::InUse(address(A))], "and so it stays");
}

#[test]
fn a_relay_that_comes_and_goes_does_not_make_the_node_flap() {
    let mut story = Story::settled(&[A, B]);
    // Alive for a minute, dead for a minute, for a day.
    for minute in 0..24 * 60 {
        story.alive = addresses(if minute % 2 == 0 { &[A, B] } else { &[B] });
        story.run(Duration::from_mins(1));
    }
    let switches = story.events.iter().filter(|event| matches!(event, Event::InUse(_))).count();
    assert!(switches <= 2 * 30, "{switches} times in a day");
    assert!(story.relays.current().is_some());
}

#[test]
fn forged_replies_are_told_from_true_ones() {
    let mut story = Story::new(&[A, B], &[]);
    assert!(!story.relays.handle_discover_reply(START, address(A), mapped(1)), "nobody has been asked");
    story.relays.poll_discover(START).unwrap();
    for from in [B, C, "198.18.0.1:9002", "198.18.0.9:9001"] {
        assert!(!story.relays.handle_discover_reply(START, address(from), mapped(1)), "{from}");
    }
    for nonsense in ["0.0.0.0:4000", "198.18.7.7:0", "[::]:4000", "224.0.0.1:4000"] {
        assert!(!story.relays.handle_discover_reply(START, address(A), address(nonsense)), "{nonsense}");
    }
    assert_eq!(story.relays.current(), None);
    assert_eq!(story.relays.poll_event(), None);

    let as_ipv6 = SocketAddr::new(IpAddr::V6("::ffff:198.18.0.1".parse().unwrap()), 9001);
    assert!(story.relays.handle_discover_reply(START, as_ipv6, address("[::ffff:198.18.7.7]:40000")));
    assert_eq!(story.relays.mapped(), Some(mapped(40_000)));
    assert!(story.relays.handle_discover_reply(START, address(A), mapped(40_000)), "a copy");
    let late = START + REPLY_WINDOW + Duration::from_secs(1);
    assert!(!story.relays.handle_discover_reply(late, address(A), mapped(6)));
    assert_eq!(story.relays.mapped(), Some(mapped(40_000)));
}

#[test]
fn other_traffic_of_the_relay_shows_that_it_lives() {
    let mut story = Story::settled(&[A, B]);
    story.alive.clear();
    for _ in 0..100 {
        story.run(Duration::from_secs(1));
        story.relays.handle_alive(story.now, address(A));
    }
    assert_eq!(story.relays.current(), Some(address(A)));
    for _ in 0..100 {
        story.run(Duration::from_secs(1));
        story.relays.handle_alive(story.now, address(B));
    }
    assert_eq!(story.events, [Event::Lost(address(A))]);
}

#[test]
fn doubts_shorten_the_outage() {
    let mut story = Story::settled(&[A, B]);
    story.alive = addresses(&[B]);
    let then = story.now;
    for _ in 0..50 {
        story.relays.suspect(story.now, address(A));
        story.relays.suspect(story.now, address(C));
        story.run(Duration::from_millis(10));
    }
    story.run(REPLY_WAITS.iter().sum());
    assert_eq!(story.asked(then, A), [0, 500, 1500], "the first doubt counts");
    assert_eq!(story.relays.current(), Some(address(B)));

    // Doubts about a relay that answers do not become a flood.
    story.forget();
    for _ in 0..1000 {
        story.relays.suspect(story.now, address(B));
        story.run(Duration::from_millis(1));
    }
    assert!(story.discovers.len() <= 6, "{} in a second", story.discovers.len());
}

#[test]
fn roaming_is_noticed_at_once_and_teaches_nothing_of_the_nat() {
    let mut story = Story::settled(&[A]);
    for _ in 0..5 {
        story.run(Duration::from_secs(20));
        story.forget();
        story.port += 1;
        let then = story.now;
        story.relays.refresh(then);
        story.run(Duration::ZERO);
        assert_eq!(story.asked(then, A), [0]);
        assert_eq!(story.events, [Event::Mapped(mapped(story.port))]);
        assert_eq!(story.relays.keepalive(), KEEPALIVE_MAX);
    }
}

#[test]
fn a_mapping_that_dies_between_keepalives_shortens_them() {
    let mut story = Story::settled(&[A]);
    story.lifetime = Duration::from_secs(20);
    story.run(Duration::from_mins(5));
    assert_eq!(story.events, [Event::Mapped(mapped(40_001))], "once");
    assert!(story.relays.keepalive() <= story.lifetime);
    assert!(story.relays.keepalive() >= Duration::from_secs(10));

    // Much later the longer interval gets one more chance, and no other.
    story.run(LENGTHEN_AFTER * 20);
    assert_eq!(story.events.len(), 2, "{:?}", story.events);
    assert!(story.relays.keepalive() <= story.lifetime);
}

#[test]
fn however_short_a_mapping_lives_keepalives_have_a_least_interval() {
    let mut story = Story::settled(&[A]);
    story.lifetime = Duration::from_secs(2);
    story.run(Duration::from_mins(10));
    assert_eq!(story.relays.keepalive(), KEEPALIVE_MIN);
    story.forget();
    story.run(Duration::from_mins(1));
    assert!(story.discovers.len() <= 13);
}

#[test]
fn a_nat_that_was_restarted_once_costs_no_keepalives_for_ever() {
    let mut story = Story::settled(&[A]);
    story.port += 1;
    story.run(Duration::from_mins(1));
    assert!(story.relays.keepalive() < KEEPALIVE_MAX);
    story.run(LENGTHEN_AFTER + Duration::from_mins(1));
    assert_eq!(story.relays.keepalive(), KEEPALIVE_MAX);
    story.run(Duration::from_hours(10));
    assert_eq!(story.relays.keepalive(), KEEPALIVE_MAX);
}

#[test]
fn a_new_list_keeps_the_relay_that_is_in_use() {
    let mut story = Story::settled(&[A]);
    story.alive = addresses(&[A, B, C]);
    story.relays.set_list(story.now, &addresses(&[A, C, A]));
    story.run(Duration::from_mins(1));
    assert_eq!((story.relays.current(), story.events.len()), (Some(address(A)), 0));

    // One that is gone from the list is used until another has answered.
    story.alive = addresses(&[A]);
    story.relays.set_list(story.now, &addresses(&[B]));
    story.run(Duration::from_millis(100));
    assert_eq!(story.relays.current(), Some(address(A)));
    assert!(story.relays.is_relay(address(A)));
    story.alive = addresses(&[B]);
    story.run(Duration::from_secs(1));
    assert_eq!(story.events, [Event::InUse(address(B))]);
    assert!(!story.relays.is_relay(address(A)));

    story.relays.set_list(story.now, &[]);
    story.run(Duration::from_mins(1));
    assert_eq!((story.relays.current(), story.relays.candidate()), (None, None));
    assert_eq!(story.events.last(), Some(&Event::Lost(address(B))));
    story.relays.set_list(story.now, &addresses(&[B]));
    story.run(Duration::ZERO);
    assert_eq!(story.relays.current(), Some(address(B)));
}

#[test]
fn a_preferred_relay_that_is_new_on_the_list_is_taken_in_time() {
    let mut story = Story::settled(&[B]);
    story.alive = addresses(&[A, B]);
    story.relays.set_list(story.now, &addresses(&[A, B]));
    story.run(TRIAL_INTERVAL_MIN / 2);
    assert_eq!(story.relays.current(), Some(address(B)));
    story.run(TRIAL_INTERVAL_MIN);
    assert_eq!(story.events, [Event::InUse(address(A))]);
    assert!(CONFIRM_AFTER < KEEPALIVE_MIN);
}

#[derive(Clone, Debug)]
enum Input {
    Reply(usize, u16),
    Alive(usize),
    Suspect(usize),
    List(Vec<usize>),
    Node(u32),
    Refresh,
    Pass(u32),
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        6 => (0..4usize, 0..4u16).prop_map(|(relay, port)| Input::Reply(relay, port)),
        2 => (0..4usize).prop_map(Input::Alive),
        2 => (0..4usize).prop_map(Input::Suspect),
        1 => prop::collection::vec(0..4usize, 0..6).prop_map(Input::List),
        1 => (0..3u32).prop_map(Input::Node),
        1 => Just(Input::Refresh),
        9 => (0..40_000u32).prop_map(Input::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_in_a_relay_is_looked_for_at_a_fair_pace(inputs in prop::collection::vec(input(), 0..200)) {
        let all = addresses(&[A, B, C, "198.18.0.4:9001"]);
        let mut story = Story::new(&[A, B], &[]);
        let mut provoked = 0;
        for input in inputs {
            let now = story.now;
            match input {
                Input::Reply(relay, port) => {
                    story.relays.handle_discover_reply(now, all[relay], mapped(port));
                    provoked += 1;
                }
                Input::Alive(relay) => story.relays.handle_alive(now, all[relay]),
                Input::Suspect(relay) => {
                    story.relays.suspect(now, all[relay]);
                    provoked += 1;
                }
                Input::List(list) => {
                    let list: Vec<_> = list.into_iter().map(|relay| all[relay]).collect();
                    story.relays.set_list(now, &list);
                    provoked += 1;
                }
                Input::Node(node) => {
                    story.relays.set_node(now, NodeId(node));
                    provoked += 1;
                }
                Input::Refresh => {
                    story.relays.refresh(now);
                    provoked += 1;
                }
                Input::Pass(milliseconds) => story.run(Duration::from_millis(milliseconds.into())),
            }
            prop_assert!((KEEPALIVE_MIN..=KEEPALIVE_MAX).contains(&story.relays.keepalive()));
            if let Some(current) = story.relays.current() {
                prop_assert!(story.relays.is_relay(current));
            }
        }
        // Three discovers take three seconds.
        let seconds = usize::try_from(story.now.since(START).as_secs()).unwrap();
        prop_assert!(story.discovers.len() <= seconds + 4 + 3 * provoked, "{}", story.discovers.len());
    }
}
