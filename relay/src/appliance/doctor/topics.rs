//! What is looked at: one topic a kind of check. Its heading in `tuning/README.md` says why and how to undo.

/// One kind of check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The name for scripts.
    pub id: &'static str,
    /// The heading in `tuning/README.md`.
    pub heading: &'static str,
}

/// Defines each topic as a constant, and `ALL` of them.
macro_rules! topics {
    ($($name:ident = $id:literal, $heading:literal;)+) => {
        $(pub const $name: Topic = Topic { id: $id, heading: $heading };)+

        #[cfg(test)]
        pub const ALL: &[Topic] = &[$($name),+];
    };
}

topics! {
    KERNEL = "kernel", "Linux 6.1";
    IO_URING = "io_uring", "kernel.io_uring_disabled";
    CLOCK = "clock", "Clock source";
    MEMLOCK = "memlock", "LimitMEMLOCK";
    OPEN_FILES = "open-files", "LimitNOFILE";
    MEMORY = "memory", "Memory";
    HUGE_PAGES = "huge-pages", "Transparent huge pages";
    SHARDS = "shards", "--cpus and --shards";
    SIBLINGS = "siblings", "Sibling threads";
    GOVERNOR = "governor", "Frequency governor";
    RECEIVE_BUFFER = "receive-buffer", "net.core.rmem_max";
    SEND_BUFFER = "send-buffer", "net.core.wmem_max";
    FRAGMENTS_V4 = "fragments-v4", "net.ipv4.ipfrag_high_thresh";
    FRAGMENTS_V6 = "fragments-v6", "net.ipv6.ip6frag_high_thresh";
    BACKLOG = "backlog", "net.core.netdev_max_backlog";
    BUDGET = "budget", "net.core.netdev_budget";
    TRACKING = "tracking", "Connection tracking";
    QUEUES = "queues", "Receive queues";
    TRANSMIT = "transmit", "Transmit queues";
    INTERRUPTS = "interrupts", "Interrupt affinity";
    IRQBALANCE = "irqbalance", "irqbalance";
    NUMA = "numa", "NUMA node";
    OFFLOADS = "offloads", "Offloads";
    MTU = "mtu", "MTU";
    FAMILIES = "families", "Address families";
    PORTS = "ports", "Ports";
    ADVERTISE = "advertise", "--advertise";
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = include_str!("../../../../tuning/README.md");

    #[test]
    fn every_topic_has_its_heading_in_the_tuning_guide() {
        let headings: Vec<String> =
            README.lines().filter_map(|line| line.strip_prefix("### ")).map(|line| line.replace('`', "")).collect();
        for topic in ALL {
            let count = headings.iter().filter(|heading| *heading == topic.heading).count();
            assert_eq!(count, 1, "tuning/README.md lacks the heading `### {}`, or has it twice", topic.heading);
        }
        for heading in &headings {
            assert!(ALL.iter().any(|topic| topic.heading == heading), "doctor does not look at {heading}");
        }
    }

    #[test]
    fn ids_are_unique() {
        for (index, topic) in ALL.iter().enumerate() {
            assert!(!ALL[..index].iter().any(|earlier| earlier.id == topic.id), "{}", topic.id);
        }
    }
}
