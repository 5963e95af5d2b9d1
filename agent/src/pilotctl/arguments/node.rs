//! Words of the commands about this node: trust, names, networks, tunnels; and about the program itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::pilotctl::duration;

/// `handshake`.
#[derive(Debug, Args)]
pub struct Handshake {
    /// Hostname, node id or address
    pub peer: String,
    /// Why, for whoever decides over there
    #[arg(default_value = "")]
    pub justification: String,
    /// Wait so long until the peer trusts this node
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub wait: Option<Duration>,
}

/// `reject`.
#[derive(Debug, Args)]
pub struct Reject {
    /// Hostname, node id or address
    pub peer: String,
    /// Why, for whoever asked
    #[arg(default_value = "")]
    pub reason: String,
}

/// `trust`.
#[derive(Debug, Args)]
pub struct Trust {
    /// Only those whose id or key contains this
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// At most so many; 0 for all
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub limit: usize,
    /// A word of existing scripts; without it the same is shown.
    #[arg(hide = true, value_parser = ["list"])]
    pub list: Option<String>,
}

/// `find`.
#[derive(Debug, Args)]
pub struct Find {
    /// The hostname
    pub hostname: String,
}

/// `set-hostname`.
#[derive(Debug, Args)]
pub struct SetHostname {
    /// Lower-case letters, digits and hyphens
    pub hostname: String,
}

/// `set-tags`.
#[derive(Debug, Args)]
pub struct SetTags {
    /// Words that say what the node can do
    #[arg(required = true, value_name = "TAG")]
    pub tags: Vec<String>,
}

/// Networks.
#[derive(Debug, Subcommand)]
pub enum Network {
    /// Show networks
    List,
    /// Join a network
    Join {
        /// The network's number
        network: u16,
        /// What its join rule asks for
        #[arg(long, default_value = "")]
        token: String,
    },
    /// Leave a network
    Leave {
        /// The network's number
        network: u16,
    },
    /// Show the members of a network
    Members {
        /// The network's number
        network: u16,
    },
    /// Invite a node
    Invite {
        /// The network's number
        network: u16,
        /// Hostname, node id or address
        peer: String,
    },
    /// Show invitations
    Invites,
    /// Accept an invitation
    Accept {
        /// The network's number
        network: u16,
    },
    /// Decline an invitation
    #[command(visible_alias = "reject")]
    Decline {
        /// The network's number
        network: u16,
    },
}

/// `register`.
#[derive(Debug, Args)]
pub struct Register {
    /// A word of existing scripts; the daemon knows its own address.
    #[arg(hide = true)]
    pub listen_addr: Option<String>,
}

/// `peers`.
#[derive(Debug, Args)]
pub struct Peers {
    /// Only those whose id or endpoint contains this
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// Accepted for scripts; all are shown
    #[arg(long, hide = true)]
    pub all: bool,
}

/// `disconnect`.
#[derive(Debug, Args)]
pub struct Disconnect {
    /// Its number, as `connections` shows it
    #[arg(value_name = "ID")]
    pub connection: u32,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// Which shell
    pub shell: flags::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Write one page per command into this folder
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}
