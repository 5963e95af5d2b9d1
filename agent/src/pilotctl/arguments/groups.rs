//! Words of the commands about what nodes can do, and about groups of them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::MessageType;
use crate::pilotctl::duration;

/// What this node can do for others.
#[derive(Debug, Subcommand)]
pub enum Capability {
    /// Say what this node can do, in place of what it said before
    #[command(
        after_help = "Examples:\n  pilotctl capability set --title \"resolve academic citations\" --tag papers\n  \
        pilotctl capability set --file citations.toml --price-json '{\"per_call\": 0}'\n\n\
        The file, JSON or TOML, has title, text, tags, input, output, price, limits, version. Flags win over it.\n\
        The record is signed by this node's key, survives a restart, and stays until it is withdrawn."
    )]
    Set(Box<CapabilitySet>),
    /// Show what this node offers, or another
    Show {
        /// Hostname, node id or address [default: this node]
        peer: Option<String>,
    },
    /// Take back what this node offers
    Withdraw,
}

/// `capability set`.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct CapabilitySet {
    /// In a few words, at most 160 bytes
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// In as many as it takes, at most 4 KB
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// A word to be found by; may be repeated
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// All of this from a file
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What it takes: a JSON value, such as a schema or an example
    #[arg(long, value_name = "JSON")]
    pub input_json: Option<String>,
    /// What it gives: likewise
    #[arg(long, value_name = "JSON")]
    pub output_json: Option<String>,
    /// What it costs: likewise
    #[arg(long, value_name = "JSON")]
    pub price_json: Option<String>,
    /// How much one may ask for: likewise
    #[arg(long, value_name = "JSON")]
    pub limits_json: Option<String>,
    /// The version of what is offered
    #[arg(long, value_name = "TEXT")]
    pub release: Option<String>,
}

/// `query`.
#[derive(Debug, Args)]
pub struct Query {
    /// What is wanted, in any words; without them, everybody
    #[arg(default_value = "")]
    pub text: String,
    /// Members of this group alone: its name, or its number
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Nodes with this tag alone; may be repeated
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// At most so many
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=50))]
    pub limit: u16,
    /// Nodes that are not online as well
    #[arg(long)]
    pub offline: bool,
}

/// `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// What is wanted, in any words; without them, everybody
    #[arg(default_value = "")]
    pub text: String,
    /// Members of this group alone: its name, or its number
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Nodes with this tag alone; may be repeated
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
}

/// Groups. A GROUP is a name, in any case, or a number; BACKBONE is everyone.
#[derive(Debug, Subcommand)]
pub enum Group {
    /// Make a group
    #[command(after_help = "Example: pilotctl group create research --rule token --token s3cret")]
    Create {
        /// Its name
        name: String,
        /// Who may join: anyone, whoever has the token, or whoever is invited [default: open, or token with --token]
        #[arg(long, value_parser = ["open", "token", "invite"])]
        rule: Option<String>,
        /// What joins
        #[arg(long, value_name = "TEXT")]
        token: Option<String>,
    },
    /// Show groups
    List,
    /// Join a group
    Join {
        /// Its name or number
        group: String,
        /// What its join rule asks for
        #[arg(long, default_value = "")]
        token: String,
    },
    /// Leave a group
    Leave {
        /// Its name or number
        group: String,
    },
    /// Invite a node
    Invite {
        /// The group's name or number
        group: String,
        /// Hostname, node id or address
        peer: String,
    },
    /// Show invitations to this node
    Invites,
    /// Accept an invitation
    Accept {
        /// The group's name or number
        group: String,
    },
    /// Decline an invitation
    #[command(visible_alias = "reject")]
    Decline {
        /// The group's name or number
        group: String,
    },
    /// Show all members, those who are online first
    Members {
        /// The group's name or number
        group: String,
        /// Then print who comes and goes, until interrupted
        #[arg(long)]
        follow: bool,
    },
}

/// `broadcast`.
#[derive(Debug, Args)]
pub struct Broadcast {
    /// The group: its name, or its number
    pub group: String,
    /// A datagram instead, which nobody confirms and only administrators send; the group must be a number
    #[arg(required_unless_present_any = ["data", "file"], conflicts_with_all = ["data", "file"])]
    pub message: Option<String>,
    /// The port of datagrams
    #[arg(long, default_value_t = 1000, requires = "message")]
    pub port: u16,
    /// A message into the inbox of every live member
    #[arg(long, short = 'd', value_name = "TEXT", conflicts_with = "file", allow_hyphen_values = true)]
    pub data: Option<String>,
    /// What a file holds, as such a message
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What the message is
    #[arg(long, value_enum, default_value_t = MessageType::Text, value_name = "TYPE")]
    pub r#type: MessageType,
    /// Members that are sent to at once
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=128))]
    pub parallel: u16,
    /// What each member may take to confirm
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = duration::parse)]
    pub deadline: Duration,
}

/// In place of a PEER: whoever does it best.
#[derive(Clone, Debug, Args)]
pub struct Relevant {
    /// Among the members of this group [default: everyone]
    #[arg(long, value_name = "GROUP", requires = "most_relevant")]
    pub group: Option<String>,
    /// To the best live node for these words, in place of a PEER; where that fails, to the next
    #[arg(long, value_name = "WORDS", conflicts_with = "peer")]
    pub most_relevant: Option<String>,
    /// Do not go on to the next where it is uncertain whether one has got it
    #[arg(long, requires = "most_relevant")]
    pub at_most_once: bool,
}
