//! Connection tracking: the relay needs none, and its table is bounded.

use super::check::{Check, sysctl};
use super::topics::TRACKING;

/// Share of the table above which new nodes are about to be shut out.
const FULL_PERCENT: u64 = 80;

/// What is known of it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Entries now; `None` where the kernel does not track.
    pub count: Option<u64>,
    /// Entries at most; 0 is no bound, `None` where it cannot be read.
    pub max: Option<u64>,
    /// Entries for the relay's ports; `None` where the kernel does not list them.
    pub ours: Option<usize>,
    /// The relay's UDP ports.
    pub ports: Vec<u16>,
}

/// The verdict.
pub fn check(facts: &Facts) -> Check {
    let Facts { count, max, ours, ports } = facts;
    let Some(count) = *count else { return TRACKING.ok("this kernel tracks no connections") };
    let bound = max.filter(|max| *max > 0);
    let table = bound.map_or_else(|| format!("{count} entries"), |max| format!("{count} of {max} entries"));
    let exempt = "the nft table of tuning/README.md exempts the relay's ports";
    let full = bound.filter(|max| count.saturating_mul(100) >= max.saturating_mul(FULL_PERCENT));
    let check = if let Some(max) = full {
        TRACKING.problem(
            format!("{table}: datagrams of new nodes are dropped once it is full"),
            format!("{}; {exempt}", sysctl("net.netfilter.nf_conntrack_max", max.saturating_mul(4))),
        )
    } else if count == 0 {
        TRACKING.ok("loaded, and tracks nothing: no rule asks for it, or all is exempt")
    } else {
        match ours {
            Some(0) => TRACKING.ok(format!("{table}, none on UDP {}", list(ports))),
            Some(ours) => TRACKING.warn(format!("{table}, {ours} of them on UDP {}", list(ports)), exempt),
            None => TRACKING
                .note(format!("{table}; which ports they are for is not listed here"))
                .advise(format!("conntrack -L -p udp lists them; {exempt}")),
        }
    };
    check.value("count", count).value("max", *max).value("ours", *ours)
}

/// Counts the entries of `/proc/net/nf_conntrack` that come to one of our UDP ports.
pub fn count_ours(listing: &str, ports: &[u16]) -> usize {
    let to_us = |line: &&str| {
        let mut words = line.split_whitespace();
        // The first destination is the one the flow was opened to; the second is that of the replies.
        words.clone().any(|word| word == "udp")
            && words
                .find_map(|word| word.strip_prefix("dport="))
                .and_then(|port| port.parse().ok())
                .is_some_and(|port: u16| ports.contains(&port))
    };
    listing.lines().filter(to_us).count()
}

fn list(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn facts(count: Option<u64>, ours: Option<usize>) -> Facts {
        Facts { count, max: Some(1000), ours, ports: vec![9001, 3478] }
    }

    #[test]
    fn tracking_matters_where_it_tracks_us_or_is_nearly_full() {
        let of = |count, ours| check(&facts(count, ours)).status;
        assert_eq!([of(None, None), of(Some(0), Some(0)), of(Some(5), Some(0))], [Status::Ok; 3]);
        assert_eq!([of(Some(5), Some(2)), of(Some(5), None)], [Status::Warn, Status::Note]);
        assert_eq!(of(Some(800), Some(0)), Status::Problem);
        let full = check(&facts(Some(999), None)).advice.unwrap();
        assert!(full.contains("sysctl -w net.netfilter.nf_conntrack_max=4000"), "{full}");
    }

    #[test]
    fn a_table_without_a_known_bound_is_not_full() {
        for max in [Some(0), None] {
            let check = check(&Facts { max, ..facts(Some(5_000_000), Some(0)) });
            assert!(check.status == Status::Ok && check.finding.starts_with("5000000 entries"), "{}", check.finding);
        }
    }

    #[test]
    fn the_listing_is_searched_for_flows_to_us() {
        let listing = "\
ipv4     2 udp      17 29 src=198.18.0.9 dst=198.18.0.2 sport=4000 dport=9001 src=198.18.0.2 dst=198.18.0.9 sport=9001 dport=4000 [ASSURED]
ipv4     2 udp      17 29 src=198.18.0.2 dst=198.18.0.9 sport=9001 dport=53 src=198.18.0.9 dst=198.18.0.2 sport=53 dport=9001
ipv4     2 tcp      6 431 ESTABLISHED src=198.18.0.9 dst=198.18.0.2 sport=4000 dport=9001 src=198.18.0.2 dst=198.18.0.9 sport=9001 dport=4000
";
        assert_eq!(count_ours(listing, &[9001, 3478]), 1);
        assert_eq!(count_ours(listing, &[3478]), 0);
    }
}
