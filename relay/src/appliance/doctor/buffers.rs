//! What the kernel holds while a shard is busy: socket buffers, fragments, the backlog between card and socket.

use relay::config::{RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES};

use super::check::{Check, bytes, sysctl};
use super::topics::{BACKLOG, BUDGET, FRAGMENTS_V4, FRAGMENTS_V6, RECEIVE_BUFFER, SEND_BUFFER, Topic};

/// What the sysctl file sets; at the default, 1 700 incomplete datagrams shut out all others.
const FRAGMENTS_BYTES: u64 = 64 << 20;
/// Interrupted rounds of receive work for a million packets above which it is worth a look.
const SQUEEZED_PER_MILLION_MAX: u64 = 1000;
/// What is advised where the kernel's defaults of 1000 and 300 packets were too little. The counters run since the host
/// started and tell nothing of the time since a change, so these are advised once, and not more of them.
const BACKLOG_PACKETS: u64 = 10_000;
const BUDGET_PACKETS: u64 = 600;

/// What is known of them.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Bytes a socket opened as the relay opens its own got for receiving and for sending, or why there is none.
    pub granted: Option<(u64, u64)>,
    /// `net.core.rmem_max` and `net.core.wmem_max`, what one without CAP_NET_ADMIN gets.
    pub limits: [Option<u64>; 2],
    /// Memory for incomplete datagrams, by family.
    pub fragments: [Option<u64>; 2],
    /// `net.core.netdev_max_backlog` in packets.
    pub backlog: Option<u64>,
    /// `net.core.netdev_budget` in packets.
    pub budget: Option<u64>,
    /// What all CPUs together have done.
    pub softnet: Softnet,
}

/// Packets since the host started, by `/proc/net/softnet_stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Softnet {
    /// Handled.
    pub processed: u64,
    /// Lost because the backlog was full.
    pub dropped: u64,
    /// Rounds that ended before the work did.
    pub squeezed: u64,
}

impl Softnet {
    /// Sums the lines of the file, one a CPU.
    pub fn parse(text: &str) -> Self {
        let column = |line: &str, index| {
            line.split_whitespace().nth(index).and_then(|word| u64::from_str_radix(word, 16).ok()).unwrap_or(0)
        };
        text.lines().fold(Self::default(), |sum, line| Self {
            processed: sum.processed + column(line, 0),
            dropped: sum.dropped + column(line, 1),
            squeezed: sum.squeezed + column(line, 2),
        })
    }
}

/// The verdicts.
pub fn checks(facts: &Facts) -> Vec<Check> {
    let [receive_max, send_max] = facts.limits;
    let [v4, v6] = facts.fragments;
    vec![
        buffer(RECEIVE_BUFFER, RECEIVE_BUFFER_BYTES as u64, facts.granted.map(|(receive, _)| receive), receive_max),
        buffer(SEND_BUFFER, SEND_BUFFER_BYTES as u64, facts.granted.map(|(_, send)| send), send_max),
        fragments(FRAGMENTS_V4, v4),
        fragments(FRAGMENTS_V6, v6),
        backlog(facts),
        budget(facts),
    ]
}

fn buffer(topic: Topic, wanted: u64, granted: Option<u64>, limit: Option<u64>) -> Check {
    let want = bytes(wanted);
    let check = match (granted, limit) {
        (None, _) => topic.note("no socket could be opened to look"),
        (Some(got), Some(limit)) if got >= wanted && limit < wanted => topic.warn(
            format!(
                "{} of the {want} wanted for this user; a service without CAP_NET_ADMIN gets {}",
                bytes(got),
                bytes(limit)
            ),
            sysctl(topic.heading, wanted),
        ),
        (Some(got), _) if got >= wanted => topic.ok(format!("{} of the {want} wanted", bytes(got))),
        (Some(got), _) => topic.warn(format!("{} of the {want} wanted", bytes(got)), sysctl(topic.heading, wanted)),
    };
    check.value("wanted_bytes", wanted).value("granted_bytes", granted).value("limit_bytes", limit)
}

fn fragments(topic: Topic, threshold: Option<u64>) -> Check {
    let check = match threshold {
        None => topic.ok("this host does not speak that family"),
        Some(threshold) if threshold >= FRAGMENTS_BYTES => {
            topic.ok(format!("{} for incomplete datagrams", bytes(threshold)))
        }
        Some(threshold) => topic.warn(
            format!(
                "{} for incomplete datagrams; once full, older clients' 4.2 KB datagrams are lost",
                bytes(threshold)
            ),
            sysctl(topic.heading, FRAGMENTS_BYTES),
        ),
    };
    check.value("threshold_bytes", threshold)
}

fn backlog(facts: &Facts) -> Check {
    let Softnet { processed, dropped, .. } = facts.softnet;
    let length = facts.backlog.unwrap_or(1000);
    let finding = format!("{length} packets; {dropped} lost of {processed} since the host started");
    let check = match dropped {
        0 => BACKLOG.ok(finding),
        _ if length >= BACKLOG_PACKETS => BACKLOG.note(finding),
        _ => BACKLOG.warn(finding, sysctl(BACKLOG.heading, BACKLOG_PACKETS)),
    };
    check.value("length", length).value("dropped", dropped).value("processed", processed)
}

fn budget(facts: &Facts) -> Check {
    let Softnet { processed, squeezed, .. } = facts.softnet;
    let budget = facts.budget.unwrap_or(300);
    let finding =
        format!("{budget} packets a round; {squeezed} rounds cut short in {processed} packets since the host started");
    let check = if squeezed.saturating_mul(1_000_000) <= processed.saturating_mul(SQUEEZED_PER_MILLION_MAX) {
        BUDGET.ok(finding)
    } else if budget >= BUDGET_PACKETS {
        BUDGET.note(finding)
    } else {
        BUDGET.warn(finding, sysctl(BUDGET.heading, BUDGET_PACKETS))
    };
    check.value("budget", budget).value("squeezed", squeezed)
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn a_buffer_must_hold_for_the_service_too() {
        let of = |granted, limit| buffer(RECEIVE_BUFFER, 8 << 20, granted, limit);
        assert_eq!(of(Some(8 << 20), Some(8 << 20)).status, Status::Ok);
        assert_eq!(of(Some(8 << 20), None).status, Status::Ok);
        let root = of(Some(8 << 20), Some(212_992));
        assert!(root.status == Status::Warn && root.finding.contains("gets 208 KiB"), "{}", root.finding);
        let user = of(Some(212_992), Some(212_992));
        assert!(user.status == Status::Warn && user.advice.unwrap() == "sysctl -w net.core.rmem_max=8388608");
        assert_eq!(of(None, Some(1)).status, Status::Note);
    }

    #[test]
    fn the_default_room_for_fragments_is_too_little() {
        let of = |threshold| fragments(FRAGMENTS_V6, threshold).status;
        assert_eq!([Some(4 << 20), Some(64 << 20), None].map(of), [Status::Warn, Status::Ok, Status::Ok]);
    }

    #[test]
    fn losses_between_card_and_socket_are_told() {
        let text = "0000ffff 00000000 00000001 00000000\n00000001 0000000a 00000000 00000000\n";
        let softnet = Softnet::parse(text);
        assert_eq!(softnet, Softnet { processed: 65_536, dropped: 10, squeezed: 1 });
        let facts = Facts { softnet, backlog: Some(1000), ..Facts::default() };
        assert_eq!([backlog(&facts).status, budget(&facts).status], [Status::Warn, Status::Ok]);
        assert_eq!(backlog(&facts).advice.unwrap(), "sysctl -w net.core.netdev_max_backlog=10000");
        let squeezed = Facts { softnet: Softnet { squeezed: 66, dropped: 0, ..softnet }, ..facts };
        assert_eq!([backlog(&squeezed).status, budget(&squeezed).status], [Status::Ok, Status::Warn]);
        assert_eq!(budget(&squeezed).advice.unwrap(), "sysctl -w net.core.netdev_budget=600");
    }

    #[test]
    fn whoever_followed_the_advice_hears_only_of_the_past() {
        let softnet = Softnet { processed: 1000, dropped: 10, squeezed: 10 };
        let facts = Facts { softnet, backlog: Some(10_000), budget: Some(600), ..Facts::default() };
        for check in [backlog(&facts), budget(&facts)] {
            assert_eq!((check.status, check.advice), (Status::Note, None));
            assert!(check.finding.contains("since the host started"), "{}", check.finding);
        }
    }
}
