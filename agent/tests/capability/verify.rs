//! What the directory hands out is believed only as far as its nodes have signed it.

use agent::capability::{Offer, Rejection, Verifier};
use agent::identity::Identity;
use wire::NodeId;
use wire::registry::Base64;
use wire::registry::answer::Hit;
use wire::registry::capability::{Record, RecordError, SERIAL_MAX, signed_text};

const NODE: NodeId = NodeId(7);

fn identity(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

fn key(seed: u8) -> Base64<32> {
    Base64(identity(seed).public_key())
}

fn record(serial: u64) -> Record {
    Offer { title: "citations".to_owned(), ..Offer::default() }.record(NODE, key(1), serial)
}

/// A record signed by `signer`, as an honest directory hands it out.
fn hit(record: &Record, signer: u8) -> Hit {
    let text = record.encode().unwrap();
    let signature = identity(signer).sign(signed_text(record.node, &text).as_bytes());
    Hit {
        node_id: NODE,
        address: NODE.address(),
        hostname: None,
        score: 1000,
        online: true,
        last_seen: None,
        tags: Vec::new(),
        public_key: key(1),
        record: Some(text),
        signature: Some(Base64(signature)),
    }
}

#[track_caller]
fn rejected(hit: &Hit) -> Rejection {
    Verifier::default().check(hit, None).expect_err("it is believed")
}

#[test]
fn what_a_node_has_signed_is_believed() {
    let mut verifier = Verifier::default();
    let found = verifier.check(&hit(&record(5), 1), Some(key(1))).unwrap().unwrap();
    assert_eq!(found, record(5));
    // The same again, and one that is newer.
    assert!(verifier.check(&hit(&record(5), 1), None).is_ok() && verifier.check(&hit(&record(6), 1), None).is_ok());
    // Nothing is said by nodes that have tags alone.
    let silent = Hit { record: None, signature: None, ..hit(&record(5), 1) };
    assert_eq!(verifier.check(&silent, None), Ok(None));
}

#[test]
fn a_forged_record_is_told() {
    // Somebody else's key, in the record and under it.
    let foreign = Record { public_key: key(2), ..record(5) };
    assert_eq!(rejected(&hit(&foreign, 2)), Rejection::Forged(NODE));
    let unsigned = Hit { signature: None, ..hit(&record(5), 1) };
    assert_eq!(rejected(&unsigned), Rejection::Forged(NODE));
}

#[test]
fn an_altered_record_is_told() {
    let mut altered = hit(&record(5), 1);
    altered.record = altered.record.map(|text| text.replace("citations", "citatlons"));
    assert_eq!(rejected(&altered), Rejection::Altered(NODE));
    assert!(rejected(&altered).to_string().contains("node 7's record is not what its key has signed"));
    // The right key in the record, and another's signature under it.
    assert_eq!(rejected(&hit(&record(5), 2)), Rejection::Altered(NODE));
    // Even white space.
    let mut spaced = hit(&record(5), 1);
    spaced.record = spaced.record.map(|text| text.replace(",\"serial\"", ", \"serial\""));
    assert_eq!(rejected(&spaced), Rejection::Altered(NODE));
}

#[test]
fn an_older_record_is_told() {
    let mut verifier = Verifier::default();
    verifier.check(&hit(&record(6), 1), None).unwrap();
    let replayed = verifier.check(&hit(&record(5), 1), None);
    assert_eq!(replayed, Err(Rejection::Replayed { node: NODE, serial: 5, seen: 6 }));
    // What was withdrawn cannot be brought back either.
    let withdrawn = Record { withdrawn: true, title: String::new(), ..record(8) };
    assert_eq!(verifier.check(&hit(&withdrawn, 1), None), Ok(None));
    assert!(matches!(verifier.check(&hit(&record(7), 1), None), Err(Rejection::Replayed { seen: 8, .. })));
    // A record that is not believed for another reason does not count as seen.
    let mut other = Verifier::default();
    assert!(other.check(&hit(&record(9), 2), None).is_err() && other.check(&hit(&record(5), 1), None).is_ok());
}

#[test]
fn a_record_out_of_bounds_is_told() {
    let oversized = Hit { record: Some("x".repeat(20_000)), ..hit(&record(5), 1) };
    assert_eq!(rejected(&oversized), Rejection::Oversized { node: NODE, bytes: 20_000 });
    let text = record(5).encode().unwrap();
    for malformed in [text.replace("citations", &"x".repeat(4096)), "{}".to_owned(), text.replace("}", ",\"more\":1}")]
    {
        let malformed = Hit { record: Some(malformed), ..hit(&record(5), 1) };
        assert!(matches!(rejected(&malformed), Rejection::Malformed(NODE, _)));
    }
}

#[test]
fn a_record_of_another_node_is_told() {
    let others = Hit { node_id: NodeId(9), address: NodeId(9).address(), ..hit(&record(5), 1) };
    assert_eq!(rejected(&others), Rejection::WrongNode { node: NodeId(9), named: NODE });
}

#[test]
fn a_peer_that_is_known_by_another_key_is_told() {
    // The directory has put another key in the node's place, with a record that fits it.
    let replaced = Record { public_key: key(2), ..record(5) };
    let replaced = Hit { public_key: key(2), ..hit(&replaced, 2) };
    let mut verifier = Verifier::default();
    assert_eq!(verifier.check(&replaced, Some(key(1))), Err(Rejection::ForeignKey(NODE)));
    assert!(verifier.check(&replaced, None).is_ok(), "who has never met the node cannot tell");
    let without_record = Hit { record: None, signature: None, ..replaced };
    assert_eq!(verifier.check(&without_record, Some(key(1))), Err(Rejection::ForeignKey(NODE)));
}

#[test]
fn a_key_put_in_the_place_of_one_that_was_seen_is_told_and_drives_nothing_out() {
    let mut verifier = Verifier::default();
    verifier.check(&hit(&record(5), 1), None).unwrap();
    let others = Record { public_key: key(2), ..record(SERIAL_MAX) };
    let others = Hit { public_key: key(2), ..hit(&others, 2) };
    assert_eq!(verifier.check(&others, None), Err(Rejection::ForeignKey(NODE)));
    let without_record = Hit { record: None, signature: None, ..others };
    assert_eq!(verifier.check(&without_record, None), Err(Rejection::ForeignKey(NODE)));
    assert_eq!(verifier.check(&hit(&record(6), 1), None), Ok(Some(record(6))), "the node itself goes on");
    // After a serial that leaves no room there could be no other record.
    let text = record(5).encode().unwrap().replace("\"serial\":5", "\"serial\":18446744073709551615");
    let last = Hit { record: Some(text), ..hit(&record(5), 1) };
    assert_eq!(rejected(&last), Rejection::Malformed(NODE, RecordError::Serial(u64::MAX)));
}

#[test]
fn an_address_of_another_node_is_told_also_where_there_is_no_record() {
    let elsewhere = Hit { address: NodeId(9).address(), ..hit(&record(5), 1) };
    let wrong = Rejection::WrongNode { node: NODE, named: NodeId(9) };
    assert_eq!(rejected(&elsewhere), wrong);
    assert_eq!(rejected(&Hit { record: None, signature: None, ..elsewhere }), wrong);
}

#[test]
fn reasons_are_words_of_their_own() {
    let reasons = [
        Rejection::Forged(NODE).reason(),
        Rejection::Altered(NODE).reason(),
        Rejection::Replayed { node: NODE, serial: 1, seen: 2 }.reason(),
        Rejection::Oversized { node: NODE, bytes: 9000 }.reason(),
        Rejection::WrongNode { node: NODE, named: NodeId(8) }.reason(),
        Rejection::ForeignKey(NODE).reason(),
    ];
    assert_eq!(reasons.iter().collect::<std::collections::BTreeSet<_>>().len(), reasons.len());
}
