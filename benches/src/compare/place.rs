//! Where a relay stands: on the generator's loopback device, or at the other end of a veth pair.
//!
//! ```text
//!            this program's namespace            a namespace of the relay's own
//!  Loopback  lo  127.0.0.1 sources, relay
//!                127.64.0.0 + i sinks
//!  Veth      198.18.n.1 sources ──── veth pair ──── 198.18.n.2 relay
//!            10.0.0.0 + i sinks, on lo              10.0.0.0/10 via 198.18.n.1
//! ```
//!
//! All of it is out of reach of the host's own network: the program enters a fresh namespace before anything else, and
//! namespaces go with the last process in them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, ensure};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;

use crate::load::Place;

/// Sink addresses a site has.
pub const SINKS_MAX: u32 = 1 << 22;

const LOOPBACK_SINKS: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);
const VETH_SINKS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
const VETH_SINKS_PREFIX: &str = "10.0.0.0/10";

/// Runs as long as its standard input is open, so it ends with us, whatever ends us. It needs a view of `/sys` of its
/// own: that shows the devices of the namespace it was mounted in.
const HOLDER: &str = "mount -t sysfs sysfs /sys && ip link set lo up && echo ready && exec cat";

/// Leaves the host's network for an empty one with loopback up, in which every address below [`VETH_SINKS_PREFIX`] is
/// ours. Concerns the calling thread and those it starts, so call it before there are others.
///
/// # Errors
/// Without the right to make namespaces, and when `ip` (package `iproute2`) is missing or fails.
pub fn enter_private_network() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| match error {
        Errno::EPERM => anyhow::anyhow!("no right to make a network namespace; run as root"),
        error => anyhow::anyhow!("cannot make a network namespace: {error}"),
    })?;
    run("ip link set lo up")?;
    run(&format!("ip route add local {VETH_SINKS_PREFIX} dev lo"))
}

/// A place for relays, and the addresses around it. Relays on it must have ended before it is dropped.
#[derive(Debug)]
pub struct Site {
    far: Option<Far>,
}

/// The namespace at the other end of a veth pair.
#[derive(Debug)]
struct Far {
    holder: Child,
    number: u8,
    /// The near end of the pair.
    device: String,
    charged: Vec<Pid>,
}

impl Site {
    /// Makes the place. With [`Place::VethNapi`] the relay's end of the pair takes its packets as a network card does
    /// that merges (GRO), on a kernel thread of its own, see [`Site::charged_threads`]. What the relay sends is delivered
    /// on its own core as ever.
    ///
    /// # Errors
    /// When a namespace, the pair, or a setting of it cannot be made. [`enter_private_network`] must have been called.
    pub fn open(place: Place) -> anyhow::Result<Self> {
        let far = match place {
            Place::Loopback => None,
            Place::Veth => Some(Far::open(false)?),
            Place::VethNapi => Some(Far::open(true)?),
        };
        Ok(Self { far })
    }

    /// Where the relay listens.
    #[must_use]
    pub fn relay_ip(&self) -> Ipv4Addr {
        self.far.as_ref().map_or(Ipv4Addr::LOCALHOST, |far| Ipv4Addr::new(198, 18, far.number, 2))
    }

    /// Where the generator sends from.
    #[must_use]
    pub fn source_ip(&self) -> Ipv4Addr {
        self.far.as_ref().map_or(Ipv4Addr::LOCALHOST, |far| Ipv4Addr::new(198, 18, far.number, 1))
    }

    /// Where destination `sink` receives: all of them together on one socket bound to no address.
    #[must_use]
    pub fn sink_ip(&self, sink: u32) -> Ipv4Addr {
        assert!(sink < SINKS_MAX, "a site has {SINKS_MAX} sinks");
        let first = if self.far.is_some() { VETH_SINKS } else { LOOPBACK_SINKS };
        Ipv4Addr::from_bits(first.to_bits() + sink)
    }

    /// `program` on the relay's side. The process id is that of the program itself.
    #[must_use]
    pub fn command<A: AsRef<std::ffi::OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = match &self.far {
            None => Command::new(program),
            Some(far) => {
                let mut command = far.enter();
                command.arg(program);
                command
            }
        };
        command.args(arguments);
        command
    }

    /// Kernel threads that work for the relay alone: to be pinned where it runs, and their CPU time is the relay's.
    #[must_use]
    pub fn charged_threads(&self) -> &[Pid] {
        self.far.as_ref().map_or(&[], |far| &far.charged)
    }
}

impl Far {
    fn open(napi: bool) -> anyhow::Result<Self> {
        static SEQUENCE: AtomicU8 = AtomicU8::new(0);
        let holder = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", HOLDER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start unshare (package util-linux)")?;
        // The holder's id makes the devices' names unique on the machine; in both namespaces there is but the one.
        let device = format!("veth{}", holder.id());
        let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let mut far = Self { holder, number, device, charged: Vec::new() };
        far.await_holder()?;
        far.lay_cable()?;
        if napi {
            far.switch_napi_on()?;
        }
        Ok(far)
    }

    fn await_holder(&mut self) -> anyhow::Result<()> {
        let mut line = String::new();
        let stdout = self.holder.stdout.as_mut().expect("its output was asked for");
        BufReader::new(stdout).read_line(&mut line).context("the holder of the relay's namespace says nothing")?;
        ensure!(
            line == "ready\n",
            "cannot make the relay's namespace; run as root, with mount, iproute2 and util-linux"
        );
        Ok(())
    }

    fn lay_cable(&self) -> anyhow::Result<()> {
        let Self { device: near, number, .. } = self;
        let (far, pid) = (self.relay_device(), self.holder.id());
        // One queue each: all that comes for the relay is in one order and on one NAPI thread.
        run(&format!(
            "ip link add {near} numrxqueues 1 numtxqueues 1 type veth peer name {far} numrxqueues 1 numtxqueues 1 netns {pid}"
        ))?;
        run(&format!("ip addr add 198.18.{number}.1/24 dev {near}"))?;
        run(&format!("ip link set {near} up"))?;
        self.run(&format!("ip addr add 198.18.{number}.2/24 dev {far}"))?;
        self.run(&format!("ip link set {far} up"))?;
        self.run(&format!("ip route add {VETH_SINKS_PREFIX} via 198.18.{number}.1"))
    }

    /// A veth device takes packets through NAPI once GRO is on, but from a peer that could as well have handed it a
    /// whole TCP segment it takes only TCP so. Hence the peer must not be able to.
    fn switch_napi_on(&mut self) -> anyhow::Result<()> {
        let device = self.relay_device();
        run(&format!("ethtool -K {} tso off", self.device))?;
        self.run(&format!("ethtool -K {device} gro on"))?;
        let threaded = format!("/proc/{}/root/sys/class/net/{device}/threaded", self.holder.id());
        fs::write(&threaded, "1").with_context(|| format!("cannot write 1 to {threaded}"))?;
        self.charged = threads_named(&format!("napi/{device}-"))?;
        ensure!(self.charged.len() == 1, "{} NAPI threads of {device} instead of 1", self.charged.len());
        Ok(())
    }

    fn relay_device(&self) -> String {
        format!("relay{}", self.holder.id())
    }

    /// A command in this namespace, but for the command itself.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg("--");
        command
    }

    fn run(&self, line: &str) -> anyhow::Result<()> {
        let mut command = self.enter();
        command.args(line.split_whitespace());
        complete(&mut command, line)
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // Also taken away with the namespace, but some time later. It may not be there, if opening failed.
        let _ = Command::new("ip").args(["link", "del", &self.device]).stderr(Stdio::null()).status();
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Runs a command line without quotes, in our namespace.
fn run(line: &str) -> anyhow::Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a line has a first word");
    complete(Command::new(program).args(words), line)
}

fn complete(command: &mut Command, line: &str) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot run `{line}`; is it installed?"))?;
    ensure!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Processes, kernel threads among them, whose name begins so.
fn threads_named(prefix: &str) -> anyhow::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let entry = entry.context("cannot read /proc")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end between the two readings.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with(prefix) {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::test_sink::{Arrived, Sink};

    /// Sends each `address:port` given its own name.
    const SEND: &str = r#"for to; do printf "$to" > "/dev/udp/${to%:*}/${to#*:}"; done"#;

    fn can_enter() -> bool {
        let entered = enter_private_network();
        if let Err(error) = &entered {
            eprintln!("SKIPPED: {error:#}");
        }
        entered.is_ok()
    }

    fn cpu_ns(pid: Pid) -> u64 {
        let schedstat = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
        schedstat.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn sinks_are_reached_from_two_places_side_by_side() {
        if !can_enter() {
            return;
        }
        let sites = [Place::Loopback, Place::Veth, Place::Veth].map(|place| Site::open(place).unwrap());
        let sink = Sink::bind(4000);
        for site in &sites {
            run(&format!("ping -c 1 -W 5 {}", site.relay_ip())).unwrap();
            let sinks = [0, 1, 255, 256, 100_000, SINKS_MAX - 1].map(|sink| site.sink_ip(sink));
            let to: Vec<_> = sinks.iter().map(|ip| format!("{ip}:4000")).collect();
            let arguments = ["-c", SEND, "send"].into_iter().chain(to.iter().map(String::as_str));
            assert!(site.command(Path::new("bash"), arguments).status().unwrap().success());
            for (ip, to) in sinks.into_iter().zip(&to) {
                let Arrived { payload, source, destination } = sink.receive();
                assert_eq!((payload, destination), (to.clone().into_bytes(), ip));
                if site.far.is_some() {
                    assert_eq!(source, site.relay_ip());
                }
            }
        }
    }

    #[test]
    fn the_relays_napi_thread_takes_what_comes() {
        if !can_enter() {
            return;
        }
        let site = Site::open(Place::VethNapi).unwrap();
        let [napi] = site.charged_threads() else { panic!("one thread takes what comes for the relay") };
        let before = cpu_ns(*napi);
        let source = UdpSocket::bind((site.source_ip(), 0)).unwrap();
        for _ in 0..1000 {
            source.send_to(b"anything", (site.relay_ip(), 4000)).unwrap();
        }
        // The answer comes after everything that was sent before it.
        run(&format!("ping -c 1 -W 5 {}", site.relay_ip())).unwrap();
        let used = cpu_ns(*napi) - before;
        assert!(used > 100_000, "1000 datagrams cost the NAPI thread {used} ns; they went past it");
    }

    #[test]
    fn nothing_stays_behind() {
        if !can_enter() {
            return;
        }
        let site = Site::open(Place::VethNapi).unwrap();
        let Far { holder, device, charged, .. } = site.far.as_ref().unwrap();
        let left = [Pid::from_raw(i32::try_from(holder.id()).unwrap()), charged[0]].map(|pid| format!("/proc/{pid}"));
        let device = device.clone();
        assert!(left.iter().all(|path| Path::new(path).exists()));
        drop(site);
        assert_eq!(left.iter().filter(|path| Path::new(path).exists()).count(), 0, "of {left:?}");
        assert!(run(&format!("ip link show {device}")).is_err(), "{device} is still there");
    }
}
