//! What one node may send where the administrator has said so; everyone else is charged by the [`crate::server::Rules`].
//!
//! Told once by a [`crate::server::Handoff`], kept beside the session: a packet looks nothing up.

use std::collections::HashMap;
use std::time::Duration;

use wire::NodeId;
use zerocopy::FromZeros;

use crate::admission::Budget;

/// Nodes with a quota of their own: every shard knows all of them.
pub const QUOTAS_MAX: usize = 65_536;

/// However low a quota, so much passes at once: as with the budgets of everyone.
const BURST_PACKETS_MIN: f64 = 32.0;
const BURST_BYTES_MIN: f64 = 65_536.0;
const BURST_PACKETS: Duration = Duration::from_millis(200);
const BURST_BYTES: Duration = Duration::from_millis(250);

/// What one node may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
pub struct Quota {
    packets: Cost,
    bytes: Cost,
}

/// Nanoseconds one unit takes, as the bits of a float; 0.0 is what everyone is charged, less is nothing at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
struct Cost(u32);

impl Cost {
    fn new(per_second: Option<u64>) -> Self {
        let nanos = match per_second {
            None => 0.0,
            Some(0) => -1.0,
            Some(rate) => 1e9 / rate as f64,
        };
        Self((nanos as f32).to_bits())
    }

    fn budget(self, everyone: &Budget, burst: Duration, units_min: f64) -> Budget {
        let nanos = f64::from(f32::from_bits(self.0));
        if nanos == 0.0 {
            *everyone
        } else if nanos < 0.0 {
            Budget::unlimited()
        } else {
            Budget::costing(nanos, burst.max(Duration::from_nanos((nanos * units_min) as u64)))
        }
    }
}

impl Quota {
    /// Per second; `None` is what everyone is granted, 0 is no limit.
    #[must_use]
    pub fn new(packets_per_second: Option<u64>, bytes_per_second: Option<u64>) -> Self {
        Self { packets: Cost::new(packets_per_second), bytes: Cost::new(bytes_per_second) }
    }

    /// Whether it is what everyone is granted.
    #[must_use]
    pub fn is_everyones(&self) -> bool {
        *self == Self::default()
    }

    /// The budget of packets of a node with this quota.
    #[must_use]
    pub fn packets(&self, everyone: &Budget) -> Budget {
        self.packets.budget(everyone, BURST_PACKETS, BURST_PACKETS_MIN)
    }

    /// The budget of bytes.
    #[must_use]
    pub fn bytes(&self, everyone: &Budget) -> Budget {
        self.bytes.budget(everyone, BURST_BYTES, BURST_BYTES_MIN)
    }
}

/// The nodes that have a quota of their own, for when a session of theirs begins or their datagrams arrive.
#[derive(Debug, Default)]
pub struct Quotas(HashMap<NodeId, Quota>);

impl Quotas {
    /// What `node` may send from now on. Beyond [`QUOTAS_MAX`] nodes with a quota no other is taken.
    pub fn set(&mut self, node: NodeId, quota: Quota) {
        if quota.is_everyones() {
            self.0.remove(&node);
        } else if self.0.len() < QUOTAS_MAX || self.0.contains_key(&node) {
            self.0.insert(node, quota);
        }
    }

    /// What `node` may send.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Quota {
        self.0.get(&node).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    fn granted(budget: &Budget, seconds: u64) -> u64 {
        let mut account = Time::default();
        let steps = (0..seconds * 1000).map(|milli| Time(1_000_000_000_000 + milli * 1_000_000));
        steps.flat_map(|now| [now; 4]).filter(|now| budget.charge(&mut account, *now, 1)).count() as u64
    }

    #[test]
    fn a_quota_takes_the_place_of_what_everyone_is_granted() {
        let everyone = Budget::new(1000, 100);
        assert_eq!(Quota::default().packets(&everyone), everyone);
        assert_eq!(Quota::new(Some(0), None).packets(&everyone), Budget::unlimited());
        assert_eq!(Quota::new(Some(0), None).bytes(&everyone), everyone);
        let ten = granted(&Quota::new(Some(10), None).packets(&everyone), 20);
        assert!((10 * 20..=10 * 20 + 33).contains(&ten), "{ten} in 20 s at ten a second");
        let more = granted(&Quota::new(Some(2000), None).packets(&everyone), 2);
        assert!((4000..=4401).contains(&more), "{more} in 2 s at two thousand a second");
    }

    #[test]
    fn the_table_is_bounded_and_the_default_takes_no_room() {
        let mut quotas = Quotas::default();
        let own = Quota::new(Some(1), None);
        (0..=QUOTAS_MAX as u32).for_each(|node| quotas.set(NodeId(node), own));
        assert_eq!(quotas.of(NodeId(QUOTAS_MAX as u32)), Quota::default());
        quotas.set(NodeId(7), Quota::default());
        quotas.set(NodeId(QUOTAS_MAX as u32), own);
        assert_eq!((quotas.of(NodeId(7)), quotas.of(NodeId(QUOTAS_MAX as u32))), (Quota::default(), own));
    }
}
