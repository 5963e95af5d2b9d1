//! The interfaces that carry the relay's addresses: where their work runs, what they take over, how large their
//! packets are.

use super::check::{Check, counted, cpu_list, cpus_named};
use super::topics::{INTERRUPTS, IRQBALANCE, MTU, NUMA, OFFLOADS, QUEUES, TRANSMIT};

/// The least MTU IPv6 allows (RFC 8200, 5).
const MTU_MIN: usize = 1280;
/// Ethernet's.
const MTU_ETHERNET: usize = 1500;
/// A datagram of older daemons, relayed over IPv6.
const MTU_OF_OLDER_CLIENTS: usize = 4171 + 48;
/// What `nic.sh` may do to a relay at work.
const LINK_WARNING: &str = "look first without --apply: -L and -G take the link of most cards down for seconds";

/// What is known of all of them.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The shards' CPUs.
    pub shards: Vec<usize>,
    /// The memory nodes of those CPUs.
    pub nodes: Vec<usize>,
    /// The interfaces.
    pub cards: Vec<Card>,
    /// The process that moves interrupts, if one runs.
    pub irqbalance: Option<u32>,
}

/// One interface.
#[derive(Clone, Debug, Default)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Whether a device stands behind it; loopback, bridges and tunnels have none.
    pub is_device: bool,
    /// Bytes of its largest packet.
    pub mtu: usize,
    /// Its receive queues.
    pub receive_queues: usize,
    /// The CPUs to which received packets are passed on (RPS).
    pub steered_to: Vec<usize>,
    /// Its transmit queues.
    pub transmit_queues: usize,
    /// Whether the sending CPU chooses the transmit queue (XPS), rather than the flow.
    pub is_sent_by_cpu: bool,
    /// The interrupts of its queues.
    pub interrupts: Vec<Interrupt>,
    /// The memory node it is attached to.
    pub node: Option<usize>,
    /// What it takes over.
    pub offloads: Offloads,
}

/// An interrupt and the CPUs it is delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number.
    pub number: u32,
    /// What the driver calls it.
    pub name: String,
    /// Where it is handled.
    pub cpus: Vec<usize>,
}

/// Two features of an interface, as far as `ethtool` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Offloads {
    /// There is no `ethtool`.
    #[default]
    NotAsked,
    /// It failed, and why.
    Refused(String),
    /// It told.
    Known {
        /// Merging of what arrives.
        merges: Feature,
        /// Cutting of what leaves.
        cuts: Feature,
    },
}

/// How a feature stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// It works.
    On,
    /// It could be switched on.
    Off,
    /// The driver does not have it.
    Lacking,
}

impl Offloads {
    /// Reads what `ethtool -k` prints.
    pub fn parse(text: &str) -> Self {
        let feature = |name: &str| match text.lines().find_map(|line| line.trim().strip_prefix(name)) {
            Some(state) if state.starts_with(": on") => Feature::On,
            Some(state) if !state.contains("[fixed]") => Feature::Off,
            _ => Feature::Lacking,
        };
        Self::Known { merges: feature("generic-receive-offload"), cuts: feature("tx-udp-segmentation") }
    }

    /// Why there are none: the first line of what `ethtool` complains of.
    pub fn refused(complaint: &str) -> Self {
        Self::Refused(complaint.lines().next().unwrap_or("no reason given").trim().to_owned())
    }
}

/// The verdicts: those of every interface, then what concerns all.
pub fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    for card in &facts.cards {
        checks.push(mtu(card));
        if card.is_device {
            checks.push(queues(card, &facts.shards));
            checks.push(transmit(card, &facts.shards));
            checks.extend(interrupts(card, &facts.shards));
            checks.extend(node(card, &facts.nodes));
            checks.push(offloads(card));
        }
    }
    checks.push(irqbalance(facts));
    checks
}

fn named(check: Check, card: &Card) -> Check {
    check.value("interface", card.name.as_str())
}

/// What to type so that `nic.sh` prepares a card for the shards' CPUs.
fn prepare(name: &str, shards: &[usize]) -> String {
    format!("tuning/nic.sh {name} {} --apply # {LINK_WARNING}", cpu_list(shards))
}

fn queues(card: &Card, shards: &[usize]) -> Check {
    let Card { name, receive_queues, steered_to, .. } = card;
    let finding =
        format!("{name}: {} for {}", counted(*receive_queues, "receive queue"), counted(shards.len(), "shard"));
    let check = if *receive_queues >= shards.len() {
        QUEUES.ok(finding)
    } else if steered_to.len() > *receive_queues {
        QUEUES.ok(format!("{finding}, passed on to {}", cpus_named(steered_to)))
    } else {
        QUEUES.warn(
            format!(
                "{finding}: the kernel's part of the work, most of its cost, runs on {} only",
                counted(*receive_queues, "CPU")
            ),
            prepare(name, shards),
        )
    };
    named(check, card).value("queues", *receive_queues).value("steered_to", steered_to.as_slice())
}

fn transmit(card: &Card, shards: &[usize]) -> Check {
    let Card { name, transmit_queues, .. } = card;
    let finding = format!("{name}: {}", counted(*transmit_queues, "transmit queue"));
    let check = match *transmit_queues {
        0 | 1 => TRANSMIT.ok(format!("{finding}, so all shards share its lock")),
        _ if card.is_sent_by_cpu => TRANSMIT.ok(format!("{finding}, chosen by the sending CPU")),
        _ => TRANSMIT
            .note(format!("{finding}, chosen by flow: shards meet at their locks"))
            .advise(prepare(name, shards)),
    };
    named(check, card).value("queues", *transmit_queues)
}

fn interrupts(card: &Card, shards: &[usize]) -> Option<Check> {
    let Card { name, interrupts, .. } = card;
    let mut cpus: Vec<usize> = interrupts.iter().flat_map(|interrupt| interrupt.cpus.clone()).collect();
    cpus.sort_unstable();
    cpus.dedup();
    if interrupts.is_empty() {
        return None;
    }
    let list = cpus_named(&cpus);
    let how_many = counted(interrupts.len(), "queue interrupt");
    let with_shard = cpus.iter().filter(|cpu| shards.contains(cpu)).count();
    let check = if interrupts.len() > 1 && card.receive_queues > 1 && cpus.len() == 1 {
        INTERRUPTS.warn(format!("{name}: all {how_many} on {list}"), prepare(name, shards))
    } else if with_shard == 0 {
        INTERRUPTS.ok(format!("{name}: {how_many} on {list}, apart from the shards"))
    } else if with_shard < cpus.len() {
        INTERRUPTS.note(format!("{name}: {how_many} on {list}, only some of which have a shard")).advise(format!(
            "tuning/nic.sh {name} CPUS --apply, with the shards' CPUs or with others than theirs ({LINK_WARNING})"
        ))
    } else {
        INTERRUPTS.ok(format!("{name}: {how_many} on {list}, beside the shards"))
    };
    let numbers: Vec<u32> = interrupts.iter().map(|interrupt| interrupt.number).collect();
    Some(named(check, card).value("cpus", cpus).value("interrupts", numbers))
}

fn node(card: &Card, nodes: &[usize]) -> Option<Check> {
    let own = card.node?;
    let name = &card.name;
    let elsewhere = nodes.iter().filter(|node| **node != own).count();
    let check = if elsewhere == 0 {
        NUMA.ok(format!("{name}: node {own}, as the shards' CPUs"))
    } else {
        NUMA.warn(
            format!("{name}: node {own}, and {} on another: every packet crosses over", counted(elsewhere, "shard")),
            format!("--cpus $(cat /sys/devices/system/node/node{own}/cpulist)"),
        )
    };
    Some(named(check, card).value("node", own))
}

fn offloads(card: &Card) -> Check {
    let name = &card.name;
    let unknown = |why: &str| {
        named(OFFLOADS.note(format!("{name}: not looked at, since {why}")), card)
            .advise(format!("ethtool -k {name} tells; wanted are generic-receive-offload and tx-udp-segmentation"))
    };
    let (merges, cuts) = match &card.offloads {
        Offloads::NotAsked => return unknown("ethtool is not here"),
        Offloads::Refused(why) => return unknown(&format!("ethtool failed: {why}")),
        Offloads::Known { merges, cuts } => (*merges, *cuts),
    };
    let mut off = Vec::new();
    if merges == Feature::Off {
        off.push("generic-receive-offload");
    }
    if cuts == Feature::Off {
        off.push("tx-udp-segmentation");
    }
    let check = if off.is_empty() {
        let lacking = if cuts == Feature::Lacking { "; cuts trains on the CPU, since the driver cannot" } else { "" };
        OFFLOADS
            .ok(format!("{name}: {}{lacking}", if merges == Feature::On { "merges runs" } else { "cannot merge runs" }))
    } else {
        let commands: Vec<String> = off.iter().map(|feature| format!("ethtool -K {name} {feature} on")).collect();
        OFFLOADS.warn(format!("{name}: {} could be on", off.join(" and ")), commands.join(" && "))
    };
    named(check, card)
}

fn mtu(card: &Card) -> Check {
    let Card { name, mtu, .. } = card;
    let check = match *mtu {
        0..MTU_MIN => MTU.problem(
            format!("{name}: {mtu} bytes, less than IPv6 allows and than a relayed datagram of today's daemons needs"),
            format!("ip link set {name} mtu {MTU_ETHERNET}"),
        ),
        MTU_MIN..MTU_ETHERNET => MTU.note(format!(
            "{name}: {mtu} bytes; today's daemons keep within {MTU_MIN}, older ones' 4171 bytes leave in fragments"
        )),
        MTU_ETHERNET..MTU_OF_OLDER_CLIENTS => {
            MTU.ok(format!("{name}: {mtu} bytes; only the 4171 bytes of older daemons leave in fragments"))
        }
        _ => MTU.ok(format!("{name}: {mtu} bytes; nothing has to be fragmented")),
    };
    named(check, card).value("mtu", *mtu)
}

fn irqbalance(facts: &Facts) -> Check {
    let has_queues = facts.cards.iter().any(|card| card.interrupts.len() > 1);
    let check = match facts.irqbalance {
        None => IRQBALANCE.ok("not running: interrupts stay where they are put"),
        Some(pid) if has_queues => IRQBALANCE.warn(
            format!("running (process {pid}): it moves the queues' interrupts between CPUs"),
            "systemctl disable --now irqbalance",
        ),
        Some(pid) => IRQBALANCE.note(format!("running (process {pid}); no card here has several queues to move")),
    };
    check.value("pid", facts.irqbalance)
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn card(receive_queues: usize, cpus: &[usize]) -> Card {
        let interrupt =
            |(number, cpu): (u32, &usize)| Interrupt { number, name: format!("eth0-TxRx-{number}"), cpus: vec![*cpu] };
        let interrupts = (30..).zip(cpus).map(interrupt).collect();
        Card { name: "eth0".to_owned(), is_device: true, mtu: 1500, receive_queues, interrupts, ..Card::default() }
    }

    #[test]
    fn fewer_queues_than_shards_are_told_unless_packets_are_passed_on() {
        assert_eq!(queues(&card(4, &[]), &[0, 1]).status, Status::Ok);
        let one = queues(&card(1, &[]), &[0, 1]);
        let advice = one.advice.unwrap();
        assert!(one.status == Status::Warn && advice.starts_with("tuning/nic.sh eth0 0-1 --apply"), "{advice}");
        assert!(advice.contains("take the link of most cards down"), "{advice}");
        assert_eq!(queues(&Card { steered_to: vec![0, 1], ..card(1, &[]) }, &[0, 1]).status, Status::Ok);
    }

    #[test]
    fn each_cpu_should_have_a_transmit_queue_of_its_own() {
        let of = |transmit_queues, is_sent_by_cpu| {
            transmit(&Card { transmit_queues, is_sent_by_cpu, ..card(1, &[]) }, &[0, 1]).status
        };
        assert_eq!([of(1, false), of(4, true), of(4, false)], [Status::Ok, Status::Ok, Status::Note]);
    }

    #[test]
    fn interrupts_belong_beside_the_shards_or_apart() {
        let of = |cpus: &[usize]| interrupts(&card(cpus.len(), cpus), &[2, 3]).map(|check| check.status);
        assert_eq!(of(&[]), None);
        assert_eq!([of(&[2, 3]), of(&[0, 1]), of(&[2])], [Some(Status::Ok); 3]);
        assert_eq!(of(&[0, 2]), Some(Status::Note));
        assert_eq!([of(&[3, 3]), of(&[0, 0])], [Some(Status::Warn); 2], "all on one");
    }

    #[test]
    fn a_card_of_another_node_is_told() {
        let of = |own, nodes: &[usize]| node(&Card { node: own, ..card(1, &[]) }, nodes).map(|check| check.status);
        assert_eq!(
            [of(None, &[0]), of(Some(1), &[1, 1]), of(Some(1), &[1, 0])],
            [None, Some(Status::Ok), Some(Status::Warn)]
        );
    }

    #[test]
    fn offloads_are_read_and_judged() {
        let text = "Features for eth0:\ngeneric-receive-offload: off\n\ttx-udp-segmentation: off [fixed]\n";
        let parsed = Offloads::parse(text);
        assert_eq!(parsed, Offloads::Known { merges: Feature::Off, cuts: Feature::Lacking });
        let of = |found| offloads(&Card { offloads: found, ..card(1, &[]) });
        let off = of(parsed);
        let advice = off.advice.as_deref();
        assert_eq!((off.status, advice), (Status::Warn, Some("ethtool -K eth0 generic-receive-offload on")));
        let lacking = of(Offloads::Known { merges: Feature::On, cuts: Feature::Lacking });
        assert!(lacking.status == Status::Ok && lacking.finding.contains("on the CPU"), "{}", lacking.finding);
        assert_eq!(of(Offloads::Known { merges: Feature::On, cuts: Feature::On }).status, Status::Ok);
    }

    #[test]
    fn offloads_that_are_not_told_have_a_reason() {
        let of = |found| offloads(&Card { offloads: found, ..card(1, &[]) });
        let absent = of(Offloads::NotAsked);
        assert!(absent.status == Status::Note && absent.finding.contains("not here"), "{}", absent.finding);
        let refused = of(Offloads::refused("netlink error: Operation not permitted\nmore\n"));
        assert!(refused.status == Status::Note && !refused.finding.contains("not here"), "{}", refused.finding);
        assert!(refused.finding.ends_with("ethtool failed: netlink error: Operation not permitted"));
    }

    #[test]
    fn small_packets_are_told() {
        let of = |mtu| mtu_status(mtu);
        assert_eq!([1000, 1420, 1500, 9000].map(of), [Status::Problem, Status::Note, Status::Ok, Status::Ok]);
    }

    fn mtu_status(bytes: usize) -> Status {
        mtu(&Card { mtu: bytes, ..card(1, &[]) }).status
    }

    #[test]
    fn irqbalance_matters_where_there_are_queues() {
        let of = |pid, cards| irqbalance(&Facts { irqbalance: pid, cards, ..Facts::default() }).status;
        assert_eq!(of(None, vec![card(2, &[0, 1])]), Status::Ok);
        assert_eq!(of(Some(7), vec![card(2, &[0, 1])]), Status::Warn);
        assert_eq!(of(Some(7), vec![card(1, &[0])]), Status::Note);
    }

    #[test]
    fn only_devices_have_queues() {
        let loopback = Card { name: "lo".to_owned(), is_device: false, mtu: 65_536, ..card(1, &[]) };
        let facts = Facts { shards: vec![0, 1], cards: vec![loopback, card(2, &[0, 1])], ..Facts::default() };
        let topics: Vec<&str> = checks(&facts).iter().map(|check| check.topic.id).collect();
        assert_eq!(topics, ["mtu", "mtu", "queues", "transmit", "interrupts", "offloads", "irqbalance"]);
    }
}
