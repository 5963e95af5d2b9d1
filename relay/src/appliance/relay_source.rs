//! What the status page and the administrator are told of the relay: counters, and what is known of a node.

use std::sync::Arc;

use directory::RelaySource;
use directory::relay_source::{DropFigures, NodeAtRelay, RelayEvent, RelaySnapshot, ShardFigures, Usage};
use relay::Time;
use relay::events::Event;
use relay::metrics::{Counter, Counters, DropReason, Gauge};
use relay::runtime::Relay;
use relay::sessions::{Grade, Session, shard_of};
use wire::NodeId;

use super::recorder::{Recorder, WallClock};
use super::spans::SpanCounts;

/// The relay in this process.
#[derive(Debug)]
pub struct Source {
    relay: Arc<Relay>,
    recorder: Recorder,
    /// Of the shards, in their order.
    cpus: Vec<usize>,
    started: Time,
}

impl Source {
    /// What `relay` and `recorder` know; `cpus` are those of the shards.
    #[must_use]
    pub fn new(relay: Arc<Relay>, recorder: Recorder, cpus: Vec<usize>) -> Self {
        Self { relay, recorder, cpus, started: Time::read_clock() }
    }

    /// The latest control events of all nodes, the oldest first.
    #[must_use]
    pub fn latest(&self) -> Vec<(NodeId, RelayEvent)> {
        let clock = WallClock::read();
        self.recorder.latest().iter().map(|event| (event.node, told(event, &clock))).collect()
    }

    /// What became of the spans so far.
    #[must_use]
    pub fn spans(&self) -> SpanCounts {
        self.recorder.spans()
    }
}

impl RelaySource for Source {
    fn snapshot(&self) -> RelaySnapshot {
        let shards = self.relay.counters();
        let mut total = Counters::default();
        shards.iter().for_each(|counters| total.merge(counters));
        let figures = |(shard, counters): (usize, &Counters)| ShardFigures {
            shard,
            cpu: self.cpus.get(shard).copied(),
            sessions: counters.gauge(Gauge::Sessions),
            received: counters.get(Counter::Received),
            forwarded: counters.get(Counter::Forwarded),
            forwarded_bytes: counters.get(Counter::ForwardedBytes),
            answered: counters.get(Counter::Answered),
            dropped: counters.dropped_total(),
            kernel_drops: counters.get(Counter::KernelDrops),
        };
        let drops = |reason: &DropReason| DropFigures { reason: reason.label(), count: total.dropped(*reason) };
        RelaySnapshot {
            uptime_seconds: Time::read_clock().since(self.started).as_secs(),
            shards: shards.iter().enumerate().map(figures).collect(),
            drops: DropReason::ALL.iter().map(drops).collect(),
        }
    }

    fn node(&self, node: NodeId) -> Option<NodeAtRelay> {
        let clock = WallClock::read();
        let session = self.relay.table().find(node);
        let events: Vec<RelayEvent> = self.recorder.of(node).iter().map(|event| told(event, &clock)).collect();
        if session.is_none() && events.is_empty() {
            return None;
        }
        let remote = session.map(|session| session.path.remote);
        // As the shard itself weighs it when somebody contests the number.
        let grade = |session: &Session| match session.claimed {
            true => Grade::SignedClaim,
            false if self.relay.membership().proves(node, session.path.remote.ip) => Grade::ProvenAddress,
            false => Grade::Unproven,
        };
        let heard = self.relay.table().heard(node);
        Some(NodeAtRelay {
            endpoint: remote.map(|remote| remote.socket_addr()),
            shard: shard_of(node, self.cpus.len()),
            grade: session.as_ref().map(|session| grade(session) as u8),
            heard_seconds_ago: heard.map(|heard| Time::read_clock().since(heard).as_secs()),
            events,
        })
    }

    fn usage(&self, node: NodeId) -> Option<Usage> {
        let relay::usage::Usage { packets, bytes, dropped } = self.relay.usage(node);
        Some(Usage { packets, bytes, dropped })
    }
}

fn told(event: &Event, clock: &WallClock) -> RelayEvent {
    RelayEvent {
        at_ms: u64::try_from(clock.unix(event.at).as_millis()).unwrap_or(u64::MAX),
        what: event.what.label().to_owned(),
        detail: event.what.to_string(),
    }
}
