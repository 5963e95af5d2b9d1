//! Stories of the path to a peer: which probes go where, and when traffic moves.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::time::Duration;

use agent::Time;
use agent::path::{Action, Kind, Path, State};
use proptest::prelude::*;

const START: Time = Time(1_000_000_000_000);
const RTT: Duration = Duration::from_millis(20);

fn endpoint(number: u8) -> SocketAddr {
    SocketAddr::new([198, 18, 0, number].into(), 4000)
}

fn actions(path: &mut Path) -> Vec<Action> {
    std::iter::from_fn(|| path.poll_action()).collect()
}

fn tokens_to(actions: &[Action], to: SocketAddr) -> Vec<u32> {
    let token = |action: &Action| match action {
        Action::Probe { to: this, token } if *this == to => Some(*token),
        _ => None,
    };
    actions.iter().filter_map(token).collect()
}

/// Lets time pass with nothing heard; what is done meanwhile, and when.
fn silence(path: &mut Path, from: Time, until: Time) -> Vec<(Duration, Action)> {
    let mut done: Vec<_> = actions(path).into_iter().map(|action| (Duration::ZERO, action)).collect();
    while let Some(due) = path.poll_timeout().filter(|due| *due <= until) {
        path.handle_timeout(due);
        done.extend(actions(path).into_iter().map(|action| (due.since(from), action)));
        assert!(done.len() < 100_000, "time does not go on");
    }
    done
}

/// A path that has gone direct to endpoint 1.
fn direct() -> (Path, Time) {
    let mut path = Path::new(START, true);
    path.handle_candidates(START, Kind::Directory, [endpoint(1)]);
    path.handle_session(START);
    let token = tokens_to(&actions(&mut path), endpoint(1))[0];
    path.handle_answer(START + RTT, token);
    assert_eq!(actions(&mut path), [Action::Changed(Some(endpoint(1)))]);
    (path, START + RTT)
}

#[test]
fn a_wish_punches_at_once_and_probes_when_keys_are_there() {
    let mut path = Path::new(START, true);
    path.handle_wish(START);
    path.handle_candidates(START, Kind::Directory, [endpoint(1)]);
    assert_eq!(actions(&mut path), [Action::Punch]);
    path.handle_wish(START);
    assert_eq!(actions(&mut path), []);
    path.handle_session(START + RTT);
    let done = actions(&mut path);
    assert_eq!(tokens_to(&done, endpoint(1)).len(), 1);
    assert!(done.contains(&Action::Punch));
    assert_eq!(path.direct(), None);
}

#[test]
fn only_an_answered_probe_moves_traffic() {
    let mut path = Path::new(START, true);
    path.handle_session(START);
    path.handle_opened(START, Some(endpoint(2)));
    let token = tokens_to(&actions(&mut path), endpoint(2))[0];
    assert_eq!(path.direct(), None);
    path.handle_answer(START, token.wrapping_add(77));
    assert_eq!(path.direct(), None);
    path.handle_answer(START + RTT, token);
    assert_eq!(path.direct(), Some(endpoint(2)));
    assert_eq!(path.rtt(), Some(RTT));
    // The same answer again is of no use to anybody.
    path.handle_answer(START + RTT * 2, token);
    assert_eq!(path.rtt(), Some(RTT));
}

#[test]
fn campaigns_without_success_become_rare_and_end_with_the_traffic() {
    let mut path = Path::new(START, true);
    path.handle_candidates(START, Kind::Directory, [endpoint(1)]);
    path.handle_session(START);
    let done = silence(&mut path, START, START + Duration::from_hours(1));
    let punches: Vec<_> = done.iter().filter(|(_, action)| *action == Action::Punch).map(|(at, _)| *at).collect();
    assert!(punches.last().unwrap() < &Duration::from_mins(2), "{punches:?}");
    assert!(punches.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(900)), "{punches:?}");
    // Traffic goes on: attempts do too, but not often.
    let mut path = Path::new(START, true);
    path.handle_candidates(START, Kind::Directory, [endpoint(1)]);
    path.handle_session(START);
    let mut punches = 0;
    for second in 0..3600 {
        let now = START + Duration::from_secs(second);
        path.handle_wish(now);
        punches += silence(&mut path, now, now).iter().filter(|(_, action)| *action == Action::Punch).count();
    }
    assert!((20..100).contains(&punches), "{punches}");
}

#[test]
fn silence_after_something_was_sent_ends_a_direct_path_within_two_seconds() {
    let (mut path, now) = direct();
    assert_eq!(silence(&mut path, now, now + Duration::from_secs(20)), [], "nothing sent, nothing awaited");
    let now = now + Duration::from_secs(20);
    path.handle_sent(now);
    let done = silence(&mut path, now, now + Duration::from_secs(2));
    let changed = done.iter().find(|(_, action)| *action == Action::Changed(None)).unwrap();
    assert!(changed.0 < Duration::from_secs(2), "{done:?}");
    assert!(tokens_to(&done.iter().map(|(_, action)| *action).collect::<Vec<_>>(), endpoint(1)).len() >= 3);
    assert_eq!(path.candidates()[0].state(), State::Doubted);
}

#[test]
fn an_answered_probe_keeps_a_quiet_peer_direct() {
    let (mut path, mut now) = direct();
    for _ in 0..1000 {
        path.handle_sent(now);
        let due = path.poll_timeout().unwrap();
        path.handle_timeout(due);
        let token = tokens_to(&actions(&mut path), endpoint(1))[0];
        path.handle_answer(due + RTT, token);
        now = due + RTT;
        assert_eq!(path.direct(), Some(endpoint(1)));
    }
}

#[test]
fn a_quiet_path_is_kept_open_as_often_as_the_nat_needs_it() {
    let (mut path, mut now) = direct();
    path.set_keepalive(Duration::from_secs(10));
    let began = now;
    for _ in 0..5 {
        now = path.poll_timeout().unwrap();
        path.handle_timeout(now);
        let token = tokens_to(&actions(&mut path), endpoint(1))[0];
        path.handle_answer(now + RTT, token);
    }
    assert!(now.since(began) <= Duration::from_secs(50) && now.since(began) >= Duration::from_secs(49));
    assert_eq!(path.direct(), Some(endpoint(1)));
}

#[test]
fn the_network_must_say_twice_that_a_path_is_closed() {
    let (mut path, now) = direct();
    path.handle_unreachable(now, endpoint(1));
    assert_eq!(path.direct(), Some(endpoint(1)));
    path.handle_opened(now, Some(endpoint(1)));
    path.handle_unreachable(now, endpoint(1));
    assert_eq!(path.direct(), Some(endpoint(1)));
    path.handle_unreachable(now, endpoint(1));
    assert_eq!(path.direct(), None);
    let done = silence(&mut path, now, now + Duration::from_secs(3));
    assert!(!tokens_to(&done.iter().map(|(_, action)| *action).collect::<Vec<_>>(), endpoint(1)).is_empty());
}

#[test]
fn a_peer_that_moves_is_followed() {
    let (mut path, now) = direct();
    path.handle_sent(now);
    let due = path.poll_timeout().unwrap();
    path.handle_timeout(due);
    path.handle_opened(due, Some(endpoint(9)));
    let token = tokens_to(&actions(&mut path), endpoint(9))[0];
    path.handle_answer(due + RTT, token);
    assert_eq!(path.direct(), Some(endpoint(9)));
}

#[test]
fn two_paths_that_work_do_not_take_turns_but_a_much_nearer_one_wins() {
    let (mut path, now) = direct();
    for (number, rtt, moves) in [(2, RTT, false), (3, RTT.mul_f32(0.9), false), (4, RTT / 4, true)] {
        path.handle_opened(now, Some(endpoint(number)));
        let token = tokens_to(&actions(&mut path), endpoint(number))[0];
        path.handle_answer(now + rtt, token);
        assert_eq!(path.direct() == Some(endpoint(number)), moves, "{number}");
    }
}

#[test]
fn who_wants_the_relay_gets_nothing_else() {
    let mut path = Path::new(START, false);
    path.handle_candidates(START, Kind::Directory, [endpoint(1)]);
    path.handle_wish(START);
    path.handle_session(START);
    path.handle_opened(START, Some(endpoint(1)));
    path.handle_preference(START);
    assert_eq!(silence(&mut path, START, START + Duration::from_hours(1)), []);
    let (mut path, now) = direct();
    path.forbid_direct(now);
    assert_eq!(actions(&mut path), [Action::Changed(None)]);
    path.handle_preference(now);
    assert_eq!(silence(&mut path, now, now + Duration::from_hours(1)), []);
}

#[test]
fn endpoints_where_nobody_can_be_are_no_candidates() {
    let mut path = Path::new(START, true);
    let nowhere =
        ["0.0.0.0:4000", "224.0.0.1:4000", "255.255.255.255:4000", "198.18.0.1:0", "[ff02::1]:4000", "[::]:1"];
    path.handle_candidates(START, Kind::Punched, nowhere.map(|text| text.parse().unwrap()));
    assert!(path.candidates().is_empty());
}

#[derive(Clone, Debug)]
enum Input {
    Wish,
    Session,
    Candidate(u8),
    Opened(Option<u8>),
    Answer(u32),
    Sent,
    Unreachable(u8),
    NetworkChange,
    Forbid,
    Wait(u64),
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::Wish),
        Just(Input::Session),
        any::<u8>().prop_map(Input::Candidate),
        any::<Option<u8>>().prop_map(Input::Opened),
        (0..200_u32).prop_map(Input::Answer),
        Just(Input::Sent),
        (0..8_u8).prop_map(Input::Unreachable),
        Just(Input::NetworkChange),
        Just(Input::Forbid),
        (0..5_000_000_000_u64).prop_map(Input::Wait),
    ]
}

proptest! {
    /// Whatever happens: bounded memory, bounded work, and never a direct path that no probe has proven.
    #[test]
    fn a_direct_path_is_always_a_proven_one(inputs in prop::collection::vec(input(), 1..300)) {
        let (mut path, mut now) = (Path::new(START, true), START);
        let mut probed = std::collections::HashMap::new();
        let mut proven = std::collections::HashSet::new();
        for input in inputs {
            match input {
                Input::Wish => path.handle_wish(now),
                Input::Session => path.handle_session(now),
                Input::Candidate(number) => path.handle_candidates(now, Kind::Punched, [endpoint(number)]),
                Input::Opened(from) => path.handle_opened(now, from.map(endpoint)),
                Input::Answer(token) => {
                    proven.extend(probed.get(&token).copied());
                    path.handle_answer(now, token);
                }
                Input::Sent => path.handle_sent(now),
                Input::Unreachable(number) => path.handle_unreachable(now, endpoint(number)),
                Input::NetworkChange => path.handle_network_change(now),
                Input::Forbid => path.forbid_direct(now),
                Input::Wait(nanoseconds) => {
                    now = now + Duration::from_nanos(nanoseconds);
                    path.handle_timeout(now);
                }
            }
            let done = actions(&mut path);
            prop_assert!(done.len() <= 64, "{} actions at once", done.len());
            for action in done {
                if let Action::Probe { to, token } = action {
                    probed.insert(token, to);
                }
            }
            prop_assert!(path.candidates().len() <= 16);
            prop_assert!(path.direct().is_none_or(|direct| proven.contains(&direct)));
        }
    }
}
