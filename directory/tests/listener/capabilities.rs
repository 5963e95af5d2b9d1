//! Publishing and searching over real sockets: what was acknowledged is found by the next question of anybody.

use wire::registry::answer::Hit;
use wire::registry::capability::{FORMAT, Record};
use wire::registry::request::Query;

use crate::*;

fn publication(key: &SigningKey, node_id: NodeId, serial: u64, title: &str) -> Request {
    let record = Record {
        format: FORMAT,
        node: node_id,
        public_key: Base64(key.verifying_key().to_bytes()),
        serial,
        withdrawn: false,
        title: title.into(),
        text: String::new(),
        tags: vec![],
        input: None,
        output: None,
        price: None,
        limits: None,
        version: String::new(),
    };
    signed(key, Operation::PublishCapability { node_id, record: record.encode().unwrap() })
}

fn find(client: &mut Client<TcpStream>, text: &str) -> Vec<Hit> {
    match client.ask(Operation::Query(Query { text: text.into(), offline: true, ..Query::default() })) {
        Answer::Query { hits } => hits,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_acknowledged_is_found_at_once_and_after_a_restart() {
    let served = serve();
    let (mut alice, mut bob) = (served.connect(), served.connect());
    let key = key(1);
    let node_id = number(&alice.ask(registration(&key)));
    alice.ask(signed(&key, Operation::SetVisibility { node_id, public: true }));
    for serial in 1..=50 {
        let title = format!("Offer n{serial}");
        let answer = alice.ask(publication(&key, node_id, serial, &title));
        assert_eq!(answer, Answer::PublishCapability { node_id, serial });
        let hits = find(&mut bob, &format!("n{serial} offered"));
        assert_eq!(hits.len(), 1, "{serial}");
        assert!(hits[0].record.as_ref().unwrap().contains(&title));
        assert_eq!(find(&mut bob, &format!("n{}", serial - 1)), [], "replaced");
    }
    let Served { running, folder } = served;
    running.shutdown();
    let running = directory::start(settings(&folder), Arc::new(NoRelay::default())).unwrap();
    let mut carol = Client { stream: plain(running.local_addrs()[0]) };
    assert_eq!(find(&mut carol, "offers")[0].node_id, node_id);
    assert!(error(carol.ask(publication(&key, node_id, 50, "Other"))).contains("already have 50"));
}

#[test]
fn questions_of_many_are_answered_side_by_side() {
    let served = serve();
    let mut client = served.connect();
    for seed in 1..=20 {
        let key = key(seed);
        let node_id = number(&client.ask(registration(&key)));
        client.ask(signed(&key, Operation::SetVisibility { node_id, public: true }));
        client.ask(publication(&key, node_id, 1, &format!("Service n{seed}")));
    }
    let mut clients: Vec<_> = (0..8).map(|_| served.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let mut frames = Vec::new();
        for seed in 1..=20 {
            let text = if number % 2 == 0 { format!("n{seed}") } else { format!("zebra n{seed}") };
            push_message(
                &mut frames,
                &Request::from(Operation::Query(Query { text, offline: true, ..Query::default() })),
            );
        }
        client.stream.write_all(&frames).unwrap();
    }
    for client in &mut clients {
        for seed in 1..=20 {
            match client.answer() {
                Answer::Query { hits } => assert_eq!(hits[0].node_id, NodeId(seed)),
                other => panic!("{other:?}"),
            }
        }
    }
}
