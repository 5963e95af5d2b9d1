//! A network that is made up: its time goes where the tests send it, its figures are what they set.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use directory::AdminToken;
use directory::enrolment::Standing;
use directory::http::connections::Patience;
use directory::http::places::Bounds;
use directory::http::source::Source;
use directory::http::{Server, Settings, Site};
use directory::relay_source::{DropFigures, NodeAtRelay, RelayEvent, RelaySnapshot, RelaySource, ShardFigures};
use directory::service::Now;
use directory::service::overview::{GroupFigures, NodeView, Overview, PathFigures};
use wire::NodeId;
use wire::registry::request::Report;

pub const TOKEN: &str = "correct horse battery staple";
/// Some Monday morning.
const BEGAN: u64 = 1_800_259_200;

#[derive(Default)]
pub struct State {
    pub seconds: u64,
    pub overview: Overview,
    pub nodes: Vec<NodeView>,
    pub relay: RelaySnapshot,
}

#[derive(Default)]
pub struct World(Mutex<State>);

impl World {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Source for World {
    fn now(&self) -> Now {
        let seconds = self.state().seconds;
        Now { monotonic: Duration::from_secs(seconds), unix_seconds: BEGAN + seconds }
    }

    fn overview(&self) -> Overview {
        self.state().overview.clone()
    }

    fn find_nodes(&self, text: &str, limit: usize) -> Vec<NodeView> {
        let state = self.state();
        let has = |node: &&NodeView| format!("{node:?}").contains(text);
        state.nodes.iter().filter(has).take(limit).cloned().collect()
    }

    fn metrics(&self) -> String {
        "pilot_directory_nodes 1\n".to_owned()
    }
}

impl RelaySource for World {
    fn snapshot(&self) -> RelaySnapshot {
        self.state().relay.clone()
    }

    fn node(&self, node: NodeId) -> Option<NodeAtRelay> {
        let events =
            [(1, "session moved", "203.0.113.9:61001, was 203.0.113.9:52110"), (9, "punch asked", "by node 12")];
        let events = events.map(|(at, what, detail)| RelayEvent {
            at_ms: (BEGAN + at) * 1000,
            what: what.to_owned(),
            detail: detail.to_owned(),
        });
        let endpoint = Some("203.0.113.9:61001".parse().unwrap());
        let known =
            NodeAtRelay { endpoint, shard: 1, grade: Some(1), heard_seconds_ago: Some(4), events: events.into() };
        (node.0 < 1000).then_some(known)
    }
}

pub struct Served {
    pub world: Arc<World>,
    pub site: Arc<Site>,
    pub server: Server,
}

impl Served {
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Two seconds later.
    pub fn step(&self, change: impl FnOnce(&mut State)) {
        {
            let mut state = self.world.state();
            state.seconds += 2;
            state.relay.uptime_seconds += 2;
            change(&mut state);
        }
        self.site.sample();
    }
}

pub fn serve() -> Served {
    serve_with(State::default(), |_| {}, Patience::default())
}

pub fn serve_with(state: State, change: impl FnOnce(&mut Settings), patience: Patience) -> Served {
    serve_within(Bounds::connections(), state, change, patience)
}

pub fn serve_within(bounds: Bounds, state: State, change: impl FnOnce(&mut Settings), patience: Patience) -> Served {
    let world = Arc::new(World(Mutex::new(state)));
    let relay: Arc<dyn RelaySource> = world.clone();
    let mut settings = Settings { relay: Some(relay), admin_token: AdminToken::new(TOKEN), ..Settings::default() };
    change(&mut settings);
    let site = Site::new(world.clone(), settings);
    // The tests themselves say when figures are read.
    let never = Duration::from_secs(1 << 30);
    let loopback = "127.0.0.1:0".parse().unwrap();
    let probes = site.probes();
    let server = Server::start_with(loopback, Some(site.clone()), |_| probes, never, bounds, patience).unwrap();
    Served { world, site, server }
}

pub fn group(id: u16, name: &str, join_rule: &str, online: usize, members: usize) -> GroupFigures {
    GroupFigures { id, name: name.into(), join_rule: join_rule.into(), members, online }
}

/// A node that has much to say.
pub fn node(id: u32, hostname: &str) -> NodeView {
    NodeView {
        node_id: NodeId(id),
        address: format!("0:0000.0000.{id:04X}"),
        hostname: Some(hostname.into()),
        standing: Standing::Approved,
        tags: vec!["papers".into(), "citations".into()],
        capability: Some("Resolve academic citations".into()),
        groups: vec!["BACKBONE".into(), "RESEARCH".into()],
        public: true,
        online: true,
        last_seen: Some(BEGAN - 12),
        version: "0.1.0".into(),
        endpoint: "203.0.113.9:52110".into(),
        endpoint_follows: true,
        relay_only: false,
        proven: vec!["203.0.113.9".parse().unwrap()],
        report: Some(Report {
            direct: 3,
            relayed: 9,
            direct_bytes: 48_200_000,
            relayed_bytes: 2_310_000_000,
            nat_mapping: 5,
            nat_filtering: 4,
        }),
    }
}

/// A fleet of some size at work.
pub fn fleet() -> State {
    let groups = vec![
        group(0, "BACKBONE", "", 1284, 1730),
        group(1, "RESEARCH", "open", 412, 520),
        group(2, "TRAVEL", "open", 236, 410),
        group(3, "TRADING", "open", 148, 151),
        group(4, "merger-of-two-firms", "invite", 12, 14),
        group(5, "payroll", "token", 4, 6),
    ];
    let paths = PathFigures { reporting: 1106, direct: 8214, relayed: 1377, ..PathFigures::default() };
    let shard =
        |shard: usize, sessions| ShardFigures { shard, cpu: Some(shard + 2), sessions, ..ShardFigures::default() };
    let mut state = State {
        seconds: 0,
        overview: Overview { nodes: 1730, online: 1284, capabilities: 391, groups, paths },
        nodes: vec![node(42, "specialist-papers"), node(43, "coordinator")],
        relay: RelaySnapshot {
            uptime_seconds: 90_000,
            shards: vec![shard(0, 655), shard(1, 611)],
            drops: ["malformed", "source_mismatch", "unknown_destination", "sender_budget"]
                .map(|reason| DropFigures { reason, count: 0 })
                .into(),
        },
    };
    traffic(&mut state);
    state
}

/// Two seconds of the fleet's traffic: a day's wave, a faster one, and some noise that is the same every time.
pub fn traffic(state: &mut State) {
    let seconds = state.seconds as f64;
    let hour = seconds / 3600.0;
    let noise = |salt: u64| ((state.seconds.wrapping_mul(2_654_435_761) ^ salt.wrapping_mul(40_503)) >> 7) % 1000;
    let wave = 1.0 + 0.55 * (hour / 24.0 * std::f64::consts::TAU - 2.2).sin() + 0.08 * (hour * 5.0).sin();
    let each: [u64; 2] = [0, 1].map(|shard| ((5200.0 * wave) as u64 + noise(shard)) * 2);
    for (shard, packets) in state.relay.shards.iter_mut().zip(each) {
        shard.received += packets + 8;
        shard.forwarded += packets;
        shard.forwarded_bytes += packets * 610;
        shard.dropped += if shard.shard == 0 { packets / 5000 } else { 0 };
    }
    state.relay.drops[2].count += each[0] / 5000;
    state.overview.online = (1284.0 * (0.72 + 0.28 * wave / 1.6)) as usize + noise(7) as usize / 200;
    state.overview.groups[0].online = state.overview.online;
}
