//! What heartbeats ask of bans, and what becomes of the answers.

use super::*;

pub fn cursor(at: u64) -> Cursor {
    Cursor { at, after: NodeId(3) }
}

pub fn told(nodes: &[u32], next: Cursor) -> Answer {
    let node_ids = nodes.iter().copied().map(NodeId).collect();
    Answer::Heartbeat { time: 1, bans: Some(Listed { node_ids, next }) }
}

#[test]
fn a_newcomer_asks_for_the_latest_bans_and_then_goes_on_from_where_it_was_told() {
    let mut story = Story::registered(announcement());
    assert_eq!(story.next_asking(), Cursor::PRESENT);
    story.answer(&told(&[], cursor(5)));
    assert_eq!(story.event(), None);
    assert_eq!(story.next_asking(), cursor(5));
    story.answer(&told(&[9, 7], cursor(6)));
    assert_eq!(story.event(), Some(Event::Banned(vec![NodeId(9), NodeId(7)])));
    assert_eq!(story.event(), None);
    assert_eq!(story.next_asking(), cursor(6));
    // Whatever comes in between.
    story.silence();
    assert_eq!(story.next_asking(), cursor(6));
    story.answer(&error(&node_not_found(NODE)));
    story.next_register();
    story.answer(&Answer::Register(registered(NODE)));
    assert_eq!(story.next_asking(), cursor(6));
    story.answer(&Answer::Heartbeat { time: 1, bans: None });
    assert_eq!(story.next_asking(), cursor(6), "a directory that does not answer takes nothing away");
    story.answer(&told(&[], cursor(2)));
    assert_eq!(story.next_asking(), cursor(2), "the directory's word counts, whatever its clock says");
}

#[test]
fn who_has_been_here_for_long_and_was_never_told_asks_for_all_bans() {
    let mut story = Story::registered(announcement());
    let met_others = story.now;
    let mut asked = Vec::new();
    for _ in 0..8 {
        let since = story.next_asking();
        asked.push((story.now.since(met_others) < Duration::from_secs(OVERLAP_SECONDS - 60), since));
        // An older directory, or one that was away: it makes no difference.
        match asked.len() % 2 {
            0 => story.silence(),
            _ => story.answer(&Answer::Heartbeat { time: 1, bans: None }),
        }
    }
    assert!(
        asked.iter().all(|(is_new, since)| *since == if *is_new { Cursor::PRESENT } else { Cursor::ALL }),
        "{asked:?}"
    );
    assert!(asked.iter().any(|(is_new, _)| !is_new));
    story.next_asking();
    story.answer(&told(&[], cursor(5)));
    assert_eq!(story.next_asking(), cursor(5));
    assert_eq!(story.event(), None);
}

#[test]
fn an_endpoint_that_changes_all_the_time_puts_no_heartbeat_off() {
    let mut story = Story::registered(announcement());
    let (mut asked, mut registered_anew) = (0, 0);
    // Every half minute for ten minutes.
    for port in 5000..5020 {
        let changes_at = story.now + HEARTBEAT_INTERVAL / 2;
        story.registration.set_endpoint(story.now, address(&format!("198.18.0.5:{port}")), &[]);
        while story.registration.poll_timeout().is_some_and(|due| due < changes_at) {
            match story.next() {
                Operation::Register(_) => {
                    story.answer(&Answer::Register(registered(NODE)));
                    registered_anew += 1;
                }
                Operation::Heartbeat { .. } => {
                    story.answer(&told(&[], Cursor { at: 9, after: NodeId::UNSET }));
                    asked += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        story.now = changes_at;
    }
    assert_eq!(registered_anew, 20);
    assert!((9..=12).contains(&asked), "{asked} in ten minutes");
}

#[test]
fn the_rest_of_a_long_list_is_asked_for_soon() {
    let mut story = Story::registered(announcement());
    story.next_asking();
    let listed_at = story.now;
    story.answer(&told(&[9], cursor(5)));
    assert_eq!(story.next_asking(), cursor(5));
    assert_eq!(story.now.since(listed_at), REST_OF_BANS_AFTER);
    story.answer(&told(&[], Cursor { at: 9, after: NodeId::UNSET }));
    let done_at = story.now;
    story.next_asking();
    assert!(story.now.since(done_at) > HEARTBEAT_INTERVAL / 2);
}
