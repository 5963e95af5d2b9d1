//! Signed claims: the node itself says where it is, and nobody else can.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ed25519_dalek::Signer as _;
use relay::authority::Verdict;
use relay::contests::Claim;
use relay::cookie::{LIFETIME, SLOT};
use relay::endpoint::Path;
use relay::events::{Refusal, What};
use relay::metrics::{Counter, DropReason};
use relay::server::{Action, Admission, Handoff, Rules};
use relay::sessions::Grade;
use wire::NodeId;
use wire::beacon::{CHALLENGE_LEN, CLAIM_LEN, Message, claim_text};

use super::world::{BEACON, BEACON_2, World, encode, endpoint, key};

const OWNER: &str = "198.18.1.1:4001";
const ROAMED: &str = "198.18.7.7:9";
const SQUATTER: &str = "198.18.6.6:666";

#[test]
fn a_claim_displaces_a_squatter_at_once_whatever_it_has() {
    for (story, proven) in [("unproven", &[][..]), ("proven", &["198.18.6.6"])] {
        for shards in [1, 2, 3] {
            let mut world = World::with_directory(shards);
            world.prove(1, proven);
            world.discover(SQUATTER, 1);
            assert_eq!(world.place(1).as_deref(), Some(SQUATTER));
            world.discover(OWNER, 1);
            world.claim(OWNER, 1);
            assert_eq!(world.place(1).as_deref(), Some(OWNER), "{story}, {shards} shards");
            world.receive(SQUATTER, b"PILP");
            world.pass(Duration::from_secs(3));
            assert_eq!(world.place(1).as_deref(), Some(OWNER), "the contest is over");
            assert!(world.session(1).unwrap().claimed);
            assert_eq!(world.counters().get(Counter::ClaimsSigned), 1);
        }
    }
}

#[test]
fn a_claim_begins_a_session_and_the_events_say_how() {
    let mut world = World::with_directory(2);
    world.claim(OWNER, 1);
    let started = What::SessionStarted { at: endpoint(OWNER), grade: Grade::SignedClaim };
    assert_eq!(world.take_events(), [(NodeId(1), started)]);
    assert_eq!(started.to_string(), "at 198.18.1.1:4001, signed by the node");
    world.claim(ROAMED, 1);
    let moved = What::SessionMoved { from: endpoint(OWNER), to: endpoint(ROAMED) };
    assert_eq!(world.take_events(), [(NodeId(1), moved), (NodeId(1), What::ClaimSigned { at: endpoint(ROAMED) })]);
}

#[test]
fn a_live_claimed_holder_keeps_its_id_against_proven_addresses() {
    let mut world = World::with_directory(2);
    world.claim(OWNER, 1);
    world.prove(1, &["198.18.6.6"]);
    for _ in 0..5 {
        world.discover(SQUATTER, 1);
        assert_eq!(world.place(1).as_deref(), Some(OWNER), "a contest at most");
        world.receive(OWNER, b"PILP");
        world.pass(Duration::from_secs(2));
        assert_eq!(world.place(1).as_deref(), Some(OWNER));
    }
    world.discover(SQUATTER, 1);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.place(1).as_deref(), Some(SQUATTER), "one that has fallen silent does not");
    assert!(!world.session(1).unwrap().claimed, "what another has signed is not its own");
}

#[test]
fn discovers_leave_a_claimed_session_claimed_and_nothing_is_signed_twice() {
    let mut world = World::with_directory(2);
    world.discover(OWNER, 1);
    world.claim(OWNER, 1);
    for _ in 0..10 {
        world.pass(Duration::from_secs(25));
        world.discover(OWNER, 1);
        assert_eq!(world.challenge(OWNER, 1), None, "its session is claimed already");
        assert!(world.session(1).unwrap().claimed);
    }
    assert_eq!(world.counters().get(Counter::ClaimsStanding), 10);
    world.message(OWNER, Message::Discover { node: NodeId(1), extended: true });
    assert!(world.session(1).is_some_and(|session| session.claimed && session.extended));
    world.pass(Duration::from_secs(700));
    assert_eq!(world.place(1), None, "silence ends it as any other");
    assert!(world.challenge(OWNER, 1).is_some());
}

#[test]
fn another_port_or_address_of_the_same_node_wins_with_a_fresh_claim() {
    let mut world = World::with_directory(2);
    world.claim(OWNER, 1);
    for elsewhere in ["198.18.1.1:4002", ROAMED, "198.18.8.8:1", OWNER] {
        world.pass(LIFETIME);
        world.claim(elsewhere, 1);
        assert_eq!(world.place(1).as_deref(), Some(elsewhere));
    }
    // The same source by another of our addresses: the session has to know which one to answer from.
    world.pass(LIFETIME);
    let zeros = encode(Message::Claim { node: NodeId(1), cookie: &[0; 16], signature: &[0; 64] });
    let asked = world.receive_on(1, BEACON_2, OWNER, &zeros);
    assert_eq!(asked, Action::Reply { len: CHALLENGE_LEN, via: BEACON_2 });
}

#[test]
fn a_copied_claim_is_worth_nothing_elsewhere_or_later() {
    let mut world = World::with_directory(2);
    let cookie = world.challenge(OWNER, 1).unwrap();
    for elsewhere in [SQUATTER, "198.18.1.1:4002", "[2001:db8::1]:4001"] {
        assert_eq!(world.sign(elsewhere, 1, &cookie, 1), Action::Drop(DropReason::StaleCookie), "from {elsewhere}");
    }
    world.pass(LIFETIME);
    assert_eq!(world.sign(OWNER, 1, &cookie, 1), Action::Drop(DropReason::StaleCookie), "later");
    assert_eq!(world.place(1), None);
    assert_eq!(world.directory.keys_asked.load(Ordering::Relaxed), 0, "nothing of it was checked");
}

/// Somebody on the way, who can also forge sources, sends the claim again when the node has gone elsewhere.
#[test]
fn a_claim_sent_again_from_its_own_source_does_not_bring_the_node_back() {
    let mut world = World::with_directory(2);
    let cookie = world.challenge(OWNER, 1).unwrap();
    world.sign(OWNER, 1, &cookie, 1);
    world.claim(ROAMED, 1);
    assert_eq!(world.sign(OWNER, 1, &cookie, 1), Action::Defer);
    assert_eq!(world.place(1).as_deref(), Some(ROAMED));
    assert_eq!(world.counters().get(Counter::ClaimsRepeated), 1);
}

#[test]
fn only_the_nodes_own_key_for_this_relay_counts() {
    let mut world = World::with_directory(2);
    world.discover(OWNER, 1);
    let cookie = world.challenge(SQUATTER, 1).unwrap();
    assert_eq!(world.sign(SQUATTER, 1, &cookie, 2), Action::Defer, "node 2 signs for node 1");
    let foreign = key(1).sign(&claim_text(&[0xEE; 32], NodeId(1), &cookie)).to_bytes();
    world.message(SQUATTER, Message::Claim { node: NodeId(1), cookie: &cookie, signature: &foreign });
    let other = key(2).sign(&claim_text(&super::world::RELAY_KEY, NodeId(2), &cookie)).to_bytes();
    let of_other = Message::Claim { node: NodeId(2), cookie: &cookie, signature: &other };
    assert_eq!(world.message(SQUATTER, of_other), Action::Drop(DropReason::StaleCookie), "a cookie is a node's");
    assert_eq!(world.place(1).as_deref(), Some(OWNER));
    assert_eq!(world.counters().get(Counter::ClaimsForged), 2);
    let refused = What::ClaimRefused { candidate: endpoint(SQUATTER), why: Refusal::Forged };
    assert!(world.take_events().contains(&(NodeId(1), refused)));
}

#[test]
fn strangers_and_relays_without_a_directory_are_not_asked_to_sign() {
    let mut world = World::with_directory(2);
    let zeros = |node| Message::Claim { node: NodeId(node), cookie: &[0; 16], signature: &[0; 64] };
    for nobody in [0, 77, u32::MAX] {
        assert_eq!(world.message(OWNER, zeros(nobody)), Action::Drop(DropReason::UnknownClaimant), "{nobody}");
    }
    let mut open = World::new(Admission::Open, 2);
    assert_eq!(open.message(OWNER, zeros(1)), Action::Drop(DropReason::UnknownType));
    let mut alone = World::with_rules(Rules::default(), 2, 64);
    assert_eq!(alone.message(OWNER, zeros(1)), Action::Drop(DropReason::UnknownType));
    let forged = Message::Challenge { relay_key: &[1; 32], cookie: &[1; 16] };
    assert_eq!(world.message(OWNER, forged), Action::Drop(DropReason::UnknownType), "relays are not challenged");
}

#[test]
fn a_claim_that_comes_to_another_shard_counts_at_the_owners() {
    let mut world = World::with_directory(4);
    let zeros = encode(Message::Claim { node: NodeId(1), cookie: &[0; 16], signature: &[0; 64] });
    for shard in 0..4 {
        world.pass(LIFETIME);
        let from = format!("198.18.1.{shard}:4001");
        world.take_sent();
        world.receive_on(shard, BEACON, &from, &zeros);
        let sent = world.take_sent().remove(0);
        let Ok(Message::Challenge { cookie, .. }) = Message::decode(&sent.bytes) else { panic!("{sent:?}") };
        let signature = key(1).sign(&claim_text(&super::world::RELAY_KEY, NodeId(1), cookie)).to_bytes();
        let claim = encode(Message::Claim { node: NodeId(1), cookie, signature: &signature });
        // Not the shard that has challenged.
        world.receive_on((shard + 1) % 4, BEACON, &from, &claim);
        assert_eq!(world.place(1), Some(from));
    }
    assert_eq!(world.counters().get(Counter::ClaimsSigned), 4);
}

#[test]
fn a_node_that_is_forgotten_meanwhile_gets_nothing() {
    let mut world = World::with_directory(2);
    world.holds_questions = true;
    world.claim(OWNER, 1);
    world.membership.withdraw(NodeId(1));
    world.hand(Handoff::Withdraw(NodeId(1)), 1);
    world.answer();
    assert_eq!(world.place(1), None);
}

#[test]
fn a_claim_answered_late_finds_the_session_where_it_is() {
    let mut world = World::with_directory(2);
    world.holds_questions = true;
    world.claim(OWNER, 1);
    world.discover(OWNER, 1);
    assert!(!world.session(1).unwrap().claimed);
    world.answer();
    assert!(world.session(1).unwrap().claimed);
    let path = Path { remote: endpoint(OWNER), local: BEACON };
    let claim = Claim { node: NodeId(1), path, extended: false };
    world.hand(Handoff::Claimed(claim, Verdict::Forged), 1);
    assert!(world.session(1).unwrap().claimed, "what others forge takes nothing away");
}

#[test]
fn a_flood_of_claims_costs_no_more_than_its_budget() {
    let mut world = World::with_directory(1);
    let cookie = world.challenge(SQUATTER, 1).unwrap();
    let began = world.now;
    let flood: Vec<Action> = (0..1900).map(|_| world.sign(SQUATTER, 1, &cookie, 2)).collect();
    let checked = flood.iter().filter(|action| **action == Action::Defer).count();
    // Of one source prefix at once: an eighth of 2000, where each costs as eleven good ones do.
    assert!((20..=25).contains(&checked), "{checked}");
    assert!(flood.contains(&Action::Drop(DropReason::QuestionBudget)));
    assert_eq!(world.now, began);
    assert_eq!(world.counters().get(Counter::ClaimsForged), checked as u64);
    world.claim(OWNER, 1);
    assert_eq!(world.place(1).as_deref(), Some(OWNER), "the owner does not wait for the end of it");
    world.pass(SLOT);
    // Many sources have what one has, together as well.
    let mut checked = 0;
    for host in 0..250 {
        let from = format!("198.18.9.{host}:1");
        let cookie = world.challenge(&from, 1).unwrap();
        checked += (0..10).filter(|_| world.sign(&from, 1, &cookie, 2) == Action::Defer).count();
    }
    assert!((2000..2010).contains(&checked), "{checked} of 2500 from 250 sources");
    world.pass(SLOT);
    world.claim(OWNER, 1);
    assert_eq!(world.place(1).as_deref(), Some(OWNER), "and the owner is served");
}

/// Before the first answer nobody can tell forged claims from good ones.
#[test]
fn a_few_prefixes_full_of_forged_claims_leave_room_for_the_owners() {
    let mut world = World::with_directory(1);
    world.holds_questions = true;
    let mut asked = 0;
    for host in 1..=4 {
        let squatter = format!("198.18.6.{host}:666");
        let cookie = world.challenge(&squatter, 1).unwrap();
        asked += (0..900).filter(|_| world.sign(&squatter, 1, &cookie, 2) == Action::Defer).count();
    }
    assert_eq!(asked, 1000, "a half of what all may ask");
    world.claim(OWNER, 1);
    world.answer();
    assert_eq!(world.place(1).as_deref(), Some(OWNER));
}

#[test]
fn the_queue_for_questions_is_bounded() {
    let unlimited = relay::admission::Budget::unlimited();
    let cookies = Some(std::sync::Arc::new(relay::cookie::Cookies::new([1; 32], &[2; 32])));
    let rules = Rules {
        prefix_control: unlimited,
        prefix_claims: unlimited,
        claims_per_second: 0,
        cookies,
        ..Rules::default()
    };
    let mut server = World::with_rules(rules, 1, 64);
    let path = Path { remote: endpoint(OWNER), local: BEACON };
    let cookie = relay::cookie::Cookies::new([1; 32], &[2; 32]).make(server.now, NodeId(1), &path.remote);
    let mut claim = encode(Message::Claim { node: NodeId(1), cookie: &cookie, signature: &[1; 64] });
    let mut reply = [0; relay::server::REPLY_MAX];
    let shard = &mut server.shards[0];
    let now = server.now;
    let taken = (0..2000).filter(|_| shard.handle_datagram(now, path, &mut claim, &mut reply) == Action::Defer).count();
    assert_eq!(taken, 1024);
    assert_eq!(std::iter::from_fn(|| shard.poll_question()).count(), 1024);
    assert!(shard.counters().balanced());
    assert_eq!(shard.counters().dropped(DropReason::QuestionBudget), 2000 - 1024);
}

#[test]
fn a_challenge_is_smaller_than_what_asks_for_it() {
    let mut world = World::with_directory(1);
    let zeros = encode(Message::Claim { node: NodeId(1), cookie: &[0; 16], signature: &[0; 64] });
    world.receive(OWNER, &zeros);
    let sent = world.take_sent();
    assert_eq!((zeros.len(), sent.len(), sent[0].bytes.len()), (CLAIM_LEN, 1, CHALLENGE_LEN));
    let cookie = world.challenge(OWNER, 1).unwrap();
    world.sign(OWNER, 1, &cookie, 1);
    assert!(world.take_sent().is_empty(), "a signed claim is not answered");
    let short = &zeros[..CHALLENGE_LEN];
    assert_eq!(world.receive(OWNER, short), Action::Drop(DropReason::Malformed), "one that is shorter is none");
}
