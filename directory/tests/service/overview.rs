//! Figures for people, and the search for one node.

use crate::capabilities::{publishing, withdrawal};
use crate::*;
use directory::service::PRESENCE_TIMEOUT;
use directory::service::overview::{GroupFigures, Lookup, NodeView};

fn found(world: &World, text: &str) -> Vec<NodeId> {
    world.service.find_nodes(world.now, text, 10).into_iter().map(|view: NodeView| view.node_id).collect()
}

#[test]
fn the_overview_counts_and_names_no_node() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    world.node(2);
    world.by(&alice, set_hostname(one, "alpha"));
    let create = Operation::CreateNetwork {
        node_id: one,
        name: "RESEARCH".into(),
        join_rule: "invite".into(),
        token: String::new(),
    };
    world.as_admin(create);
    let overview = world.service.overview(world.now);
    assert_eq!((overview.nodes, overview.online), (2, 2));
    let group = |id, name: &str, join_rule: &str, members| GroupFigures {
        id,
        name: name.into(),
        join_rule: join_rule.into(),
        members,
        online: members,
    };
    assert_eq!(overview.groups, [group(0, "backbone", "open", 2), group(1, "RESEARCH", "invite", 1)]);
    assert!(!serde_json::to_string(&overview).unwrap().contains("alpha"));
}

#[test]
fn a_node_is_found_by_what_its_operator_knows_of_it() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    world.by(&alice, set_hostname(one, "specialist-papers"));
    world.by(&bob, Operation::SetTags { node_id: two, tags: vec!["citations".into()] });
    for (text, nodes) in [
        (" 2 ", &[two][..]),
        ("1", &[one, two]),
        ("PAPERS", &[one]),
        ("citat", &[two]),
        ("0000.0002", &[two]),
        ("198.51.100.1:4000", &[one, two]),
        ("", &[one, two]),
        ("nothing-like-it", &[]),
        ("0", &[one, two]),
    ] {
        assert_eq!(found(&world, text), nodes, "{text:?}");
    }
    assert_eq!(world.service.find_nodes(world.now, "", 1).len(), 1);
    let view = &world.service.find_nodes(world.now, "papers", 1)[0];
    assert_eq!((view.address.as_str(), view.online, view.endpoint_follows), ("0:0000.0000.0001", true, true));
    assert_eq!((view.proven.len(), view.last_seen), (2, Some(world.now.unix_seconds)));
}

#[test]
fn a_search_in_parts_finds_what_one_in_one_go_does() {
    let mut world = World::with(Limits { registrations_per_ip_per_minute: 20, ..Limits::default() });
    let keys: Vec<_> = (1..=20).map(|seed| world.node(seed)).collect();
    for (key, node) in keys.iter().filter(|(_, node)| node.0 % 3 == 0) {
        world.by(key, set_hostname(*node, &format!("worker-{}", node.0)));
    }
    // The last number, and one in between, are no more.
    for number in [9, 20] {
        let (key, node) = &keys[number - 1];
        world.by(key, Operation::Deregister { node_id: *node });
    }
    for text in ["worker", "12", "1", "", "0:0000.0000.000", "nothing-like-it", "20", "4294967295"] {
        for limit in [0, 1, 3, 100] {
            let whole = world.service.find_nodes(world.now, text, limit);
            assert!(whole.len() <= limit);
            for count in [1, 2, 7, 19, 20, 21] {
                let mut lookup = Lookup::new(text, limit);
                let calls = (1..).find(|_| !world.service.look_further(world.now, &mut lookup, count)).unwrap();
                assert_eq!(lookup.found, whole, "{text:?} {limit} {count}");
                assert!(calls <= 20_usize.div_ceil(count));
            }
        }
    }
    assert_eq!(found(&world, "worker"), [3, 6, 12, 15, 18].map(NodeId));
    assert_eq!(found(&world, "12")[0], NodeId(12), "the one with that number first");
}

#[test]
fn those_who_offer_something_are_counted_while_they_are_there_and_found_by_its_title() {
    let mut world = World::new();
    let (alice, one) = world.offering(1, "Resolves academic citations", "papers of all kinds");
    let (bob, two) = world.offering(2, "Zugverbindungen für Österreich", "");
    let offering = |world: &World| world.service.overview(world.now).capabilities;
    assert_eq!(offering(&world), 2);
    assert_eq!((found(&world, "ACADEMIC"), found(&world, "Österreich")), (vec![one], vec![two]));
    assert_eq!(found(&world, "papers of all"), [], "its text is not its title");
    let title = world.service.find_nodes(world.now, "1", 1)[0].capability.clone();
    assert_eq!(title.as_deref(), Some("Resolves academic citations"));

    world.publish(&bob, two, "Trains", "");
    assert_eq!(offering(&world), 2);
    world.pass(Duration::from_secs(1));
    let withdrawal = withdrawal(&world, &bob, two);
    world.by(&bob, publishing(two, &withdrawal));
    assert_eq!(offering(&world), 1);
    world.pass(PRESENCE_TIMEOUT);
    assert_eq!(offering(&world), 0);
    world.beat(&bob, two);
    assert_eq!(offering(&world), 0);
    world.beat(&alice, one);
    assert_eq!(offering(&world), 1);
    world.restart();
    assert_eq!(offering(&world), 0);
    world.beat(&alice, one);
    assert_eq!(offering(&world), 1);
    world.by(&alice, Operation::RotateKey { node_id: one, new_public_key: public(&key(9)) });
    assert_eq!(offering(&world), 0, "it was signed with the key that is gone");
    world.by(&key(9), Operation::Deregister { node_id: one });
    assert_eq!(offering(&world), 0);
}
