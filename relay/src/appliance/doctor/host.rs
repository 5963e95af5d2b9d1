//! Reads the host's facts out of `/proc`, `/sys` and `/etc`, below a root that a test may choose. What is not there or
//! not readable is left out; judging is done elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::buffers::Softnet;
use super::cards::{Card, Interrupt, Offloads};
use super::cpus::Cpu;
use super::limits::Limits;
use super::notation::{bytes_of_kib, cpus_of_list, cpus_of_mask, is_receive, unit_size};
use super::{buffers, tracking};

const PROGRAM: &str = "pilot-relay";
/// What it is called with to do something else than serve.
const SUBCOMMANDS: [&str; 2] = ["doctor", "help"];
const UNIT: &str = "pilot-relay.service";
/// In the order in which systemd looks.
const UNIT_FOLDERS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
/// What systemd gives a unit that does not say.
const UNIT_LOCKED_BYTES: u64 = 8 << 20;
const UNIT_OPEN_FILES: u64 = 524_288;
/// The number of CAP_IPC_LOCK.
const IPC_LOCK: u32 = 14;
/// Its process.
const SERVICE_MANAGER: u32 = 1;
/// TCP's state "listening" in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// A host's files.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// The host whose `/proc` and `/sys` lie below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// A file's text without the white space around it.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    /// A file that holds one number.
    pub fn number<T: FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// A kernel setting by its dotted name.
    pub fn sysctl<T: FromStr>(&self, key: &str) -> Option<T> {
        self.number(format!("proc/sys/{}", key.replace('.', "/")))
    }

    /// What is in a folder, in order.
    fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }

    /// A named line of `/proc/PROCESS/status`.
    fn status(&self, process: &str, name: &str) -> Option<String> {
        let text = self.text(format!("proc/{process}/status"))?;
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
    }

    /// Whether the system calls of this process are filtered (seccomp).
    pub fn is_filtered(&self) -> bool {
        self.status("self", "Seccomp").is_some_and(|mode| mode == "2")
    }

    /// The limits of a process, `self` or its number.
    pub fn limits(&self, process: &str, whose: String) -> Option<Limits> {
        let text = self.text(format!("proc/{process}/limits"))?;
        let column = |name: &str, index: usize| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().nth(index).map(|word| word.parse().unwrap_or(u64::MAX))
        };
        let capabilities = self.status(process, "CapEff").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
        Some(Limits {
            whose,
            locked_bytes: column("Max locked memory", 0)?,
            // Rings are not among it: their pages are pinned, which is counted apart.
            keys_bytes: self.status(process, "VmLck").filter(|_| process != "self").as_deref().and_then(bytes_of_kib),
            // The relay raises the soft limit to the hard one.
            open_files: column("Max open files", 1)?,
            may_lock: capabilities.is_some_and(|mask| mask >> IPC_LOCK & 1 == 1),
        })
    }

    /// The limits the installed systemd unit will give.
    pub fn unit_limits(&self) -> Option<Limits> {
        let unit =
            UNIT_FOLDERS.iter().map(|folder| Path::new(folder).join(UNIT)).find(|path| self.path(path).is_file())?;
        let mut text = self.text(&unit)?;
        for folder in UNIT_FOLDERS.iter().rev().map(|folder| Path::new(folder).join(format!("{UNIT}.d"))) {
            for name in self.names(&folder).into_iter().filter(|name| name.ends_with(".conf")) {
                text.push('\n');
                text.push_str(&self.text(folder.join(name)).unwrap_or_default());
            }
        }
        let last = |key: &str| {
            text.lines()
                .rev()
                .find_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='))
                .map(str::trim)
        };
        let is_root = last("DynamicUser").is_none_or(|value| value != "yes") && last("User").is_none_or(str::is_empty);
        Some(Limits {
            whose: format!("the unit /{}", unit.display()),
            locked_bytes: last("LimitMEMLOCK").map_or(Some(UNIT_LOCKED_BYTES), |text| unit_size(text, false))?,
            keys_bytes: None,
            open_files: last("LimitNOFILE").map_or(Some(UNIT_OPEN_FILES), |text| unit_size(text, true))?,
            may_lock: is_root && last("CapabilityBoundingSet").is_none(),
        })
    }

    /// Memory the kernel could give this process now, in bytes.
    pub fn available_bytes(&self) -> Option<u64> {
        let text = self.text("proc/meminfo")?;
        let host = bytes_of_kib(text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?)?;
        Some(self.cgroup_room().map_or(host, |room| room.min(host)))
    }

    /// What the cgroup's limit leaves; `None` without a limit.
    fn cgroup_room(&self) -> Option<u64> {
        let groups = self.text("proc/self/cgroup")?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let folder = Path::new("sys/fs/cgroup").join(own);
        let limit: u64 = self.number(folder.join("memory.max"))?;
        Some(limit.saturating_sub(self.number(folder.join("memory.current"))?))
    }

    /// The setting in force among `always [madvise] never`.
    pub fn huge_pages(&self) -> Option<String> {
        let text = self.text("sys/kernel/mm/transparent_hugepage/enabled")?;
        Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
    }

    /// The clock source in use and those there are.
    pub fn clock_sources(&self) -> (Option<String>, Vec<String>) {
        let folder = Path::new("sys/devices/system/clocksource/clocksource0");
        let available = self.text(folder.join("available_clocksource")).unwrap_or_default();
        let available = available.split_whitespace().map(str::to_owned).collect();
        (self.text(folder.join("current_clocksource")), available)
    }

    /// What the host does to datagrams on their way; `granted` comes from a socket.
    pub fn buffers(&self, granted: Option<(u64, u64)>) -> buffers::Facts {
        buffers::Facts {
            granted,
            limits: ["net.core.rmem_max", "net.core.wmem_max"].map(|key| self.sysctl(key)),
            fragments: ["net.ipv4.ipfrag_high_thresh", "net.ipv6.ip6frag_high_thresh"].map(|key| self.sysctl(key)),
            backlog: self.sysctl("net.core.netdev_max_backlog"),
            budget: self.sysctl("net.core.netdev_budget"),
            softnet: Softnet::parse(&self.text("proc/net/softnet_stat").unwrap_or_default()),
        }
    }

    /// One CPU.
    pub fn cpu(&self, number: usize) -> Cpu {
        let folder = PathBuf::from(format!("sys/devices/system/cpu/cpu{number}"));
        let node = self.names(&folder).iter().find_map(|name| name.strip_prefix("node")?.parse().ok());
        let siblings = self.text(folder.join("topology/thread_siblings_list"));
        Cpu {
            siblings: siblings.map(|list| cpus_of_list(&list)).unwrap_or_default(),
            governor: self.text(folder.join("cpufreq/scaling_governor")),
            node,
        }
    }

    /// An interface; what it takes over is not told by files.
    pub fn card(&self, name: &str) -> Card {
        let folder = Path::new("sys/class/net").join(name);
        let devices = self.devices(&folder);
        let queues = |kind: &str| {
            let names = self.names(folder.join("queues"));
            names.into_iter().filter(|queue| queue.starts_with(kind)).collect::<Vec<_>>()
        };
        let (receive, transmit) = (queues("rx-"), queues("tx-"));
        let chosen = |queues: &[String], file: &str| {
            let masks = queues.iter().filter_map(|queue| self.text(folder.join("queues").join(queue).join(file)));
            masks.flat_map(|mask| cpus_of_mask(&mask)).collect::<BTreeSet<usize>>()
        };
        Card {
            name: name.to_owned(),
            is_device: !devices.is_empty(),
            mtu: self.number(folder.join("mtu")).unwrap_or_default(),
            receive_queues: receive.len(),
            steered_to: chosen(&receive, "rps_cpus").into_iter().collect(),
            transmit_queues: transmit.len(),
            is_sent_by_cpu: !chosen(&transmit, "xps_cpus").is_empty(),
            interrupts: devices
                .iter()
                .map(|device| self.interrupts(name, device))
                .find(|found| !found.is_empty())
                .unwrap_or_default(),
            node: devices.iter().find_map(|device| self.number(device.join("numa_node"))),
            offloads: Offloads::default(),
        }
    }

    /// The device behind an interface and the one that holds it: interrupts of virtio devices belong to the latter.
    fn devices(&self, interface: &Path) -> Vec<PathBuf> {
        let Ok(device) = fs::canonicalize(self.path(interface.join("device"))) else { return Vec::new() };
        let parent = device.parent().map(Path::to_owned);
        [Some(device), parent].into_iter().flatten().collect()
    }

    /// The interrupts of an interface's receive queues.
    fn interrupts(&self, interface: &str, device: &Path) -> Vec<Interrupt> {
        let table = self.text("proc/interrupts").unwrap_or_default();
        let mut numbers: Vec<u32> =
            self.names(device.join("msi_irqs")).iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        let named = numbers.into_iter().filter_map(|number| {
            let line = table.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{number}:")))?;
            let name = line.split_whitespace().next_back()?.to_owned();
            let cpus = self.text(format!("proc/irq/{number}/effective_affinity_list")).filter(|list| !list.is_empty());
            let cpus = cpus.or_else(|| self.text(format!("proc/irq/{number}/smp_affinity_list")))?;
            Some(Interrupt { number, name, cpus: cpus_of_list(&cpus) })
        });
        named.filter(|interrupt| is_receive(&interrupt.name, interface)).collect()
    }

    /// What is tracked of `ports`.
    pub fn tracking(&self, ports: Vec<u16>) -> tracking::Facts {
        let listing = self.text("proc/net/nf_conntrack");
        tracking::Facts {
            count: self.sysctl("net.netfilter.nf_conntrack_count"),
            max: self.sysctl("net.netfilter.nf_conntrack_max"),
            ours: listing.map(|listing| tracking::count_ours(&listing, &ports)),
            ports,
        }
    }

    /// Processes that call themselves `name`.
    pub fn processes(&self, name: &str) -> Vec<u32> {
        let numbers = self.names("proc").into_iter().filter_map(|entry| entry.parse().ok());
        numbers.filter(|pid: &u32| self.text(format!("proc/{pid}/comm")).is_some_and(|comm| comm == name)).collect()
    }

    /// Relays at work in this network namespace, `own` left out.
    pub fn relays(&self, own: u32) -> Vec<u32> {
        let namespace = |process: &str| fs::read_link(self.path(format!("proc/{process}/ns/net"))).ok();
        let here = namespace("self");
        let is_here = |pid: &u32| namespace(&pid.to_string()).is_none_or(|other| here.as_ref() == Some(&other));
        let mut relays = self.processes(PROGRAM);
        relays.retain(|pid| *pid != own && self.serves(*pid) && is_here(pid));
        relays
    }

    /// Whether a process of the relay's program was started to serve. One that has ended has no arguments any more.
    fn serves(&self, pid: u32) -> bool {
        let Some(line) = self.text(format!("proc/{pid}/cmdline")).filter(|line| !line.is_empty()) else { return false };
        line.split('\0').nth(1).is_none_or(|argument| !SUBCOMMANDS.contains(&argument))
    }

    /// The program that has a socket in the way of `address`, `udp` or `tcp`, among its files; its name and process.
    /// Sockets that only a ring holds are nobody's here.
    pub fn holder(&self, transport: &str, address: SocketAddr) -> Option<(String, u32)> {
        let sockets = self.sockets(transport, address);
        let processes = self.names("proc").into_iter().filter_map(|name| name.parse::<u32>().ok());
        let mut processes: Vec<u32> = processes.collect();
        // The service manager keeps copies for others, and is none that listens.
        processes.sort_by_key(|pid| (*pid == SERVICE_MANAGER, *pid));
        for pid in processes {
            let folder = PathBuf::from(format!("proc/{pid}/fd"));
            let mut files =
                self.names(&folder).into_iter().filter_map(|file| fs::read_link(self.path(folder.join(file))).ok());
            if files.any(|file| sockets.iter().any(|(_, socket)| file.as_os_str() == socket.as_str())) {
                return Some((self.text(format!("proc/{pid}/comm"))?, pid));
            }
        }
        None
    }

    /// Where the sockets in the way of `wanted` are bound, and what links of open files say for them.
    pub fn sockets(&self, transport: &str, wanted: SocketAddr) -> Vec<(SocketAddr, String)> {
        let tables = ["", "6"].into_iter().filter_map(|family| self.text(format!("proc/net/{transport}{family}")));
        let rows = tables.flat_map(|table| table.lines().skip(1).map(str::to_owned).collect::<Vec<_>>());
        rows.filter_map(|row| {
            let words: Vec<&str> = row.split_whitespace().collect();
            let [_, local, _, state, _, _, _, _, _, inode, ..] = words[..] else { return None };
            let local = local_address(local).filter(|local| overlap(*local, wanted))?;
            (transport == "udp" || state == LISTENING).then(|| (local, format!("socket:[{inode}]")))
        })
        .collect()
    }
}

/// Reads an address of `/proc/net/udp` or `udp6`: hexadecimal words of 32 bits as they lie in memory, and the port.
fn local_address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(words.get(8 * at..8 * at + 8)?, 16).ok()?.to_ne_bytes());
    let ip: IpAddr = match words.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        _ => {
            let octets = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_canonical()
        }
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Whether two sockets cannot be there at once. A wildcard stands for every address, that of IPv6 for both families.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: IpAddr, ip: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || ip.is_ipv4());
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port() && (a == b || covers(a, b) || covers(b, a))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A host made of the given files.
    struct Fixture {
        folder: tempfile::TempDir,
    }

    impl Fixture {
        fn new(files: &[(&str, &str)]) -> Self {
            let fixture = Self { folder: tempfile::tempdir().unwrap() };
            for (path, text) in files {
                let path = fixture.folder.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            fixture
        }

        fn link(&self, from: &str, to: &str) {
            let from = self.folder.path().join(from);
            fs::create_dir_all(from.parent().unwrap()).unwrap();
            symlink(to, from).unwrap();
        }

        fn host(&self) -> Host {
            Host::at(self.folder.path())
        }
    }

    #[test]
    fn a_host_of_files_is_read() {
        let fixture = Fixture::new(&[
            ("proc/sys/kernel/io_uring_disabled", "2\n"),
            ("proc/self/status", "Name:\tdoctor\nCapEff:\t0000000000004000\nSeccomp:\t2\n"),
            (
                "proc/self/limits",
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max open files            1024                 524288               files     \n\
                 Max locked memory         8388608              unlimited            bytes     \n",
            ),
            ("proc/meminfo", "MemTotal:  10 kB\nMemAvailable:     2048 kB\n"),
            ("proc/self/cgroup", "0::/box\n"),
            ("sys/fs/cgroup/box/memory.max", "1048576\n"),
            ("sys/fs/cgroup/box/memory.current", "524288\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "1,3\n"),
            ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave\n"),
            ("sys/devices/system/cpu/cpu3/node1/cpulist", "3\n"),
        ]);
        let host = fixture.host();
        assert_eq!(host.sysctl("kernel.io_uring_disabled"), Some(2));
        assert!(host.is_filtered());
        let limits = host.limits("self", "us".to_owned()).unwrap();
        assert_eq!((limits.locked_bytes, limits.open_files, limits.may_lock), (8 << 20, 524_288, true));
        assert_eq!(host.available_bytes(), Some(512 << 10), "the cgroup has less than the host");
        assert_eq!(host.huge_pages().as_deref(), Some("madvise"));
        let cpu = host.cpu(3);
        assert_eq!((cpu.siblings, cpu.governor.as_deref(), cpu.node), (vec![1, 3], Some("powersave"), Some(1)));
        assert_eq!(host.tracking(vec![9001]).count, None);
        assert_eq!(host.unit_limits(), None);
    }

    #[test]
    fn a_unit_and_its_drop_ins_are_read_as_systemd_does() {
        let fixture = Fixture::new(&[
            ("usr/lib/systemd/system/pilot-relay.service", "LimitMEMLOCK=1M\n"),
            (
                "etc/systemd/system/pilot-relay.service",
                "[Service]\nDynamicUser=yes\nLimitMEMLOCK=64M\nLimitNOFILE=1000\n",
            ),
            ("etc/systemd/system/pilot-relay.service.d/50-more.conf", "[Service]\nLimitNOFILE=2000\n"),
            ("etc/systemd/system/pilot-relay.service.d/README", "LimitNOFILE=3000\n"),
        ]);
        let limits = fixture.host().unit_limits().unwrap();
        assert_eq!((limits.locked_bytes, limits.open_files, limits.may_lock), (64 << 20, 2000, false));
        let silent = Fixture::new(&[("lib/systemd/system/pilot-relay.service", "[Service]\n")]).host().unit_limits();
        assert_eq!(silent.map(|limits| (limits.locked_bytes, limits.may_lock)), Some((UNIT_LOCKED_BYTES, true)));
    }

    #[test]
    fn a_virtio_card_has_its_interrupts_at_its_parent() {
        let fixture = Fixture::new(&[
            ("sys/devices/pci0/virtio2/net/eth0/mtu", "1500\n"),
            ("sys/devices/pci0/virtio2/net/eth0/queues/rx-0/rps_cpus", "3\n"),
            ("sys/devices/pci0/virtio2/net/eth0/queues/rx-1/rps_cpus", "0\n"),
            ("sys/devices/pci0/virtio2/net/eth0/queues/tx-0/xps_cpus", "0\n"),
            ("sys/devices/pci0/numa_node", "0\n"),
            ("sys/devices/pci0/msi_irqs/37", "msix\n"),
            ("sys/devices/pci0/msi_irqs/38", "msix\n"),
            ("sys/devices/pci0/msi_irqs/39", "msix\n"),
            (
                "proc/interrupts",
                "      CPU0  CPU1\n 37:   0   0 PCI-MSIX 0-edge  virtio2-config\n 38:  1  0 PCI-MSIX 1-edge  virtio2-input.0\n \
                 39:  1  0 PCI-MSIX 2-edge  virtio2-output.0\n",
            ),
            ("proc/irq/38/effective_affinity_list", "1\n"),
            ("proc/irq/38/smp_affinity_list", "0-1\n"),
            ("proc/irq/39/smp_affinity_list", "0\n"),
        ]);
        fixture.link("sys/class/net/eth0", "../../devices/pci0/virtio2/net/eth0");
        fixture.link("sys/devices/pci0/virtio2/net/eth0/device", "../..");
        let card = fixture.host().card("eth0");
        assert!(card.is_device);
        assert_eq!((card.mtu, card.receive_queues, card.node), (1500, 2, Some(0)));
        assert_eq!(card.steered_to, [0, 1]);
        assert_eq!((card.transmit_queues, card.is_sent_by_cpu), (1, false));
        assert_eq!(card.interrupts, [Interrupt { number: 38, name: "virtio2-input.0".to_owned(), cpus: vec![1] }]);
    }

    #[test]
    fn the_holder_of_a_port_is_found_by_its_socket() {
        let row = |local: &str, state: &str, inode: u32| {
            format!("  1: {local} 00000000:0000 {state} 0:0 0:0 0 0 0 {inode} 2\n")
        };
        let udp = format!("  sl local\n{}", row("0100007F:2329", "07", 77));
        let tcp = format!("  sl local\n{}{}", row("0100007F:2329", "01", 78), row("00000000:0BB8", "0A", 79));
        let fixture = Fixture::new(&[
            ("proc/net/udp", &udp),
            ("proc/net/tcp6", &tcp),
            ("proc/41/comm", "named\n"),
            ("proc/42/comm", "pilot-relay\n"),
        ]);
        fixture.link("proc/41/fd/5", "socket:[77]");
        fixture.link("proc/42/fd/6", "socket:[79]");
        let host = fixture.host();
        let holder = |transport, address: &str| host.holder(transport, address.parse().unwrap()).map(|(_, pid)| pid);
        assert_eq!(host.holder("udp", "127.0.0.1:9001".parse().unwrap()), Some(("named".to_owned(), 41)));
        assert_eq!([holder("udp", "0.0.0.0:9001"), holder("udp", "[::]:9001")], [Some(41); 2], "all addresses, so its");
        assert_eq!([holder("udp", "127.0.0.53:9001"), holder("udp", "[::1]:9001")], [None; 2], "others than its");
        assert_eq!(holder("tcp", "127.0.0.1:9001"), None, "a connection is no listener");
        assert_eq!(holder("tcp", "127.0.0.1:3000"), Some(42));
    }

    #[test]
    fn addresses_of_the_kernel_s_tables_are_read() {
        let of = |text: &str| local_address(text).map(|address| address.to_string());
        // As a host with little-endian words prints them.
        if cfg!(target_endian = "little") {
            assert_eq!(of("3500007F:0035").as_deref(), Some("127.0.0.53:53"));
            assert_eq!(of("000000FD000000000000000002000000:2329").as_deref(), Some("[fd00::2]:9001"));
            assert_eq!(of("0000000000000000FFFF00000100007F:2329").as_deref(), Some("127.0.0.1:9001"));
        }
        assert_eq!([of("local_address"), of("00:1"), of("0100007F:"), of("é00000é:1")], [const { None }; 4]);
    }

    #[test]
    fn relays_serve_in_this_namespace() {
        let fixture = Fixture::new(&[
            ("proc/41/comm", "pilot-relay\n"),
            ("proc/41/cmdline", "pilot-relay\0doctor\0--json\0"),
            ("proc/42/comm", "pilot-relay\n"),
            ("proc/42/cmdline", "pilot-relay\0"),
            ("proc/43/comm", "pilot-relay\n"),
            ("proc/43/cmdline", "pilot-relay\0"),
            ("proc/44/comm", "pilot-relay\n"),
            ("proc/44/cmdline", "pilot-relay\0"),
            ("proc/45/comm", "pilot-relay\n"),
            ("proc/45/cmdline", ""),
        ]);
        fixture.link("proc/self/ns/net", "net:[1]");
        fixture.link("proc/42/ns/net", "net:[1]");
        fixture.link("proc/43/ns/net", "net:[2]");
        let relays = fixture.host().relays(44);
        assert_eq!(relays, [42], "no doctor, none of another namespace, not this process, none that has ended");
    }
}
