//! Backups made while others write, restores, and databases that somebody or something has damaged.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use directory::facts::{CapabilityFact, Change, NodeFact, Searchable};
use directory::search::words::Terms;
use directory::store::{FILE_NAME, Store, backup, restore};
use rusqlite::Connection;
use tempfile::TempDir;
use wire::NodeId;
use wire::registry::Base64;

const THEN: u64 = 1_795_000_000;
const PROGRAM: &str = "test 1.0";

fn node(number: u32) -> [Change; 2] {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    let mut fact = NodeFact::new(NodeId(number), Base64(key), THEN);
    fact.hostname = Some(format!("host-{number}"));
    let words = Searchable::of(fact.id, Some(&fact), None);
    [Change::Node(Box::new(fact)), Change::Searchable(Box::new(words))]
}

fn fill(folder: &Path, count: u32) {
    let mut store = Store::open(folder, THEN).unwrap();
    store.commit(&(1..=count).flat_map(node).collect::<Vec<_>>()).unwrap();
}

fn folder_with_nodes(count: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), count);
    folder
}

fn nodes_in(folder: &Path) -> usize {
    Store::open(folder, THEN).unwrap().load().unwrap().nodes.len()
}

fn failure(folder: &Path) -> String {
    format!("{:#}", Store::open(folder, THEN).and_then(|store| store.load()).unwrap_err())
}

fn restored(folder: &Path, backup: &Path, now: u64) -> anyhow::Result<restore::Report> {
    restore::restore(folder, restore::Source::open(backup)?, now)
}

/// Nodes that a word leads to.
fn found(store: &Store, word: &str) -> usize {
    let sql = "SELECT count(*) FROM search WHERE search MATCH ?1";
    let connection = Connection::open(path_of(store)).unwrap();
    let term = Terms::of(word).all.join(" AND ");
    connection.query_row(sql, [term], |row| row.get(0)).unwrap()
}

fn path_of(store: &Store) -> PathBuf {
    store.location().to_owned()
}

/// What a crash leaves: the files as they are now, the log first, so that what is in neither was not acknowledged before.
fn crash_image(folder: &Path) -> TempDir {
    let image = tempfile::tempdir().unwrap();
    for name in ["directory.lock", "directory.sqlite", "directory.sqlite-wal"] {
        let _ = fs::copy(folder.join(name), image.path().join(name));
    }
    image
}

#[test]
fn a_backup_made_while_others_write_holds_one_moment() {
    let folder = folder_with_nodes(500);
    fs::write(folder.path().join("admin-token"), "secret\n").unwrap();
    let mut store = Store::open(folder.path(), THEN).unwrap();
    let (done, acknowledged) = (AtomicBool::new(false), AtomicU32::new(500));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 501.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                store.commit(&node(number)).unwrap();
                acknowledged.store(number, Ordering::Release);
            }
        });
        for round in 0..5 {
            let to = folder.path().join(format!("{round}.backup"));
            let before = acknowledged.load(Ordering::Acquire) as usize;
            let report = backup::write(folder.path(), &to, false, PROGRAM, THEN).unwrap();
            assert!(report.nodes >= before, "{} of {before}", report.nodes);
            assert_eq!(report.files, ["admin-token"]);
            assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);

            let elsewhere = tempfile::tempdir().unwrap();
            let report_of_it = restored(elsewhere.path(), &to, THEN).unwrap();
            assert_eq!((report_of_it.nodes, report_of_it.made_at), (report.nodes, Some(THEN)));
            assert!(report_of_it.kept.is_some(), "nobody serves there");
            let again = Store::open(elsewhere.path(), THEN).unwrap();
            assert_eq!(again.load().unwrap().nodes.len(), report.nodes);
            assert_eq!(found(&again, "host"), report.nodes);
            assert_eq!(fs::read_to_string(elsewhere.path().join("admin-token")).unwrap(), "secret\n");
        }
        done.store(true, Ordering::Relaxed);
    });
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
}

#[test]
fn a_backup_never_takes_the_place_of_a_file_unasked() {
    let folder = folder_with_nodes(2);
    let to = folder.path().join("mine.backup");
    fs::write(&to, "precious").unwrap();
    let text = format!("{:#}", backup::write(folder.path(), &to, false, PROGRAM, THEN).unwrap_err());
    assert!(text.contains("--force") && text.contains("mine.backup"), "{text}");
    assert_eq!(fs::read(&to).unwrap(), b"precious");
    assert_eq!(backup::write(folder.path(), &to, true, PROGRAM, THEN).unwrap().nodes, 2);
    let nothing = tempfile::tempdir().unwrap();
    let text = format!("{:#}", backup::write(nothing.path(), &to, true, PROGRAM, THEN).unwrap_err());
    assert!(text.contains("no database") && text.contains("--data-dir"), "{text}");
}

#[test]
fn a_backup_of_a_damaged_database_is_refused() {
    let folder = folder_with_nodes(2000);
    damage_page_of(folder.path(), "nodes");
    let to = folder.path().join("b.backup");
    let text = format!("{:#}", backup::write(folder.path(), &to, false, PROGRAM, THEN).unwrap_err());
    assert!(text.contains("damaged") || text.contains("malformed"), "{text}");
    assert!(!to.exists());
}

#[test]
fn while_a_directory_serves_a_restore_waits_for_the_next_start() {
    let source = folder_with_nodes(3);
    let backup = source.path().join("b.backup");
    backup::write(source.path(), &backup, false, PROGRAM, THEN).unwrap();
    let folder = folder_with_nodes(7);
    let mut serving = Store::open(folder.path(), THEN).unwrap();
    let report = restored(folder.path(), &backup, THEN).unwrap();
    assert_eq!((report.nodes, report.kept), (3, None));
    serving.commit(&node(8)).unwrap();
    assert_eq!(serving.load().unwrap().nodes.len(), 8, "whoever serves notices nothing");
    drop(serving);
    assert_eq!(nodes_in(folder.path()), 3);
    assert_eq!(nodes_in(&folder.path().join(format!("before-restore-{THEN}"))), 8, "what was there is kept");
    let tables = Connection::open(folder.path().join(FILE_NAME)).unwrap();
    let left: u32 =
        tables.query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'backup%'", (), |row| row.get(0)).unwrap();
    assert_eq!(left, 0, "the secrets of the backup do not stay in the database");
}

#[test]
fn a_damaged_database_is_replaced_by_a_restore() {
    let folder = folder_with_nodes(2000);
    let backup = folder.path().join("b.backup");
    backup::write(folder.path(), &backup, false, PROGRAM, THEN).unwrap();
    damage_page_of(folder.path(), "nodes");
    assert!(failure(folder.path()).contains("pilot-relay restore FILE"));
    restored(folder.path(), &backup, THEN).unwrap();
    assert_eq!(nodes_in(folder.path()), 2000);
}

#[test]
fn what_is_no_backup_is_refused_and_nothing_changes() {
    let source = folder_with_nodes(2000);
    let whole = source.path().join("b.backup");
    backup::write(source.path(), &whole, false, PROGRAM, THEN).unwrap();
    let folder = folder_with_nodes(7);
    let other = folder.path().join("other.backup");
    let refused = |expected: &[&str]| {
        let text = format!("{:#}", restored(folder.path(), &other, THEN).unwrap_err());
        assert!(text.contains("nothing was changed") && expected.iter().any(|word| text.contains(word)), "{text}");
        assert_eq!(nodes_in(folder.path()), 7);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("restore-pending")), "{names:?}");
    };
    refused(&["No such file"]);
    fs::write(&other, "").unwrap();
    refused(&["empty"]);
    fs::write(&other, "not a database, but long enough to have a header".repeat(40)).unwrap();
    refused(&["not a database", "no backup"]);
    fs::remove_file(&other).unwrap();
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x); PRAGMA user_version = 1").unwrap();
    refused(&["not one of a directory"]);

    let bytes = fs::read(&whole).unwrap();
    fs::write(&other, &bytes[..bytes.len() / 2]).unwrap();
    refused(&["damaged", "malformed"]);
    // A hostname that a failing disk has altered: no page shows it, the digest does.
    let mut flipped = bytes.clone();
    let place = flipped.windows(9).rposition(|window| window == b"host-1234").unwrap();
    flipped[place + 6] ^= 1;
    fs::write(&other, flipped).unwrap();
    refused(&["not what was written"]);
    fs::write(&other, &bytes).unwrap();
    Connection::open(&other).unwrap().pragma_update(None, "user_version", 99).unwrap();
    refused(&["newer version"]);
}

#[test]
fn a_backup_of_an_older_version_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.backup");
    let connection = Connection::open(&old).unwrap();
    connection.execute_batch(include_str!("../migrations/0001_facts.sql")).unwrap();
    connection.execute("INSERT INTO directory (created_at) VALUES (?1)", [THEN]).unwrap();
    connection
        .execute(
            "INSERT INTO nodes (id, key, key_set_at, registered, owner, hostname, tags, public, task_exec, version,
                                lan_addrs, relay_only, endpoint, endpoint_follows, signs, signed_host)
             VALUES (1, ?1, 0, 1, '', 'grandmother', '', 1, 0, '', '', 0, '', 0, 1, NULL)",
            [[1_u8; 32]],
        )
        .unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    drop(connection);
    let report = restored(folder.path(), &old, THEN).unwrap();
    assert_eq!((report.nodes, report.made_at), (1, None), "a bare copy of a database will do");
    let store = Store::open(folder.path(), THEN).unwrap();
    assert_eq!((store.load().unwrap().nodes.len(), found(&store, "grandmother")), (1, 1));
}

/// Overwrites a page in the middle of a table.
fn damage_page_of(folder: &Path, table: &str) {
    let path = folder.join(FILE_NAME);
    let connection = Connection::open(&path).unwrap();
    let (root, size): (u64, u64) = connection
        .query_row(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema WHERE name = ?1",
            [table],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    drop(connection);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&vec![0xA5; usize::try_from(size).unwrap()], (root - 1) * size).unwrap();
}

/// Alters what the index holds, not how it is stored.
fn damage_words_of(folder: &Path) {
    let connection = Connection::open(folder.join(FILE_NAME)).unwrap();
    let damage = "UPDATE search_data SET block = zeroblob(length(block)) WHERE id > 10";
    assert!(connection.execute(damage, ()).unwrap() > 0);
}

/// The look at the index that a directory takes in the background, and the next commit.
fn notice(store: &mut Store) {
    store.reader().unwrap().check();
    store.commit(&[]).unwrap();
}

#[test]
fn a_damaged_index_is_made_anew_and_no_fact_is_lost() {
    for damage in [
        damage_words_of,
        |folder: &Path| damage_page_of(folder, "search_data"),
        |folder: &Path| {
            damage_page_of(folder, "search_idx");
        },
    ] {
        let folder = folder_with_nodes(2000);
        let expected = Store::open(folder.path(), THEN).unwrap().load().unwrap();
        damage(folder.path());
        let mut store = Store::open(folder.path(), THEN).unwrap();
        notice(&mut store);
        assert_eq!(store.load().unwrap(), expected);
        assert_eq!(found(&store, "host"), 2000);
        store.commit(&node(2001)).unwrap();
        assert_eq!(found(&store, "host"), 2001);
        drop(store);
        assert_eq!(nodes_in(folder.path()), 2001);
        let mode = fs::metadata(folder.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "a new file is as secret as the old one");
    }
}

#[test]
fn after_a_crash_the_index_is_looked_at_before_anything_else() {
    let folder = folder_with_nodes(2000);
    let store = Store::open(folder.path(), THEN).unwrap();
    let image = crash_image(folder.path());
    drop(store);
    damage_words_of(image.path());
    // Who looks into it with other tools closes the log.
    File::create(image.path().join("directory.sqlite-wal")).unwrap();
    let store = Store::open(image.path(), THEN).unwrap();
    assert_eq!(found(&store, "host"), 2000);
}

#[test]
fn facts_are_stored_while_the_index_is_damaged_under_a_running_directory() {
    for damage in [damage_words_of, |folder: &Path| {
        let connection = Connection::open(folder.join(FILE_NAME)).unwrap();
        connection.pragma_update(None, "writable_schema", true).unwrap();
        // A part of it now lies in a page that is no part of it.
        connection
            .execute_batch(
                "CREATE TABLE stray (x); INSERT INTO stray VALUES (1);
                 UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'stray')
                 WHERE name = 'search_idx';
                 DELETE FROM sqlite_schema WHERE name = 'stray'; PRAGMA schema_version = 4711",
            )
            .unwrap();
    }] {
        let folder = folder_with_nodes(2000);
        let mut store = Store::open(folder.path(), THEN).unwrap();
        damage(folder.path());
        for number in 2001..2100 {
            store.commit(&node(number)).unwrap();
        }
        notice(&mut store);
        drop(store);
        let store = Store::open(folder.path(), THEN).unwrap();
        assert_eq!((store.load().unwrap().nodes.len(), found(&store, "host")), (2099, 2099));
    }
}

#[test]
fn an_offer_is_found_again_after_its_index_was_made_anew() {
    let folder = folder_with_nodes(3);
    let mut store = Store::open(folder.path(), THEN).unwrap();
    let fact = CapabilityFact {
        node: NodeId(2),
        serial: 5,
        withdrawn: false,
        record: "no record at all".into(),
        tags: vec!["astronomy".to_owned()],
        signature: Base64([7; 64]),
    };
    store.commit(&[Change::Capability(Box::new(fact))]).unwrap();
    drop(store);
    damage_words_of(folder.path());
    let mut store = Store::open(folder.path(), THEN).unwrap();
    notice(&mut store);
    assert_eq!((found(&store, "astronomy"), found(&store, "host")), (1, 3));
}

#[test]
fn a_database_that_is_suddenly_empty_or_gone_is_not_begun_anew() {
    for damage in [|path: &Path| drop(File::create(path).unwrap()), |path: &Path| fs::remove_file(path).unwrap()] {
        let folder = folder_with_nodes(3);
        damage(&folder.path().join(FILE_NAME));
        let text = failure(folder.path());
        assert!(text.contains("empty or gone") && text.contains("pilot-relay restore FILE"), "{text}");
        // A folder of before this was noted, of which something else is left.
        fs::remove_file(folder.path().join("directory.lock")).unwrap();
        fs::write(folder.path().join("growth.csv"), "hour_unix_seconds,registered,online_peak\n").unwrap();
        assert!(failure(folder.path()).contains("empty or gone"));
        // What the message advises works.
        for name in ["directory.lock", "growth.csv"] {
            let _ = fs::remove_file(folder.path().join(name));
        }
        assert_eq!(nodes_in(folder.path()), 0);
    }
}

#[test]
fn a_crash_during_the_very_first_start_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    for name in [FILE_NAME, "directory.lock"] {
        File::create(folder.path().join(name)).unwrap();
    }
    assert_eq!(nodes_in(folder.path()), 0);
}

#[test]
fn a_log_that_is_gone_after_a_crash_is_noticed() {
    let folder = folder_with_nodes(3);
    let store = Store::open(folder.path(), THEN).unwrap();
    let image = crash_image(folder.path());
    drop(store);
    fs::remove_file(image.path().join("directory.sqlite-wal")).unwrap();
    let text = failure(image.path());
    assert!(text.contains("directory.sqlite-wal is gone"), "{text}");
    fs::remove_file(image.path().join("directory.lock")).unwrap();
    assert_eq!(nodes_in(image.path()), 3);
    // After an orderly end there is no log, and none is missed.
    assert!(!folder.path().join("directory.sqlite-wal").exists());
    assert_eq!(nodes_in(folder.path()), 3);
}

#[test]
fn every_change_acknowledged_before_the_power_went_is_there() {
    let folder = folder_with_nodes(10);
    let mut store = Store::open(folder.path(), THEN).unwrap();
    let (done, acknowledged) = (AtomicBool::new(false), AtomicU32::new(10));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 11.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                store.commit(&node(number)).unwrap();
                acknowledged.store(number, Ordering::Release);
            }
        });
        let mut seen = 10;
        for round in 0..20_u32 {
            // Another moment each time: so many commits after the last one.
            while acknowledged.load(Ordering::Acquire) < seen + round * 3 {
                std::thread::yield_now();
            }
            seen = acknowledged.load(Ordering::Acquire);
            // The log alone grows here, and only at its end: what is copied is what a disk without power would hold.
            let image = crash_image(folder.path());
            assert!(nodes_in(image.path()) >= seen as usize, "round {round}");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_disk_at_fault_is_told_from_damage() {
    let folder = folder_with_nodes(3);
    let busy = Connection::open(folder.path().join(FILE_NAME)).unwrap();
    busy.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let text = failure(folder.path());
    assert!(text.contains("can be written to") && !text.contains("restore"), "{text}");
    drop(busy);
    assert_eq!(nodes_in(folder.path()), 3);
}
