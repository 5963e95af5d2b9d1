//! Whose programs a host runs: how the two daemons are called and which flags say the same thing to each.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::daemon::DaemonFlags;
use crate::prerequisites::{self, Programs};
use crate::wait::evidence;
use crate::world::{BEACON_PORT, REGISTRY_PORT, RELAY_V4};

/// The port of a daemon that is given a fixed one.
const FIXED_PORT: u16 = 4000;

/// Who made a daemon or a `pilotctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// Unmodified, from the Python package `pilotprotocol` 1.18.0.
    Pilot1_18,
    /// `pilot-agent` and the `pilotctl` beside it.
    Ours,
}

impl Program {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Pilot1_18, Self::Ours];

    /// Whether it can be run here. Ours may be passed by while there is none, with an empty `PILOT_AGENT_BIN`.
    #[must_use]
    #[track_caller]
    pub fn is_available(self) -> bool {
        match self {
            Self::Pilot1_18 => true,
            Self::Ours => {
                let found = prerequisites::agent().is_some();
                if !found {
                    evidence("SKIPPED because PILOT_AGENT_BIN is empty; this has shown nothing of pilot-agent");
                }
                found
            }
        }
    }

    /// Those of [`Self::ALL`] that can be run here.
    #[must_use]
    #[track_caller]
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|program| program.is_available()).collect()
    }

    /// Those a story runs with: both in the long run, where the unmodified one proves the story right and is what ours is
    /// compared with; else ours alone, if it is here.
    #[must_use]
    #[track_caller]
    pub fn contenders() -> Vec<Self> {
        if prerequisites::full_run() || !Self::Ours.is_available() { Self::available() } else { vec![Self::Ours] }
    }

    #[track_caller]
    pub(crate) fn daemon(self, programs: &Programs) -> PathBuf {
        match self {
            Self::Pilot1_18 => programs.pilot_daemon.clone(),
            Self::Ours => prerequisites::agent().expect("a story asks `is_available` first").pilot_agent,
        }
    }

    #[track_caller]
    pub(crate) fn pilotctl(self, programs: &Programs) -> PathBuf {
        match self {
            Self::Pilot1_18 => programs.pilotctl.clone(),
            Self::Ours => prerequisites::agent().expect("a story asks `is_available` first").pilotctl,
        }
    }

    /// What its daemon is started with; its files are in `folder`.
    pub(crate) fn arguments(self, flags: &DaemonFlags, folder: &Path) -> Vec<OsString> {
        // The one takes one dash, the other two.
        let dash = match self {
            Self::Pilot1_18 => "-",
            Self::Ours => "--",
        };
        let mut arguments: Vec<OsString> = Vec::new();
        // What a test gives wins; no program takes a flag twice.
        let is_given = |name: &str| flags.extra.iter().any(|flag| flag.starts_with(&format!("{dash}{name}=")));
        let mut set = |name: &str, value: OsString| {
            if !is_given(name) {
                arguments.extend([format!("{dash}{name}").into(), value]);
            }
        };
        set("registry", format!("{RELAY_V4}:{REGISTRY_PORT}").into());
        set("beacon", format!("{RELAY_V4}:{BEACON_PORT}").into());
        set("socket", folder.join("pilot.sock").into());
        set("identity", folder.join("identity.json").into());
        set("hostname", flags.hostname.clone().into());
        let owner = format!("{}@pilot.test", flags.hostname);
        match self {
            Self::Pilot1_18 => {
                set("email", owner.into());
                set("motd-feed-url", "".into());
                set("telemetry-url", "".into());
                set("log-level", "debug".into());
            }
            Self::Ours => {
                set("owner", owner.into());
                set("data-dir", folder.join("data").into());
            }
        }
        if flags.fixed_port {
            let listen = match self {
                Self::Pilot1_18 => format!(":{FIXED_PORT}"),
                Self::Ours => format!("0.0.0.0:{FIXED_PORT}"),
            };
            set("listen", listen.into());
        }
        let no_skills = self == Self::Pilot1_18;
        let switches = [
            ("no-skillinject", no_skills),
            ("public", flags.public),
            ("relay-only", flags.relay_only),
            ("trust-auto-approve", flags.trust_auto_approve),
            ("beacon-rtt-probe", flags.beacon_rtt_probe && self == Self::Pilot1_18),
        ];
        arguments.extend(switches.iter().filter(|(_, on)| *on).map(|(name, _)| format!("{dash}{name}").into()));
        arguments.extend(flags.extra.iter().map(OsString::from));
        arguments
    }
}

impl fmt::Display for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Pilot1_18 => "1.18.0",
            Self::Ours => "ours",
        })
    }
}
