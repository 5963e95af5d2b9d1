//! Stories about a node's place in the directory, which is played by the tests, and once by the real one.

mod bans;
mod real_directory;

use std::net::SocketAddr;
use std::time::Duration;

use agent::Time;
use agent::node::Unanswered;
use agent::registration::{
    Announcement, BACK_OFF_MAX, DEBOUNCE, Event, HEARTBEAT_FAILURES_MAX, HEARTBEAT_INTERVAL, REST_OF_BANS_AFTER,
    Registration, Status,
};
use bans::{cursor, told};
use proptest::prelude::*;
use wire::NodeId;
use wire::registry::answer::{Registered, SIGNATURE_FAILED, Visibility, node_not_found};
use wire::registry::bans::{Cursor, Listed, OVERLAP_SECONDS};
use wire::registry::request::{LAN_ADDRS_MAX, Register};
use wire::registry::{Answer, Base64, Operation, PublicKey};

const START: Time = Time(5_000_000_000);
const KEY: PublicKey = Base64([9; 32]);
const NODE: NodeId = NodeId(7);

fn announcement() -> Announcement {
    Announcement {
        hostname: "alpha".into(),
        owner: "a@example.org".into(),
        version: "0.1".into(),
        public: false,
        relay_only: false,
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn away() -> Unanswered {
    Unanswered::Unreachable("connection refused".into())
}

fn registered(node_id: NodeId) -> Registered {
    Registered {
        node_id,
        network_id: 0,
        address: node_id.address(),
        public_key: KEY,
        hostname: Some("alpha".into()),
        hostname_error: None,
        observed_addr: None,
        protocol_version: None,
    }
}

fn error(text: &str) -> Answer {
    Answer::Error { error: text.into() }
}

/// A registration and its time.
struct Story {
    now: Time,
    registration: Registration,
}

impl Story {
    fn new(announcement: Announcement) -> Self {
        Self { now: START, registration: Registration::new(announcement, KEY, 1) }
    }

    /// One that has its place.
    fn registered(announcement: Announcement) -> Self {
        let mut story = Self::new(announcement);
        story.registration.set_endpoint(START, address("198.18.0.5:4000"), &[]);
        story.next_register();
        story.answer(&Answer::Register(registered(NODE)));
        assert!(matches!(story.event(), Some(Event::Registered { node: NODE, anew: true, .. })));
        story
    }

    /// Waits for the next operation.
    fn next(&mut self) -> Operation {
        let due = self.registration.poll_timeout().expect("something is to come");
        if due > self.now {
            assert_eq!(self.registration.poll_operation(self.now), None, "not before its time");
            self.now = due;
        }
        let operation = self.registration.poll_operation(self.now).expect("it is due");
        assert_eq!(self.registration.poll_timeout(), None, "one at a time");
        assert_eq!(self.registration.poll_operation(self.now), None, "one at a time");
        operation
    }

    fn next_register(&mut self) -> Register {
        match self.next() {
            Operation::Register(register) => register,
            other => panic!("{other:?} instead of a registration"),
        }
    }

    fn next_heartbeat(&mut self) {
        self.next_asking();
    }

    /// How far the next heartbeat says that the node has been told of bans.
    fn next_asking(&mut self) -> Cursor {
        match self.next() {
            Operation::Heartbeat { node_id: NODE, report: None, bans_since: Some(since) } => since,
            other => panic!("{other:?} instead of a heartbeat"),
        }
    }

    fn answer(&mut self, answer: &Answer) {
        self.registration.handle_answer(self.now, Ok(answer));
    }

    fn silence(&mut self) {
        self.registration.handle_answer(self.now, Err(&away()));
    }

    fn event(&mut self) -> Option<Event> {
        self.registration.poll_event()
    }
}

#[test]
fn a_node_registers_once_it_knows_its_endpoint_and_then_beats() {
    let mut story = Story::new(announcement());
    assert_eq!(story.registration.poll_timeout(), None);
    assert_eq!(story.registration.poll_operation(START), None);
    assert_eq!(story.registration.status(), Status::AwaitingEndpoint);

    let lan = [address("192.168.1.9:4000"), address("[fd00::9]:4000")];
    story.registration.set_endpoint(START, address("198.18.0.5:4000"), &lan);
    assert_eq!(story.registration.status(), Status::Registering);
    let expected = Register {
        listen_addr: "198.18.0.5:4000".into(),
        public_key: KEY,
        owner: "a@example.org".into(),
        hostname: "alpha".into(),
        version: "0.1".into(),
        lan_addrs: vec!["192.168.1.9:4000".into(), "[fd00::9]:4000".into()],
        relay_only: false,
    };
    assert_eq!(story.next_register(), expected);
    assert_eq!(story.now, START, "at once");
    assert!(!story.registration.is_registered());
    story.answer(&Answer::Register(registered(NODE)));
    assert_eq!(story.event(), Some(Event::Registered { node: NODE, address: NODE.address(), anew: true }));
    assert_eq!(story.event(), None);
    assert!(story.registration.is_registered());
    assert_eq!(story.registration.status().to_string(), "registered as node 7");

    for _ in 0..10 {
        let before = story.now;
        story.next_heartbeat();
        assert!(story.now.since(before) <= HEARTBEAT_INTERVAL);
        assert!(story.now.since(before) >= HEARTBEAT_INTERVAL * 9 / 10);
        story.answer(&Answer::Heartbeat { time: 1, bans: None });
    }
    assert_eq!(story.event(), None);
}

#[test]
fn nodes_started_at_once_do_not_beat_at_once() {
    let beats = (0..50).map(|seed| {
        let mut registration = Registration::new(announcement(), KEY, seed);
        registration.set_endpoint(START, address("198.18.0.5:4000"), &[]);
        registration.poll_operation(START).unwrap();
        registration.handle_answer(START, Ok(&Answer::Register(registered(NODE))));
        registration.poll_timeout().unwrap()
    });
    let beats: std::collections::HashSet<u64> = beats.map(|time| time.0 / 100_000_000).collect();
    assert!(beats.len() > 20, "{} of 50 tenths of a second", beats.len());
}

#[test]
fn a_public_node_says_so_after_each_registration() {
    let mut story = Story::registered(Announcement { public: true, ..announcement() });
    assert_eq!(story.next(), Operation::SetVisibility { node_id: NODE, public: true });
    assert_eq!(story.now, START, "at once");
    story.silence();
    assert_eq!(story.next(), Operation::SetVisibility { node_id: NODE, public: true }, "until it is heard");
    story.answer(&Answer::SetVisibility { node_id: NODE, visibility: Visibility::Public });
    story.next_heartbeat();
    story.answer(&error(&node_not_found(NODE)));
    story.next_register();
    story.answer(&Answer::Register(registered(NODE)));
    assert_eq!(story.next(), Operation::SetVisibility { node_id: NODE, public: true });
}

#[test]
fn what_the_user_has_changed_is_announced_again() {
    let mut story = Story::registered(Announcement { public: true, ..announcement() });
    story.registration.set_hostname("beta");
    story.registration.set_visibility(false);
    story.next_heartbeat();
    story.answer(&error(&node_not_found(NODE)));
    assert_eq!(story.next_register().hostname, "beta");
    // While the directory was answering, the user changed the name once more.
    story.registration.set_hostname("gamma");
    story.answer(&Answer::Register(Registered { hostname: Some("beta".into()), ..registered(NODE) }));
    assert_eq!(story.next(), Operation::SetHostname { node_id: NODE, hostname: "gamma".into() });
    story.answer(&Answer::SetHostname { node_id: NODE, hostname: "gamma".into() });
    assert_eq!(story.next(), Operation::SetVisibility { node_id: NODE, public: false });
    story.answer(&Answer::SetVisibility { node_id: NODE, visibility: Visibility::Private });
    story.next_heartbeat();
}

#[test]
fn a_directory_that_overlooks_the_hostname_is_told_again() {
    let mut story = Story::new(announcement());
    story.registration.set_endpoint(START, address("198.18.0.5:4000"), &[]);
    story.next_register();
    story.answer(&Answer::Register(Registered { hostname: None, ..registered(NODE) }));
    assert_eq!(story.next(), Operation::SetHostname { node_id: NODE, hostname: "alpha".into() });
    story.answer(&error("hostname \"alpha\" already in use"));
    assert!(matches!(story.event(), Some(Event::Registered { .. })));
    assert_eq!(story.event(), Some(Event::Complaint("hostname \"alpha\" already in use".into())));
    story.next_heartbeat();
}

#[test]
fn a_hostname_that_another_has_is_complained_of_once() {
    let mut story = Story::new(announcement());
    story.registration.set_endpoint(START, address("198.18.0.5:4000"), &[]);
    let taken = Answer::Register(Registered {
        hostname: None,
        hostname_error: Some("hostname \"alpha\" already in use".into()),
        ..registered(NODE)
    });
    story.next_register();
    story.answer(&taken);
    assert!(matches!(story.event(), Some(Event::Registered { anew: true, .. })));
    assert_eq!(story.event(), Some(Event::Complaint("hostname \"alpha\" already in use".into())));

    let register_again = |story: &mut Story, answer: &Answer| {
        story.next_heartbeat();
        story.answer(&error(&node_not_found(NODE)));
        story.next_register();
        story.answer(answer);
        assert!(matches!(story.event(), Some(Event::Registered { anew: false, .. })));
    };
    register_again(&mut story, &taken);
    assert_eq!(story.event(), None, "known already");
    register_again(&mut story, &Answer::Register(registered(NODE)));
    assert_eq!(story.event(), None);
    register_again(&mut story, &taken);
    assert!(matches!(story.event(), Some(Event::Complaint(_))), "it had been taken meanwhile");
}

#[test]
fn a_heartbeat_from_nobody_is_followed_by_a_registration_at_once() {
    for text in [node_not_found(NODE), SIGNATURE_FAILED.to_owned()] {
        let mut story = Story::registered(announcement());
        story.next_heartbeat();
        let then = story.now;
        story.answer(&error(&text));
        assert!(!story.registration.is_registered());
        story.next_register();
        assert_eq!(story.now, then, "{text}");
        // The directory has lost its data, and gives out numbers from the start again.
        story.answer(&Answer::Register(registered(NodeId(1))));
        assert_eq!(
            story.event(),
            Some(Event::Registered { node: NodeId(1), address: NodeId(1).address(), anew: true })
        );
        assert!(matches!(story.next(), Operation::Heartbeat { node_id: NodeId(1), .. }));
    }
}

#[test]
fn three_failed_heartbeats_are_followed_by_a_registration() {
    let mut story = Story::registered(announcement());
    for _ in 0..HEARTBEAT_FAILURES_MAX {
        assert!(story.registration.is_registered());
        story.next_heartbeat();
        story.answer(&error("request failed"));
    }
    assert_eq!(story.event(), Some(Event::Complaint("request failed".into())));
    assert_eq!(story.event(), None);
    story.next_register();
    assert_eq!(story.registration.node(), Some(NODE), "the id stays");

    // One that succeeds in between makes it start anew.
    let mut story = Story::registered(announcement());
    for _ in 0..2 {
        for _ in 1..HEARTBEAT_FAILURES_MAX {
            story.next_heartbeat();
            story.answer(&error("request failed"));
        }
        story.next_heartbeat();
        story.answer(&Answer::Heartbeat { time: 1, bans: None });
    }
    assert!(story.registration.is_registered());
}

#[test]
fn an_outage_is_borne_with_patience() {
    let mut story = Story::registered(announcement());
    let mut pauses = Vec::new();
    for _ in 0..HEARTBEAT_FAILURES_MAX {
        story.next_heartbeat();
        story.silence();
        pauses.push(story.registration.poll_timeout().unwrap().since(story.now));
    }
    assert_eq!(story.event(), Some(Event::Lost("the directory cannot be reached: connection refused".into())));
    for _ in 0..8 {
        story.next_register();
        story.silence();
        pauses.push(story.registration.poll_timeout().unwrap().since(story.now));
    }
    assert_eq!(story.event(), None, "told once");
    assert_eq!(story.registration.status().to_string(), "node 7; the directory cannot be reached: connection refused");
    for (pause, seconds) in pauses.iter().zip([1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30]) {
        let limit = Duration::from_secs(seconds);
        assert!(*pause <= limit && *pause >= limit / 2, "{pause:?} where {limit:?} is the limit");
    }
    story.next_register();
    story.answer(&Answer::Register(registered(NODE)));
    assert_eq!(story.event(), Some(Event::Back));
    assert!(matches!(story.event(), Some(Event::Registered { anew: false, .. })));
    assert_eq!(story.registration.status(), Status::Registered(NODE));
    story.next_heartbeat();
    story.silence();
    assert!(story.registration.poll_timeout().unwrap().since(story.now) <= Duration::from_secs(1), "from the start");
}

#[test]
fn after_an_outage_nodes_come_back_spread_over_time() {
    let times = (0..100).map(|seed| {
        let mut story = Story { now: START, registration: Registration::new(announcement(), KEY, seed) };
        story.registration.set_endpoint(START, address("198.18.0.5:4000"), &[]);
        while story.now.since(START) < Duration::from_mins(3) {
            story.next_register();
            story.silence();
        }
        story.registration.poll_timeout().unwrap().since(START).as_secs()
    });
    let seconds: std::collections::HashSet<u64> = times.collect();
    assert!(seconds.len() > 15, "100 nodes in {} different seconds", seconds.len());
}

#[test]
fn a_directory_that_is_away_at_the_start_is_told_of() {
    let mut story = Story::new(announcement());
    story.registration.set_endpoint(START, address("198.18.0.5:4000"), &[]);
    story.next_register();
    story.silence();
    assert!(matches!(story.event(), Some(Event::Lost(_))));
    assert!(story.registration.status().to_string().starts_with("not registered; the directory cannot be reached"));
}

#[test]
fn a_refused_registration_is_complained_of_and_tried_again() {
    let mut story = Story::new(announcement());
    story.registration.set_endpoint(START, address("198.18.0.5:4000"), &[]);
    for _ in 0..3 {
        story.next_register();
        story.answer(&error("rate limited: too many registrations\u{1b}[2J"));
    }
    let text = "rate limited: too many registrations[2J";
    assert_eq!(story.event(), Some(Event::Complaint(text.into())), "without what would disturb a terminal");
    assert_eq!(story.event(), None, "told once");
    assert_eq!(story.registration.status(), Status::Refused(text.into()));
    assert!(story.registration.poll_timeout().unwrap().since(story.now) >= Duration::from_secs(2));
    story.next_register();
    story.answer(&Answer::Register(registered(NODE)));
    assert_eq!(story.registration.status(), Status::Registered(NODE));
}

#[test]
fn an_answer_for_another_is_no_registration() {
    for wrong in [
        Answer::Register(registered(NodeId::UNSET)),
        Answer::Register(registered(NodeId::BROADCAST)),
        Answer::Register(Registered { public_key: Base64([8; 32]), ..registered(NODE) }),
        Answer::Register(Registered { address: NodeId(8).address(), ..registered(NODE) }),
        Answer::Heartbeat { time: 1, bans: None },
    ] {
        let mut story = Story::new(announcement());
        story.registration.set_endpoint(START, address("198.18.0.5:4000"), &[]);
        story.next_register();
        story.answer(&wrong);
        assert_eq!(story.registration.node(), None, "{wrong:?}");
        assert!(matches!(story.event(), Some(Event::Complaint(_))));
        story.next_register();
    }
}

#[test]
fn a_node_that_roams_registers_again_with_its_last_endpoint() {
    let mut story = Story::registered(announcement());
    let endpoint = |octet: u64| address(&format!("198.18.0.{octet}:4000"));
    story.now = story.now + Duration::from_secs(5);
    let then = story.now;
    for step in 0..3 {
        let at = then + Duration::from_millis(50 * step);
        story.registration.set_endpoint(at, endpoint(10 + step), &[]);
        assert_eq!(story.registration.poll_operation(at), None);
    }
    assert_eq!(story.next_register().listen_addr, "198.18.0.12:4000");
    assert_eq!(story.now, then + DEBOUNCE, "no later for all the changes");

    // It has moved on while the directory was answering.
    story.registration.set_endpoint(story.now, endpoint(20), &[]);
    assert_eq!(story.registration.poll_operation(story.now + DEBOUNCE), None, "one at a time");
    story.answer(&Answer::Register(registered(NODE)));
    assert!(matches!(story.event(), Some(Event::Registered { anew: false, .. })));
    assert_eq!(story.next_register().listen_addr, "198.18.0.20:4000");
    story.answer(&Answer::Register(registered(NODE)));

    story.registration.set_endpoint(story.now, endpoint(20), &[]);
    story.next_heartbeat();
}

#[test]
fn a_new_network_ends_the_patience() {
    let mut story = Story::new(announcement());
    story.registration.set_endpoint(START, address("198.18.0.5:4000"), &[]);
    for _ in 0..6 {
        story.next_register();
        story.silence();
    }
    story.registration.set_endpoint(story.now, address("198.18.0.6:4000"), &[]);
    let then = story.now;
    story.next_register();
    assert_eq!(story.now, then + DEBOUNCE);
}

#[test]
fn local_addresses_are_bounded_and_stay_at_home_behind_a_relay() {
    let lan: Vec<SocketAddr> = (0..40).map(|octet| address(&format!("10.0.0.{octet}:4000"))).collect();
    for (relay_only, count) in [(false, LAN_ADDRS_MAX), (true, 0)] {
        let mut story = Story::new(Announcement { relay_only, ..announcement() });
        story.registration.set_endpoint(START, address("198.18.0.5:4000"), &lan);
        let register = story.next_register();
        assert_eq!((register.lan_addrs.len(), register.relay_only), (count, relay_only));
    }
}

#[derive(Clone, Debug)]
enum Input {
    Answer(Box<Answer>),
    Silence,
    Endpoint(u8),
    Hostname(String),
    Visibility(bool),
    Pass(u32),
}

fn input() -> impl Strategy<Value = Input> {
    let answer = prop_oneof![
        (0u32..4).prop_map(|node| Answer::Register(registered(NodeId(node)))),
        Just(Answer::Heartbeat { time: 1, bans: None }),
        prop::collection::vec(any::<u32>(), 0..9).prop_map(|nodes| told(&nodes, cursor(nodes.len() as u64))),
        Just(Answer::BeaconList { beacons: Vec::new() }),
        Just(Answer::SetHostname { node_id: NODE, hostname: String::new() }),
        Just(error(SIGNATURE_FAILED)),
        Just(error(&node_not_found(NODE))),
        any::<String>().prop_map(|text| error(&text)),
    ];
    prop_oneof![
        6 => answer.prop_map(|answer| Input::Answer(Box::new(answer))),
        2 => Just(Input::Silence),
        2 => any::<u8>().prop_map(Input::Endpoint),
        1 => "[a-z]{0,3}".prop_map(Input::Hostname),
        1 => any::<bool>().prop_map(Input::Visibility),
        6 => (0u32..90_000).prop_map(Input::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_the_directory_answers_the_node_goes_on_at_a_fair_pace(inputs in prop::collection::vec(input(), 0..200)) {
        let mut story = Story::new(announcement());
        let mut asked = 0;
        let mut provoked = 0;
        let mut outstanding = false;
        for input in inputs {
            match input {
                Input::Answer(answer) => {
                    story.answer(&answer);
                    outstanding = false;
                    provoked += 4;
                }
                Input::Silence => {
                    story.silence();
                    outstanding = false;
                }
                Input::Endpoint(octet) => {
                    let endpoint = SocketAddr::from(([198, 18, 0, octet], 4000));
                    story.registration.set_endpoint(story.now, endpoint, &[]);
                    provoked += 1;
                }
                Input::Hostname(hostname) => story.registration.set_hostname(&hostname),
                Input::Visibility(public) => story.registration.set_visibility(public),
                Input::Pass(milliseconds) => story.now = story.now + Duration::from_millis(milliseconds.into()),
            }
            while let Some(operation) = story.registration.poll_operation(story.now) {
                prop_assert!(!outstanding, "{operation:?} while one is out");
                outstanding = true;
                asked += 1;
            }
            if let Some(due) = story.registration.poll_timeout() {
                prop_assert!(due > story.now);
                prop_assert!(due.since(story.now) <= HEARTBEAT_INTERVAL.max(BACK_OFF_MAX));
            } else {
                prop_assert!(outstanding || story.registration.status() == Status::AwaitingEndpoint);
            }
            while story.registration.poll_event().is_some() {}
            prop_assert!(!story.registration.status().to_string().is_empty());
        }
        let minutes = story.now.since(START).as_secs() / 54 + 1;
        prop_assert!(asked <= provoked + 70 * minutes, "{asked} questions");
    }
}
