//! The stage: a wide-area network, the relay's place on it, sites behind address translators, and hosts.
//!
//! ```text
//!   host eth0 ──┐                         ┌── eth0 relay   198.18.0.2, .3   2001:db8::2, ::3
//!               ├── bridge (wan) ─────────┤
//!   host eth0 ──┘  198.18.0.0/24          └── wan router lan ──┬── eth0 host   192.168.N.0/24
//!                  2001:db8::/64              (a Nat)          └── eth0 host
//! ```
//!
//! The wide-area addresses are outside RFC 1918, because daemons hide private ones. The bridge belongs to a namespace
//! with nothing else in it, so there is no way out. A host's or a router's cable to the bridge may be a [`Link`]: then all
//! its paths, direct and relayed, are as long and as lossy as that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::appliance::{Appliance, ApplianceFlags};
use crate::command;
use crate::link::{Link, LinkProcess, LinkStatistics};
use crate::namespace::{self, Namespace};
use crate::nat::{MAPPING_SECONDS, Nat};
use crate::prerequisites::{self, Programs};
use crate::traffic::Traffic;

/// The relay's address, the one daemons are pointed at.
pub const RELAY_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The relay's second address.
pub const RELAY_V4_SECOND: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);
/// The relay's IPv6 address.
pub const RELAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// The relay's second IPv6 address.
pub const RELAY_V6_SECOND: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 3);
/// UDP port of the beacon.
pub const BEACON_PORT: u16 = 9001;
/// TCP port of the directory.
pub const REGISTRY_PORT: u16 = 9000;
/// UDP port of STUN.
pub const STUN_PORT: u16 = 3478;

/// The first host number the stage hands out; the relay holds the ones below.
const FIRST_HOST_NUMBER: u8 = 10;

/// A private internet with a place for the relay. Everything on it goes when it is dropped.
#[derive(Debug)]
pub struct World {
    stage: Arc<Stage>,
}

/// What all parts of a world share.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) programs: Programs,
    wan: Namespace,
    relay: Arc<Namespace>,
    next_number: AtomicU8,
    scratch: TempDir,
}

impl World {
    /// Builds an empty world, or none when the laboratory is to be passed by.
    #[must_use]
    #[track_caller]
    pub fn open() -> Option<Self> {
        static REMOVE_STALE: Once = Once::new();
        let programs = prerequisites::programs()?;
        REMOVE_STALE.call_once(namespace::remove_stale);

        let wan = Namespace::create("wan");
        wan.ip("link add bridge type bridge");
        wan.ip("link set bridge up");
        let relay = Arc::new(Namespace::create("relay"));
        let scratch =
            tempfile::Builder::new().prefix("pilot-lab-").tempdir().expect("the temporary folder is writable");
        let stage = Stage { programs, wan, relay, next_number: AtomicU8::new(FIRST_HOST_NUMBER), scratch };
        stage.plug_into_wan(&stage.relay, "eth0", 2, None);
        for address in [RELAY_V4, RELAY_V4_SECOND] {
            stage.relay.ip(&format!("addr add {address}/24 dev eth0"));
        }
        for address in [RELAY_V6, RELAY_V6_SECOND] {
            stage.relay.ip(&format!("addr add {address}/64 dev eth0 nodad"));
        }
        Some(Self { stage: Arc::new(stage) })
    }

    /// Starts the appliance as a user does, with no more flags than a test needs, and waits until it is healthy.
    #[must_use]
    #[track_caller]
    pub fn appliance(&self) -> Appliance {
        self.appliance_with(ApplianceFlags::default())
    }

    /// Starts the appliance with flags of its own.
    #[must_use]
    #[track_caller]
    pub fn appliance_with(&self, flags: ApplianceFlags) -> Appliance {
        Appliance::start(Arc::clone(&self.stage), flags)
    }

    /// A host directly on the wide-area network, with both address families.
    #[must_use]
    #[track_caller]
    pub fn host(&self, name: &str) -> Host {
        self.host_with(name, None)
    }

    /// A host whose cable to the wide-area network is a link.
    #[must_use]
    #[track_caller]
    pub fn host_over(&self, link: Link, name: &str) -> Host {
        self.host_with(name, Some(link))
    }

    #[track_caller]
    fn host_with(&self, name: &str, link: Option<Link>) -> Host {
        let number = self.stage.next_number();
        let namespace = Namespace::create(name);
        let link = self.stage.plug_into_wan(&namespace, "eth0", number, link);
        let (v4, v6) = (wan_v4(number), wan_v6(number));
        namespace.ip(&format!("addr add {v4}/24 dev eth0"));
        namespace.ip(&format!("addr add {v6}/64 dev eth0 nodad"));
        Host {
            stage: Arc::clone(&self.stage),
            namespace: Arc::new(namespace),
            _router: None,
            link,
            name: name.to_owned(),
            v4,
            v6: Some(v6),
        }
    }

    /// A site behind an address translator.
    #[must_use]
    #[track_caller]
    pub fn site(&self, nat: Nat) -> Site {
        self.site_with(nat, false, None)
    }

    /// A site whose UDP and TCP leave from different public addresses.
    #[must_use]
    #[track_caller]
    pub fn site_with_separate_tcp_address(&self, nat: Nat) -> Site {
        self.site_with(nat, true, None)
    }

    /// A site whose router's cable to the wide-area network is a link.
    #[must_use]
    #[track_caller]
    pub fn site_over(&self, link: Link, nat: Nat) -> Site {
        self.site_with(nat, false, Some(link))
    }

    #[track_caller]
    fn site_with(&self, nat: Nat, separate_tcp_address: bool, link: Option<Link>) -> Site {
        let number = self.stage.next_number();
        let router = Namespace::create(&format!("nat{number}"));
        let link = self.stage.plug_into_wan(&router, "wan", number, link);
        router.ip(&format!("addr add {}/24 dev wan", wan_v4(number)));
        let tcp_address = separate_tcp_address.then(|| wan_v4(self.stage.next_number()));
        if let Some(address) = tcp_address {
            router.ip(&format!("addr add {address}/24 dev wan"));
        }
        router.ip("link add lan type bridge");
        router.ip("link set lan up");
        router.ip(&format!("addr add 192.168.{number}.1/24 dev lan"));
        command::run_with_input(router.command("nft").args(["-f", "-"]), &nat.rules(tcp_address));
        router.set("ipv4/ip_forward", "1");
        for timeout in ["netfilter/nf_conntrack_udp_timeout", "netfilter/nf_conntrack_udp_timeout_stream"] {
            router.set(timeout, &MAPPING_SECONDS.to_string());
        }
        Site {
            stage: Arc::clone(&self.stage),
            router: Arc::new(router),
            link,
            number,
            next_host: AtomicU8::new(FIRST_HOST_NUMBER),
        }
    }

    /// The machine the appliance runs on, for clients beside it.
    #[must_use]
    pub fn relay_host(&self) -> Host {
        Host {
            stage: Arc::clone(&self.stage),
            namespace: Arc::clone(&self.stage.relay),
            _router: None,
            link: None,
            name: "relay".to_owned(),
            v4: RELAY_V4,
            v6: Some(RELAY_V6),
        }
    }

    /// What has passed through the relay's interface so far.
    #[must_use]
    #[track_caller]
    pub fn relay_traffic(&self) -> Traffic {
        self.stage.relay.traffic("eth0")
    }
}

impl Stage {
    pub(crate) fn relay(&self) -> &Namespace {
        &self.relay
    }

    /// A folder of its own for a program.
    #[track_caller]
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.scratch.path().join(name);
        std::fs::create_dir_all(&path).expect("the scratch folder is writable");
        path
    }

    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    #[track_caller]
    fn next_number(&self) -> u8 {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        assert!(number < 250, "one world has room for 240 hosts and sites");
        number
    }

    #[track_caller]
    fn plug_into_wan(
        &self,
        namespace: &Namespace,
        interface: &str,
        number: u8,
        link: Option<Link>,
    ) -> Option<Arc<LinkProcess>> {
        let Some(link) = link else {
            plug(&self.wan, "bridge", namespace, interface, number);
            return None;
        };
        let port = format!("port{number}");
        let process = LinkProcess::lay(link, &self.wan, &port, namespace, interface);
        self.wan.ip(&format!("link set {port} master bridge"));
        Some(Arc::new(process))
    }
}

/// Lays a cable from `interface` of `namespace` to a bridge in another.
fn plug(switch: &Namespace, bridge: &str, namespace: &Namespace, interface: &str, number: u8) {
    let port = format!("port{number}");
    switch.ip(&format!("link add {port} type veth peer name {interface} netns {}", namespace.name()));
    switch.ip(&format!("link set {port} master {bridge} up"));
    namespace.ip(&format!("link set {interface} up"));
}

fn wan_v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, number)
}

fn wan_v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into())
}

/// A private network behind one router.
#[derive(Debug)]
pub struct Site {
    stage: Arc<Stage>,
    router: Arc<Namespace>,
    link: Option<Arc<LinkProcess>>,
    number: u8,
    next_host: AtomicU8,
}

impl Site {
    /// A host behind this router.
    #[must_use]
    #[track_caller]
    pub fn host(&self, name: &str) -> Host {
        let number = self.next_host.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace::create(name);
        plug(&self.router, "lan", &namespace, "eth0", number);
        let address = Ipv4Addr::new(192, 168, self.number, number);
        namespace.ip(&format!("addr add {address}/24 dev eth0"));
        // Not a default route: without any, a daemon learns at once that its catalogue host is out of reach.
        namespace.ip(&format!("route add 198.18.0.0/24 via 192.168.{}.1", self.number));
        Host {
            stage: Arc::clone(&self.stage),
            namespace: Arc::new(namespace),
            _router: Some(Arc::clone(&self.router)),
            link: self.link.clone(),
            name: name.to_owned(),
            v4: address,
            v6: None,
        }
    }

    /// The provider hands the router another public address; every mapping of the old one is gone.
    #[track_caller]
    pub fn change_public_address(&self) -> Ipv4Addr {
        let address = wan_v4(self.stage.next_number());
        self.router.ip("addr flush dev wan");
        self.router.ip(&format!("addr add {address}/24 dev wan"));
        address
    }
}

/// A machine with one interface, `eth0`.
#[derive(Clone, Debug)]
pub struct Host {
    pub(crate) stage: Arc<Stage>,
    namespace: Arc<Namespace>,
    /// Stands as long as anyone behind it.
    _router: Option<Arc<Namespace>>,
    /// The line its packets cross, if it is one that is played.
    link: Option<Arc<LinkProcess>>,
    name: String,
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
}

impl Host {
    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address; a private one behind a site's router.
    #[must_use]
    pub fn v4(&self) -> Ipv4Addr {
        self.v4
    }

    /// Its IPv6 address.
    ///
    /// # Panics
    /// Behind a site's router, where there is none.
    #[must_use]
    #[track_caller]
    pub fn v6(&self) -> Ipv6Addr {
        self.v6.unwrap_or_else(|| panic!("{} has no IPv6 address", self.name))
    }

    /// Its namespace, to run commands or open sockets in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The relay's beacon as this host reaches it: over IPv6 when `over_v6`.
    #[must_use]
    #[track_caller]
    pub fn beacon(&self, over_v6: bool) -> SocketAddr {
        let address = if over_v6 { IpAddr::V6(RELAY_V6) } else { IpAddr::V4(RELAY_V4) };
        SocketAddr::new(address, BEACON_PORT)
    }

    /// The machine moves to another network: its address changes under the running programs.
    #[track_caller]
    pub fn change_address(&mut self) -> Ipv4Addr {
        self.v4 = wan_v4(self.stage.next_number());
        self.namespace.ip("-4 addr flush dev eth0");
        self.namespace.ip(&format!("addr add {}/24 dev eth0", self.v4));
        self.v4
    }

    /// What has passed through its interface so far.
    #[must_use]
    #[track_caller]
    pub fn traffic(&self) -> Traffic {
        self.namespace.traffic("eth0")
    }

    /// What has become of the packets on its link so far.
    ///
    /// # Panics
    /// When it has a plain cable.
    #[must_use]
    #[track_caller]
    pub fn link_statistics(&self) -> LinkStatistics {
        self.link().statistics()
    }

    /// CPU time that playing its link has taken so far.
    ///
    /// # Panics
    /// When it has a plain cable.
    #[must_use]
    #[track_caller]
    pub fn link_cpu_time(&self) -> Duration {
        self.link().cpu_time()
    }

    #[track_caller]
    fn link(&self) -> &LinkProcess {
        self.link.as_ref().unwrap_or_else(|| panic!("{} has a plain cable", self.name))
    }
}
