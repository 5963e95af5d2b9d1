//! The disk is full, refuses, hangs, or is read-only: changes are refused or wait, everything else goes on, and no restart
//! is needed once it works again. The power goes: what was acknowledged is on the disk.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use lab::fault::{self, Disk};
use lab::{Appliance, CallError, Stopwatch, World, wait_until};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::book::{Book, Pair, ask, burst};

const MEGABYTES: u64 = 16;
/// The database is tried once a second.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// Where SQLite keeps `user_version`.
const SCHEMA_OFFSET: u64 = 60;
const REFUSAL: &str = "cannot store the change at the moment, try again later";
const LOGGED: &str = "cannot write to the database";
/// While it hangs, changes wait for as long as a client has patience.
const HANG: Duration = Duration::from_secs(3);

#[test]
fn a_full_disk_refuses_changes_and_nothing_else() {
    story("disk full", Disk::fill, Disk::empty);
}

#[test]
fn a_disk_that_refuses_writes_refuses_changes_and_nothing_else() {
    let names = ["directory.sqlite", "directory.sqlite-wal"];
    story("disk refuses writes", |disk| disk.refuse(&names), |disk| disk.accept(&names));
}

fn story(what: &str, break_it: impl Fn(&Disk), mend: impl Fn(&Disk)) {
    let Some(world) = World::open() else { return };
    let disk = Disk::mount(&world.data_dir(), MEGABYTES);
    let mut appliance = world.appliance();
    let pair = Pair::join(&world);
    let mut book = Book::of(&world);
    book.write_many(10);

    break_it(&disk);
    only_changes_are_refused(&appliance, &pair, &mut book);

    mend(&disk);
    let watch = Stopwatch::start();
    wait_until("changes to be taken again", BACK_WITHIN, || book.write().ok());
    let recovery = watch.elapsed();
    let lost_running = book.lost();
    assert_eq!(fault::logged(&appliance, LOGGED), 1, "one line a minute:\n{}", appliance.log_tail());
    assert_eq!(fault::logged(&appliance, "can be written to again"), 1);
    appliance.kill();
    appliance.restart();
    let lost = book.lost() + lost_running;
    let happened = format!("changes refused ({REFUSAL}), {} entries and all lookups and relaying kept", book.len());
    fault::row(what, &happened, lost, recovery);
    assert_eq!(lost, 0);
    drop(appliance);
}

#[track_caller]
fn only_changes_are_refused(appliance: &Appliance, pair: &Pair, book: &mut Book) {
    let refused = wait_until("a change to be refused", BACK_WITHIN * 3, || match book.write() {
        Err(CallError::Refused(text)) => Some(text),
        Err(CallError::Connection(error)) => panic!("the directory hangs up: {error}"),
        // Some room may be left in a file that is there.
        Ok(_) => None,
    });
    assert_eq!(refused, REFUSAL);
    assert_eq!(lookups(book), 200, "questions are answered");
    assert!(pair.speaks(20), "the relay goes on: {:?}", appliance.metrics().non_zero("pilot_relay_dropped_total"));
    assert!(appliance.is_healthy());
}

/// Such a disk cannot be had back without taking it out, and so without a restart; until then there is no hurry.
#[test]
fn a_disk_that_becomes_read_only_while_it_is_used_refuses_changes_and_nothing_else() {
    let Some(world) = World::open() else { return };
    let disk = Disk::mount(&world.data_dir(), MEGABYTES);
    let mut appliance = world.appliance();
    let pair = Pair::join(&world);
    let mut book = Book::of(&world);
    book.write_many(10);

    disk.fail();
    only_changes_are_refused(&appliance, &pair, &mut book);
    assert_eq!(fault::logged(&appliance, LOGGED), 1, "one line a minute:\n{}", appliance.log_tail());
    assert!(fault::logged(&appliance, "cannot write the whereabouts") <= 1, "told once:\n{}", appliance.log_tail());
    fault::signal(appliance.pid(), Signal::SIGTERM);
    let status = appliance.wait_ended(BACK_WITHIN);
    disk.check_and_mount();
    let restarted = appliance.restart();
    let recovery = restarted + pair.wait_speaking();
    let lost = book.lost();
    let happened =
        format!("changes refused, {} entries and all else kept; ended ({status}), checked, started", book.len());
    fault::row("disk made read-only by an error of its file system", &happened, lost, recovery);
    assert_eq!(lost, 0);
    book.write_many(1);
    drop(appliance);
}

#[test]
fn what_was_acknowledged_before_the_power_went_is_there_after_it() {
    let Some(world) = World::open() else { return };
    // On one that is nearly full for the number of CPUs, nothing is written late.
    let disk = Disk::mount(&world.data_dir(), 4 * MEGABYTES);
    let mut appliance = world.appliance();
    let pair = Pair::join(&world);
    let books = burst(&world, || disk.cut_power());
    appliance.kill();
    disk.check_and_mount();
    let restarted = appliance.restart();
    let recovery = restarted + pair.wait_speaking();
    let lost: usize = books.iter().map(Book::lost).sum();
    let entries: usize = books.iter().map(Book::len).sum();
    let happened = format!("{entries} acknowledged nodes, each with hostname and trust, looked up; same ids");
    fault::row("power lost in a burst of registrations", &happened, lost, recovery);
    assert_eq!(lost, 0);
    drop(appliance);
}

#[test]
fn an_upgrade_that_has_no_room_to_bring_the_database_up_to_date_is_refused_and_the_relay_goes_on() {
    let Some(world) = World::open() else { return };
    let disk = Disk::mount(&world.data_dir(), MEGABYTES);
    let mut appliance = world.appliance();
    let mut book = Book::of(&world);
    book.write_many(40);
    // From an orderly end to the next change there is no log, and what the file says is all there is.
    fault::signal(appliance.pid(), Signal::SIGTERM);
    appliance.wait_ended(BACK_WITHIN);
    appliance.restart();
    let database = world.data_dir().join("directory.sqlite");
    let file = OpenOptions::new().read(true).write(true).open(database).expect("the database is there");
    let mut newest = [0; 4];
    file.read_exact_at(&mut newest, SCHEMA_OFFSET).expect("it has a header");
    let newest = u32::from_be_bytes(newest);
    let set_schema = |schema: u32| {
        file.write_all_at(&schema.to_be_bytes(), SCHEMA_OFFSET).expect("what is there can be changed");
    };
    set_schema(newest - 1);
    disk.fill();
    let pid = appliance.pid();
    let refused = world.relay_command(&["upgrade"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}\n{}", appliance.log_tail());
    let taken = format!("from schema {} to {newest}", newest - 1);
    for words in [&taken, "MiB are free; make room", "the relay that ran goes on"] {
        assert!(said.contains(words), "{words} in {said}");
    }
    assert!(appliance.is_healthy() && appliance.pid() == pid);
    let lost_running = book.lost();

    disk.empty();
    set_schema(newest);
    let watch = Stopwatch::start();
    appliance.upgrade();
    let recovery = watch.elapsed();
    let lost = book.lost() + lost_running;
    let happened = format!("refused before the takeover, naming what room it takes; {} entries served on", book.len());
    fault::row("no room for an upgrade's copy of the database", &happened, lost, recovery);
    assert_eq!(lost, 0);
    book.write_many(1);
    drop(appliance);
}

fn lookups(book: &Book) -> usize {
    let mut reader = book.client("reader").expect("connections are taken");
    (0..200).filter(|_| ask(&mut reader, &json!({ "type": "lookup", "node_id": 3 }))["node_id"] == 3).count()
}

#[test]
fn a_disk_that_hangs_delays_changes_and_nothing_else() {
    let Some(world) = World::open() else { return };
    let disk = Disk::mount(&world.data_dir(), MEGABYTES);
    let appliance = world.appliance();
    let pair = Pair::join(&world);
    let mut book = Book::of(&world);
    book.write_many(10);
    let probe = Book::of(&world);

    disk.freeze();
    let watch = Stopwatch::start();
    let recovery = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| book.write());
        while watch.elapsed() < HANG {
            assert!(pair.speaks(1), "the relay goes on");
            assert_eq!(lookups(&probe), 200, "questions are answered");
            assert!(appliance.is_healthy());
            assert!(!waiting.is_finished(), "nothing is acknowledged that is not on the disk");
        }
        disk.thaw();
        let thawed = Stopwatch::start();
        waiting.join().expect("a writer does not panic").expect("it was only late");
        thawed.elapsed()
    });
    let lost = book.lost();
    fault::row(
        "disk hangs for 3 s",
        "changes wait and are then acknowledged; lookups, relaying and health go on",
        lost,
        recovery,
    );
    assert_eq!(lost, 0);
    drop(appliance);
}

#[test]
fn a_read_only_disk_is_named_at_the_start() {
    let Some(world) = World::open() else { return };
    let disk = Disk::mount(&world.data_dir(), MEGABYTES);
    let mut book = Book::of(&world);
    let appliance: Appliance = world.appliance();
    book.write_many(5);
    drop(appliance);
    disk.read_only(true);
    let (text, status) = world.refused_start();
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("data folder") && text.contains("Read-only file system"), "{text}");
    disk.read_only(false);
    let watch = Stopwatch::start();
    let appliance = world.appliance();
    let recovery = watch.elapsed();
    let lost = book.lost();
    fault::row(
        "disk read-only at the start",
        "refused with exit status 1, naming the data folder; starts once it can",
        lost,
        recovery,
    );
    assert_eq!(lost, 0);
    drop(appliance);
}
