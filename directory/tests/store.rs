//! The database on disk: what is committed stays, and what is broken is said clearly.

use std::fs;
use std::path::Path;

use directory::facts::{Change, NodeFact, TrustFact};
use directory::store::{FILE_NAME, Store};
use tempfile::TempDir;
use wire::NodeId;
use wire::registry::Base64;

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
