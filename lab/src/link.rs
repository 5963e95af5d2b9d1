//! A long or lossy line between a host and the wide-area network: what it is like, and the program that plays it.
//!
//! ```text
//!   host eth0 ── inside  [link program]  outside ── port bridge (wan)
//! ```
//!
//! The kernel need not know network emulation: a program copies Ethernet frames between two veth ends. Their offloads are
//! off, so that every frame is one packet of at most the MTU with a true checksum, as on a real line.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::command;
use crate::namespace::Namespace;
use crate::pipe::PipeStatistics;
use crate::prerequisites;
use crate::process;

/// Room for a tenth of a second at 300 Mbit/s.
const QUEUE_BYTES: usize = 4 << 20;
/// The emulation is the clock of the story: it goes before the programs it lies between.
const NICENESS: &str = "-15";

/// What a line is like, in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// From entrance to exit, one way.
    pub delay: Duration,
    /// Frames in a million that are lost, each for itself.
    pub loss_ppm: u32,
    /// How fast frames are put on the line; none for at once.
    pub bits_per_second: Option<u64>,
    /// Bytes that may wait to be put on the line.
    pub queue_bytes: usize,
    /// The same seed loses the same frames.
    pub seed: u64,
}

impl Link {
    /// A line of this one-way delay that loses nothing and is as fast as the machine.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self { delay, loss_ppm: 0, bits_per_second: None, queue_bytes: QUEUE_BYTES, seed: 1 }
    }

    /// Loses so much of a hundred frames, in each direction.
    #[must_use]
    pub fn loss_percent(self, percent: f64) -> Self {
        Self { loss_ppm: (percent * 10_000.0).round() as u32, ..self }
    }

    /// Puts frames on the line at this rate.
    #[must_use]
    pub fn bits_per_second(self, rate: u64) -> Self {
        Self { bits_per_second: Some(rate), ..self }
    }

    /// Lets so many bytes wait.
    #[must_use]
    pub fn queue_bytes(self, queue_bytes: usize) -> Self {
        Self { queue_bytes, ..self }
    }

    /// Another chance.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The arguments of the link program.
    #[must_use]
    pub fn to_arguments(self) -> [String; 5] {
        [
            self.delay.as_micros().to_string(),
            self.loss_ppm.to_string(),
            self.bits_per_second.unwrap_or_default().to_string(),
            self.queue_bytes.to_string(),
            self.seed.to_string(),
        ]
    }

    /// What [`Self::to_arguments`] wrote.
    #[must_use]
    pub fn from_arguments(arguments: &[String; 5]) -> Option<Self> {
        let [delay, loss, rate, queue, seed] = arguments;
        Some(Self {
            delay: Duration::from_micros(delay.parse().ok()?),
            loss_ppm: loss.parse().ok()?,
            bits_per_second: Some(rate.parse().ok()?).filter(|rate| *rate > 0),
            queue_bytes: queue.parse().ok()?,
            seed: seed.parse().ok()?,
        })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} each way, {} % lost", self.delay, f64::from(self.loss_ppm) / 10_000.0)?;
        match self.bits_per_second {
            Some(rate) => write!(out, ", {} Mbit/s", rate / 1_000_000),
            None => Ok(()),
        }
    }
}

/// What has become of the frames of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStatistics {
    /// Toward the wide-area network.
    pub outward: PipeStatistics,
    /// Toward the host.
    pub inward: PipeStatistics,
}

/// The program that plays a link, as long as this value lives.
#[derive(Debug)]
pub(crate) struct LinkProcess {
    process: Child,
    /// A line asked, a line answered; one asks at a time.
    conversation: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _between: Namespace,
}

impl LinkProcess {
    /// Lays a cable from `interface` of `namespace` to `port` of `switch`, with the link in its middle.
    #[track_caller]
    pub(crate) fn lay(link: Link, switch: &Namespace, port: &str, namespace: &Namespace, interface: &str) -> Self {
        let between = Namespace::create(&format!("link-{port}"));
        between.set("ipv6/conf/all/disable_ipv6", "1");
        between.set("ipv6/conf/default/disable_ipv6", "1");
        between.ip(&format!("link add inside type veth peer name {interface} netns {}", namespace.name()));
        between.ip(&format!("link add outside type veth peer name {port} netns {}", switch.name()));
        for (place, end) in [(namespace, interface), (&between, "inside"), (&between, "outside"), (switch, port)] {
            let offloads = ["tx", "rx", "sg", "tso", "gso", "gro"].map(|feature| [feature, "off"]);
            command::run(place.command("ethtool").args(["-K", end]).args(offloads.as_flattened()));
            place.ip(&format!("link set {end} up"));
        }
        let (process, conversation) = start(&between, link);
        Self { process, conversation: Mutex::new(conversation), _between: between }
    }

    #[track_caller]
    pub(crate) fn cpu_time(&self) -> Duration {
        process::cpu_time(self.process.id())
    }

    #[track_caller]
    pub(crate) fn statistics(&self) -> LinkStatistics {
        let mut conversation = self.conversation.lock().unwrap_or_else(PoisonError::into_inner);
        let (question, answers) = &mut *conversation;
        let mut line = String::new();
        let answered = writeln!(question, "statistics").and_then(|()| answers.read_line(&mut line));
        let json = answered.ok().and_then(|_| serde_json::from_str::<Value>(&line).ok());
        let json = json.unwrap_or_else(|| panic!("the link program does not tell its statistics but {line:?}"));
        LinkStatistics {
            outward: PipeStatistics::from_json(&json["outward"]),
            inward: PipeStatistics::from_json(&json["inward"]),
        }
    }
}

impl Drop for LinkProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[track_caller]
fn start(between: &Namespace, link: Link) -> (Child, (ChildStdin, BufReader<ChildStdout>)) {
    let program: PathBuf = prerequisites::own_program("link");
    let mut command: Command = between.command("nice");
    command.args(["-n", NICENESS]).arg(&program).args(link.to_arguments()).args(["inside", "outside"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
    let question = process.stdin.take().expect("standard input was piped");
    let mut answers = BufReader::new(process.stdout.take().expect("standard output was piped"));
    let mut line = String::new();
    let _ = answers.read_line(&mut line);
    assert_eq!(line.trim(), "ready", "the link program {} did not start", program.display());
    (process, (question, answers))
}
