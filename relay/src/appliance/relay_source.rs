//! What the status page is told of the relay.

use std::sync::Arc;

use directory::RelaySource;
use directory::relay_source::{DropFigures, NodeAtRelay, RelaySnapshot, ShardFigures};
use relay::metrics::{Counter, Counters, DropReason, Gauge};
use relay::runtime::Relay;
use wire::NodeId;

/// The relay's counters, as figures.
#[derive(Debug)]
pub struct Source {
    relay: Arc<Relay>,
}

impl Source {
    /// Those of `relay`.
    #[must_use]
    pub const fn new(relay: Arc<Relay>) -> Self {
        Self { relay }
    }
}

impl RelaySource for Source {
    fn snapshot(&self) -> RelaySnapshot {
        let shards = self.relay.counters();
        let mut total = Counters::default();
        shards.iter().for_each(|counters| total.merge(counters));
        let drops =
            DropReason::ALL.iter().map(|reason| DropFigures { reason: reason.label(), count: total.dropped(*reason) });
        RelaySnapshot {
            uptime_seconds: 0,
            shards: shards.iter().enumerate().map(|(shard, counters)| figures(shard, counters)).collect(),
            drops: drops.collect(),
        }
    }

    fn node(&self, _node: NodeId) -> Option<NodeAtRelay> {
        None
    }
}

fn figures(shard: usize, counters: &Counters) -> ShardFigures {
    ShardFigures {
        shard,
        cpu: None,
        sessions: counters.gauge(Gauge::Sessions),
        received: counters.get(Counter::Received),
        forwarded: counters.get(Counter::Forwarded),
        forwarded_bytes: counters.get(Counter::ForwardedBytes),
        answered: counters.get(Counter::Answered),
        dropped: counters.dropped_total(),
        kernel_drops: counters.get(Counter::KernelDrops),
    }
}
