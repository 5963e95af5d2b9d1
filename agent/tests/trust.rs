//! Stories of trust between nodes, a directory that keeps requests, and a user.
#![expect(clippy::cast_possible_wrap, reason = "times in tests are small")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent::Time;
use agent::identity::Identity;
use agent::trust::{CommandError, MESSAGES_PER_PEER_MAX, Output, PENDING_MAX, Refusal, Trust, store};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use wire::NodeId;
use wire::registry::Operation;
use wire::registry::answer::{Answer, HandshakeRequest, HandshakeResponse};
use wire::services::handshake::{Kind, Message, signed_text};

const START: Time = Time(1_000_000_000_000);
const UNIX: u64 = 1_767_225_600;
const ALICE: NodeId = NodeId(1);
const BOB: NodeId = NodeId(2);

fn identity(node: NodeId) -> Identity {
    Identity::from_seed(&[node.0 as u8; 32])
}

fn key(node: NodeId) -> [u8; 32] {
    identity(node).public_key()
}

fn trust(node: NodeId, auto_approve: bool) -> Trust {
    let mut trust = Trust::new(Arc::new(identity(node)), auto_approve);
    trust.set_wall_clock(UNIX);
    trust.set_own(START, node);
    trust
}

fn message(from: NodeId, to: NodeId, kind: Kind) -> Message {
    Message {
        kind,
        node_id: from,
        public_key: BASE64.encode(key(from)),
        justification: String::new(),
        signature: BASE64.encode(identity(from).sign(signed_text(from, to).as_bytes())),
        reason: String::new(),
        timestamp: UNIX as i64,
    }
}

fn outputs(trust: &mut Trust) -> Vec<Output> {
    std::iter::from_fn(|| trust.poll_output()).collect()
}

fn asks(outputs: &[Output]) -> Vec<&Operation> {
    outputs
        .iter()
        .filter_map(|output| if let Output::Ask(operation) = output { Some(operation) } else { None })
        .collect()
}

fn sent(outputs: &[Output]) -> Vec<(NodeId, Message)> {
    let decode = |message: &[u8]| Message::decode(message).unwrap().unwrap();
    let sent = outputs.iter().filter_map(|output| match output {
        Output::Send { peer, message } => Some((*peer, decode(message))),
        _ => None,
    });
    sent.collect()
}

/// Two nodes and the directory between them, which keeps what is for either until it is fetched.
struct World {
    nodes: BTreeMap<NodeId, Trust>,
    requests: BTreeMap<NodeId, Vec<HandshakeRequest>>,
    responses: BTreeMap<NodeId, Vec<HandshakeResponse>>,
    /// `report_trust` of the first for the second.
    reports: Vec<(NodeId, NodeId)>,
    /// Whether messages on port 444 arrive.
    is_direct: bool,
    now: Time,
}

impl World {
    fn new(is_direct: bool) -> Self {
        let nodes = [ALICE, BOB].map(|node| (node, trust(node, false)));
        let (requests, responses) = (BTreeMap::new(), BTreeMap::new());
        Self { nodes: nodes.into(), requests, responses, reports: Vec::new(), is_direct, now: START }
    }

    fn node(&mut self, node: NodeId) -> &mut Trust {
        self.nodes.get_mut(&node).unwrap()
    }

    /// Carries everything until nobody has anything to say.
    fn settle(&mut self) {
        for _ in 0..100 {
            let mut is_quiet = true;
            for node in [ALICE, BOB] {
                while let Some(output) = self.node(node).poll_output() {
                    is_quiet = false;
                    self.carry(node, output);
                }
            }
            if is_quiet {
                return;
            }
        }
        panic!("they never stop talking");
    }

    fn carry(&mut self, from: NodeId, output: Output) {
        let now = self.now;
        match output {
            Output::Send { peer, message } if self.is_direct => {
                assert_ne!(self.node(peer).handle_message(now, from, key(from), &message), Err(Refusal::Incomplete));
                self.node(from).handle_sent(peer);
            }
            Output::Send { peer, .. } => self.node(from).handle_send_failed(now, peer),
            Output::Ask(operation) => {
                let answer = self.answer(&operation);
                self.node(from).handle_answer(now, operation, Some(&answer));
            }
            _ => {}
        }
    }

    fn answer(&mut self, operation: &Operation) -> Answer {
        match operation {
            Operation::RequestHandshake { from_node_id, to_node_id, justification } => {
                let request = HandshakeRequest {
                    from_node_id: *from_node_id,
                    justification: justification.clone(),
                    public_key: None,
                    timestamp: UNIX,
                };
                self.requests.entry(*to_node_id).or_default().push(request);
                Answer::RequestHandshake { status: wire::registry::answer::Delivered::Delivered }
            }
            Operation::RespondHandshake { node_id, peer_id, accept } => {
                let response = HandshakeResponse { from_node_id: *node_id, accept: *accept, timestamp: UNIX };
                self.responses.entry(*peer_id).or_default().push(response);
                Answer::RespondHandshake { peer_id: *peer_id, accept: *accept }
            }
            Operation::PollHandshakes { node_id } => Answer::PollHandshakes {
                requests: self.requests.remove(node_id).unwrap_or_default(),
                responses: self.responses.remove(node_id).unwrap_or_default(),
            },
            Operation::ReportTrust { node_id, peer_id } => {
                self.reports.push((*node_id, *peer_id));
                Answer::ReportTrust
            }
            Operation::RevokeTrust { node_id, peer_id } => {
                self.reports.retain(|pair| *pair != (*node_id, *peer_id));
                Answer::RevokeTrust
            }
            other => panic!("nobody needs to ask {other:?}"),
        }
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            for node in [ALICE, BOB] {
                let now = self.now;
                if self.node(node).poll_timeout().is_some_and(|due| due <= now) {
                    self.node(node).handle_timeout(now);
                }
            }
            self.settle();
        }
    }

    fn trusts(&self) -> [bool; 2] {
        [self.nodes[&ALICE].trusts(BOB), self.nodes[&BOB].trusts(ALICE)]
    }
}

#[test]
fn a_request_that_the_user_approves_makes_trust_on_both_sides() {
    for is_direct in [true, false] {
        let mut world = World::new(is_direct);
        world.node(ALICE).request(START, BOB, "hello").unwrap();
        world.pass(61);
        let pending: Vec<_> = world.node(BOB).pending().cloned().collect();
        assert_eq!(pending.len(), 1, "direct: {is_direct}");
        assert_eq!((pending[0].node_id, pending[0].justification.as_str()), (ALICE, "hello"));
        assert_eq!(world.trusts(), [false, false]);
        let now = world.now;
        assert_eq!(world.node(BOB).approve(now, ALICE), Ok(true));
        world.pass(3);
        assert_eq!(world.trusts(), [true, true], "direct: {is_direct}");
        assert!(world.reports.contains(&(ALICE, BOB)) && world.reports.contains(&(BOB, ALICE)));
        assert_eq!(world.node(BOB).pending().len(), 0);
    }
}

#[test]
fn two_that_ask_each_other_need_no_user() {
    let mut world = World::new(false);
    world.node(ALICE).request(START, BOB, "").unwrap();
    world.node(BOB).request(START, ALICE, "").unwrap();
    world.pass(3);
    assert_eq!(world.trusts(), [true, true]);
}

#[test]
fn asking_one_that_has_asked_approves_it() {
    let mut world = World::new(true);
    world.node(ALICE).request(START, BOB, "").unwrap();
    world.settle();
    world.node(BOB).request(START, ALICE, "").unwrap();
    world.settle();
    assert_eq!(world.trusts(), [true, true]);
}

#[test]
fn a_rejected_request_leaves_no_trust_and_an_accept_after_it_changes_nothing() {
    let mut world = World::new(true);
    world.node(ALICE).request(START, BOB, "").unwrap();
    world.settle();
    assert_eq!(world.node(BOB).reject(START, ALICE, "do not know you"), Ok(true));
    let rejection = sent(&outputs(world.node(BOB)));
    assert_eq!((rejection[0].1.kind, rejection[0].1.reason.as_str()), (Kind::Reject, "do not know you"));
    let bytes = rejection[0].1.encode();
    assert_eq!(world.node(ALICE).handle_message(START, BOB, key(BOB), &bytes), Ok(()));
    let rejected = Output::Rejected { peer: BOB, reason: "do not know you".to_owned() };
    assert!(outputs(world.node(ALICE)).contains(&rejected));
    let accept = message(BOB, ALICE, Kind::Accept).encode();
    assert_eq!(world.node(ALICE).handle_message(START, BOB, key(BOB), &accept), Err(Refusal::NotAsked));
    assert_eq!(world.trusts(), [false, false]);
}

#[test]
fn a_revocation_reaches_the_other_side_and_the_directory() {
    let mut world = World::new(true);
    world.node(ALICE).request(START, BOB, "").unwrap();
    world.node(BOB).request(START, ALICE, "").unwrap();
    world.pass(3);
    let now = world.now;
    assert_eq!(world.node(ALICE).revoke(now, BOB), Ok(true));
    world.settle();
    assert_eq!((world.trusts(), world.reports.as_slice()), ([false, false], &[][..]));
}

#[test]
fn a_request_goes_to_the_directory_and_to_the_peer_at_once() {
    let mut alice = trust(ALICE, false);
    alice.request(START, BOB, "hello").unwrap();
    let outputs = outputs(&mut alice);
    let request =
        Operation::RequestHandshake { from_node_id: ALICE, to_node_id: BOB, justification: "hello".to_owned() };
    assert_eq!(asks(&outputs), [&request]);
    let [(BOB, message)] = &sent(&outputs)[..] else { panic!("{outputs:?}") };
    assert_eq!((message.kind, message.node_id, message.justification.as_str()), (Kind::Request, ALICE, "hello"));
}

#[test]
fn nobody_becomes_trusted_by_an_accept_that_was_not_asked_for() {
    let mut alice = trust(ALICE, false);
    let accept = message(BOB, ALICE, Kind::Accept).encode();
    assert_eq!(alice.handle_message(START, BOB, key(BOB), &accept), Err(Refusal::NotAsked));
    alice.handle_polled(START, &[], &[HandshakeResponse { from_node_id: BOB, accept: true, timestamp: UNIX }]);
    assert!(!alice.trusts(BOB));
    assert!(!outputs(&mut alice).iter().any(|output| matches!(output, Output::Established(_) | Output::Ask(_))));
}

#[test]
fn a_request_cannot_be_turned_into_an_accept_for_others_and_forgeries_are_refused() {
    let mut alice = trust(ALICE, false);
    alice.request(START, BOB, "").unwrap();
    let mut refusal =
        |from: NodeId, key: [u8; 32], message: &Message| alice.handle_message(START, from, key, &message.encode());
    let good = message(BOB, ALICE, Kind::Accept);
    let eve = NodeId(3);
    assert_eq!(refusal(eve, key(eve), &good), Err(Refusal::NotThePeer { claimed: BOB }));
    assert_eq!(refusal(BOB, key(eve), &good), Err(Refusal::WrongKey));
    let unkeyed = Message { public_key: String::new(), ..good.clone() };
    assert_eq!(refusal(BOB, key(eve), &unkeyed), Err(Refusal::WrongSignature));
    let for_another = Message { signature: message(BOB, eve, Kind::Accept).signature, ..good.clone() };
    assert_eq!(refusal(BOB, key(BOB), &for_another), Err(Refusal::WrongSignature));
    let unsigned = Message { signature: String::new(), ..good.clone() };
    assert_eq!(refusal(BOB, key(BOB), &unsigned), Err(Refusal::WrongSignature));
    for (off, is_fresh) in [(-301, false), (31, false), (i64::MIN / 2, false), (i64::MAX / 2, false), (-299, true)] {
        let dated = Message { timestamp: (UNIX as i64).saturating_add(off), ..message(BOB, ALICE, Kind::Reject) };
        let outcome = refusal(BOB, key(BOB), &dated);
        assert_eq!(!matches!(outcome, Err(Refusal::NotFresh(_))), is_fresh, "{off}: {outcome:?}");
    }
}

#[test]
fn messages_count_once_and_not_too_many_of_one_peer() {
    let mut alice = trust(ALICE, false);
    let request = message(BOB, ALICE, Kind::Request).encode();
    assert_eq!(alice.handle_message(START, BOB, key(BOB), &request), Ok(()));
    for _ in 1..MESSAGES_PER_PEER_MAX {
        assert_eq!(alice.handle_message(START, BOB, key(BOB), &request), Err(Refusal::Duplicate));
    }
    assert_eq!(alice.handle_message(START, BOB, key(BOB), &request), Err(Refusal::TooMany));
    let other = NodeId(9);
    let request = message(other, ALICE, Kind::Request).encode();
    assert_eq!(alice.handle_message(START, other, key(other), &request), Ok(()));
    let later = START + Duration::from_secs(301);
    let request = Message { justification: "again".to_owned(), ..message(BOB, ALICE, Kind::Request) }.encode();
    assert_eq!(alice.handle_message(later, BOB, key(BOB), &request), Ok(()));
}

#[test]
fn a_message_may_come_in_pieces_and_garbage_is_refused() {
    let mut alice = trust(ALICE, false);
    let request = message(BOB, ALICE, Kind::Request).encode();
    for len in 0..request.len() {
        assert_eq!(alice.handle_message(START, BOB, key(BOB), &request[..len]), Err(Refusal::Incomplete));
    }
    assert_eq!(alice.handle_message(START, BOB, key(BOB), &request), Ok(()));
    for garbage in [&b"\0"[..], b"nothing", b"[1]", &[b' '; (64 << 10) + 1]] {
        assert!(matches!(alice.handle_message(START, BOB, key(BOB), garbage), Err(Refusal::Malformed(_))));
    }
}

#[test]
fn the_list_of_requests_is_bounded() {
    let mut alice = trust(ALICE, false);
    let request = |node: usize| HandshakeRequest {
        from_node_id: NodeId(node as u32 + 10),
        justification: "x".repeat(5000),
        public_key: None,
        timestamp: UNIX,
    };
    for node in 0..2 * PENDING_MAX {
        alice.handle_polled(START, &[request(node)], &[]);
    }
    assert_eq!(alice.pending().len(), PENDING_MAX);
    assert!(alice.pending().all(|pending| pending.justification.len() <= 1024));
    // The user makes room.
    assert_eq!(alice.reject(START, NodeId(10), ""), Ok(true));
    alice.handle_polled(START, &[request(PENDING_MAX)], &[]);
    assert!(alice.pending().any(|pending| pending.node_id == NodeId(10 + PENDING_MAX as u32)));
}

#[test]
fn auto_approval_trusts_whoever_asks_but_not_one_whom_the_user_just_revoked() {
    let mut alice = trust(ALICE, true);
    let request =
        HandshakeRequest { from_node_id: BOB, justification: String::new(), public_key: None, timestamp: UNIX };
    alice.handle_polled(START, std::slice::from_ref(&request), &[]);
    let said = outputs(&mut alice);
    let respond = Operation::RespondHandshake { node_id: ALICE, peer_id: BOB, accept: true };
    assert_eq!(asks(&said), [&Operation::ReportTrust { node_id: ALICE, peer_id: BOB }, &respond]);
    assert_eq!(sent(&said)[0].1.kind, Kind::Accept);
    alice.revoke(START, BOB).unwrap();
    alice.handle_polled(START + Duration::from_secs(299), std::slice::from_ref(&request), &[]);
    assert!(!alice.trusts(BOB) && alice.pending().len() == 1);
    alice.handle_polled(START + Duration::from_secs(301), &[request], &[]);
    assert!(alice.trusts(BOB));
}

#[test]
fn one_that_forgot_is_told_again_that_it_is_trusted() {
    let mut alice = trust(ALICE, true);
    let request =
        HandshakeRequest { from_node_id: BOB, justification: String::new(), public_key: None, timestamp: UNIX };
    alice.handle_polled(START, std::slice::from_ref(&request), &[]);
    let _ = outputs(&mut alice);
    alice.handle_polled(START, &[request], &[]);
    assert_eq!(sent(&outputs(&mut alice))[0].1.kind, Kind::Accept);
}

#[test]
fn one_who_comes_back_with_another_key_has_to_be_approved_anew() {
    let mut alice = trust(ALICE, true);
    let request = message(BOB, ALICE, Kind::Request).encode();
    alice.handle_message(START, BOB, key(BOB), &request).unwrap();
    assert!(alice.trusts(BOB));
    let _ = outputs(&mut alice);
    let new = Identity::from_seed(&[77; 32]);
    let mut request = message(BOB, ALICE, Kind::Request);
    request.public_key = BASE64.encode(new.public_key());
    request.signature = BASE64.encode(new.sign(signed_text(BOB, ALICE).as_bytes()));
    alice.handle_message(START, BOB, new.public_key(), &request.encode()).unwrap();
    assert_eq!(sent(&outputs(&mut alice)), []);
    assert_eq!(alice.pending().next().map(|pending| pending.node_id), Some(BOB));
}

#[test]
fn a_wrong_wall_clock_refuses_messages_but_not_the_directory() {
    for unix in [0, u64::MAX, UNIX + 10_000_000] {
        let mut world = World::new(true);
        world.node(BOB).set_wall_clock(unix);
        world.node(ALICE).request(START, BOB, "").unwrap();
        world.pass(61);
        assert_eq!(world.node(BOB).pending().len(), 1);
        let now = world.now;
        world.node(BOB).approve(now, ALICE).unwrap();
        world.pass(61);
        assert_eq!(world.trusts(), [true, true], "clock {unix}");
        let text = world.node(BOB).to_json();
        assert_eq!(trust(BOB, false).restore(&text), Ok(()), "{text}");
    }
}

#[test]
fn polls_come_with_the_heartbeat_quicker_after_a_request_and_at_once_on_a_notice() {
    let mut alice = trust(ALICE, false);
    let mut now = START;
    let mut next_poll = |alice: &mut Trust, limit: u64| {
        for waited in 0..=limit {
            alice.handle_timeout(now);
            let asked = outputs(alice)
                .into_iter()
                .find(|output| matches!(output, Output::Ask(Operation::PollHandshakes { .. })));
            if let Some(Output::Ask(operation)) = asked {
                let nothing = Answer::PollHandshakes { requests: Vec::new(), responses: Vec::new() };
                alice.handle_answer(now, operation, Some(&nothing));
                return (waited, now);
            }
            now = now + Duration::from_secs(1);
        }
        panic!("no poll within {limit} s");
    };
    assert_eq!(next_poll(&mut alice, 0).0, 0);
    let (waited, now) = next_poll(&mut alice, 60);
    assert_eq!(waited, 60);
    alice.request(now, BOB, "").unwrap();
    let polls = (0..60).map(|_| next_poll(&mut alice, 60).0).filter(|waited| *waited == 2).count();
    assert!((58..=60).contains(&polls), "{polls}");
    let (_, now) = next_poll(&mut alice, 60);
    alice.handle_notified(now);
    assert_eq!(next_poll(&mut alice, 60).0, 1);
}

#[test]
fn what_the_directory_cannot_take_now_is_asked_again() {
    let mut alice = trust(ALICE, false);
    alice.request(START, BOB, "hello").unwrap();
    let said = outputs(&mut alice);
    let request = asks(&said)[0].clone();
    alice.handle_answer(START, request.clone(), None);
    let later = START + Duration::from_secs(5);
    assert!(alice.poll_timeout().is_some_and(|due| due <= later));
    alice.handle_timeout(later);
    assert!(asks(&outputs(&mut alice)).contains(&&request));
    alice.handle_answer(later, request.clone(), Some(&Answer::Error { error: "rate limited".to_owned() }));
    alice.handle_timeout(later + Duration::from_secs(5));
    assert!(asks(&outputs(&mut alice)).contains(&&request));
    // What the user has taken back is not.
    alice.handle_answer(later, request.clone(), None);
    alice.revoke(later, BOB).unwrap();
    alice.handle_timeout(later + Duration::from_secs(600));
    assert!(!asks(&outputs(&mut alice)).contains(&&request));
}

#[test]
fn an_accept_that_does_not_arrive_is_sent_three_times_more_with_a_fresh_time() {
    let mut alice = trust(ALICE, true);
    alice.handle_message(START, BOB, key(BOB), &message(BOB, ALICE, Kind::Request).encode()).unwrap();
    let mut sendings = 0;
    let mut now = START;
    for _ in 0..600 {
        alice.set_wall_clock(UNIX + now.since(START).as_secs());
        alice.handle_timeout(now);
        for (peer, message) in sent(&outputs(&mut alice)) {
            assert_eq!(message.timestamp, (UNIX + now.since(START).as_secs()) as i64);
            alice.handle_send_failed(now, peer);
            sendings += 1;
        }
        now = now + Duration::from_secs(1);
    }
    assert_eq!(sendings, 4);
}

#[test]
fn commands_say_what_is_wrong_with_them() {
    let mut nobody = Trust::new(Arc::new(identity(ALICE)), false);
    assert_eq!(nobody.request(START, BOB, ""), Err(CommandError::NotRegistered));
    assert_eq!(nobody.poll_timeout(), None);
    let accept = message(BOB, ALICE, Kind::Accept).encode();
    assert_eq!(nobody.handle_message(START, BOB, key(BOB), &accept), Err(Refusal::NotRegistered));
    let mut alice = trust(ALICE, false);
    for nobody in [ALICE, NodeId::UNSET, NodeId::BROADCAST] {
        assert_eq!(alice.request(START, nobody, ""), Err(CommandError::NotAPeer));
        assert_eq!(alice.approve(START, nobody), Err(CommandError::NotAPeer));
    }
    assert_eq!(alice.request(START, BOB, &"x".repeat(1025)), Err(CommandError::TooLong(1025)));
    assert_eq!(alice.approve(START, BOB), Ok(false));
    assert_eq!(alice.reject(START, BOB, ""), Ok(false));
    assert!(outputs(&mut alice).iter().all(|output| matches!(output, Output::Ask(Operation::PollHandshakes { .. }))));
}

#[test]
fn the_file_keeps_everything_and_is_the_one_existing_daemons_write() {
    let written = r#"{
      "trusted": [{"node_id": 2, "public_key": "rKX24DoYg5VRT1RZos8kZoh+sKzGSSRlANjcB5TTSMw=",
                   "approved_at": "2026-11-22T13:50:08.123456789Z", "mutual": true, "network": 0}],
      "pending": [{"node_id": 3, "public_key": "", "justification": "hi", "received_at": "2026-11-22T14:50:08+01:00"}]
    }"#;
    let mut alice = trust(ALICE, false);
    alice.restore(written).unwrap();
    assert!(alice.trusts(BOB));
    // As captured from a daemon (section 10).
    assert_eq!(
        serde_json::to_value(alice.trusted().next()).unwrap(),
        serde_json::json!({"approved_at": 1795355408, "mutual": true, "network": 0, "node_id": 2,
            "public_key": "rKX24DoYg5VRT1RZos8kZoh+sKzGSSRlANjcB5TTSMw="})
    );
    assert_eq!(
        serde_json::to_value(alice.pending().next()).unwrap(),
        serde_json::json!({"justification": "hi", "node_id": 3, "public_key": "", "received_at": 1795355408})
    );
    alice.request(START, NodeId(4), "why").unwrap();
    let text = alice.to_json();
    let mut again = trust(ALICE, false);
    again.restore(&text).unwrap();
    assert_eq!(again.to_json(), text);
    assert!(again.has_requested(NodeId(4)));
    // An accept that comes after the restart still answers something.
    let accept = message(NodeId(4), ALICE, Kind::Accept).encode();
    assert_eq!(again.handle_message(START, NodeId(4), key(NodeId(4)), &accept), Ok(()));
    assert!(again.trusts(NodeId(4)));
}

#[test]
fn the_file_is_written_whole_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trust.json");
    assert_eq!(store::load(&path).unwrap(), None);
    for text in ["{\"first\": 1}", "{}"] {
        store::save(&path, text).unwrap();
        assert_eq!(store::load(&path).unwrap().as_deref(), Some(text));
    }
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(store::save(&folder.path().join("none/trust.json"), "").is_err());
}

#[test]
fn a_damaged_file_changes_nothing_and_lists_may_be_missing() {
    let mut alice = trust(ALICE, true);
    alice.handle_message(START, BOB, key(BOB), &message(BOB, ALICE, Kind::Request).encode()).unwrap();
    let whole = alice.to_json();
    for text in ["", "[]", "{\"trusted\":[{\"node_id\":2}]}", &whole[..whole.len() / 2]] {
        assert!(alice.restore(text).is_err(), "{text}");
        assert!(alice.trusts(BOB));
    }
    alice.restore("{\"trusted\":null}").unwrap();
    assert!(!alice.trusts(BOB));
}

#[test]
fn a_key_that_was_missing_is_completed() {
    let mut alice = trust(ALICE, true);
    let request =
        HandshakeRequest { from_node_id: BOB, justification: String::new(), public_key: None, timestamp: UNIX };
    alice.handle_polled(START, &[request], &[]);
    assert_eq!(alice.trusted().next().unwrap().public_key, None);
    alice.handle_key(BOB, key(BOB));
    assert_eq!(alice.trusted().next().unwrap().public_key.unwrap().0, key(BOB));
    alice.handle_key(BOB, key(ALICE));
    assert_eq!(alice.trusted().next().unwrap().public_key.unwrap().0, key(BOB));
}

/// What can happen to a node, from the user, from peers and from the directory. Peers are 2, 3 and 4.
#[derive(Clone, Debug)]
enum Step {
    Request(u32),
    Approve(u32),
    Reject(u32),
    Revoke(u32),
    Message(u32, Kind),
    Polled(u32, Option<bool>),
    Failed(u32),
    Pass(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || 2_u32..5;
    let kind = prop_oneof![Just(Kind::Request), Just(Kind::Accept), Just(Kind::Reject), Just(Kind::Revoke)];
    prop_oneof![
        peer().prop_map(Step::Request),
        peer().prop_map(Step::Approve),
        peer().prop_map(Step::Reject),
        peer().prop_map(Step::Revoke),
        (peer(), kind).prop_map(|(peer, kind)| Step::Message(peer, kind)),
        (peer(), any::<Option<bool>>()).prop_map(|(peer, accept)| Step::Polled(peer, accept)),
        peer().prop_map(Step::Failed),
        (0_u64..400).prop_map(Step::Pass),
        Just(Step::Restart),
    ]
}

proptest::proptest! {
    /// Whatever peers and the directory say: the user has asked for it, or approved it, and not taken it back since.
    #[test]
    fn nobody_is_trusted_without_a_word_of_the_user(steps in proptest::collection::vec(step(), 0..60)) {
        let mut alice = trust(ALICE, false);
        let mut wanted = std::collections::BTreeSet::new();
        let (mut now, mut unix) = (START, UNIX);
        for step in steps {
            match step {
                Step::Request(peer) => {
                    alice.request(now, NodeId(peer), "").unwrap();
                    wanted.insert(peer);
                }
                Step::Approve(peer) => {
                    if alice.approve(now, NodeId(peer)).unwrap() {
                        wanted.insert(peer);
                    }
                }
                Step::Reject(peer) => {
                    alice.reject(now, NodeId(peer), "no").unwrap();
                }
                Step::Revoke(peer) => {
                    alice.revoke(now, NodeId(peer)).unwrap();
                    wanted.remove(&peer);
                }
                Step::Message(peer, kind) => {
                    let message = Message { timestamp: unix as i64, ..message(NodeId(peer), ALICE, kind) };
                    let _ = alice.handle_message(now, NodeId(peer), key(NodeId(peer)), &message.encode());
                }
                Step::Polled(peer, accept) => {
                    let (from_node_id, timestamp) = (NodeId(peer), unix);
                    let request = HandshakeRequest { from_node_id, justification: String::new(), public_key: None, timestamp };
                    let response = accept.map(|accept| HandshakeResponse { from_node_id, accept, timestamp });
                    let requests = if response.is_none() { vec![request] } else { vec![] };
                    alice.handle_polled(now, &requests, response.as_slice());
                }
                Step::Failed(peer) => alice.handle_send_failed(now, NodeId(peer)),
                Step::Pass(seconds) => {
                    now = now + Duration::from_secs(seconds);
                    unix += seconds;
                    alice.set_wall_clock(unix);
                    alice.handle_timeout(now);
                }
                Step::Restart => {
                    let text = alice.to_json();
                    alice = trust(ALICE, false);
                    alice.set_wall_clock(unix);
                    alice.restore(&text).unwrap();
                }
            }
            let _ = outputs(&mut alice);
            for peer in 2..5 {
                let is_trusted = alice.trusts(NodeId(peer));
                proptest::prop_assert!(!is_trusted || wanted.contains(&peer), "{peer} after {step:?}");
            }
        }
    }
}
