//! Who takes part: how each is started and spoken to.

use std::net::SocketAddrV4;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::coturn;
use crate::generator::{Framing, Generator, Target};
use crate::place::Site;
use crate::process::Process;
use crate::report::Description;
use crate::rival::Rival;
use crate::udp::Socket;

/// Channels a client opens at the TURN server, whose cost of each grows with the channels of its allocation.
const CHANNELS_A_CLIENT: u32 = 125;

/// A contender not yet running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name in all tables.
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Direct,
    Rival(Rival),
    Pilot { shards: usize, spin_us: u64 },
    Coturn,
    External { command: String },
}

/// Where programs lie and which CPUs they get.
#[derive(Clone, Debug)]
pub struct Setting {
    /// This program, which is also the rivals.
    pub compare: PathBuf,
    /// Our relay.
    pub pilot_relay: PathBuf,
    /// The CPU of every contender.
    pub relay_cpu: usize,
    /// The CPU of the generator, and of a second shard.
    pub generator_cpu: usize,
}

/// A running contender, its sessions registered.
pub struct Contender {
    /// What it is.
    pub spec: Spec,
    /// Sessions it holds.
    pub sessions: u32,
    /// How to reach it.
    pub target: Target,
    process: Option<Process>,
}

impl Spec {
    fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind }
    }

    /// Those of the cost tables.
    #[must_use]
    pub fn saturated() -> Vec<Self> {
        vec![
            Self::new("floor", Kind::Rival(Rival::Floor)),
            Self::new("naive", Kind::Rival(Rival::Naive)),
            Self::new("mmsg", Kind::Rival(Rival::Mmsg)),
            Self::new("mmsg-gso", Kind::Rival(Rival::MmsgGso)),
            Self::new("pilot-relay", Kind::Pilot { shards: 1, spin_us: 0 }),
            Self::new("pilot-relay-2", Kind::Pilot { shards: 2, spin_us: 0 }),
            Self::new("coturn", Kind::Coturn),
        ]
    }

    /// Those of the latency table.
    #[must_use]
    pub fn paced() -> Vec<Self> {
        vec![
            Self::new("direct", Kind::Direct),
            Self::new("naive", Kind::Rival(Rival::Naive)),
            Self::new("mmsg", Kind::Rival(Rival::Mmsg)),
            Self::new("mmsg-gso", Kind::Rival(Rival::MmsgGso)),
            Self::new("pilot-relay", Kind::Pilot { shards: 1, spin_us: 0 }),
            Self::new("pilot-relay-spin", Kind::Pilot { shards: 1, spin_us: 50 }),
            Self::new("coturn", Kind::Coturn),
        ]
    }

    /// Our relay with one shard: the one whose cost is followed over the number of sessions.
    #[must_use]
    pub fn pilot() -> Self {
        Self::new("pilot-relay", Kind::Pilot { shards: 1, spin_us: 0 })
    }

    /// `NAME=COMMAND` from the command line; the command is split at blanks, and `{listen}`, `{ip}`, `{port}` stand for
    /// where to listen.
    ///
    /// # Errors
    /// What is missing.
    pub fn external(text: &str) -> Result<Self, String> {
        let (name, command) =
            text.split_once('=').ok_or("write NAME=COMMAND, with {listen} or {port} in the command")?;
        if !command.contains("{listen}") && !command.contains("{port}") {
            return Err(format!("`{command}` must contain {{listen}} or {{port}}, or it would listen elsewhere"));
        }
        Ok(Self::new(name, Kind::External { command: command.to_owned() }))
    }

    /// In words.
    #[must_use]
    pub fn describe(&self) -> Description {
        let what = match &self.kind {
            Kind::Direct => "no relay: straight to the destination".to_owned(),
            Kind::Rival(Rival::Floor) => {
                "recvmmsg and sendmmsg of 64 to one fixed address, no look at the bytes".to_owned()
            }
            Kind::Rival(Rival::Naive) => {
                "recvfrom, sendto, an array of endpoints, no checks, fragmentation allowed".to_owned()
            }
            Kind::Rival(Rival::Mmsg) => "recvmmsg, sendmmsg of 64, no checks".to_owned(),
            Kind::Rival(Rival::MmsgGso) => {
                "recvmmsg with GRO, grouped by destination, sendmmsg with GSO, no checks".to_owned()
            }
            Kind::Pilot { shards, spin_us } => {
                format!(
                    "pilot-relay, {shards} shard(s), its default checks with wide budgets, no directory, --spin {spin_us}"
                )
            }
            Kind::Coturn => "turnserver, ChannelData, no authentication, one relay thread".to_owned(),
            Kind::External { command } => command.clone(),
        };
        Description { name: self.name.clone(), what, is_given: matches!(self.kind, Kind::External { .. }) }
    }

    /// Starts it at `site` on `port` and registers `sessions` of the generator's destinations.
    ///
    /// # Errors
    /// What did not start or did not answer.
    pub fn start(
        &self,
        setting: &Setting,
        site: &Site,
        port: u16,
        sessions: u32,
        generator: &mut Generator,
    ) -> anyhow::Result<Contender> {
        let address = SocketAddrV4::new(site.relay_ip(), port);
        let mut process = self.process(setting, site, address, sessions, generator)?;
        let registered = match self.kind {
            Kind::Direct => Ok(Framing::Direct),
            Kind::Rival(Rival::Floor) => {
                generator.await_first(&Target { address, framing: Framing::Unparsed }).map(|()| Framing::Unparsed)
            }
            Kind::Coturn => open_channels(address, sessions, generator),
            _ => generator.register(address, sessions).map(|()| Framing::Beacon),
        };
        if let Some(process) = &mut process {
            process.check().with_context(|| format!("{} does not run", self.name))?;
        }
        let framing = registered.with_context(|| format!("{} does not serve", self.name))?;
        Ok(Contender { spec: self.clone(), sessions, target: Target { address, framing }, process })
    }

    fn process(
        &self,
        setting: &Setting,
        site: &Site,
        address: SocketAddrV4,
        sessions: u32,
        generator: &Generator,
    ) -> anyhow::Result<Option<Process>> {
        let text = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let listen = address.to_string();
        let mut cpus = vec![setting.relay_cpu];
        let (program, arguments) = match &self.kind {
            Kind::Direct => return Ok(None),
            Kind::Rival(rival) => {
                let kind = clap::ValueEnum::to_possible_value(rival).context("every rival has a name")?;
                let fixed = generator.endpoint(0).to_string();
                (setting.compare.clone(), text(&["rival", kind.get_name(), "--listen", &listen, "--fixed", &fixed]))
            }
            Kind::Pilot { shards, spin_us } => {
                if *shards > 1 {
                    cpus.push(setting.generator_cpu);
                }
                let list = cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                let (shards, spin) = (shards.to_string(), spin_us.to_string());
                let sessions = (sessions + 1000).to_string();
                let http = SocketAddrV4::new(*address.ip(), address.port() + 1000).to_string();
                let fixed = ["--stun", "off", "--registry", "off", "--sender-packets", "1000000000", "--sender-bytes"];
                let more = ["1000000000000", "--control-packets", "0", "--beacon", &listen, "--http", &http];
                // A generator is a heavy sender, and is to be carried.
                let unlimited = ["--prefix-packets", "0", "--prefix-bytes", "0", "--exempt", "0.0.0.0/0"];
                let sized = ["--shards", &shards, "--cpus", &list, "--sessions-max", &sessions, "--spin", &spin];
                (setting.pilot_relay.clone(), text(&[&fixed[..], &more, &unlimited, &sized].concat()))
            }
            Kind::Coturn => (PathBuf::from(coturn::PROGRAM), coturn::arguments(address)),
            Kind::External { command } => {
                let port = address.port().to_string();
                let filled = command.replace("{listen}", &listen).replace("{ip}", &address.ip().to_string());
                let filled = filled.replace("{port}", &port);
                let mut words = filled.split_whitespace().map(ToOwned::to_owned);
                let program = words.next().context("an empty command")?;
                (PathBuf::from(program), words.collect())
            }
        };
        if program.is_absolute() && !program.exists() {
            bail!("{} is missing; build it first: cargo build --release -p relay", program.display());
        }
        Process::start(site, &cpus, &program, &arguments).map(Some)
    }
}

fn open_channels(server: SocketAddrV4, sessions: u32, generator: &mut Generator) -> anyhow::Result<Framing> {
    let clients = sessions.div_ceil(CHANNELS_A_CLIENT) as usize;
    let sockets: Vec<_> = generator.clients(clients)?.iter().map(Socket::as_std).collect::<Result<_, _>>()?;
    let channels = coturn::open_channels(server, &sockets, sessions, |session| generator.endpoint(session))?;
    Ok(Framing::Channel { channels, clients })
}

impl Contender {
    /// CPU time spent so far by it and in its name.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.process.as_ref().map_or(0, Process::cpu_ns)
    }

    /// Resident memory.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.process.as_ref().map_or(0, Process::resident_bytes)
    }

    /// Fails if it no longer runs.
    ///
    /// # Errors
    /// How it ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::check).with_context(|| format!("{} has ended", self.spec.name))
    }

    /// The counters page of our own relay.
    #[must_use]
    pub fn counters_page(&self) -> Option<SocketAddrV4> {
        let address = self.target.address;
        matches!(self.spec.kind, Kind::Pilot { .. }).then(|| SocketAddrV4::new(*address.ip(), address.port() + 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_must_say_where_to_listen() {
        assert!(Spec::external("go=./beacon -listen {listen}").is_ok());
        assert!(Spec::external("go=./beacon").unwrap_err().contains("{listen}"));
        assert!(Spec::external("./beacon {port}").unwrap_err().contains("NAME=COMMAND"));
    }
}
