//! When a record is published, and with which serial.

use std::time::Duration;

use agent::Time;
use agent::capability::publication::{Event, Kept, Status};
use agent::capability::{Offer, Publication};
use agent::node::Unanswered;
use wire::NodeId;
use wire::registry::capability::{Record, SERIAL_MAX};
use wire::registry::{Answer, Base64, Operation};

const NOW: Time = Time(1_000_000_000);
const KEY: [u8; 32] = [3; 32];

fn offer(title: &str) -> Offer {
    Offer { title: title.to_owned(), ..Offer::default() }
}

fn publication() -> Publication {
    let mut publication = Publication::new(Base64(KEY));
    publication.set_wall_clock(1000);
    publication
}

/// The record that is published now.
fn published(publication: &mut Publication, now: Time) -> Option<Record> {
    match publication.poll_operation(now)? {
        Operation::PublishCapability { node_id, record } => {
            let record = Record::decode(&record).unwrap();
            assert_eq!(record.node, node_id);
            Some(record)
        }
        other => panic!("expected a publication, got {other:?}"),
    }
}

fn take(publication: &mut Publication, serial: u64) {
    publication.handle_answer(NOW, Ok(&Answer::PublishCapability { node_id: NodeId(7), serial }));
}

fn refuse(publication: &mut Publication, now: Time, error: &str) {
    publication.handle_answer(now, Ok(&Answer::Error { error: error.to_owned() }));
}

fn kept(publication: &Publication) -> Kept {
    Kept { record: publication.made().unwrap().1.to_owned(), signature: Base64([0; 64]) }
}

#[test]
fn a_record_is_published_after_each_registration_and_made_once() {
    let mut publication = publication();
    publication.offer(NOW, offer("citations")).unwrap();
    assert_eq!(publication.poll_timeout(), None, "no id yet");
    publication.handle_registered(NOW, NodeId(7));
    let first = published(&mut publication, NOW).unwrap();
    assert_eq!((first.serial, first.title.as_str()), (1_000_000, "citations"));
    assert_eq!(publication.poll_operation(NOW), None, "one at a time");
    take(&mut publication, first.serial);
    assert_eq!(*publication.status(), Status::Published(1_000_000));
    assert_eq!(publication.poll_timeout(), None);
    // The directory may have lost it; what it says has not changed, and neither has its serial.
    publication.set_wall_clock(2000);
    publication.handle_registered(NOW, NodeId(7));
    assert_eq!(published(&mut publication, NOW).unwrap(), first);
    take(&mut publication, first.serial);
    // Offered again: nothing to do.
    publication.offer(NOW, offer("citations")).unwrap();
    assert_eq!(publication.poll_timeout(), None);
    // Another id is another record.
    publication.handle_registered(NOW, NodeId(8));
    let moved = published(&mut publication, NOW).unwrap();
    assert_eq!((moved.node, moved.serial), (NodeId(8), 2_000_000));
}

#[test]
fn unchanged_content_keeps_its_serial_over_a_restart() {
    let mut before = publication();
    before.offer(NOW, offer("citations")).unwrap();
    before.handle_registered(NOW, NodeId(7));
    let first = published(&mut before, NOW).unwrap();
    let mut after = Publication::new(Base64(KEY));
    after.set_wall_clock(5000);
    after.restore(&kept(&before)).unwrap();
    after.offer(NOW, offer("citations")).unwrap();
    after.handle_registered(NOW, NodeId(7));
    assert_eq!(published(&mut after, NOW).unwrap(), first);
    take(&mut after, first.serial);
    after.offer(NOW, offer("other")).unwrap();
    assert_eq!(published(&mut after, NOW).unwrap().serial, 5_000_000);
    // Without a word of the operator what was kept goes on.
    let mut silent = Publication::new(Base64(KEY));
    silent.restore(&kept(&after)).unwrap();
    silent.handle_registered(NOW, NodeId(7));
    assert_eq!(published(&mut silent, NOW).unwrap().title, "other");
}

#[test]
fn serials_grow_though_the_clock_goes_back() {
    let mut publication = publication();
    publication.offer(NOW, offer("a")).unwrap();
    publication.handle_registered(NOW, NodeId(7));
    let first = published(&mut publication, NOW).unwrap().serial;
    publication.set_wall_clock(1);
    // What changes while the question is under way is published behind it.
    publication.offer(NOW, offer("b")).unwrap();
    take(&mut publication, first);
    assert!(matches!(publication.status(), Status::Pending(_)));
    assert_eq!(published(&mut publication, NOW).unwrap().serial, first + 1);
}

#[test]
fn an_older_serial_is_raised_to_what_the_directory_has() {
    let mut publication = publication();
    publication.offer(NOW, offer("a")).unwrap();
    publication.handle_registered(NOW, NodeId(7));
    published(&mut publication, NOW).unwrap();
    refuse(&mut publication, NOW, "invalid capability record: serial 1000000, already have 7000000");
    assert_eq!(published(&mut publication, NOW).unwrap().serial, 7_000_001);
    // A directory that says so again and again is not asked without pause.
    refuse(&mut publication, NOW, "serial 7000001, already have 9000000");
    assert!(publication.poll_timeout().unwrap() > NOW);
    let later = NOW + Duration::from_secs(120);
    assert_eq!(published(&mut publication, later).unwrap().serial, 9_000_001);
    // Nor followed to numbers beyond which there is none.
    refuse(&mut publication, later, &format!("already have {}", u64::MAX));
    assert!(matches!(publication.status(), Status::Refused(_)));
    publication.offer(later, offer("b")).unwrap();
    published(&mut publication, later).unwrap();
    refuse(&mut publication, later, &format!("already have {}", SERIAL_MAX - 1));
    assert_eq!(published(&mut publication, later).unwrap().serial, SERIAL_MAX);
    refuse(&mut publication, later, &format!("already have {SERIAL_MAX}"));
    publication.offer(later, offer("c")).unwrap();
    assert!(published(&mut publication, later).is_some_and(|record| record.serial <= SERIAL_MAX));
}

#[test]
fn silence_is_tried_again_ever_more_slowly_and_a_refusal_is_told() {
    let mut publication = publication();
    publication.offer(NOW, offer("a")).unwrap();
    publication.handle_registered(NOW, NodeId(7));
    let (mut now, mut pauses) = (NOW, Vec::new());
    for _ in 0..9 {
        published(&mut publication, now).unwrap();
        publication.handle_answer(now, Err(&Unanswered::Unreachable("away".to_owned())));
        let due = publication.poll_timeout().unwrap();
        pauses.push(due.since(now).as_secs());
        now = due;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    published(&mut publication, now).unwrap();
    refuse(&mut publication, now, "rate limited");
    assert!(publication.poll_timeout().is_some(), "that passes");
    now = publication.poll_timeout().unwrap();
    published(&mut publication, now).unwrap();
    refuse(&mut publication, now, "unknown type\u{1b}[31m");
    assert_eq!(publication.poll_timeout(), None, "that does not");
    let complaint = std::iter::from_fn(|| publication.poll_event()).last().unwrap();
    assert_eq!(complaint, Event::Complaint("unknown type[31m".to_owned()));
    // A new registration may be with another directory.
    publication.handle_registered(now, NodeId(7));
    assert!(published(&mut publication, now).is_some());
}

#[test]
fn what_is_withdrawn_stays_so() {
    let mut publication = publication();
    publication.offer(NOW, offer("a")).unwrap();
    publication.handle_registered(NOW, NodeId(7));
    let first = published(&mut publication, NOW).unwrap();
    take(&mut publication, first.serial);
    publication.withdraw(NOW);
    let tombstone = published(&mut publication, NOW).unwrap();
    assert!(tombstone.withdrawn && tombstone.serial > first.serial && tombstone.title.is_empty());
    take(&mut publication, tombstone.serial);
    let mut after = Publication::new(Base64(KEY));
    after.restore(&kept(&publication)).unwrap();
    after.handle_registered(NOW, NodeId(7));
    assert_eq!(published(&mut after, NOW), Some(tombstone));
    assert_eq!(after.offered(), None);
}

#[test]
fn tags_alone_are_told_after_each_registration_until_the_user_says_otherwise() {
    let mut publication = publication();
    publication.set_tags(NOW, vec!["gpu".to_owned()]);
    for _ in 0..2 {
        publication.handle_registered(NOW, NodeId(7));
        let operation = publication.poll_operation(NOW).unwrap();
        assert_eq!(operation, Operation::SetTags { node_id: NodeId(7), tags: vec!["gpu".to_owned()] });
        publication.handle_answer(NOW, Ok(&Answer::SetTags { node_id: NodeId(7), tags: Vec::new() }));
        assert_eq!(publication.poll_timeout(), None);
    }
    publication.forget_tags();
    publication.handle_registered(NOW, NodeId(7));
    assert_eq!(publication.poll_operation(NOW), None);
}

#[test]
fn what_cannot_be_published_is_refused_at_once() {
    let mut publication = publication();
    assert!(publication.offer(NOW, offer(&"x".repeat(161))).is_err());
    assert_eq!(*publication.status(), Status::Nothing);
}
