//! The index by itself: bounds, freshness, words of strangers.

use std::time::Duration;

use directory::facts::{CapabilityFact, Change, NodeFact, Searchable};
use directory::search::{Breadth, Candidate, Found};
use directory::service::{Caller, ConnectionId, Decision, Now, Service};
use directory::store::{Bounds, RANKED_MAX, Reader, Store};
use proptest::prelude::*;
use wire::NodeId;
use wire::registry::request::Query;
use wire::registry::{Answer, Base64, Operation, Request};

/// As many nodes as by default, on a machine of any speed.
const UNHURRIED: Bounds = Bounds { ranked_max: RANKED_MAX, time_max: Duration::from_secs(600) };
const THEN: u64 = 1_795_000_000;

/// A public node that says `title` and `text`.
fn node(number: u32, title: &str, text: &str) -> [Change; 3] {
    let id = NodeId(number);
    let mut key = [0; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    let fact = NodeFact { public: true, ..NodeFact::new(id, Base64(key), THEN) };
    let capability = CapabilityFact {
        node: id,
        serial: 1,
        withdrawn: false,
        record: format!("{{\"title\":\"{title}\"}}").into(),
        tags: vec![],
        signature: Base64([7; 64]),
    };
    let (title, text) = (title.to_owned(), text.to_owned());
    let words = Searchable { node: id, title, tags: String::new(), hostname: String::new(), text };
    [Change::Node(Box::new(fact)), Change::Capability(Box::new(capability)), Change::Searchable(Box::new(words))]
}

struct World {
    store: Store,
    service: Service,
    reader: Reader,
}

impl World {
    fn of(store: Store) -> Self {
        let service = Service::new(store.load().unwrap(), &directory::Limits::default(), None);
        let mut reader = store.reader().unwrap();
        reader.set_bounds(UNHURRIED);
        Self { store, service, reader }
    }

    fn with(changes: &[Change]) -> Self {
        let mut store = Store::in_memory(THEN).unwrap();
        store.commit(changes).unwrap();
        Self::of(store)
    }

    /// The hits, and what the index has found on the way.
    fn find(&mut self, query: Query) -> (Vec<u32>, Vec<Found>) {
        let now = Now { monotonic: std::time::Duration::from_secs(1000), unix_seconds: THEN };
        let caller = Caller {
            connection: ConnectionId(1),
            ip: [192, 0, 2, 1].into(),
            exempt: true,
            advertised: &[],
            extensions: &[],
            relay_key: None,
        };
        let request = Request::from(Operation::Query(Query { offline: true, ..query }));
        let mut decision = self.service.handle(now, &caller, &request, None);
        let mut searched = Vec::new();
        loop {
            match decision {
                Decision::Search(search) => {
                    let found = self.reader.find(*search).unwrap();
                    searched.push(found.clone());
                    decision = self.service.handle_found(now, &request, found);
                }
                Decision::Pick(found) => decision = self.service.handle_found(now, &request, *found),
                Decision::Done(outcome) => match outcome.answer {
                    Answer::Query { hits } => return (hits.iter().map(|hit| hit.node_id.0).collect(), searched),
                    other => panic!("{other:?}"),
                },
                Decision::Check(check) => panic!("{check:?}"),
            }
        }
    }
}

fn words(text: &str) -> Query {
    Query { text: text.into(), limit: 50, ..Query::default() }
}

#[test]
fn twenty_thousand_records_are_searched_within_bounds_and_the_rare_one_is_found() {
    let count = 20_000;
    let changes: Vec<_> = (1..=count)
        .flat_map(|number| match number {
            777 => node(number, "Citations", "common words and a needle"),
            778 => node(number, "Common sense", "words"),
            _ => node(number, "Service", &format!("common words of number n{number}")),
        })
        .collect();
    let mut world = World::with(&changes);
    for text in ["common", "common words", "common words number", "common needle zebra", "number words zebra"] {
        let (_, searched) = world.find(words(text));
        assert!(searched.len() <= 2, "{text}");
        assert!(searched.iter().all(|found| found.candidates.len() <= RANKED_MAX), "{text}");
    }
    assert_eq!(world.find(words("needle")).0, [777]);
    assert_eq!(world.find(words("common needle")).0[0], 777, "a word that everybody has narrows nothing");
    assert_eq!(world.find(words("common words n12345")).0[0], 12_345);
    assert_eq!(world.find(words("zebra citations")).0, [777]);
    let (hits, searched) = world.find(words("common"));
    assert_eq!((hits.len(), searched[0].candidates.len()), (50, RANKED_MAX));
    assert_eq!(hits[0], 778, "of a word that everybody has, first those with it in the title");
    let ranked = |found: &Found| found.candidates.is_sorted_by_key(|Candidate { relevance, .. }| u64::MAX - relevance);
    assert!(searched.iter().all(ranked));
    assert_eq!(searched[0].search.breadth, Breadth::All);
}

#[test]
fn nodes_that_are_not_to_be_seen_do_not_crowd_out_one_that_is() {
    let hidden = (1..=5000).flat_map(|number| {
        let [mut fact, capability, words] = node(number, "Citations", "");
        if let Change::Node(fact) = &mut fact {
            fact.public = false;
        }
        [fact, capability, words]
    });
    let changes: Vec<_> = hidden.chain(node(5001, "Weather", "a long text that mentions citations once")).collect();
    let mut world = World::with(&changes);
    assert_eq!(world.find(words("citations")).0, [5001]);
    assert_eq!(world.find(words("")).0, [5001]);
    assert_eq!(world.find(Query { node_id: Some(NodeId(5001)), ..words("citations") }).0, [5001]);
}

#[test]
fn members_of_a_group_are_found_among_any_number_of_others() {
    let mut changes: Vec<_> = (1..=12_000).flat_map(|number| node(number, "Citations", "")).collect();
    let network = directory::facts::NetworkFact {
        id: 1,
        name: "research".into(),
        join_rule: directory::facts::JoinRule::Open,
        token_digest: None,
        creator: NodeId(3),
        created_at: THEN,
    };
    changes.extend([Change::NetworkCreated(network), Change::Joined(1, NodeId(3)), Change::Joined(1, NodeId(4))]);
    let mut world = World::with(&changes);
    assert_eq!(world.find(Query { network_id: Some(1), ..words("citations") }).0, [3, 4]);
    assert_eq!(world.find(Query { network_id: Some(1), node_id: Some(NodeId(4)), ..words("citations") }).0, [4]);
    assert_eq!(world.find(Query { network_id: Some(1), node_id: Some(NodeId(5)), ..words("citations") }).0, [0; 0]);
}

#[test]
fn what_is_committed_is_found_by_a_reader_that_was_there_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), THEN).unwrap();
    store.commit(&node(1, "Citations", "")).unwrap();
    let mut world = World::of(store);
    assert_eq!(world.find(words("citations")).0, [1]);
    world.store.commit(&node(1, "Weather", "")).unwrap();
    assert_eq!((world.find(words("citations")).0, world.find(words("weather")).0), (vec![], vec![1]));
    let nothing = Searchable {
        node: NodeId(1),
        title: String::new(),
        tags: String::new(),
        hostname: String::new(),
        text: String::new(),
    };
    world.store.commit(&[Change::Searchable(Box::new(nothing))]).unwrap();
    assert_eq!(world.find(words("weather")).0, [0; 0]);
}

#[test]
fn one_that_may_be_seen_is_found_below_the_cut() {
    let hidden = (2..=300).flat_map(|number| {
        let [mut fact, capability, mut words] = node(number, "Citations", "common words");
        if let Change::Node(fact) = &mut fact {
            fact.public = false;
            fact.tags = vec!["papers".into()];
        }
        if let Change::Searchable(words) = &mut words {
            words.tags = "papers".into();
        }
        [fact, capability, words]
    });
    let mut first = node(1, "Citations", "common words");
    if let [Change::Node(fact), _, Change::Searchable(words)] = &mut first {
        fact.tags = vec!["papers".into()];
        words.tags = "papers".into();
    }
    let mut world = World::with(&first.into_iter().chain(hidden).collect::<Vec<_>>());
    world.reader.set_bounds(Bounds { ranked_max: 60, ..UNHURRIED });
    let tagged = || Query { tags: vec!["papers".into()], ..Query::default() };
    for query in [tagged(), words("common"), words("citations"), words("common words"), words("words zebra")] {
        let (hits, searched) = world.find(query.clone());
        assert_eq!(hits, [1], "{query:?}");
        assert!(searched.len() > 2, "{query:?}");
    }
    world.reader.set_bounds(Bounds { ranked_max: 10, ..UNHURRIED });
    let (hits, searched) = world.find(tagged());
    assert_eq!((hits.len(), searched.len()), (0, 7), "so far down and no further");
}

#[test]
fn of_common_words_alone_those_who_have_more_of_them_come_first() {
    let text = |number: u32| if number.is_multiple_of(2) { "alpha bravo" } else { "alpha" };
    let changes: Vec<_> = (1..=100).flat_map(|number| node(number, "Service", text(number))).collect();
    let mut world = World::with(&changes);
    world.reader.set_bounds(Bounds { ranked_max: 20, ..UNHURRIED });
    let (hits, _) = world.find(words("alpha bravo zebra"));
    assert!(hits[..20].iter().all(|number| number % 2 == 0), "{hits:?}");
}

#[test]
fn a_search_out_of_time_is_interrupted() {
    // Words that everybody has, and nobody side by side.
    let changes: Vec<_> = (1..=20_000).flat_map(|number| node(number, "Service", "alpha 中 beta 文")).collect();
    let mut world = World::with(&changes);
    let decision = |world: &mut World| {
        let now = Now { monotonic: Duration::from_secs(1000), unix_seconds: THEN };
        let ip = [192, 0, 2, 1].into();
        let caller =
            Caller { connection: ConnectionId(1), ip, exempt: true, advertised: &[], extensions: &[], relay_key: None };
        world.service.handle(now, &caller, &Operation::Query(words("中文")).into(), None)
    };
    let Decision::Search(search) = decision(&mut world) else { panic!("nothing to search") };
    assert_eq!(world.reader.find((*search).clone()).unwrap().candidates, []);
    world.reader.set_bounds(Bounds { time_max: Duration::from_nanos(1), ..UNHURRIED });
    let error = world.reader.find((*search).clone()).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::OperationInterrupted));
    world.reader.set_bounds(UNHURRIED);
    assert!(world.reader.find(*search).is_ok(), "the next one has its own time");
}

proptest! {
    #[test]
    fn no_question_is_an_error(text in "\\PC{0,300}|[\"*^:(){}+\\-a-zNEARO \u{0}\u{7}学术🚀]{0,1024}", tag in "[a-z0-9-]{1,32}", tagged: bool) {
        thread_local! {
            static WORLD: std::cell::RefCell<World> =
                std::cell::RefCell::new(World::with(&node(1, "Academic citations near you", "学术引用 a b c")));
        }
        let tags = if tagged { vec![tag] } else { vec![] };
        WORLD.with_borrow_mut(|world| world.find(Query { tags, ..words(&text) }));
    }

    #[test]
    fn whatever_a_record_says_can_be_stored_and_replaced(title in any::<String>(), text in any::<String>()) {
        thread_local! {
            static STORE: std::cell::RefCell<Store> = std::cell::RefCell::new(Store::in_memory(THEN).unwrap());
        }
        STORE.with_borrow_mut(|store| store.commit(&node(1, &title, &text)).unwrap());
    }
}
