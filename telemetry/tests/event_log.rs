//! The event log on a real file system: what is in the files after rotation, a crash, a disk without room.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::{Value, json};
use telemetry::event_log::{EventLog, Options};

const PATIENCE: Duration = Duration::from_secs(20);

fn lines(options: &Options, age: usize) -> Vec<Value> {
    let text = fs::read_to_string(options.path(age)).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "a line is whole");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn events_are_lines_that_only_the_owner_reads() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(folder.path().join("deep/events"));
    let (log, guard) = EventLog::open(options.clone()).unwrap();
    log.write(&json!({"event": "dial", "text": "a\nb\u{1b}"}));
    log.clone().write(&json!({"event": "end"}));
    drop(guard);
    assert_eq!(lines(&options, 0), [json!({"event": "dial", "text": "a\nb\u{1b}"}), json!({"event": "end"})]);
    assert_eq!(fs::metadata(options.path(0)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&options.folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!((log.written(), log.dropped()), (2, 0));
    log.write(&json!({"event": "late"}));
    assert_eq!(log.dropped(), 1, "nobody writes any more");
}

#[test]
fn what_others_wrote_cannot_command_whoever_shows_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(folder.path());
    let (log, guard) = EventLog::open(options.clone()).unwrap();
    let text = "\u{9b}2J\u{7f}\u{202e}\u{2028}\u{61c}\u{1b}[31m 引用";
    log.write(&json!({"text": text}));
    drop(guard);
    let raw = fs::read_to_string(options.path(0)).unwrap();
    let harmful = |c: char| c.is_control() && c != '\n' || ['\u{202e}', '\u{2028}', '\u{61c}'].contains(&c);
    assert!(!raw.contains(harmful) && raw.contains("引用"), "{raw:?}");
    assert_eq!(lines(&options, 0), [json!({"text": text})], "nothing is lost by it");
}

#[test]
fn the_newest_stay_and_the_oldest_file_goes() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { file_bytes_max: 100, files_max: 3, ..Options::new(folder.path()) };
    let (log, guard) = EventLog::open(options.clone()).unwrap();
    for number in 0..100 {
        log.write(&json!({"number": number}));
        assert!(log.flush(PATIENCE));
    }
    drop(guard);
    let kept: Vec<_> = (0..3).rev().flat_map(|age| lines(&options, age)).collect();
    let first = kept[0]["number"].as_u64().unwrap();
    let wanted: Vec<_> = (first..100).map(|number| json!({"number": number})).collect();
    assert_eq!(kept, wanted, "without gaps up to the last");
    assert!((10..30).contains(&kept.len()), "{} lines of 14 bytes in three files of 100", kept.len());
    for age in 0..3 {
        assert!(fs::metadata(options.path(age)).unwrap().len() <= 100);
    }
    assert!(!options.path(3).exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn a_restart_goes_on_behind_what_is_there_and_mends_a_torn_line() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(folder.path());
    fs::write(options.path(0), "{\"number\":1}\n{\"numb").unwrap();
    let (log, guard) = EventLog::open(options.clone()).unwrap();
    log.write(&json!({"number": 2}));
    drop(guard);
    assert_eq!(fs::read_to_string(options.path(0)).unwrap(), "{\"number\":1}\n{\"numb\n{\"number\":2}\n");
}

#[test]
fn what_cannot_be_kept_is_counted_and_what_comes_after_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { file_bytes_max: 20, files_max: 2, ..Options::new(folder.path()) };
    let (log, guard) = EventLog::open(options.clone()).unwrap();
    log.write(&json!({"number": 1}));
    assert!(log.flush(PATIENCE));
    log.write(&json!({"text": "x".repeat(100_000)}));
    assert_eq!(log.dropped(), 1, "too long for a line");
    // A folder where the older file belongs: it cannot be moved there.
    fs::create_dir(options.path(1)).unwrap();
    fs::write(options.path(1).join("in-the-way"), "").unwrap();
    log.write(&json!({"number": 2}));
    log.write(&json!({"number": 3}));
    assert!(log.flush(PATIENCE));
    assert_eq!((log.written(), log.dropped()), (1, 3));
    fs::remove_dir_all(options.path(1)).unwrap();
    log.write(&json!({"number": 4}));
    drop(guard);
    assert_eq!((lines(&options, 1), lines(&options, 0)), (vec![json!({"number": 1})], vec![json!({"number": 4})]));
}

#[test]
fn a_link_in_the_place_of_the_file_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (options, target) = (Options::new(folder.path()), folder.path().join("elsewhere"));
    fs::write(&target, "mine").unwrap();
    std::os::unix::fs::symlink(&target, options.path(0)).unwrap();
    assert!(EventLog::open(options).is_err());
    assert_eq!(fs::read_to_string(target).unwrap(), "mine");
}

#[test]
fn a_folder_that_cannot_be_had_is_said_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = EventLog::open(Options::new(folder.path().join("file/below"))).map(drop).unwrap_err();
    assert!(error.to_string().contains("file/below/events.jsonl"), "{error}");
}

#[test]
fn a_burst_never_waits_and_every_event_is_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { queue_max: 4, ..Options::new(folder.path()) };
    let (log, guard) = EventLog::open(options.clone()).unwrap();
    (0..5000).for_each(|number| log.write(&json!({"number": number})));
    drop(guard);
    assert_eq!(log.written() + log.dropped(), 5000);
    assert_eq!(lines(&options, 0).len() as u64, log.written());
}
