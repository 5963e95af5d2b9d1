//! Key exchanges a source may send: five a second, so that nobody keeps us busy with signatures.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use wire::NodeId;

use super::outcome::Via;
use crate::Time;

/// One exchange costs this, or five a second.
const COST: Duration = Duration::from_millis(200);
/// Cost that may be owed: five at once.
const BURST: Duration = Duration::from_secs(1);
/// Sources watched at once.
const SOURCES_MAX: usize = 1024;

/// Who pays: an IPv4 address, an IPv6 /64, or the node a relay names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Ip(IpAddr),
    Relayed(NodeId),
}

impl From<Via> for Source {
    fn from(via: Via) -> Self {
        match via {
            Via::Relay(sender) => Self::Relayed(sender),
            Via::Direct(from) => Self::Ip(match from.ip().to_canonical() {
                IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
                ip => ip,
            }),
        }
    }
}

/// What each source owes, as the time at which it owes nothing more.
#[derive(Debug, Default)]
pub struct Sources(HashMap<Source, Time>);

impl Sources {
    /// Takes the cost of one exchange from the source; `false` when that is too much. With too many sources at once
    /// newcomers have to wait.
    #[must_use]
    pub fn charge(&mut self, now: Time, via: Via) -> bool {
        let source = via.into();
        if self.0.len() >= SOURCES_MAX && !self.0.contains_key(&source) {
            self.0.retain(|_, free_at| *free_at > now);
            if self.0.len() >= SOURCES_MAX {
                return false;
            }
        }
        let free_at = self.0.entry(source).or_default();
        let after = (*free_at).max(now) + COST;
        let allowed = after.since(now) <= BURST;
        if allowed {
            *free_at = after;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time(1_000_000_000_000);

    fn direct(ip: &str) -> Via {
        Via::Direct((ip.parse::<IpAddr>().unwrap(), 4000).into())
    }

    #[test]
    fn five_at_once_then_five_a_second_for_each_source() {
        let mut sources = Sources::default();
        for via in [direct("198.18.0.1"), direct("198.18.0.2"), direct("2001:db8::1"), Via::Relay(NodeId(7))] {
            assert_eq!((0..20).filter(|_| sources.charge(START, via)).count(), 5);
            assert_eq!((0..20).filter(|_| sources.charge(START + Duration::from_secs(2), via)).count(), 5);
        }
        assert!(!sources.charge(START + Duration::from_secs(2), direct("2001:db8::2")), "one /64 is one source");
        assert!(!sources.charge(START + Duration::from_secs(2), direct("::ffff:198.18.0.1")), "mapped is the same");
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_settled_make_room() {
        let mut sources = Sources::default();
        let allowed = (0..10_000).filter(|node| sources.charge(START, Via::Relay(NodeId(*node)))).count();
        assert_eq!((allowed, sources.0.len()), (SOURCES_MAX, SOURCES_MAX));
        assert!(sources.charge(START + COST, direct("198.18.0.1")));
        assert_eq!(sources.0.len(), 1);
    }
}
