//! Capability records: what is taken, what is refused and why; who is found, by whom, by which words.

use crate::*;
use wire::registry::answer::Hit;
use wire::registry::capability::{FORMAT, Record, signed_text};
use wire::registry::request::Query;

const DAY_MS: u64 = 86_400_000;

/// A record of the node with `key`, to be changed as a story needs it.
fn record(world: &World, key: &SigningKey, node: NodeId, title: &str) -> Record {
    Record {
        format: FORMAT,
        node,
        public_key: public(key),
        serial: world.now.unix_seconds * 1000,
        withdrawn: false,
        title: title.into(),
        text: String::new(),
        tags: vec![],
        input: None,
        output: None,
        price: None,
        limits: None,
        version: String::new(),
    }
}

pub fn withdrawal(world: &World, key: &SigningKey, node: NodeId) -> Record {
    Record { withdrawn: true, ..record(world, key, node, "") }
}

pub fn publishing(node_id: NodeId, record: &Record) -> Operation {
    Operation::PublishCapability { node_id, record: record.encode().unwrap() }
}

impl World {
    /// Publishes a second later than before, so that serials grow.
    pub fn publish(&mut self, key: &SigningKey, node: NodeId, title: &str, text: &str) -> u64 {
        self.pass(Duration::from_secs(1));
        let record = Record { text: text.into(), ..record(self, key, node, title) };
        match self.by(key, publishing(node, &record)) {
            Answer::PublishCapability { node_id, serial } if node_id == node => serial,
            other => panic!("{other:?}"),
        }
    }

    /// A public node that offers something.
    pub fn offering(&mut self, seed: u8, title: &str, text: &str) -> (SigningKey, NodeId) {
        let (key, node) = self.node(seed);
        self.by(&key, Operation::SetVisibility { node_id: node, public: true });
        self.publish(&key, node, title, text);
        (key, node)
    }

    /// Asks as nobody in particular.
    fn query(&mut self, query: Query) -> Vec<Hit> {
        hits(self.ask(Operation::Query(query)))
    }

    /// Numbers of those found by `text`, the best first.
    fn find(&mut self, text: &str) -> Vec<u32> {
        numbers(self.query(words(text)))
    }

    fn find_as(&mut self, key: &SigningKey, node: NodeId, query: Query) -> Vec<u32> {
        numbers(hits(self.by(key, Operation::Query(Query { requester_id: Some(node), ..query }))))
    }
}

fn words(text: &str) -> Query {
    Query { text: text.into(), ..Query::default() }
}

fn hits(answer: Answer) -> Vec<Hit> {
    match answer {
        Answer::Query { hits } => hits,
        other => panic!("{other:?}"),
    }
}

fn numbers(hits: Vec<Hit>) -> Vec<u32> {
    hits.into_iter().map(|hit| hit.node_id.0).collect()
}

#[test]
fn a_record_is_found_replaced_and_taken_back() {
    let mut world = World::new();
    let (alice, one) = world.offering(1, "Academic citations", "Resolves them to DOIs.");
    let hit = world.query(words("citations")).remove(0);
    assert_eq!((hit.node_id, hit.score, hit.online), (one, 1000, true));
    assert_eq!((hit.address, hit.public_key), (one.address(), public(&alice)));
    assert_eq!(hit.last_seen, Some(world.now.unix_seconds));
    let text = hit.record.unwrap();
    assert_eq!(Record::decode(&text).unwrap().title, "Academic citations");
    let signature = ed25519_dalek::Signature::from_bytes(&hit.signature.unwrap().0);
    alice.verifying_key().verify_strict(signed_text(one, &text).as_bytes(), &signature).unwrap();

    world.publish(&alice, one, "Flight prices", "");
    assert_eq!((world.find("citations"), world.find("flights")), (vec![], vec![1]));
    world.pass(Duration::from_secs(1));
    let gone = withdrawal(&world, &alice, one);
    let serial = gone.serial;
    let answer = world.by(&alice, publishing(one, &gone));
    assert_eq!(answer, Answer::PublishCapability { node_id: one, serial });
    for restart in [false, true] {
        if restart {
            world.restart();
        }
        assert_eq!(world.query(Query { offline: true, ..words("flights") }), []);
        assert_eq!(world.query(Query { offline: true, ..Query::default() }), []);
        let again = record(&world, &alice, one, "Flight prices");
        let again = Record { serial: serial - 1, ..again };
        let refused = error(world.by(&alice, publishing(one, &again)));
        assert_eq!(
            refused,
            format!(
                "capability record replayed or older: serial {}, already have {serial}; publish a higher serial",
                serial - 1
            )
        );
    }
    world.publish(&alice, one, "Flight prices", "");
    assert_eq!(world.find("flights"), [1]);
}

#[test]
fn a_restart_keeps_records_as_they_were_signed() {
    let mut world = World::new();
    let (alice, one) = world.offering(1, "Academic citations", "学术引用");
    let before = world.query(words("citations")).remove(0);
    world.restart();
    assert_eq!(world.find("citations"), [0; 0], "not seen since the start");
    let after = world.query(Query { offline: true, ..words("citations") }).remove(0);
    assert_eq!((after.record, after.signature), (before.record.clone(), before.signature));
    assert_eq!((after.online, after.last_seen), (false, None));
    world.by(&alice, Operation::Heartbeat { node_id: one, report: None, bans_since: None });
    assert_eq!(world.query(words("citations")).remove(0).record, before.record);
}

#[test]
fn the_same_record_may_come_twice_and_an_older_one_not_at_all() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let at = |world: &World, serial, title| Record { serial, ..record(world, &alice, one, title) };
    let five = at(&world, 5, "five");
    let stored = Answer::PublishCapability { node_id: one, serial: 5 };
    assert_eq!(world.by(&alice, publishing(one, &five)), stored);
    let repeated = world.outcome(from(HOME, 1), &sign(&alice, publishing(one, &five)));
    assert_eq!((repeated.answer, repeated.durable_first), (stored, true));
    world.restart();
    for (serial, title) in [(5, "other"), (3, "three"), (0, "five")] {
        let record = at(&world, serial, title);
        let text = error(world.by(&alice, publishing(one, &record)));
        assert!(text.starts_with(&format!("capability record replayed or older: serial {serial}, already have 5")));
    }
    let newest = world.now.unix_seconds * 1000 + DAY_MS;
    let ahead = at(&world, newest + 1, "ahead");
    assert_eq!(
        error(world.by(&alice, publishing(one, &ahead))),
        format!(
            "invalid capability record: serial {} is too far ahead, at most {newest}; expected Unix milliseconds, \
             check the clock",
            newest + 1
        )
    );
    let record = at(&world, wire::registry::capability::SERIAL_MAX, "end");
    assert!(error(world.by(&alice, publishing(one, &record))).contains("too far ahead"));
    let record = at(&world, newest, "newest");
    assert_eq!(world.by(&alice, publishing(one, &record)), Answer::PublishCapability { node_id: one, serial: newest });
}

#[test]
fn forged_altered_and_foreign_records_are_refused_with_their_reason() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (eve, two) = world.node(2);
    let own = record(&world, &alice, one, "Academic citations");
    let publish = publishing(one, &own);

    assert_eq!(error(world.ask(publish.clone())), "signature required for publish_capability");
    assert_eq!(error(world.by(&eve, publish.clone())), "signature verification failed", "forged");
    let Request { signature, .. } = sign(&alice, publish);
    let altered = Record { title: "Academic citation".into(), ..own.clone() };
    let altered = Request { signature, ..publishing(one, &altered).into() };
    assert_eq!(error(world.outcome(from(HOME, 1), &altered).answer), "signature verification failed");

    assert_eq!(
        error(world.by(&eve, publishing(two, &own))),
        "invalid capability record: it is that of node 1, and node 2 cannot publish it"
    );
    let keyed = Record { public_key: public(&eve), ..own };
    assert_eq!(
        error(world.by(&alice, publishing(one, &keyed))),
        "invalid capability record: public_key is not that of node 1; sign a new record with its present key"
    );
    let raw = |record: &str| Operation::PublishCapability { node_id: one, record: record.into() };
    assert_eq!(error(world.by(&alice, raw(&"x".repeat(9000)))), "capability record too long: 9000 bytes, at most 8192");
    let malformed = error(world.by(&alice, raw("{\"pilot_capability\":1}")));
    assert!(malformed.starts_with("invalid capability record: missing field `node`"), "{malformed}");
    assert!(error(world.by(&alice, raw("\0\u{1b}[31m"))).starts_with("invalid capability record"));
    assert_eq!(world.query(Query { offline: true, ..Query::default() }), [], "nothing was kept");
    assert_eq!(error(world.by(&alice, publishing(NodeId(9), &altered_node(&world, &alice)))), "node 9: node not found");
}

fn altered_node(world: &World, key: &SigningKey) -> Record {
    record(world, key, NodeId(9), "nobody")
}

#[test]
fn a_record_ends_with_its_key_and_with_its_registration() {
    let mut world = World::new();
    let (alice, one) = world.offering(1, "Academic citations", "");
    let old = record(&world, &alice, one, "Academic citations");
    let renewed = key(9);
    let rotate = Operation::RotateKey { node_id: one, new_public_key: public(&renewed) };
    assert!(matches!(world.by(&alice, rotate), Answer::RotateKey { .. }));
    world.restart();
    let everybody = Query { offline: true, ..Query::default() };
    assert_eq!((world.find("citations"), world.query(everybody.clone())), (vec![], vec![]));
    assert!(error(world.by(&renewed, publishing(one, &old))).contains("public_key is not that of node 1"));
    let replayed = Record { public_key: public(&renewed), ..old };
    assert!(error(world.by(&renewed, publishing(one, &replayed))).contains("replayed or older"), "the serial stays");
    world.publish(&renewed, one, "Academic citations", "");
    assert_eq!(world.find("citations"), [1]);

    world.by(&renewed, Operation::Deregister { node_id: one });
    assert_eq!(world.query(Query { offline: true, ..words("citations") }), []);
    world.restart();
    world.by(&renewed, Operation::Register(register(&renewed)));
    assert_eq!(world.query(everybody), []);
    world.by(&renewed, Operation::SetVisibility { node_id: one, public: true });
    world.publish(&renewed, one, "Academic citations", "");
    assert_eq!(world.find("citations"), [1]);
}

#[test]
fn a_node_is_found_by_whom_it_lets_reach_it() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let (eve, three) = world.node(3);
    world.publish(&alice, one, "Academic citations", "");
    for query in [words("citations"), Query::default()] {
        assert_eq!(world.find_as(&alice, one, query.clone()), [1], "oneself");
        assert_eq!(world.find_as(&bob, two, query.clone()), [0; 0]);
        assert_eq!(numbers(world.query(query)), [0; 0]);
    }
    world.by(&bob, Operation::ReportTrust { node_id: two, peer_id: one });
    assert_eq!(world.find_as(&bob, two, words("citations")), [0; 0], "nobody admits themselves");
    world.by(&alice, Operation::ReportTrust { node_id: one, peer_id: two });
    let made =
        Operation::CreateNetwork { node_id: one, name: "club".into(), join_rule: "open".into(), token: String::new() };
    world.outcome(from(HOME, 1), &made.into());
    world.by(&eve, Operation::JoinNetwork { node_id: three, network_id: 1, token: String::new() });
    for query in [words("citations"), Query::default()] {
        assert_eq!(world.find_as(&bob, two, query.clone()), [1], "trusted");
        assert_eq!(world.find_as(&eve, three, query.clone()), [1], "in the same network");
        assert_eq!(numbers(hits(world.as_admin(Operation::Query(query.clone())))), [1]);
        assert_eq!(numbers(world.query(query)), [0; 0]);
    }
    let as_bob = Operation::Query(Query { requester_id: Some(two), ..words("citations") });
    assert_eq!(error(world.ask(as_bob.clone())), "signature required for query");
    assert_eq!(error(world.by(&eve, as_bob)), "signature verification failed");

    world.by(&alice, Operation::SetVisibility { node_id: one, public: true });
    assert_eq!((world.find("citations"), world.find("")), (vec![1], vec![1]));
    world.by(&alice, Operation::SetVisibility { node_id: one, public: false });
    assert_eq!((world.find("citations"), world.find("")), (vec![], vec![]));
}

#[test]
fn a_group_is_searched_by_its_members_or_by_anybody_where_it_is_open() {
    let mut world = World::new();
    let (alice, one) = world.offering(1, "Academic citations", "");
    let (bob, two) = world.offering(2, "Academic citations", "");
    let (eve, three) = world.offering(3, "Academic citations", "");
    for (name, join_rule) in [("research", "invite"), ("open", "open")] {
        let (name, join_rule) = (name.into(), join_rule.into());
        let made = Operation::CreateNetwork { node_id: one, name, join_rule, token: String::new() };
        world.outcome(from(HOME, 1), &made.into());
    }
    world.by(&alice, Operation::InviteToNetwork { network_id: 1, inviter_id: one, target_node_id: two });
    world.by(&bob, Operation::JoinNetwork { node_id: two, network_id: 1, token: String::new() });
    let within = |network| Query { network_id: Some(network), ..words("citations") };
    assert_eq!(world.find_as(&alice, one, within(1)), [1, 2]);
    assert_eq!(world.find_as(&bob, two, Query { text: String::new(), ..within(1) }).len(), 2);
    let hit = hits(world.by(&bob, Operation::Query(Query { requester_id: Some(two), ..within(1) }))).remove(0);
    assert_eq!(hit.address.to_string(), "1:0001.0000.0001");
    let refused = "network 1 is not open: a signed query of a member, or the admin token, required to search it";
    assert_eq!(error(world.ask(Operation::Query(within(1)))), refused);
    let as_eve = Operation::Query(Query { requester_id: Some(three), ..within(1) });
    assert_eq!(error(world.by(&eve, as_eve)), refused);
    assert_eq!(numbers(hits(world.as_admin(Operation::Query(within(1))))), [1, 2]);
    assert_eq!(numbers(world.query(within(2))), [1]);
    assert_eq!(numbers(world.query(within(0))), [1, 2, 3], "the backbone is everybody");
    assert_eq!(error(world.ask(Operation::Query(within(9)))), "network 9: network not found");
    world.by(&bob, Operation::LeaveNetwork { node_id: two, network_id: 1 });
    assert_eq!(world.find_as(&alice, one, within(1)), [1]);
}

#[test]
fn tags_names_and_numbers_narrow_a_search() {
    let mut world = World::new();
    let (alice, one) = world.offering(1, "Academic citations", "");
    let tagged = Record { tags: vec!["#papers".into(), "gpu-2".into()], ..record(&world, &alice, one, "Citations") };
    let tagged = Record { serial: tagged.serial + 1, ..tagged };
    world.by(&alice, publishing(one, &tagged));
    let (bob, two) = world.offering(2, "Flight citations", "");
    world.by(&bob, Operation::SetTags { node_id: two, tags: vec!["papers".into()] });
    // An old client: tags and a hostname, no record.
    let (carol, three) = world.node(3);
    world.by(&carol, Operation::SetVisibility { node_id: three, public: true });
    world.by(&carol, Operation::SetTags { node_id: three, tags: vec!["citations".into(), "papers".into()] });
    world.by(&carol, set_hostname(three, "specialist-papers"));

    let tags = |tags: &[&str]| Query { tags: tags.iter().map(|tag| (*tag).into()).collect(), ..Query::default() };
    for restart in [false, true] {
        if restart {
            world.restart();
            for (key, node) in [(&alice, one), (&bob, two), (&carol, three)] {
                world.by(key, Operation::Heartbeat { node_id: node, report: None, bans_since: None });
            }
        }
        let mut papers = numbers(world.query(tags(&["papers"])));
        papers.sort_unstable();
        assert_eq!(papers, [1, 2, 3]);
        assert_eq!(numbers(world.query(tags(&["#papers", "gpu-2"]))), [1]);
        assert_eq!(numbers(world.query(tags(&["gpu"]))), [0; 0], "a tag is matched as a whole");
        assert_eq!(numbers(world.query(Query { text: "flight".into(), ..tags(&["papers"]) })), [2]);
        assert_eq!(world.find("specialist"), [3], "part of a hostname");
        let all = world.find("citations");
        assert!(all.contains(&3) && all.len() == 3, "{all:?}");
        assert_eq!(numbers(world.query(Query { node_id: Some(two), ..words("citations") })), [2]);
        assert_eq!(numbers(world.query(Query { node_id: Some(two), ..Query::default() })), [2]);
        assert_eq!(numbers(world.query(Query { limit: 2, ..words("citations") })).len(), 2);
    }
    assert_eq!(
        error(world.ask(Operation::Query(tags(&["Upper"])))),
        "invalid tag: 1 to 32 lower-case letters, digits and hyphens"
    );
    world.by(&carol, Operation::SetTags { node_id: three, tags: vec![] });
    world.by(&carol, set_hostname(three, ""));
    assert_eq!((world.find("specialist"), world.query(tags(&["papers"])).len()), (vec![], 2));
}

#[test]
fn whoever_is_silent_is_not_found_and_the_latest_comes_first() {
    let mut world = World::new();
    let (alice, one) = world.offering(1, "Academic citations", "");
    world.pass(Duration::from_secs(10));
    world.offering(2, "Academic citations", "");
    assert_eq!(world.find(""), [2, 1]);
    world.pass(Duration::from_secs(10));
    world.by(&alice, Operation::Heartbeat { node_id: one, report: None, bans_since: None });
    assert_eq!(world.find(""), [1, 2]);
    assert!(world.query(Query::default()).iter().all(|hit| hit.score == 0));
    world.pass(Duration::from_secs(295));
    assert_eq!((world.find(""), world.find("citations")), (vec![1], vec![1]));
    world.pass(Duration::from_secs(295));
    assert_eq!((world.find(""), world.find("citations")), (vec![], vec![]));
    let away = world.query(Query { offline: true, ..words("citations") });
    assert_eq!(away.len(), 2);
    assert!(away.iter().all(|hit| !hit.online && hit.last_seen.is_some()));
    assert_eq!(numbers(world.query(Query { offline: true, ..Query::default() })), [1, 2]);
}

#[test]
fn ranking_puts_first_what_says_it_in_its_title_and_says_all_of_it() {
    let mut world = World::new();
    world.offering(1, "Papers", "Resolves citations of academic papers to their DOIs, and formats bibliographies.");
    world.offering(2, "Flights and hotels", "Cheap fares. Not for citation of academic work, resolved or not.");
    world.offering(3, "Academic citation resolver", "Resolves citations.");
    world.offering(4, "Weather", "Resolves place names to forecasts.");
    assert_eq!(world.find("I need a peer that can resolve academic citations"), [3, 1, 2, 4]);
    let scored = world.query(words("resolve academic citations"));
    let scores: Vec<u32> = scored.iter().map(|hit| hit.score).collect();
    assert!(scores[0] == 1000 && scores.is_sorted_by(|one, next| one >= next), "{scores:?}");
    assert!(scores[2] > 500 && scores[3] <= 500, "some of the words are less than all: {scores:?}");
    assert_eq!(world.find("flight"), [2], "an ending more or less");
    assert_eq!(world.find("zebra"), [0; 0]);
    assert_eq!(world.find("zebra forecasts"), [4], "any word where not all are found");
}

#[test]
fn languages_beyond_ascii_are_found() {
    let mut world = World::new();
    let offers = [
        "Übersetzungen für Straßenverkehr",
        "Поиск научных цитат",
        "学术引用解析服务",
        "論文の引用を解決するサービス",
        "논문 인용을 찾습니다",
        "บริการแปลภาษาไทย",
        "हिन्दी अनुवाद सेवा",
        "Rockets 🚀 and 🦀",
        "Recherche bibliographique à Genève",
        "خدمة الترجمة",
    ];
    for (seed, title) in (1..).zip(offers) {
        world.offering(seed, title, "");
    }
    for (text, found) in [
        ("übersetzungen", 1),
        ("UBERSETZUNGEN", 1),
        ("u\u{308}bersetzungen", 1),
        ("strassenverkehr", 1),
        ("Straßenverkehr", 1),
        ("научных", 2),
        ("НАУЧНЫХ", 2),
        ("学术", 3),
        ("解析", 3),
        ("論文", 4),
        ("サービス", 4),
        ("인용", 5),
        ("แปลภาษา", 6),
        ("अनुवाद", 7),
        ("हिन्दी", 7),
        ("🚀", 8),
        ("🦀", 8),
        ("geneve", 9),
        ("Genève", 9),
        ("الترجمة", 10),
    ] {
        assert_eq!(world.find(text), [found], "{text}");
    }
    assert_eq!(world.find("术学"), [0; 0], "the order of characters matters");
    assert_eq!(world.find("查找学术引用论文"), [3, 4], "parts of a run where the whole is nowhere");
}

#[test]
fn the_words_of_a_question_are_data() {
    let mut world = World::new();
    world.offering(1, "Academic citations", "NEAR and far, OR else");
    for text in [
        "\"citations",
        "citations\"",
        "citations*",
        "cit* citations",
        "title:citations",
        "title : citations",
        "citations AND",
        "NOT citations",
        "NEAR(citations, 1)",
        "(citations",
        "citations)",
        "^citations",
        "-citations",
        "{title}: citations",
        "citations\0",
        "citations; DROP TABLE search",
        "'citations'",
        "citations\u{202e}",
    ] {
        assert_eq!(world.find(text), [1], "{text:?}");
    }
    for text in ["\"", "*", "\0", "''", "( )", "^", "\u{1b}", "—", "{}:"] {
        assert_eq!(world.find(text), [0; 0], "{text:?}");
    }
    assert_eq!(world.find("cit*"), [0; 0]);
    assert_eq!(world.find(&"\"(".repeat(512)), [0; 0]);
    assert_eq!(world.find(&"citations ".repeat(102)), [1]);
}

#[test]
fn a_record_with_hostile_text_is_kept_and_found() {
    let mut world = World::new();
    let title = "\u{1b}[31m red\u{0}\" OR 1=1 -- 学\u{0}术";
    world.offering(1, title, "");
    let hit = world.query(words("red")).remove(0);
    assert_eq!(Record::decode(&hit.record.unwrap()).unwrap().title, title, "as it was signed");
}

#[test]
fn records_have_so_much_memory_and_smaller_ones_are_still_taken() {
    let mut world = World::with(Limits { capability_bytes_max: 2000, ..Limits::default() });
    let (alice, one) = world.offering(1, "Citations", &"a".repeat(1000));
    let (bob, two) = world.node(2);
    let long = Record { text: "b".repeat(1000), ..record(&world, &bob, two, "Weather") };
    let refused = error(world.by(&bob, publishing(two, &long)));
    assert!(refused.starts_with("too many capability records"), "{refused}");
    for restart in [false, true] {
        if restart {
            world.restart();
        }
        world.publish(&alice, one, "Citations", &"c".repeat(1000));
    }
    world.publish(&alice, one, "Citations", "");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.by(&bob, publishing(two, &long)), Answer::PublishCapability { node_id: two, serial: long.serial });
}

#[test]
fn tags_of_hyphens_alone_are_refused_with_a_reason() {
    let mut world = World::new();
    world.offering(1, "Citations", "");
    let query = Query { tags: vec!["--".into()], ..Query::default() };
    let refused = error(world.ask(Operation::Query(query.clone())));
    assert!(refused.contains("a tag of hyphens alone cannot be searched for"), "{refused}");
    assert_eq!(world.query(Query { text: "citations".into(), ..query }), []);
}
