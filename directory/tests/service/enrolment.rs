//! Who belongs: waiting, approval, lists of keys, bans, removal, quotas.

use std::collections::HashSet;

use directory::enrolment::{Enrolment, QUOTA_MAX, Quota, Standing};
use directory::facts::Change;
use directory::service::enrolment::Subject;

use crate::*;

fn world(enrolment: Enrolment) -> World {
    World::under(Policy { enrolment, ..Policy::default() }, Limits::default())
}

fn ban(reason: &str) -> Act {
    Act::Ban { reason: reason.into() }
}

fn quota(packets: Option<Option<u64>>, bytes: Option<Option<u64>>) -> Act {
    Act::SetQuota { packets_per_second: packets, bytes_per_second: bytes }
}

fn standing(world: &World, node: NodeId) -> Option<Standing> {
    let member = world.service.member(world.now, node).unwrap();
    member.registered.then_some(member.node.standing)
}

fn named(key: &SigningKey, hostname: &str) -> Operation {
    Operation::Register(Register { hostname: hostname.into(), ..register(key) })
}

fn is_resolvable(world: &mut World, by: &SigningKey, requester: NodeId, target: NodeId) -> bool {
    matches!(world.by(by, resolve(target, requester)), Answer::Resolve(_))
}

#[test]
fn who_waits_is_kept_apart_and_is_in_the_moment_it_is_approved() {
    let mut world = world(Enrolment::Approve);
    let (alice, bob) = (key(1), key(2));
    let one = registered(&world.by(&alice, named(&alice, "alice")));
    assert_eq!(registered(&world.by(&bob, Operation::Register(register(&bob)))), NodeId(2));
    let two = NodeId(2);
    assert!(world.act("2", &Act::Approve).unwrap().0);
    assert_eq!((standing(&world, one), standing(&world, two)), (Some(Standing::Pending), Some(Standing::Approved)));
    assert_eq!((world.service.figures().nodes, world.service.figures().nodes_pending), (1, 1));

    // What a daemon does by itself goes on.
    for operation in [
        Operation::Heartbeat { node_id: one, report: None, bans_since: None },
        Operation::SetVisibility { node_id: one, public: true },
        Operation::PollHandshakes { node_id: one },
        set_hostname(one, "alice"),
    ] {
        let answer = world.by(&alice, operation);
        assert!(!matches!(answer, Answer::Error { .. }), "{answer:?}");
    }
    assert!(matches!(
        world.outcome(from(HOME, 1), &Operation::Lookup { node_id: one }.into()).answer,
        Answer::Lookup(_)
    ));
    // Nobody else sees anything of it, and the relay is not told of it.
    assert_eq!(world.service.proven(one), None);
    assert_eq!(
        error(world.ask(Operation::ResolveHostname { hostname: "alice".into() })),
        "hostname \"alice\" not found"
    );
    assert_eq!(error(world.by(&bob, resolve(one, two))), "node 1: node not found");
    let lookup: Request = Operation::Lookup { node_id: one }.into();
    assert_eq!(error(world.outcome(from("203.0.113.9", 9), &lookup).answer), "node 1: node not found");
    let to_alice = Operation::RequestHandshake { from_node_id: two, to_node_id: one, justification: String::new() };
    assert_eq!(error(world.by(&bob, to_alice)), "node 1: node not found");
    // It may do nothing to others.
    let waits = "approval required: node 1 waits for the administrator";
    for operation in [
        resolve(two, one),
        Operation::ReportTrust { node_id: one, peer_id: two },
        Operation::RequestHandshake { from_node_id: one, to_node_id: two, justification: String::new() },
        Operation::JoinNetwork { node_id: one, network_id: 1, token: String::new() },
        Operation::RotateKey { node_id: one, new_public_key: public(&key(9)) },
    ] {
        assert_eq!(error(world.by(&alice, operation)), waits);
    }
    let network =
        Operation::CreateNetwork { node_id: one, name: "n".into(), join_rule: "open".into(), token: String::new() };
    assert_eq!(error(world.outcome(from(HOME, 1), &network.into()).answer), "node 1: node not found");
    assert!(!trusts(&mut world, two, one));

    let (changed, effects) = world.act(&public(&alice).to_string(), &Act::Approve).unwrap();
    assert_eq!((changed, effects), (true, vec![Effect::Publish(one)]));
    assert_eq!(world.proven(one), ["::1", "198.51.100.1"]);
    assert!(is_resolvable(&mut world, &bob, two, one), "it asked to be public while it waited");
    assert!(matches!(
        world.ask(Operation::ResolveHostname { hostname: "alice".into() }),
        Answer::ResolveHostname { node_id, .. } if node_id == one
    ));
    assert_eq!(world.service.figures().nodes_online, 2, "it was heard a moment ago");
    assert!(!world.act("1", &Act::Approve).unwrap().0, "nothing to change");
    world.restart();
    assert_eq!(standing(&world, one), Some(Standing::Approved));
    assert_eq!(world.node(1).1, one);
}

#[test]
fn a_wished_name_that_was_given_away_is_not_taken() {
    let mut world = world(Enrolment::Approve);
    let (alice, mallory) = (key(1), key(2));
    let one = registered(&world.by(&mallory, named(&mallory, "alice")));
    let two = registered(&world.by(&alice, named(&alice, "alice")));
    world.act("2", &Act::Approve).unwrap();
    world.act("1", &Act::Approve).unwrap();
    let hostname = |world: &World, node| world.service.member(world.now, node).unwrap().node.hostname;
    assert_eq!((hostname(&world, one), hostname(&world, two).as_deref()), (None, Some("alice")));
    world.restart();
    assert_eq!((hostname(&world, one), hostname(&world, two).as_deref()), (None, Some("alice")));
}

#[test]
fn a_key_can_be_approved_or_banned_before_it_registers() {
    for enrolment in [Enrolment::Approve, Enrolment::Allowlist] {
        let mut world = world(enrolment);
        let (alice, mallory) = (key(1), key(2));
        assert!(world.act(&public(&alice).to_string(), &Act::Approve).unwrap().0);
        assert!(world.act(&public(&mallory).to_string(), &ban("stolen")).unwrap().0);
        assert_eq!(world.service.key_rules().len(), 2);
        world.restart();
        assert_eq!(world.service.key_rules().len(), 2);
        let (_, one) = world.node(1);
        assert_eq!(standing(&world, one), Some(Standing::Approved));
        let refused = error(world.by(&mallory, Operation::Register(register(&mallory))));
        assert_eq!(refused, "cannot register: this key is banned; ask the administrator");
        let rules = world.service.key_rules();
        assert_eq!((rules.len(), rules[0].public_key), (1, public(&mallory)), "what was said of alice is hers now");
        assert!(world.act(&public(&mallory).to_string(), &Act::Unban).unwrap().0);
        world.restart();
        assert_eq!(world.service.key_rules(), []);
    }
}

#[test]
fn a_list_lets_in_whom_it_names_for_as_long_as_it_does() {
    let listed = |seeds: &[u8]| seeds.iter().map(|seed| public(&key(*seed))).collect::<HashSet<_>>();
    let policy = |seeds: &[u8]| Policy { enrolment: Enrolment::Allowlist, listed: listed(seeds), ..Policy::default() };
    let mut world = World::under(policy(&[1, 2]), Limits::default());
    let (alice, one) = world.node(1);
    let (_, two) = world.node(2);
    let carol = key(3);
    let refused = error(world.by(&carol, Operation::Register(register(&carol))));
    assert!(
        refused.starts_with("approval required: only listed keys may register")
            && refused.contains(&public(&carol).to_string())
    );

    world.policy = policy(&[2, 3]);
    world.service.set_policy(world.now, world.policy.clone());
    assert_eq!(world.service.take_effects(), [Effect::Publish(one)]);
    world.store_changes();
    assert_eq!(world.service.proven(one), None, "the relay is told that it is out");
    assert_eq!((standing(&world, one), standing(&world, two)), (Some(Standing::Pending), Some(Standing::Approved)));
    assert_eq!(error(world.by(&alice, resolve(two, one))), "approval required: node 1 waits for the administrator");
    assert_eq!(world.node(3).1, NodeId(3), "a refused registration takes no number");
    world.restart();
    assert_eq!(standing(&world, one), Some(Standing::Pending));

    world.policy = policy(&[1, 2, 3]);
    world.service.set_policy(world.now, world.policy.clone());
    world.store_changes();
    assert_eq!(standing(&world, one), Some(Standing::Approved));
    // Nor does it help to be away while the list changes.
    world.by(&alice, Operation::Deregister { node_id: one });
    world.policy = policy(&[2, 3]);
    world.service.set_policy(world.now, world.policy.clone());
    world.store_changes();
    assert!(error(world.by(&alice, Operation::Register(register(&alice)))).starts_with("approval required"));
    world.policy = policy(&[1, 2, 3]);
    world.service.set_policy(world.now, world.policy.clone());
    assert_eq!(world.node(1).1, one);
    // The administrator's own word does not depend on the list.
    world.act("2", &Act::Approve).unwrap();
    world.policy = policy(&[]);
    world.restart();
    assert_eq!([one, two].map(|node| standing(&world, node)), [Some(Standing::Pending), Some(Standing::Approved)]);
}

#[test]
fn a_directory_opened_to_all_lets_in_who_waits() {
    let mut world = world(Enrolment::Approve);
    let (_, one) = world.node(1);
    assert_eq!(standing(&world, one), Some(Standing::Pending));
    world.policy = Policy::default();
    world.restart();
    assert_eq!(standing(&world, one), Some(Standing::Approved));
    world.policy = Policy { enrolment: Enrolment::Approve, ..Policy::default() };
    world.restart();
    assert_eq!(standing(&world, one), Some(Standing::Approved), "whoever was in stays in");
    assert_eq!(standing(&world, world.service.registered().next().unwrap()), Some(Standing::Approved));
}

#[test]
fn a_ban_takes_effect_at_once_and_outlives_everything_but_its_end() {
    let mut world = World::new();
    let ((alice, one), (bob, two)) = (world.node(1), world.node(2));
    world.by(&alice, set_hostname(one, "alice"));
    world.by(&alice, Operation::SetVisibility { node_id: one, public: true });
    world.by(&alice, Operation::ReportTrust { node_id: one, peer_id: two });
    world.by(&bob, Operation::ReportTrust { node_id: two, peer_id: one });
    assert!(is_resolvable(&mut world, &bob, two, one));
    assert_eq!(world.service.figures().nodes_online, 2);

    let (changed, effects) = world.act("alice", &ban("spam")).unwrap();
    assert_eq!((changed, effects), (true, vec![Effect::Publish(one)]));
    assert_eq!(world.service.proven(one), None, "which has the relay end its session");
    for restart in [false, true] {
        if restart {
            world.restart();
        }
        let banned = "node 1 is banned: pardon of the administrator required";
        assert_eq!(error(world.beat(&alice, one)), banned);
        assert_eq!(error(world.by(&alice, Operation::Register(register(&alice)))), banned);
        assert_eq!(error(world.ask(Operation::Register(register(&alice)))), banned);
        assert_eq!(error(world.by(&alice, Operation::Deregister { node_id: one })), banned);
        assert_eq!(error(world.by(&bob, resolve(one, two))), "node 1: node not found");
        assert!(!trusts(&mut world, two, one), "nor is it let in anywhere");
        assert_eq!(world.service.figures().nodes_banned, 1);
        assert_eq!(error(world.by(&bob, set_hostname(two, "alice"))), "hostname \"alice\" already in use");
        let member = world.service.member(world.now, one).unwrap();
        assert_eq!(member.ban.unwrap().reason, "spam");
    }
    assert_eq!(world.act("1", &Act::Approve).unwrap_err(), ActError::Banned(one));
    assert!(!world.act("1", &ban("spam")).unwrap().0);
    let removed = world.act("1", &Act::Remove).unwrap();
    assert!(removed.0);
    assert_eq!(
        error(world.by(&alice, Operation::Register(register(&alice)))),
        "node 1 is banned: pardon of the administrator required"
    );

    assert!(world.act("1", &Act::Unban).unwrap().0);
    assert_eq!(registered(&world.by(&alice, Operation::Register(register(&alice)))), one);
    assert_eq!(standing(&world, one), Some(Standing::Approved));
    assert_eq!(world.service.figures().nodes_online, 2);
}

#[test]
fn the_end_of_a_ban_brings_back_what_was() {
    let mut world = World::new();
    let ((alice, one), (bob, two)) = (world.node(1), world.node(2));
    world.by(&alice, set_hostname(one, "alice"));
    world.by(&alice, Operation::ReportTrust { node_id: one, peer_id: two });
    world.act("1", &ban("")).unwrap();
    assert_eq!(world.service.figures().nodes_online, 1);
    world.act("1", &Act::Unban).unwrap();
    assert_eq!(world.service.figures().nodes_online, 2, "its connection lives");
    assert!(is_resolvable(&mut world, &bob, two, one));
    assert_eq!(world.beat(&alice, one), Answer::Heartbeat { time: world.now.unix_seconds, bans: None });
}

#[test]
fn who_was_let_in_one_by_one_and_removed_waits_again() {
    let mut world = world(Enrolment::Approve);
    let (alice, one) = world.node(1);
    world.act("1", &Act::Approve).unwrap();
    assert_eq!(world.by(&alice, Operation::Deregister { node_id: one }), Answer::Deregister);
    assert_eq!(world.node(1).1, one);
    assert_eq!(standing(&world, one), Some(Standing::Approved), "leaving is its own doing");
    world.act("1", &Act::Remove).unwrap();
    assert_eq!(standing(&world, one), None);
    assert_eq!(error(world.beat(&alice, one)), "node 1: node not found");
    assert_eq!(world.node(1).1, one);
    assert_eq!(standing(&world, one), Some(Standing::Pending));
    assert_eq!(world.service.figures().nodes_pending, 1);
}

#[test]
fn of_one_that_is_not_registered_is_said_what_it_would_be() {
    let seen =
        |world: &World| world.service.member(world.now, NodeId(1)).map(|node| (node.registered, node.node.standing));
    for (enrolment, taken_back) in [(Enrolment::Approve, Standing::Pending), (Enrolment::Open, Standing::Approved)] {
        let mut world = world(enrolment);
        let (alice, one) = world.node(1);
        world.act("1", &Act::Approve).unwrap();
        assert_eq!(world.by(&alice, Operation::Deregister { node_id: one }), Answer::Deregister);
        assert_eq!(seen(&world), Some((false, Standing::Approved)), "{enrolment:?}: leaving is its own doing");
        assert!(world.act("1", &Act::Remove).unwrap().0, "{enrolment:?}: its approval is taken back");
        assert!(!world.act("1", &Act::Remove).unwrap().0, "{enrolment:?}: once");
        assert_eq!(seen(&world), Some((false, taken_back)));
        world.act("1", &ban("")).unwrap();
        assert_eq!(seen(&world), Some((false, Standing::Banned)));
        world.act("1", &Act::Unban).unwrap();
        assert_eq!(seen(&world), Some((false, taken_back)));
        assert!(world.act("1", &Act::Approve).unwrap().0);
        assert_eq!(seen(&world), Some((false, Standing::Approved)));
        world.node(1);
        assert_eq!(seen(&world), Some((true, Standing::Approved)), "{enrolment:?}: and that it is");
    }
}

#[test]
fn a_quota_is_published_kept_and_taken_back() {
    let mut world = World::new();
    let (_, one) = world.node(1);
    assert_eq!(world.service.quota(one), Quota::DEFAULT);
    let (changed, effects) = world.act("0:0000.0000.0001", &quota(Some(Some(100)), None)).unwrap();
    assert_eq!((changed, effects), (true, vec![Effect::Publish(one)]));
    world.act("1", &quota(None, Some(Some(0)))).unwrap();
    world.restart();
    assert_eq!(world.service.quota(one), Quota { packets_per_second: Some(100), bytes_per_second: Some(0) });
    world.act("1", &quota(Some(None), Some(None))).unwrap();
    assert_eq!(world.service.quota(one), Quota::DEFAULT);
    assert!(!world.act("1", &quota(Some(None), None)).unwrap().0);
    assert_eq!(world.act("1", &quota(Some(Some(QUOTA_MAX + 1)), None)).unwrap_err(), ActError::QuotaTooLarge);
}

#[test]
fn who_cannot_be_meant_is_said() {
    let mut world = World::new();
    world.node(1);
    for nobody in ["", "2", "0", "alice", "0:0000.0000.0009", "4294967296"] {
        assert_eq!(world.act(nobody, &Act::Approve).unwrap_err(), ActError::Unknown(nobody.into()));
    }
    let small_order = Base64([0_u8; 32]).to_string();
    assert_eq!(world.act(&small_order, &Act::Approve).unwrap_err(), ActError::KeyInvalid);
    let unknown = public(&key(9)).to_string();
    assert_eq!(world.act(&unknown, &quota(None, None)).unwrap_err(), ActError::NotRegistered);
    assert_eq!(world.act("1", &ban(&"x".repeat(201))).unwrap_err(), ActError::ReasonTooLong);
}

#[test]
fn those_who_wait_are_bounded_per_address() {
    let limits = Limits { registrations_per_ip_per_minute: 100_000, ..Limits::default() };
    let mut world = World::under(Policy { enrolment: Enrolment::Approve, ..Policy::default() }, limits);
    let try_one = |world: &mut World, seed: u16, ip: &str| {
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&seed.to_be_bytes());
        let key = SigningKey::from_bytes(&bytes);
        world.outcome(from(ip, 5), &Operation::Register(register(&key)).into()).answer
    };
    for seed in 0..256 {
        registered(&try_one(&mut world, seed, HOME));
    }
    assert!(error(try_one(&mut world, 256, HOME)).starts_with("too many nodes wait for approval"));
    registered(&try_one(&mut world, 3, HOME));
    registered(&try_one(&mut world, 256, "203.0.113.9"));
    world.act("1", &Act::Approve).unwrap();
    registered(&try_one(&mut world, 257, HOME));
}

#[test]
fn the_list_goes_page_by_page_and_by_standing() {
    let mut world = world(Enrolment::Approve);
    for seed in 1..=5 {
        world.node(seed);
    }
    world.act("2", &Act::Approve).unwrap();
    world.act("4", &ban("")).unwrap();
    let page = |wanted, after, limit, examined| {
        let (found, reached, more) = world.service.members(world.now, wanted, NodeId(after), limit, examined);
        (found.iter().map(|member| member.node.node_id.0).collect::<Vec<_>>(), reached.0, more)
    };
    assert_eq!(page(None, 0, 2, 100), (vec![1, 2], 2, true));
    assert_eq!(page(None, 2, 9, 2), (vec![3, 4], 4, true));
    assert_eq!(page(None, 4, 9, 100), (vec![5], 5, false));
    assert_eq!(page(Some(Standing::Pending), 0, 9, 100), (vec![1, 3, 5], 5, false));
    assert_eq!(page(Some(Standing::Banned), 0, 9, 3), (vec![], 3, true));
    assert_eq!(page(None, 9, 9, 100).0, Vec::<u32>::new());
}

#[test]
fn a_signature_from_elsewhere_is_counted_with_where_it_came_from() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let heartbeat = sign(&alice, Operation::Heartbeat { node_id: one, report: None, bans_since: None });
    world.outcome(from(HOME, 1), &heartbeat);
    world.outcome(from(HOME, 2), &heartbeat);
    assert_eq!(world.service.replays().count, 0);
    world.outcome(from("203.0.113.9", 9), &heartbeat);
    let replays = world.service.replays();
    assert_eq!((replays.count, replays.latest), (1, Some((one, "203.0.113.9".parse().unwrap()))));
    world.outcome(from("203.0.113.9", 9), &sign(&alice, Operation::Register(register(&alice))));
    assert_eq!(world.service.figures().signatures_replayed, 2);
}

#[test]
fn who_waits_and_goes_leaves_neither_a_number_nor_a_place_behind() {
    let limits = Limits { registrations_per_ip_per_minute: 100_000, ..Limits::default() };
    let mut world = World::under(Policy { enrolment: Enrolment::Approve, ..Policy::default() }, limits);
    for round in 0..260 {
        let (key, node) = world.node(u8::try_from(round % 250).unwrap() + 1);
        assert_eq!((node, standing(&world, node)), (NodeId(1), Some(Standing::Pending)), "round {round}");
        assert_eq!(world.by(&key, Operation::Deregister { node_id: node }), Answer::Deregister);
    }
    assert_eq!(world.service.figures().nodes_pending, 0);
}

#[test]
fn those_who_wait_are_bounded_per_site_of_many_networks() {
    let mut world = world(Enrolment::Approve);
    let try_one = |world: &mut World, seed: u16, ip: String| {
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&seed.to_be_bytes());
        let key = SigningKey::from_bytes(&bytes);
        world.outcome(from(&ip, 5), &Operation::Register(register(&key)).into()).answer
    };
    for seed in 0..2048 {
        registered(&try_one(&mut world, seed, format!("2001:db8:1:{seed:x}::1")));
    }
    let refused = error(try_one(&mut world, 2048, "2001:db8:1:ffff::1".into()));
    assert!(refused.starts_with("too many nodes wait for approval"), "{refused}");
    registered(&try_one(&mut world, 2048, "2001:db8:2::1".into()));
}

#[test]
fn whom_a_new_list_names_is_there_at_once_and_stays_so() {
    let policy = |seeds: &[u8]| Policy {
        enrolment: Enrolment::Allowlist,
        listed: seeds.iter().map(|seed| public(&key(*seed))).collect(),
        ..Policy::default()
    };
    let mut world = World::under(policy(&[1]), Limits::default());
    let (alice, one) = world.node(1);
    world.service.set_policy(world.now, policy(&[]));
    assert_eq!(world.service.figures().nodes_online, 0);
    world.beat(&alice, one);
    world.service.set_policy(world.now, policy(&[1]));
    world.sweep();
    assert_eq!(world.service.figures().nodes_online, 1);

    world.act("1", &ban("")).unwrap();
    world.service.set_policy(world.now, policy(&[]));
    world.store_changes();
    assert_eq!(standing(&world, one), Some(Standing::Banned));
}

#[test]
fn who_is_let_in_is_found_by_the_tags_it_chose_while_it_waited() {
    let mut world = world(Enrolment::Approve);
    let (alice, one) = world.node(1);
    world.by(&alice, Operation::SetTags { node_id: one, tags: vec!["papers".into()] });
    let words = |world: &mut World, act: &Act| {
        world.service.administer(world.now, Subject::Node(one), act).unwrap();
        let changes = world.service.take_changes();
        world.store.commit(&changes).unwrap();
        let words = changes.into_iter().filter_map(|change| match change {
            Change::Searchable(words) => Some(words.tags),
            _ => None,
        });
        words.last()
    };
    assert_eq!(words(&mut world, &Act::Approve).as_deref(), Some("papers"));
    assert_eq!(words(&mut world, &ban("")).as_deref(), Some(""), "and whoever is banned is not");
}

#[test]
fn a_ban_of_one_that_is_gone_is_in_the_list() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    world.node(2);
    world.by(&alice, Operation::Deregister { node_id: one });
    world.act("1", &ban("spam")).unwrap();
    let listed = |wanted| world.service.members(world.now, wanted, NodeId(0), 9, 100).0;
    let banned = listed(Some(Standing::Banned));
    assert_eq!((banned.len(), banned[0].node.node_id, banned[0].registered), (1, one, false));
    assert_eq!(banned[0].node.standing, Standing::Banned);
    assert_eq!(listed(None).len(), 1);
}

#[test]
fn a_new_key_is_one_that_may_be_there_and_the_old_one_still_names_its_node() {
    let rotate = |node_id, seed| Operation::RotateKey { node_id, new_public_key: public(&key(seed)) };
    let mut world = World::new();
    let (alice, one) = world.node(1);
    world.act(&public(&key(9)).to_string(), &ban("stolen")).unwrap();
    assert!(error(world.by(&alice, rotate(one, 9))).contains("this key is banned"));
    assert!(matches!(world.by(&alice, rotate(one, 8)), Answer::RotateKey { .. }));
    assert_eq!(world.service.subject(&public(&alice).to_string()), Ok(Subject::Node(one)));

    let listed = [1, 2].map(|seed| public(&key(seed)));
    let policy = Policy { enrolment: Enrolment::Allowlist, listed: listed.into(), ..Policy::default() };
    let mut world = World::under(policy, Limits::default());
    let (alice, one) = world.node(1);
    assert!(error(world.by(&alice, rotate(one, 3))).starts_with("approval required"));
    world.act("1", &Act::Approve).unwrap();
    assert!(
        matches!(world.by(&alice, rotate(one, 3)), Answer::RotateKey { .. }),
        "its word does not depend on the list"
    );
}
