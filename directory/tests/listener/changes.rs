//! Questions for changes over real sockets: they wait for an event, hold nobody up, and end with their client or the
//! directory.

use crate::*;
use wire::registry::answer::{Change, Happened};
use wire::registry::request::Changes;

/// Of any node that strangers may see.
fn question(after: u64, wait_seconds: u16) -> Request {
    Operation::Changes(Changes { after, wait_seconds, ..Changes::default() }).into()
}

fn told(answer: Answer) -> (u64, Vec<Change>) {
    match answer {
        Answer::Changes { cursor, reset: false, changes } => (cursor, changes),
        other => panic!("{other:?}"),
    }
}

fn send<S: Read + Write>(client: &mut Client<S>, requests: &[Request]) {
    let mut frames = Vec::new();
    requests.iter().for_each(|request| push_message(&mut frames, request));
    client.stream.write_all(&frames).unwrap();
}

/// A public node, and the cursor after all that has happened to it.
fn public_node(client: &mut Client<TcpStream>) -> (SigningKey, NodeId, u64) {
    let alice = key(1);
    let node_id = number(&client.ask(registration(&alice)));
    client.ask(signed(&alice, Operation::SetVisibility { node_id, public: true }));
    let (cursor, _) = told(client.ask(question(0, 60)));
    (alice, node_id, cursor)
}

/// Waits until the directory has taken so many questions.
fn await_questions(served: &Served, count: u64) {
    while served.metric("requests_total{type=\"changes\"}") < count {
        std::thread::yield_now();
    }
}

/// Waits until so many questions are held back.
fn await_waiting(served: &Served, count: u64) {
    while served.metric("changes_waiting") != count {
        std::thread::yield_now();
    }
}

#[test]
fn a_question_waits_for_the_event_and_all_who_wait_are_told() {
    let served = serve();
    let mut client = served.connect();
    let (alice, node_id, cursor) = public_node(&mut client);
    let mut watchers: Vec<_> = (0..20).map(|_| served.connect()).collect();
    watchers.iter_mut().for_each(|watcher| send(watcher, &[question(cursor, 60)]));
    await_questions(&served, 21);
    client.ask(signed(&alice, Operation::SetHostname { node_id, hostname: "alpha".into() }));
    for watcher in &mut watchers {
        let (after, changes) = told(watcher.answer());
        assert!(after > cursor);
        assert_eq!(
            (changes.len(), changes[0].what, changes[0].hostname.as_deref()),
            (1, Happened::Described, Some("alpha"))
        );
        send(watcher, &[question(after, 60)]);
    }
    await_questions(&served, 41);
    client.ask(signed(&alice, Operation::SetHostname { node_id, hostname: "bravo".into() }));
    for watcher in &mut watchers {
        let (_, changes) = told(watcher.answer());
        assert_eq!(changes[0].hostname.as_deref(), Some("bravo"), "put off at most until the next tick");
    }
}

#[test]
fn answers_before_a_waiting_question_leave_at_once_and_those_behind_it_with_it() {
    let served = serve();
    let mut client = served.connect();
    let (alice, node_id, cursor) = public_node(&mut client);
    let mut watcher = served.connect();
    let beacons = || Request::from(Operation::BeaconList);
    send(&mut watcher, &[beacons(), question(0, 60), beacons(), question(cursor, 60), beacons(), question(cursor, 0)]);
    assert_eq!(watcher.answer(), Answer::BeaconList { beacons: vec![] });
    assert_eq!(told(watcher.answer()), (cursor, vec![]), "the first question does not wait");
    assert_eq!(watcher.answer(), Answer::BeaconList { beacons: vec![] });
    client.ask(signed(&alice, Operation::SetHostname { node_id, hostname: "alpha".into() }));
    assert_eq!(told(watcher.answer()).1.len(), 1);
    assert_eq!(watcher.answer(), Answer::BeaconList { beacons: vec![] });
    assert_eq!(told(watcher.answer()).1.len(), 1);
}

#[test]
fn a_question_without_news_is_answered_when_it_is_due() {
    let served = serve_with(|config| config.limits.idle_timeout = Duration::from_millis(300));
    let mut client = served.connect();
    let (cursor, _) = told(client.ask(question(0, 0)));
    // Longer than a connection may be idle.
    assert_eq!(told(client.ask(question(cursor, 1))), (cursor, vec![]));
    assert_eq!(told(client.ask(question(cursor, 0))), (cursor, vec![]));
    assert!(client.is_closed(), "idle from now on");
    assert_eq!(served.closed("idle_timeout"), 1);
}

#[test]
fn private_nodes_wake_nobody_who_may_not_see_them() {
    let served = serve();
    let mut client = served.connect();
    let (alice, one, cursor) = public_node(&mut client);
    let bob = key(2);
    let mut watcher = served.connect();
    send(&mut watcher, &[question(cursor, 60)]);
    await_waiting(&served, 1);
    let two = number(&client.ask(registration(&bob)));
    client.ask(signed(&bob, Operation::SetHostname { node_id: two, hostname: "hidden".into() }));
    client.ask(signed(&alice, Operation::SetHostname { node_id: one, hostname: "seen".into() }));
    let (_, changes) = told(watcher.answer());
    assert_eq!(changes.iter().map(|change| change.node_id).collect::<Vec<_>>(), [one]);
}

#[test]
fn a_client_that_goes_ends_its_question_and_shutdown_ends_all() {
    let served = serve();
    let mut client = served.connect();
    let (_, _, cursor) = public_node(&mut client);
    let mut leaver = served.connect();
    send(&mut leaver, &[question(cursor, 60)]);
    await_waiting(&served, 1);
    assert_eq!(served.metric("connections_open"), 2);
    drop(leaver);
    while served.metric("connections_open") > 1 {
        std::thread::yield_now();
    }
    let mut stayer = served.connect();
    send(&mut stayer, &vec![question(cursor, 60); 5]);
    await_waiting(&served, 1);
    served.running.shutdown();
    assert!(stayer.is_closed());
}

#[test]
fn members_learn_who_joins_while_they_wait() {
    let served = serve();
    let mut client = served.connect();
    let (alice, bob) = (key(1), key(2));
    let one = number(&client.ask(registration(&alice)));
    let two = number(&client.ask(registration(&bob)));
    let create = Operation::CreateNetwork {
        node_id: one,
        name: "RESEARCH".into(),
        join_rule: "token".into(),
        token: "s3cret".into(),
    };
    let Answer::CreateNetwork { network_id, .. } = client.ask(create) else { panic!("not made") };
    let ask = |after, wait_seconds| {
        let requester_id = Some(one);
        let changes = Changes { requester_id, network_id: Some(network_id), after, wait_seconds, at: None };
        signed(&alice, Operation::Changes(changes))
    };
    let mut member = served.connect();
    let (cursor, _) = told(member.ask(ask(0, 0)));
    send(&mut member, &[ask(cursor, 60)]);
    await_waiting(&served, 1);
    client.ask(signed(&bob, Operation::JoinNetwork { node_id: two, network_id, token: "s3cret".into() }));
    let (cursor, changes) = told(member.answer());
    assert_eq!((changes[0].what, changes[0].node_id, changes.len()), (Happened::Joined, two, 1));

    // Put out while its question waits: told so with the next event, and no more than that.
    send(&mut member, &[ask(cursor, 60)]);
    await_waiting(&served, 1);
    client.ask(signed(&alice, Operation::LeaveNetwork { node_id: one, network_id }));
    assert_eq!(error(member.answer()), "node 1 is not a member of network 1");
    assert_eq!(served.metric("changes_waiting"), 0);
    assert_eq!(served.metric("request_duration_seconds_count{type=\"changes\"}"), 3, "late answers count too");
    assert_eq!(served.metric("errors_total"), 1, "and late refusals");
}
