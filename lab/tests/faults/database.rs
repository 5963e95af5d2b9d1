//! The database is damaged, cut off or gone: said clearly, never begun anew, and back with `pilot-relay restore`. Backups
//! are made, and restored, while the relay serves.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use lab::{Stopwatch, World, fault};
use serde_json::Value;

use crate::book::{Book, Pair};

const DATABASE: &str = "directory.sqlite";
const PAGE_BYTES: u64 = 4096;

type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 6] = [
    ("bytes flipped in the first page", |file| overwrite(file, 0, 100)),
    ("table pages overwritten", |file| overwrite(file, PAGE_BYTES, 4 * PAGE_BYTES)),
    ("cut off in the middle", |file| cut(file, fs::metadata(file).expect("it is there").len() / 2)),
    ("cut off to nothing", |file| cut(file, 0)),
    ("replaced by something else", |file| fs::write(file, "not a database\n".repeat(1000)).expect("it is writable")),
    ("gone", |file| fs::remove_file(file).expect("it was there")),
];

fn overwrite(file: &Path, from: u64, bytes: u64) {
    let file = OpenOptions::new().write(true).open(file).expect("the database is there");
    let garbage = vec![0xA5; usize::try_from(bytes).expect("a few pages")];
    file.write_all_at(&garbage, from).expect("it is writable");
}

fn cut(file: &Path, to: u64) {
    OpenOptions::new().write(true).open(file).and_then(|file| file.set_len(to)).expect("it is writable");
}

#[test]
fn every_damage_is_named_and_restored_from_a_backup() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let mut book = Book::of(&world);
    book.write_many(40);
    let backup = world.data_dir().with_file_name("before.backup");
    let made = json(&world, &["backup", "--json", "--to", &backup.to_string_lossy()]);
    assert!(made["nodes"].as_u64() >= Some(40) && made["file"].is_string(), "{made}");
    let again = world.relay_command(&["backup", "--to", &backup.to_string_lossy()]);
    assert!(!again.status.success() && text(&again.stderr).contains("--force"), "{again:?}");

    for (name, damage) in DAMAGES {
        appliance.kill();
        // As after an orderly end: the log is folded in, and what is damaged is all there is.
        appliance.restart();
        fault::signal(appliance.pid(), nix::sys::signal::Signal::SIGTERM);
        appliance.wait_ended(std::time::Duration::from_secs(30));
        damage(&world.data_dir().join(DATABASE));
        let watch = Stopwatch::start();
        let (said, status) = world.refused_start();
        assert_eq!(status, Some(1), "{name}: {said}");
        assert!(said.contains("pilot-relay restore FILE") && said.contains(DATABASE), "{name}: {said}");
        let restored = json(&world, &["restore", "--json", &backup.to_string_lossy()]);
        assert_eq!((&restored["pending"], &restored["nodes"]), (&Value::Bool(false), &made["nodes"]), "{name}");
        appliance.restart();
        let recovery = watch.elapsed();
        let lost = book.lost();
        let happened = "exit status 1, naming `pilot-relay restore FILE`; restored from a backup, old file kept";
        fault::row(&format!("database {name}"), happened, lost, recovery);
        assert_eq!(lost, 0, "{name}");
    }
}

#[test]
fn a_log_that_vanishes_after_a_crash_is_noticed() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let mut book = Book::of(&world);
    book.write_many(10);
    appliance.kill();
    let log = world.data_dir().join("directory.sqlite-wal");
    let aside = log.with_extension("aside");
    fs::rename(&log, &aside).expect("after a crash the log is there");
    let (said, status) = world.refused_start();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("directory.sqlite-wal is gone"), "{said}");
    fs::rename(&aside, &log).expect("what was moved can be moved back");
    let recovery = appliance.restart();
    let lost = book.lost();
    fault::row("log gone after a crash", "exit status 1, naming the file; starts once it is back", lost, recovery);
    assert_eq!(lost, 0);
}

#[test]
fn a_backup_is_restored_while_the_relay_serves() {
    let Some(world) = World::open() else { return };
    let mut appliance = world.appliance();
    let pair = Pair::join(&world);
    let mut book = Book::of(&world);
    book.write_many(20);
    let backup = world.data_dir().with_file_name("serving.backup");
    let made = json(&world, &["backup", "--json", "--to", &backup.to_string_lossy()]);
    let files = made["files"].as_array().cloned().unwrap_or_default();
    assert!(files.contains(&Value::from("admin-token")), "{made}");
    let mut later = Book::of(&world);
    let extra = later
        .client("later")
        .and_then(|mut client| client.register(([198, 18, 0, 99], 4000).into(), "later@pilot.test"));
    let extra = extra.expect("an honest change");

    let restored = json(&world, &["restore", "--json", &backup.to_string_lossy()]);
    assert_eq!((&restored["pending"], &restored["kept"]), (&Value::Bool(true), &Value::Null), "{restored}");
    assert!(pair.speaks(10), "nothing has changed for those who are served");
    assert_eq!(book.lost(), 0);
    let given_up = json(&world, &["restore", "--cancel", "--json"]);
    assert_eq!(given_up["canceled"], true);
    json(&world, &["restore", "--json", &backup.to_string_lossy()]);

    let watch = Stopwatch::start();
    fault::signal(appliance.pid(), nix::sys::signal::Signal::SIGTERM);
    appliance.wait_ended(std::time::Duration::from_secs(30));
    appliance.restart();
    let recovery = watch.elapsed();
    let lost = book.lost();
    let node = later.client("reader").expect("connections are taken");
    let mut node = node;
    let known = crate::book::ask(&mut node, &serde_json::json!({ "type": "lookup", "node_id": extra }));
    assert!(known["error"].is_string(), "node {extra} has registered after the backup: {known}");
    pair.wait_speaking();
    let kept = fs::read_dir(world.data_dir()).expect("the data folder is there").flatten();
    let kept = kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("before-restore-")).count();
    assert_eq!(kept, 1, "what was there before is kept");
    fault::row(
        "backup and restore while serving",
        "waits for the restart, then taken over; old data kept",
        lost,
        recovery,
    );
    assert_eq!(lost, 0);
    // Writing goes on where the backup ended.
    later.write_many(2);
    drop(File::open(backup).expect("the backup stays"));
}

fn json(world: &World, command: &[&str]) -> Value {
    let output = world.relay_command(command);
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
