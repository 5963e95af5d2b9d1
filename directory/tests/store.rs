//! The database on disk: what is committed stays, and what is broken is said clearly.

use std::fs;
use std::path::Path;

use directory::config::Limits;
use directory::enrolment::{Approval, Ban, KeyRule, QUOTA_MAX, Quota, Standing};
use directory::facts::{CapabilityFact, Change, NodeFact, Searchable, TrustFact};
use directory::service::{Caller, ConnectionId, Decision, Now, Service};
use directory::store::{FILE_NAME, Store};
use tempfile::TempDir;
use wire::NodeId;
use wire::registry::answer::Hit;
use wire::registry::request::Query;
use wire::registry::{Answer, Base64, Operation, Request};

const THEN: u64 = 1_795_000_000;

fn node(number: u32) -> Change {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    Change::Node(Box::new(NodeFact::new(NodeId(number), Base64(key), THEN)))
}

fn folder_with_nodes(count: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), THEN).unwrap();
    store.commit(&(1..=count).map(node).collect::<Vec<_>>()).unwrap();
    folder
}

fn failure(folder: &Path) -> String {
    let error = Store::open(folder, THEN).and_then(|store| store.load()).unwrap_err();
    format!("{error:#}")
}

#[test]
fn what_is_committed_is_there_without_an_orderly_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), THEN).unwrap();
    store.commit(&[node(1), node(2)]).unwrap();
    store.commit(&[Change::Trusted(TrustFact { truster: NodeId(1), trusted: NodeId(2) })]).unwrap();

    // The folder as a crash would leave it: the files as they are now, the log not folded into the database.
    let crashed = tempfile::tempdir().unwrap();
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), crashed.path().join(file.file_name())).unwrap();
    }
    let expected = store.load().unwrap();
    let recovered = Store::open(crashed.path(), THEN + 1).unwrap().load().unwrap();
    assert_eq!(recovered, expected);
    assert_eq!((recovered.nodes.len(), recovered.trust.len(), recovered.created_at), (2, 1, THEN));
}

#[test]
fn a_batch_is_stored_whole_or_not_at_all() {
    let folder = folder_with_nodes(1);
    let mut store = Store::open(folder.path(), THEN).unwrap();
    let Change::Node(mut duplicate) = node(3) else { unreachable!() };
    let Change::Node(first) = node(1) else { unreachable!() };
    duplicate.key = first.key;
    store.commit(&[node(2), Change::Node(duplicate)]).unwrap_err();
    assert_eq!(store.load().unwrap().nodes.len(), 1);
}

#[test]
fn one_process_at_a_time() {
    let folder = folder_with_nodes(1);
    let store = Store::open(folder.path(), THEN).unwrap();
    let text = failure(folder.path());
    assert!(text.contains("is in use by another directory") && text.contains("--data-dir"), "{text}");
    drop(store);
    Store::open(folder.path(), THEN).unwrap();
}

#[test]
fn a_damaged_database_is_refused_with_advice() {
    let mut damages = 0;
    for cut in [1, 50, 1000, 4096, 5000, 20_000] {
        let folder = folder_with_nodes(2000);
        let path = folder.path().join(FILE_NAME);
        let length = fs::metadata(&path).unwrap().len();
        assert!(length > 20_000, "the log is folded into the database when it closes");
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();
        let text = failure(folder.path());
        assert!(text.contains(FILE_NAME) && text.contains("restore it from a backup"), "{cut}: {text}");
        damages += 1;
    }
    let folder = folder_with_nodes(2000);
    let path = folder.path().join(FILE_NAME);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8192..12_288].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let text = failure(folder.path());
    assert!(text.contains("restore it from a backup"), "{text}");
    assert_eq!(damages, 6);
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let folder = folder_with_nodes(1);
    let path = folder.path().join(FILE_NAME);
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let text = failure(folder.path());
    assert!(text.contains("newer version"), "{text}");
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let text = failure(&file.join("data"));
    assert!(text.contains("cannot make the data folder") && text.contains("--data-dir"), "{text}");
}

#[test]
fn missing_nodes_are_noticed() {
    let folder = folder_with_nodes(3);
    let connection = rusqlite::Connection::open(folder.path().join(FILE_NAME)).unwrap();
    connection.execute("DELETE FROM nodes WHERE id = 2", ()).unwrap();
    drop(connection);
    assert!(failure(folder.path()).contains("nodes are missing"));
}

fn capability(number: u32, record: &str) -> [Change; 2] {
    let node = NodeId(number);
    let fact = CapabilityFact {
        node,
        serial: 5,
        withdrawn: false,
        record: record.into(),
        tags: vec!["papers".to_owned()],
        signature: Base64([7; 64]),
    };
    let words = Searchable {
        node,
        title: "Citations".to_owned(),
        tags: "papers".to_owned(),
        hostname: String::new(),
        text: String::new(),
    };
    [Change::Capability(Box::new(fact)), Change::Searchable(Box::new(words))]
}

/// What a directory over `store` answers an administrator.
fn find(store: &Store, text: &str) -> Vec<Hit> {
    let mut service = Service::new(store.load().unwrap(), &Limits::default(), directory::AdminToken::new("letmein"));
    let now = Now { monotonic: std::time::Duration::from_secs(1000), unix_seconds: THEN };
    let caller = Caller {
        connection: ConnectionId(1),
        ip: [192, 0, 2, 1].into(),
        exempt: true,
        advertised: &[],
        extensions: &[],
        relay_key: None,
    };
    let query = Query { text: text.to_owned(), offline: true, ..Query::default() };
    let request = Request { admin_token: Some("letmein".to_owned()), ..Operation::Query(query).into() };
    let mut decision = service.handle(now, &caller, &request, None);
    while let Decision::Search(search) = decision {
        decision = service.handle_found(now, &request, store.reader().unwrap().find(*search).unwrap());
    }
    match decision {
        Decision::Done(outcome) => match outcome.answer {
            Answer::Query { hits } => hits,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn capabilities_and_their_words_survive_a_crash() {
    let folder = folder_with_nodes(1);
    let mut store = Store::open(folder.path(), THEN).unwrap();
    store.commit(&capability(1, "as signed")).unwrap();
    let crashed = tempfile::tempdir().unwrap();
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), crashed.path().join(file.file_name())).unwrap();
    }
    let recovered = Store::open(crashed.path(), THEN).unwrap();
    assert_eq!(recovered.load().unwrap().capabilities, store.load().unwrap().capabilities);
    let hit = find(&recovered, "citation").remove(0);
    assert_eq!((hit.record.as_deref(), hit.signature), (Some("as signed"), Some(Base64([7; 64]))));
}

#[test]
fn a_record_that_was_meddled_with_is_handed_out_as_it_is_or_left_out() {
    let folder = folder_with_nodes(4);
    let mut store = Store::open(folder.path(), THEN).unwrap();
    store.commit(&(1..=4).flat_map(|number| capability(number, "as signed")).collect::<Vec<_>>()).unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(folder.path().join(FILE_NAME)).unwrap();
    for sql in [
        "UPDATE capabilities SET record = 'altered' WHERE node = 1",
        "UPDATE capabilities SET record = CAST(x'ff00fe' AS TEXT) WHERE node = 2",
        "UPDATE capabilities SET signature = x'00' WHERE node = 3",
        "UPDATE capabilities SET serial = -1 WHERE node = 4",
    ] {
        connection.execute(sql, ()).unwrap();
    }
    drop(connection);
    let store = Store::open(folder.path(), THEN).unwrap();
    let hits = find(&store, "citations");
    let records: Vec<_> = hits.iter().map(|hit| (hit.node_id.0, hit.record.as_deref())).collect();
    assert_eq!(
        records,
        [(1, Some("altered")), (2, Some("\u{fffd}\0\u{fffd}")), (3, None), (4, None)],
        "what cannot be a record is no record, and everybody still starts"
    );
    assert_eq!(find(&store, "").len(), 2);
}

/// A database as the release before enrolment left it.
#[test]
fn whoever_was_there_before_enrolment_belongs_and_counts_as_seen() {
    let folder = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(folder.path().join(FILE_NAME)).unwrap();
    for migration in [include_str!("../migrations/0001_facts.sql"), include_str!("../migrations/0002_capabilities.sql")]
    {
        connection.execute_batch(migration).unwrap();
    }
    connection.execute("INSERT INTO directory (created_at) VALUES (?1)", [THEN]).unwrap();
    let insert =
        "INSERT INTO nodes (id, key, key_set_at, registered, owner, hostname, tags, public, task_exec, version,
                                     lan_addrs, relay_only, endpoint, endpoint_follows, signs, signed_host)
                  VALUES (?1, ?2, 5, ?3, '', NULL, '', 0, 0, '', '', 0, '', 0, ?3, NULL)";
    for (id, registered) in [(1_u8, true), (2, false)] {
        connection.execute(insert, rusqlite::params![id, [id; 32], registered]).unwrap();
    }
    connection.pragma_update(None, "user_version", 2).unwrap();
    drop(connection);
    let mut store = Store::open(folder.path(), THEN).unwrap();
    let facts = store.load().unwrap();
    assert_eq!(facts.nodes.iter().map(NodeFact::standing).collect::<Vec<_>>(), [Some(Standing::Approved), None]);
    assert!(facts.nodes.iter().all(|node| node.last_seen_day.is_some_and(|day| day > 20_000) && !node.vacant));
    assert_eq!(facts.key_rules, []);

    let mut node = facts.nodes[0].clone();
    node.approval = Approval::Listed;
    node.ban = Some(Box::new(Ban { reason: "a reason".into(), at: THEN }));
    node.quota = Quota { packets_per_second: Some(0), bytes_per_second: Some(QUOTA_MAX) };
    node.wished_hostname = Some("alice".into());
    node.vacant = true;
    let rules = [None, Some("stolen".to_owned())].map(|ban| KeyRule { key: Base64([7; 32]), ban, at: THEN });
    let changes = rules.iter().map(|rule| Change::KeyRule(Box::new(rule.clone())));
    store.commit(&changes.chain([Change::Node(Box::new(node.clone()))]).collect::<Vec<_>>()).unwrap();
    let facts = store.load().unwrap();
    assert_eq!((&facts.nodes[0], &facts.key_rules[..]), (&node, &rules[1..]));
    store.commit(&[Change::KeyRuleEnded(Base64([7; 32])), Change::Seen(30_000, vec![NodeId(1), NodeId(2)])]).unwrap();
    let facts = store.load().unwrap();
    assert_eq!((facts.nodes[0].last_seen_day, facts.nodes[1].last_seen_day), (Some(30_000), Some(30_000)));
    assert_eq!(facts.key_rules, []);
}

#[test]
fn names_and_tags_of_an_older_database_become_searchable() {
    let folder = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(folder.path().join(FILE_NAME)).unwrap();
    connection.execute_batch(include_str!("../migrations/0001_facts.sql")).unwrap();
    connection.execute("INSERT INTO directory (created_at) VALUES (?1)", [THEN]).unwrap();
    let insert =
        "INSERT INTO nodes (id, key, key_set_at, registered, owner, hostname, tags, public, task_exec, version,
                                     lan_addrs, relay_only, endpoint, endpoint_follows, signs, signed_host)
                  VALUES (?1, ?2, 0, 1, '', ?3, ?4, 1, 0, '', '', 0, '', 0, 1, NULL)";
    for (id, hostname, tags) in [(1_u8, None, ""), (2, Some("specialist-papers"), ""), (3, None, "papers gpu")] {
        connection.execute(insert, rusqlite::params![id, [id; 32], hostname, tags]).unwrap();
    }
    connection.pragma_update(None, "user_version", 1).unwrap();
    drop(connection);
    let store = Store::open(folder.path(), THEN).unwrap();
    let found = |text| find(&store, text).iter().map(|hit| hit.node_id.0).collect::<Vec<_>>();
    assert_eq!((found("papers"), found("gpu")), (vec![3, 2], vec![3]));
    assert_eq!(store.load().unwrap().nodes.len(), 3);
}

#[test]
fn a_database_of_an_older_version_is_kept_as_it_was() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(include_str!("../migrations/0001_facts.sql")).unwrap();
    connection.execute_batch(include_str!("../migrations/0002_capabilities.sql")).unwrap();
    connection.execute("INSERT INTO directory (created_at) VALUES (?1)", [THEN]).unwrap();
    connection.pragma_update(None, "user_version", 2).unwrap();
    drop(connection);
    Store::open(folder.path(), THEN).unwrap();
    let version = |path: &Path| -> usize {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap()
    };
    let kept = folder.path().join("directory.sqlite-schema2");
    assert_eq!((version(&path), version(&kept)), (3, 2));
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);

    // As a program finds it to which one goes back.
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    fs::rename(kept, folder.path().join("directory.sqlite-schema3")).unwrap();
    let text = failure(folder.path());
    assert!(text.contains("newer version") && text.contains("directory.sqlite-schema3"), "{text}");
    assert!(text.contains("stop whatever relay") && text.contains("directory.sqlite-shm"), "{text}");
    let looked = directory::store::look(folder.path()).unwrap_err();
    let text = format!("{looked:#}");
    assert!(text.contains("directory.sqlite-schema3") && !text.contains("restore it from a backup"), "{text}");
    fs::remove_file(folder.path().join("directory.sqlite-schema3")).unwrap();
    assert!(failure(folder.path()).contains("restore a backup: pilot-relay restore FILE"));
}

/// All rows of all tables but those of the full-text index, as text.
fn rows_of(path: &Path) -> Vec<String> {
    let connection = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'search%' ORDER BY name";
    let tables: Vec<String> =
        connection.prepare(sql).unwrap().query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let rows = tables.iter().flat_map(|table| {
        let mut statement = connection
            .prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2"))
            .unwrap_or_else(|_| connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1")).unwrap());
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            (0..columns).map(|column| row.get::<_, rusqlite::types::Value>(column)).collect::<Result<Vec<_>, _>>()
        };
        let rows = statement.query_map((), row).unwrap();
        rows.map(|row| format!("{table} {:?}", row.unwrap())).collect::<Vec<_>>()
    });
    rows.collect()
}

/// Databases as programs of those days have left them, none of today's code in them. Registered were three unmodified daemons,
/// two of which trust each other; in the second also five nodes of the load generator, with capabilities and a group.
const OLDER: [(usize, &[u8], [&str; 3]); 2] = [
    (
        1,
        include_bytes!("fixtures/schema1.sqlite"),
        [
            "0ZA9AY0Q/Vn4pYWzAG5TEZI74pHta7d1AGXldaDan2k=",
            "kQtdJ0Seto56IMFWgYtAtTsqSXB9yrKchrE5oL7cRCk=",
            "l+e7obBjap8rJF9zPJ4ot7q7D+5vDRn+YOqIeYWYnx8=",
        ],
    ),
    (
        2,
        include_bytes!("fixtures/schema2.sqlite"),
        [
            "0kG8RXx8bv60rYBKZN6C+M4RDffJsMThL16pfdDW7Zg=",
            "TXdpXG02H+u7ZLE8drNLVB0fHHt9Q/WM4fJZDP/Shd8=",
            "L1eBUx0rvQ7o2ak0Qyt18m5Wj6edmNFmbfnLMTUPMq8=",
        ],
    ),
];

#[test]
fn what_an_older_program_has_stored_is_taken_over_and_kept_for_the_way_back() {
    for (schema, database, keys) in OLDER {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, database).unwrap();
        let before = rows_of(&path);
        let store = Store::open(folder.path(), THEN).unwrap();
        let facts = store.load().unwrap();

        let daemons = facts.nodes.iter().take(3);
        let named = daemons.map(|node| (node.id.0, node.hostname.as_deref(), serde_json::to_value(node.key).unwrap()));
        let [alice, bob, carol] = keys.map(serde_json::Value::from);
        assert_eq!(
            named.collect::<Vec<_>>(),
            [(1, Some("alice"), alice), (2, Some("bob"), bob), (3, Some("carol"), carol)],
            "schema {schema}"
        );
        let trust: Vec<_> = facts.trust.iter().map(|trust| (trust.truster.0, trust.trusted.0)).collect();
        assert_eq!(trust, [(1, 2), (2, 1)], "schema {schema}");
        assert!(facts.nodes.iter().all(|node| node.standing() == Some(Standing::Approved) && !node.vacant));
        let found = |text| find(&store, text).iter().map(|hit| hit.node_id.0).collect::<Vec<_>>();
        assert_eq!(found("papers"), [1], "schema {schema}");
        if schema >= 2 {
            let network: Vec<_> = facts.members.iter().map(|(network, node)| (*network, node.0)).collect();
            assert_eq!((&*facts.networks[0].name, network), ("load-1-0", (4..=8).map(|node| (1, node)).collect()));
            assert!(facts.capabilities.len() == 5 && find(&store, "taifourpea").iter().all(|hit| hit.record.is_some()));
            assert_eq!(found("taifourpea").len(), 2, "two have the word in their titles");
        }

        drop(store);
        let kept = folder.path().join(format!("directory.sqlite-schema{schema}"));
        assert_eq!(rows_of(&kept), before, "schema {schema}: as the program finds it to which one goes back");
        let version = |path: &Path| -> usize {
            rusqlite::Connection::open(path).unwrap().query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap()
        };
        assert!(version(&kept) == schema && version(&path) > schema);
    }
}
