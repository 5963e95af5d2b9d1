//! Stories of the path to a peer: which probes go where, and when traffic moves.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::time::Duration;

use agent::Time;
use agent::path::{Action, Kind, Path, State, Token};
use proptest::prelude::*;

const START: Time = Time(1_000_000_000_000);
const RTT: Duration = Duration::from_millis(20);
const SEED: [u8; 32] = [7; 32];
const SECOND: Duration = Duration::from_secs(1);

fn endpoint(number: u8) -> SocketAddr {
    SocketAddr::new([198, 18, 0, number].into(), 4000)
}

fn actions(path: &mut Path) -> Vec<Action> {
    std::iter::from_fn(|| path.poll_action()).collect()
}

fn tokens_to(actions: &[Action], to: SocketAddr) -> Vec<Token> {
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
    let mut path = Path::new(START, true, &SEED);
    path.handle_wish(START);
    path.handle_candidates(START, Kind::Directory, [endpoint(1)]);
    path.handle_session(START);
    let token = tokens_to(&actions(&mut path), endpoint(1))[0];
    path.handle_answer(START + RTT, token);
    assert_eq!(actions(&mut path), [Action::Changed(Some(endpoint(1)))]);
    (path, START + RTT)
}

/// The direct path dies: a second or two of silence. When that is noticed.
fn die(path: &mut Path, now: Time) -> Time {
    path.handle_sent(now);
    let done = silence(path, now, now + SECOND * 5 / 2);
    let death = done.iter().find(|(_, action)| *action == Action::Changed(None)).unwrap();
    now + death.0
}

#[test]
fn a_wish_punches_at_once_and_probes_when_keys_are_there() {
    let mut path = Path::new(START, true, &SEED);
    path.handle_wish(START);
    path.handle_candidates(START, Kind::Directory, [endpoint(1)]);
    assert_eq!(actions(&mut path), [Action::Punch]);
    path.handle_wish(START);
    assert_eq!(actions(&mut path), []);
    path.handle_session(START + RTT);
    let done = actions(&mut path);
    assert_eq!(tokens_to(&done, endpoint(1)).len(), 1);
    assert_eq!(done.len(), 1, "the campaign goes on as it began: {done:?}");
    assert_eq!(path.direct(), None);
}

#[test]
fn keys_alone_begin_nothing() {
    let mut path = Path::new(START, true, &SEED);
    path.handle_candidates(START, Kind::Punched, [endpoint(1)]);
    for second in 0..100 {
        path.handle_session(START + SECOND * second);
        path.handle_sent(START + SECOND * second);
    }
    assert_eq!(silence(&mut path, START, START + Duration::from_hours(1)), []);
    path.handle_wish(START + Duration::from_hours(1));
    let done = actions(&mut path);
    assert!(done.contains(&Action::Punch) && tokens_to(&done, endpoint(1)).len() == 1, "{done:?}");
}

#[test]
fn keys_again_and_again_neither_cut_a_rest_short_nor_start_a_campaign_anew() {
    let work = |keys: bool| {
        let mut path = Path::new(START, true, &SEED);
        path.handle_wish(START);
        path.handle_candidates(START, Kind::Directory, [endpoint(1)]);
        path.handle_session(START);
        let mut done = silence(&mut path, START, START + SECOND * 3);
        // The campaign is under way, then it rests.
        for seconds in [3, 5] {
            for _ in 0..if keys { 50 } else { 0 } {
                path.handle_session(START + SECOND * seconds);
            }
            done.extend(silence(&mut path, START, START + SECOND * seconds));
        }
        assert!(done.len() <= 13, "{done:?}");
        done.extend(silence(&mut path, START, START + SECOND * 30));
        done.iter().filter(|(_, action)| *action == Action::Punch).map(|(at, _)| *at).collect::<Vec<_>>()
    };
    assert_eq!(work(true), work(false));
}

#[test]
fn an_answer_must_bring_back_what_only_the_receiver_of_the_probe_knows() {
    let (victim, other) = (endpoint(66), Path::new(START, true, &[8; 32]));
    let mut tokens = Vec::new();
    for mut path in [Path::new(START, true, &SEED), Path::new(START + RTT, true, &SEED), other] {
        path.handle_session(START + RTT);
        path.handle_opened(START + RTT, Some(victim));
        let token = tokens_to(&actions(&mut path), victim)[0];
        for sequence in 0..100 {
            for payload in [[0; 8], u64::from(sequence).to_be_bytes()] {
                path.handle_answer(START + RTT * 2, Token { sequence, payload });
            }
            path.handle_answer(START + RTT * 2, Token { sequence: token.sequence + 1 + sequence, ..token });
        }
        assert_eq!(path.direct(), None, "guesses prove nothing");
        tokens.push(token);
        path.handle_answer(START + RTT * 2, token);
        assert_eq!(path.direct(), Some(victim));
        assert!(!format!("{path:?}").contains("[7, 7"), "the secret is not shown");
    }
    assert!(tokens.iter().enumerate().all(|(index, token)| !tokens[..index].contains(token)), "{tokens:?}");
}

#[test]
fn only_an_answered_probe_moves_traffic() {
    let mut path = Path::new(START, true, &SEED);
    path.handle_session(START);
    path.handle_opened(START, Some(endpoint(2)));
    let token = tokens_to(&actions(&mut path), endpoint(2))[0];
    assert_eq!(path.direct(), None);
    let first = token;
    path.handle_answer(START, Token { sequence: token.sequence + 77, ..token });
    assert_eq!(path.direct(), None);
    path.handle_answer(START + RTT, token);
    assert_eq!(path.direct(), Some(endpoint(2)));
    assert_eq!(path.rtt(), Some(RTT));
    // Nor does one that somebody has kept back.
    path.handle_opened(START + SECOND, Some(endpoint(3)));
    let token = tokens_to(&actions(&mut path), endpoint(3))[0];
    path.handle_answer(START + SECOND * 5, token);
    assert_eq!(path.candidates()[1].rtt(), None);
    // The same answer again is of no use to anybody.
    path.handle_answer(START + RTT * 2, first);
    assert_eq!(path.rtt(), Some(RTT));
}

#[test]
fn campaigns_without_success_become_rare_and_end_with_the_traffic() {
    let mut path = Path::new(START, true, &SEED);
    path.handle_wish(START);
    path.handle_candidates(START, Kind::Directory, [endpoint(1)]);
    path.handle_session(START);
    let done = silence(&mut path, START, START + Duration::from_hours(1));
    let punches: Vec<_> = done.iter().filter(|(_, action)| *action == Action::Punch).map(|(at, _)| *at).collect();
    assert!(punches.last().unwrap() < &Duration::from_mins(2), "{punches:?}");
    assert!(punches.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(900)), "{punches:?}");
    // Traffic goes on: attempts do too, but not often.
    let mut path = Path::new(START, true, &SEED);
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
    path.handle_wish(now);
    let done = silence(&mut path, now, now + Duration::from_secs(3));
    assert!(!tokens_to(&done.iter().map(|(_, action)| *action).collect::<Vec<_>>(), endpoint(1)).is_empty());
}

#[test]
fn a_peer_that_moves_is_followed() {
    let (mut path, now) = direct();
    path.handle_sent(now);
    let due = path.poll_timeout().unwrap();
    path.handle_timeout(due);
    actions(&mut path);
    path.handle_opened(due, Some(endpoint(9)));
    let token = tokens_to(&actions(&mut path), endpoint(9))[0];
    // The old endpoint has had time to answer, and has not.
    path.handle_answer(due + RTT * 2, token);
    assert_eq!(path.direct(), Some(endpoint(9)));
}

#[test]
fn a_peer_whose_nat_gives_it_another_endpoint_is_followed_before_the_old_one_is_given_up() {
    let (mut path, mut now) = direct();
    // It is heard from there before anybody doubts the old endpoint, and answers there.
    path.handle_sent(now);
    path.handle_opened(now, Some(endpoint(9)));
    let token = tokens_to(&actions(&mut path), endpoint(9))[0];
    path.handle_answer(now + RTT, token);
    assert_eq!(path.direct(), Some(endpoint(1)), "both work, as far as is known");
    let (began, mut moves) = (now, Vec::new());
    while moves.is_empty() {
        now = path.poll_timeout().unwrap();
        path.handle_timeout(now);
        let done = actions(&mut path);
        tokens_to(&done, endpoint(9)).into_iter().for_each(|token| {
            path.handle_answer(now + RTT, token);
        });
        moves.extend(done.into_iter().chain(actions(&mut path)).filter(|done| matches!(done, Action::Changed(_))));
    }
    assert_eq!(moves, [Action::Changed(Some(endpoint(9)))], "nobody was sent back to the relay in between");
    assert!(now.since(began) <= Duration::from_millis(420), "{:?}", now.since(began));
}

#[test]
fn groundless_doubt_moves_no_traffic() {
    // The peer's frames come from one endpoint and its answers belong to another; both work.
    let (mut path, mut now) = direct();
    let mut probes = 0;
    for _ in 0..1000 {
        path.handle_sent(now);
        path.handle_opened(now + RTT / 2, Some(endpoint(2)));
        let due = path.poll_timeout().unwrap();
        path.handle_timeout(due);
        let done = actions(&mut path);
        probes += tokens_to(&done, endpoint(2)).len();
        let tokens = [endpoint(2), endpoint(1)].map(|to| tokens_to(&done, to));
        tokens.into_iter().flatten().for_each(|token| {
            path.handle_answer(due + RTT, token);
        });
        now = due + RTT;
        assert_eq!(path.direct(), Some(endpoint(1)));
    }
    let minutes = usize::try_from(now.since(START).as_secs() / 60).unwrap() + 1;
    assert!(probes <= minutes * 4, "{probes} in {minutes} minutes");
}

#[test]
fn a_path_that_dies_often_is_tried_less_and_less_often() {
    let (mut path, mut now) = direct();
    let mut rests = Vec::new();
    let revive = |path: &mut Path, died: Time| {
        let mut now = died;
        loop {
            // The peer is heard there all the time; that does not bring it back either.
            now = (now + Duration::from_millis(200)).min(path.poll_timeout().unwrap_or(now + SECOND));
            path.handle_wish(now);
            path.handle_opened(now, Some(endpoint(1)));
            path.handle_timeout(now);
            if let Some(token) = tokens_to(&actions(path), endpoint(1)).first() {
                path.handle_answer(now + RTT, *token);
                actions(path);
                return now + RTT;
            }
        }
    };
    for _ in 0..8 {
        let died = die(&mut path, now);
        now = revive(&mut path, died);
        assert_eq!(path.direct(), Some(endpoint(1)));
        rests.push(now.since(died).as_secs());
    }
    assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60]);
    // A minute of work, and it is forgotten.
    now = now + Duration::from_secs(61);
    path.handle_opened(now, Some(endpoint(1)));
    let died = die(&mut path, now);
    assert_eq!(revive(&mut path, died).since(died).as_secs(), 1);
}

#[test]
fn a_late_answer_does_not_bring_a_dead_path_back() {
    let (mut path, now) = direct();
    path.handle_sent(now);
    let mut done: Vec<_> = Vec::new();
    while path.direct().is_some() {
        path.handle_timeout(path.poll_timeout().unwrap());
        done.extend(actions(&mut path));
    }
    let tokens = tokens_to(&done, endpoint(1));
    assert!(tokens.len() >= 4);
    tokens.into_iter().for_each(|token| {
        path.handle_answer(now + SECOND * 3, token);
    });
    assert_eq!(path.direct(), None);
}

#[test]
fn frames_from_where_none_arrive_cause_few_probes() {
    let mut path = Path::new(START, true, &SEED);
    path.handle_session(START);
    let mut done = Vec::new();
    for tick in 0..60_000 {
        let now = START + Duration::from_millis(tick);
        path.handle_opened(now, Some(endpoint(2)));
        done.extend(tokens_to(&actions(&mut path), endpoint(2)).into_iter().map(|token| (now, token)));
    }
    assert!((8..=12).contains(&done.len()), "{} probes in a minute", done.len());
    // One that is answered, and hearing counts for more again.
    let (at, token) = *done.last().unwrap();
    path.handle_answer(at + RTT, token);
    assert_eq!(path.direct(), Some(endpoint(2)));
}

#[test]
fn a_calm_path_is_no_reason_to_probe_wherever_the_peer_is_heard() {
    let (mut path, start) = direct();
    let mut probes = 0;
    for tick in 0..6000 {
        let now = start + Duration::from_millis(tick * 100);
        path.handle_opened(now, Some(endpoint(1)));
        path.handle_opened(now, Some(SocketAddr::new([198, 18, 1, 1].into(), 1000 + u16::try_from(tick).unwrap())));
        probes += actions(&mut path).len();
    }
    assert!((30..=40).contains(&probes), "{probes} in ten minutes");
    assert_eq!(path.direct(), Some(endpoint(1)));
}

#[test]
fn what_has_worked_yields_to_nothing_that_has_not() {
    let (mut path, now) = direct();
    path.handle_candidates(now, Kind::Lan, [endpoint(2)]);
    path.handle_candidates(now, Kind::Directory, [endpoint(3)]);
    // Endpoint 4 works as well.
    path.handle_opened(now, Some(endpoint(4)));
    let token = tokens_to(&actions(&mut path), endpoint(4))[0];
    path.handle_answer(now + RTT, token);
    let punched = |path: &Path| path.candidates().iter().filter(|candidate| candidate.kind == Kind::Punched).count();
    for number in 100..200 {
        path.handle_candidates(now, Kind::Punched, [endpoint(number)]);
        assert!(punched(&path) <= 4);
    }
    assert!(path.knows(endpoint(199)) && path.knows(endpoint(196)) && !path.knows(endpoint(195)), "the oldest yields");
    for number in 10..100 {
        path.handle_opened(now, Some(endpoint(number)));
        assert!(path.knows(endpoint(number)) && path.candidates().len() <= 16);
    }
    assert!((1..=4).all(|number| path.knows(endpoint(number))), "{:?}", path.candidates());
    assert_eq!(punched(&path), 0);
}

#[test]
fn a_peer_that_has_been_in_many_places_is_found_in_another() {
    let (mut path, mut now) = direct();
    for number in 2..=40 {
        now = now + Duration::from_hours(1);
        path.handle_opened(now, Some(endpoint(1)));
        path.handle_opened(now, Some(endpoint(number)));
        let token = tokens_to(&actions(&mut path), endpoint(number))[0];
        path.handle_answer(now + RTT, token);
    }
    assert!(path.candidates().iter().all(|candidate| candidate.state() == State::Valid));
    let known: Vec<_> = (1..=40).filter(|number| path.knows(endpoint(*number))).collect();
    assert_eq!(known[0], 1, "the one in use");
    assert_eq!(known[1..], (26..=40).collect::<Vec<_>>()[..], "and those heard last");
    // Made-up endpoints drive out one of them, then each other.
    path.handle_candidates(now, Kind::Directory, (100..200).map(endpoint));
    let left = (1..=40).filter(|number| path.knows(endpoint(*number))).count();
    assert_eq!(left, 15);
}

#[test]
fn one_endpoint_in_two_forms_is_one_candidate() {
    let mapped: SocketAddr = "[::ffff:198.18.0.1]:4000".parse().unwrap();
    let mut path = Path::new(START, true, &SEED);
    path.handle_wish(START);
    path.handle_session(START);
    path.handle_candidates(START, Kind::Directory, [endpoint(1), mapped]);
    path.handle_opened(START, Some(mapped));
    assert_eq!(path.candidates().len(), 1);
    let token = tokens_to(&actions(&mut path), endpoint(1))[0];
    path.handle_answer(START + RTT, token);
    assert_eq!(path.direct(), Some(endpoint(1)));
    assert!(path.knows(mapped));
    path.handle_unreachable(START + RTT, mapped);
    path.handle_unreachable(START + RTT, mapped);
    assert_eq!(path.direct(), None);
}

#[test]
fn the_last_resort_is_an_endpoint_that_has_proven_itself() {
    let mut path = Path::new(START, true, &SEED);
    path.handle_session(START);
    path.handle_opened(START, Some(endpoint(66)));
    assert_eq!(path.last_resort(), None, "whoever sends a copy may be anywhere");
    let (mut path, now) = direct();
    let died = die(&mut path, now);
    path.handle_opened(died, Some(endpoint(66)));
    assert_eq!((path.direct(), path.last_resort()), (None, Some(endpoint(1))));
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
    let mut path = Path::new(START, false, &SEED);
    path.handle_candidates(START, Kind::Directory, [endpoint(1)]);
    path.handle_wish(START);
    path.handle_session(START);
    path.handle_opened(START, Some(endpoint(1)));
    path.handle_preference(START);
    assert_eq!(silence(&mut path, START, START + Duration::from_hours(1)), []);
    let (mut path, now) = direct();
    path.set_direct_allowed(now, false);
    assert_eq!(actions(&mut path), [Action::Changed(None)]);
    path.handle_preference(now);
    assert_eq!(silence(&mut path, now, now + Duration::from_hours(1)), []);
    assert!(path.candidates().is_empty() && path.last_resort().is_none());
}

#[test]
fn a_peer_that_does_not_hide_any_more_is_reached_directly_again() {
    let (mut path, now) = direct();
    path.set_direct_allowed(now, true);
    assert_eq!(actions(&mut path), []);
    path.set_direct_allowed(now, false);
    path.handle_wish(now);
    actions(&mut path);
    path.set_direct_allowed(now, true);
    path.handle_candidates(now, Kind::Directory, [endpoint(1)]);
    let done = actions(&mut path);
    assert!(done.contains(&Action::Punch), "{done:?}");
    path.handle_answer(now + RTT, tokens_to(&done, endpoint(1))[0]);
    assert_eq!(path.direct(), Some(endpoint(1)));
}

#[test]
fn endpoints_where_nobody_can_be_are_no_candidates() {
    let mut path = Path::new(START, true, &SEED);
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
    /// With the right payload, or a made-up one.
    Answer(u32, bool),
    Sent,
    Unreachable(u8),
    NetworkChange,
    Preference,
    Allow(bool),
    Wait(u64),
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::Wish),
        Just(Input::Session),
        any::<u8>().prop_map(Input::Candidate),
        any::<Option<u8>>().prop_map(Input::Opened),
        (0..200_u32, any::<bool>()).prop_map(|(sequence, true_payload)| Input::Answer(sequence, true_payload)),
        Just(Input::Sent),
        (0..8_u8).prop_map(Input::Unreachable),
        Just(Input::NetworkChange),
        Just(Input::Preference),
        any::<bool>().prop_map(Input::Allow),
        (0..5_000_000_000_u64).prop_map(Input::Wait),
    ]
}

proptest! {
    /// Whatever happens: bounded memory, bounded work, and never a direct path that no probe has proven.
    #[test]
    fn a_direct_path_is_always_a_proven_one(inputs in prop::collection::vec(input(), 1..300)) {
        let (mut path, mut now) = (Path::new(START, true, &SEED), START);
        let mut probed = std::collections::HashMap::new();
        let mut proven = std::collections::HashSet::new();
        for input in inputs {
            match input {
                Input::Wish => path.handle_wish(now),
                Input::Session => path.handle_session(now),
                Input::Candidate(number) => path.handle_candidates(now, Kind::Punched, [endpoint(number)]),
                Input::Opened(from) => path.handle_opened(now, from.map(endpoint)),
                Input::Answer(sequence, true) => {
                    if let Some((token, to)) = probed.get(&sequence) {
                        proven.insert(*to);
                        path.handle_answer(now, *token);
                    }
                }
                Input::Answer(sequence, false) => drop(path.handle_answer(now, Token { sequence, payload: [0; 8] })),
                Input::Sent => path.handle_sent(now),
                Input::Unreachable(number) => path.handle_unreachable(now, endpoint(number)),
                Input::NetworkChange => path.handle_network_change(now),
                Input::Preference => path.handle_preference(now),
                Input::Allow(allowed) => path.set_direct_allowed(now, allowed),
                Input::Wait(nanoseconds) => {
                    now = now + Duration::from_nanos(nanoseconds);
                    path.handle_timeout(now);
                }
            }
            let done = actions(&mut path);
            prop_assert!(done.len() <= 64, "{} actions at once", done.len());
            for action in done {
                if let Action::Probe { to, token } = action {
                    probed.insert(token.sequence, (token, to));
                }
            }
            prop_assert!(path.candidates().len() <= 16);
            let used = path.direct().into_iter().chain(path.last_resort());
            prop_assert!(used.into_iter().all(|endpoint| proven.contains(&endpoint)));
            prop_assert!(path.direct_allowed() || path.candidates().is_empty());
        }
    }
}
