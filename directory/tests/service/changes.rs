//! Following what happens to nodes: who sees what, cursors, and what is answered when the memory has moved on.

use crate::capabilities::{publishing, withdrawal};
use crate::*;
use directory::service::PRESENCE_TIMEOUT;
use directory::service::changes::{CHANGES_MAX, EVENTS_MAX, Topic};
use wire::registry::answer::{Change, Happened};
use wire::registry::request::Changes;

const CREATE: fn(NodeId, &str, &str) -> Operation = |node_id, name, join_rule| Operation::CreateNetwork {
    node_id,
    name: name.into(),
    join_rule: join_rule.into(),
    token: String::new(),
};

fn question(requester_id: Option<NodeId>, network_id: Option<u16>, after: u64) -> Operation {
    Operation::Changes(Changes { requester_id, network_id, after, wait_seconds: 0, at: None })
}

fn told(answer: Answer) -> (u64, bool, Vec<Change>) {
    match answer {
        Answer::Changes { cursor, reset, changes } => (cursor, reset, changes),
        other => panic!("{other:?}"),
    }
}

/// Has a node join or leave a network, whichever it can: an event without a signature, and kept from the disk.
fn churn(world: &mut World, node_id: NodeId, network_id: u16) {
    let caller = Caller {
        connection: ConnectionId(0),
        ip: HOME.parse().unwrap(),
        exempt: false,
        advertised: &[],
        extensions: &[],
        relay_key: None,
    };
    let leave = Operation::LeaveNetwork { node_id, network_id };
    let join = Operation::JoinNetwork { node_id, network_id, token: String::new() };
    for operation in [leave, join] {
        let request = Request { admin_token: Some(ADMIN.into()), ..operation.into() };
        world.service.handle(world.now, &caller, &request, None);
    }
    world.service.take_changes();
}

/// Someone who follows: anyone at all, or a node that signs.
struct Follower {
    key: Option<(SigningKey, NodeId)>,
    network: Option<u16>,
    cursor: u64,
}

impl Follower {
    fn new(world: &mut World, key: Option<(&SigningKey, NodeId)>, network: Option<u16>) -> Self {
        let key = key.map(|(key, node)| (key.clone(), node));
        let mut this = Self { key, network, cursor: 0 };
        assert_eq!(this.all(world), (false, vec![]), "a first question gives a cursor alone");
        this
    }

    fn ask(&mut self, world: &mut World) -> Answer {
        match &self.key {
            Some((key, node)) => world.by(key, question(Some(*node), self.network, self.cursor)),
            None => world.ask(question(None, self.network, self.cursor)),
        }
    }

    fn all(&mut self, world: &mut World) -> (bool, Vec<Change>) {
        let (cursor, reset, changes) = told(self.ask(world));
        self.cursor = cursor;
        (reset, changes)
    }

    /// What has happened to whom since the last question.
    fn news(&mut self, world: &mut World) -> Vec<(Happened, NodeId)> {
        let (reset, changes) = self.all(world);
        assert!(!reset);
        changes.into_iter().map(|change| (change.what, change.node_id)).collect()
    }
}

#[test]
fn strangers_hear_of_public_nodes_and_the_trusted_of_private_ones_too() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let (carol, three) = world.node(3);
    world.by(&alice, Operation::SetVisibility { node_id: one, public: true });
    world.by(&bob, Operation::ReportTrust { node_id: two, peer_id: three });
    let mut stranger = Follower::new(&mut world, None, None);
    let mut trusted = Follower::new(&mut world, Some((&carol, three)), None);
    let mut other = Follower::new(&mut world, Some((&alice, one)), None);

    world.by(&alice, set_hostname(one, "alpha"));
    world.by(&bob, Operation::SetTags { node_id: two, tags: vec!["papers".into()] });
    let (alpha, bravo) = ((Happened::Described, one), (Happened::Described, two));
    let (_, changes) = stranger.all(&mut world);
    let change = Change {
        what: Happened::Described,
        node_id: one,
        hostname: Some("alpha".into()),
        network_id: None,
        at: world.now.unix_seconds,
    };
    assert_eq!(changes, [change]);
    assert_eq!(trusted.news(&mut world), [alpha, bravo]);
    assert_eq!(other.news(&mut world), [alpha]);
    assert_eq!(trusted.news(&mut world), [], "told once");

    world.by(&bob, Operation::SetTags { node_id: two, tags: vec!["papers".into()] });
    assert_eq!(trusted.news(&mut world), [], "nothing is different");
    let nobody = world.ask(question(Some(three), None, 0));
    assert!(error(nobody).contains("signature required for changes"));
    let forged = world.by(&alice, question(Some(three), None, 0));
    assert_eq!(error(forged), "signature verification failed");
}

#[test]
fn a_node_that_hides_or_leaves_is_told_of_once_more() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let mut stranger = Follower::new(&mut world, None, None);
    let visible = |public| Operation::SetVisibility { node_id: one, public };
    world.by(&alice, visible(true));
    assert_eq!(stranger.news(&mut world), [(Happened::Described, one)]);
    world.by(&alice, visible(false));
    assert_eq!(stranger.news(&mut world), [(Happened::Described, one)]);
    world.by(&alice, set_hostname(one, "alpha"));
    assert_eq!(stranger.news(&mut world), [], "it is private now");
    world.by(&alice, visible(true));
    world.by(&alice, Operation::Deregister { node_id: one });
    assert_eq!(stranger.news(&mut world), [(Happened::Described, one), (Happened::Offline, one)]);
}

#[test]
fn coming_and_going_is_told_once_each() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    world.by(&alice, Operation::SetVisibility { node_id: one, public: true });
    let mut stranger = Follower::new(&mut world, None, None);
    for _ in 0..5 {
        world.pass(Duration::from_secs(60));
        world.beat(&alice, one);
    }
    assert_eq!(stranger.news(&mut world), [], "a heartbeat is no news");
    world.pass(PRESENCE_TIMEOUT);
    assert_eq!(stranger.news(&mut world), [(Happened::Offline, one)]);
    world.beat(&alice, one);
    assert_eq!(stranger.news(&mut world), [(Happened::Online, one)]);
}

#[test]
fn members_follow_their_network_and_nobody_else_does() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let (carol, three) = world.node(3);
    let Answer::CreateNetwork { network_id, .. } = world.as_admin(CREATE(one, "RESEARCH", "invite")) else {
        panic!("not made")
    };
    let mut member = Follower::new(&mut world, Some((&alice, one)), Some(network_id));
    let mut anywhere = Follower::new(&mut world, Some((&alice, one)), None);
    let refused = world.by(&bob, question(Some(two), Some(network_id), 0));
    assert_eq!(error(refused), "node 2 is not a member of network 1");
    assert!(error(world.ask(question(None, Some(network_id), 0))).contains("signature required"));
    assert_eq!(error(world.ask(question(None, Some(9), 0))), "network 9: network not found");

    world.as_admin(Operation::JoinNetwork { node_id: two, network_id, token: String::new() });
    let (_, changes) = member.all(&mut world);
    assert_eq!((changes[0].what, changes[0].node_id, changes[0].network_id), (Happened::Joined, two, Some(network_id)));
    assert_eq!(anywhere.news(&mut world), [(Happened::Joined, two)]);
    world.by(&carol, set_hostname(three, "outsider"));
    world.by(&bob, set_hostname(two, "insider"));
    assert_eq!(member.news(&mut world), [(Happened::Described, two)]);
    assert_eq!(anywhere.news(&mut world), [(Happened::Described, two)]);

    let mut leaver = Follower::new(&mut world, Some((&bob, two)), Some(network_id));
    world.by(&bob, Operation::LeaveNetwork { node_id: two, network_id });
    assert_eq!(member.news(&mut world), [(Happened::Left, two)]);
    assert_eq!(error(leaver.ask(&mut world)), "node 2 is not a member of network 1");
    world.by(&bob, set_hostname(two, "elsewhere"));
    assert_eq!(member.news(&mut world), []);

    world.as_admin(Operation::JoinNetwork { node_id: three, network_id, token: String::new() });
    world.by(&carol, Operation::Deregister { node_id: three });
    assert_eq!(
        member.news(&mut world),
        [(Happened::Joined, three), (Happened::Offline, three), (Happened::Left, three)]
    );
}

#[test]
fn anyone_follows_a_network_that_anyone_may_join_and_an_administrator_everything() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let Answer::CreateNetwork { network_id, .. } = world.as_admin(CREATE(one, "TRAVEL", "open")) else {
        panic!("not made")
    };
    let mut stranger = Follower::new(&mut world, None, Some(network_id));
    let (start, _, _) = told(world.as_admin(question(None, None, 0)));
    world.by(&alice, set_hostname(one, "alpha"));
    assert_eq!(stranger.news(&mut world), [(Happened::Described, one)]);
    let (_, _, changes) = told(world.as_admin(question(None, None, start)));
    assert_eq!(changes.len(), 1);
    let wrong = Request { admin_token: Some("guess".into()), ..question(None, None, 0).into() };
    assert_eq!(error(world.outcome(from(HOME, 0), &wrong).answer), "invalid admin token");
}

#[test]
fn two_followers_each_go_at_their_own_pace() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    world.by(&alice, Operation::SetVisibility { node_id: one, public: true });
    let mut eager = Follower::new(&mut world, None, None);
    let mut lazy = Follower::new(&mut world, None, None);
    for name in ["a", "b", "c"] {
        world.by(&alice, set_hostname(one, name));
        assert_eq!(eager.news(&mut world).len(), 1);
    }
    assert_eq!(lazy.news(&mut world).len(), 3);
    assert_eq!(eager.cursor, lazy.cursor);
}

#[test]
fn long_news_come_in_several_answers() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    world.by(&alice, Operation::SetVisibility { node_id: one, public: true });
    let mut follower = Follower::new(&mut world, None, None);
    for number in 0..CHANGES_MAX + 10 {
        world.by(&alice, Operation::SetTags { node_id: one, tags: vec![format!("t{number}")] });
    }
    assert_eq!(follower.news(&mut world).len(), CHANGES_MAX);
    assert_eq!(follower.news(&mut world).len(), 10);
    assert_eq!(follower.news(&mut world).len(), 0);
}

#[test]
fn who_was_away_for_too_long_is_told_so_and_goes_on() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    world.by(&alice, Operation::SetVisibility { node_id: one, public: true });
    let (bob, two) = world.node(2);
    let mut late = Follower::new(&mut world, None, None);
    world.by(&bob, Operation::SetVisibility { node_id: two, public: true });
    let mut just = Follower::new(&mut world, None, None);
    world.as_admin(CREATE(one, "RESEARCH", "open"));
    // One event so far, the founding.
    churn(&mut world, one, 1);
    while world.service.cursor() - just.cursor + 1 < EVENTS_MAX as u64 {
        churn(&mut world, one, 1);
    }
    world.by(&alice, set_hostname(one, "alpha"));
    let (reset, changes) = just.all(&mut world);
    assert!(!reset && changes.len() == CHANGES_MAX, "exactly what is remembered");
    assert_eq!(late.all(&mut world), (true, vec![]));
    world.by(&alice, set_hostname(one, "bravo"));
    assert_eq!(late.news(&mut world), [(Happened::Described, one)]);
}

#[test]
fn a_cursor_of_an_earlier_process_is_not_taken_for_one_of_this() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    world.by(&alice, Operation::SetVisibility { node_id: one, public: true });
    let mut follower = Follower::new(&mut world, None, None);
    world.by(&alice, set_hostname(one, "alpha"));
    let before = world.service.cursor();
    world.pass(Duration::from_secs(1));
    world.restart();
    assert!(world.service.cursor() > before);
    world.by(&alice, set_hostname(one, "bravo"));
    assert_eq!(follower.all(&mut world), (true, vec![]));
    world.by(&alice, set_hostname(one, "charlie"));
    assert_eq!(follower.news(&mut world), [(Happened::Described, one)]);
    let (_, reset, _) = told(world.ask(question(None, None, u64::MAX)));
    assert!(reset, "from a future that never was");
}

#[test]
fn only_the_topics_concerned_are_named() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    world.as_admin(CREATE(one, "RESEARCH", "open"));
    world.service.take_news();
    world.beat(&alice, one);
    assert!(world.service.take_news().is_empty());
    world.by(&bob, set_hostname(two, "bravo"));
    assert_eq!(Vec::from_iter(world.service.take_news()), [Topic::Everyone]);
    world.by(&alice, Operation::SetVisibility { node_id: one, public: true });
    assert_eq!(Vec::from_iter(world.service.take_news()), [Topic::Public, Topic::Everyone, Topic::Network(1)]);
}

#[test]
fn records_are_told_as_they_come_and_go() {
    let mut world = World::new();
    let (alice, one) = world.offering(1, "Citations", "");
    let mut stranger = Follower::new(&mut world, None, None);
    let (published, withdrawn) = ((Happened::Published, one), (Happened::Withdrawn, one));
    world.publish(&alice, one, "Academic citations", "");
    assert_eq!(stranger.news(&mut world), [published]);
    world.pass(Duration::from_secs(1));
    for expected in [vec![withdrawn], vec![]] {
        let withdrawal = withdrawal(&world, &alice, one);
        world.by(&alice, publishing(one, &withdrawal));
        assert_eq!(stranger.news(&mut world), expected);
        world.pass(Duration::from_secs(1));
    }
    world.publish(&alice, one, "Citations again", "");
    world.by(&alice, Operation::Deregister { node_id: one });
    assert_eq!(stranger.news(&mut world), [published, withdrawn, (Happened::Offline, one)]);
}

#[test]
fn a_new_member_is_not_told_of_what_was_before_it_joined() {
    let mut world = World::new();
    let (alice, one) = world.node(1);
    let (bob, two) = world.node(2);
    let Answer::CreateNetwork { network_id: club, .. } = world.as_admin(CREATE(one, "club", "invite")) else {
        panic!("not made")
    };
    let mut general = Follower::new(&mut world, Some((&bob, two)), None);
    let join = Operation::JoinNetwork { node_id: two, network_id: club, token: String::new() };
    world.as_admin(join.clone());
    let mut member = Follower::new(&mut world, Some((&bob, two)), Some(club));
    general.all(&mut world);
    world.as_admin(Operation::LeaveNetwork { node_id: two, network_id: club });
    general.all(&mut world);
    world.by(&alice, set_hostname(one, "before"));
    world.as_admin(join);
    world.by(&alice, set_hostname(one, "after"));
    let since = [(Happened::Joined, two), (Happened::Described, one)];
    assert_eq!(member.news(&mut world), since);
    assert_eq!(general.news(&mut world), since);

    let (carol, three) = world.node(3);
    let open = world.as_admin(CREATE(one, "open", "open"));
    let Answer::CreateNetwork { network_id: open, .. } = open else { panic!("{open:?}") };
    let mut guest = Follower::new(&mut world, Some((&carol, three)), Some(open));
    world.by(&alice, set_hostname(one, "heard"));
    world.as_admin(Operation::JoinNetwork { node_id: three, network_id: open, token: String::new() });
    assert_eq!(guest.news(&mut world), [(Happened::Described, one), (Happened::Joined, three)], "anybody may hear");
}
