//! The command line: every command with its words, defaults and help. What they do is in `commands`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::duration;

/// Commands an operator of a node and its fleet needs.
#[derive(Debug, Parser)]
#[command(
    name = "pilotctl",
    version,
    about = "Talk to other nodes, and to the daemon that connects this one",
    long_about = "Talk to other nodes, and to the daemon that connects this one.\n\n\
        A PEER is a hostname, a node id such as 2, or an address such as 0:0000.0000.0002.\n\
        A DURATION is such as 500ms, 5s, 1m30s or 24h.",
    after_help = START,
    after_long_help = MANUAL,
    subcommand_value_name = "COMMAND",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Arguments {
    /// Print one line of JSON, for scripts: {"status":"ok","data":…}
    #[arg(long, global = true, display_order = 100)]
    pub json: bool,

    /// The daemon's socket, else PILOT_SOCKET [default: pilot.sock in the temporary folder]
    // Not clap's `env`: it would show these two in every usage.
    #[arg(long, global = true, value_name = "PATH", display_order = 101)]
    pub socket: Option<PathBuf>,

    /// The directory, host:port; only `daemon start` and `lookup` without a daemon need it
    #[arg(long, global = true, value_name = "ADDR", env = "PILOT_REGISTRY", hide_env = true, display_order = 102)]
    pub registry: Option<String>,

    /// Give up after so long; 0 waits for ever
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration::parse, display_order = 103)]
    pub timeout: Option<Duration>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const START: &str = "Start here:
  pilotctl daemon start --hostname coordinator
  pilotctl ping specialist-papers
  pilotctl send-message specialist-papers --data \"any news?\"

More: pilotctl COMMAND --help, and the manual: pilotctl man | man -l -";

/// The end of the manual.
pub(super) const MANUAL: &str = "Start here:
  pilotctl daemon start --hostname coordinator
  pilotctl ping specialist-papers
  pilotctl handshake specialist-papers \"from the coordinator\"
  pilotctl send-file specialist-papers results.tar
  pilotctl explain specialist-papers

Exit status:
  0    done; also when whoever read the output has gone
  1    what was asked for failed: no reply, refused, not found, timed out
       (with --json, recv, listen and subscribe say \"timeout\":true and end with 0)
  2    the command line makes no sense
  3    no daemon answers; `daemon status` says so, too
  130  stopped from the keyboard

Errors go to standard error: what happened, and a hint what to do next. With --json they are
{\"status\":\"error\",\"code\":…,\"message\":…,\"hint\":…}, where code is one of invalid_argument, not_found,
connection_failed, trust_required, not_running, auth_required, timeout, internal.

Environment:
  PILOT_SOCKET       the daemon's socket
  PILOT_REGISTRY     the directory, host:port
  PILOT_ADMIN_TOKEN  for broadcasts
  NO_COLOR           no colours, whatever its value

Files:
  ~/.pilot/config.json  socket, registry and admin_token, where nothing else names them
  ~/.pilot/pilot.log    what the daemon says
  ~/.pilot/pilot.pid    its process
  ~/.pilot/inbox        messages that have come
  ~/.pilot/received     files that have come

Scripts written for `pilotctl extras COMMAND` work: the word may be left out.";

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start, stop and look after this host's daemon
    #[command(subcommand)]
    Daemon(Daemon),

    /// Send pings and report how long the replies take
    #[command(after_help = "Example: pilotctl ping specialist-papers --count 10 --interval 200ms")]
    Ping(Ping),
    /// Open a stream: standard input goes to the peer, what comes back to standard output
    #[command(
        after_help = "Examples:\n  pilotctl connect bravo 7 --message hello\n  tar c results | pilotctl connect bravo 5000"
    )]
    Connect(Connect),
    /// Send data on a stream and print the response
    #[command(
        after_help = "Examples:\n  pilotctl send bravo 7 --data hello\n  pilotctl send bravo 5000 --stdin < request.json"
    )]
    Send(Send),
    /// Wait for streams on a port and print what comes
    #[command(after_help = "Example: pilotctl recv 5000 --count 2 --timeout 30s")]
    Recv(Receive),
    /// Print datagrams that come to a port
    #[command(after_help = "Example: pilotctl listen 2000 --json")]
    Listen(Receive),
    /// Send one datagram and hear that it left
    Dgram(Dgram),
    /// Send a datagram to all of a network
    Broadcast(Broadcast),

    /// Send a message to a peer's inbox
    #[command(after_help = "Examples:\n  pilotctl send-message bravo --data \"any news?\"\n  \
        pilotctl send-message bravo --data-file task.json --type json\n  \
        pilotctl send-message bravo --data @ping --reply-to 4f1c… --wait 30s")]
    SendMessage(SendMessage),
    /// Send a file; an interrupted transfer goes on where it stopped
    SendFile(SendFile),
    /// Show messages that have come
    Inbox(Inbox),
    /// Show files that have come
    Received(Received),

    /// Publish an event to the subscribers of a node's broker
    Publish(Publish),
    /// Print events of a node's broker as they come; topic * for all
    #[command(after_help = "Example: pilotctl subscribe bravo news --json --count 5")]
    Subscribe(Subscribe),

    /// Ask a node for its trust
    #[command(after_help = "Example: pilotctl handshake specialist-papers \"from the coordinator\"")]
    Handshake(Handshake),
    /// Trust a node that asked
    Approve(Peer),
    /// Refuse a node that asked
    Reject(Reject),
    /// Trust a node no longer
    Untrust(Peer),
    /// Show who asks for trust
    Pending,
    /// Show who is trusted
    #[command(visible_alias = "trusted")]
    Trust(Trust),

    /// Find a node by its hostname
    Find(Find),
    /// Show what the directory knows of a node
    Lookup(Peer),
    /// Give this node a hostname
    SetHostname(SetHostname),
    /// Have no hostname
    ClearHostname,
    /// Let any node connect
    SetPublic,
    /// Let only trusted nodes connect
    SetPrivate,
    /// Describe this node by tags, in place of those it had
    SetTags(SetTags),
    /// Have no tags
    ClearTags,
    /// Networks: groups of nodes that trust each other
    #[command(subcommand)]
    Network(Network),
    /// Replace this node's key; its id stays
    RotateKey,
    /// Say whether this node is registered, and as what
    Register(Register),
    /// Remove this node from the directory
    Deregister,

    /// Say how a peer is reached, why so, and what was tried
    #[command(after_help = "Example: pilotctl explain specialist-papers")]
    Explain(Peer),
    /// Show the peers this node has tunnels to
    Peers(Peers),
    /// Show open streams
    Connections,
    /// Close a stream
    Disconnect(Disconnect),
    /// Try to reach a peer without the relay
    PreferDirect(Peer),
    /// Measure the time to connect, and round trips
    Traceroute(Peer),
    /// Measure throughput through a peer's echo port
    Bench(Bench),
    /// Show this node and its daemon
    Info,
    /// Show whether the daemon is well
    Health,

    /// Print the release
    Version,
    /// Print completions for a shell
    #[command(after_help = "Example: pilotctl completions bash > ~/.local/share/bash-completion/completions/pilotctl")]
    Completions(Completions),
    /// Print the manual page
    #[command(after_help = "Examples:\n  pilotctl man | man -l -\n  pilotctl man --folder /usr/local/share/man/man1")]
    Man(Man),
}

/// The daemon of this host.
#[derive(Debug, Subcommand)]
pub enum Daemon {
    /// Start it in the background and wait until it is registered
    #[command(after_help = "Examples:\n  pilotctl daemon start --hostname coordinator\n  \
        pilotctl daemon start --registry relay.example:9000 --beacon relay.example:9001 --public")]
    Start(Box<Start>),
    /// Stop it and wait for its end
    Stop,
    /// Say whether it runs; the exit status says so, too
    Status,
}

/// How the daemon is started.
#[derive(Debug, Args)]
pub struct Start {
    /// The name other nodes find this one by
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// The relay, host:port
    #[arg(long, value_name = "ADDR")]
    pub beacon: Option<String>,
    /// Where to receive from other nodes, host:port
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// The file that keeps this node's key
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Let any node connect
    #[arg(long)]
    pub public: bool,
    /// Trust whoever asks
    #[arg(long)]
    pub trust_auto_approve: bool,
    /// Never go direct, and hide this host's address
    #[arg(long)]
    pub relay_only: bool,
    /// A file with all of this
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the daemon keeps its files [default: ~/.pilot]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Stay in the foreground, as a service manager wants it
    #[arg(long)]
    pub foreground: bool,
}

/// Someone else.
#[derive(Debug, Args)]
pub struct Peer {
    /// Hostname, node id or address
    #[arg(value_name = "PEER")]
    pub peer: String,
}

/// `ping`.
#[derive(Debug, Args)]
pub struct Ping {
    /// Hostname, node id or address
    pub peer: String,
    /// How many
    #[arg(long, short = 'c', default_value_t = 4, value_name = "N")]
    pub count: u32,
    /// From one to the next
    #[arg(long, short = 'i', default_value = "1s", value_parser = duration::parse, value_name = "DURATION")]
    pub interval: Duration,
}

/// `connect`.
#[derive(Debug, Args)]
pub struct Connect {
    /// Hostname, node id or address
    pub peer: String,
    /// The peer's port
    #[arg(default_value_t = 1000)]
    pub port: u16,
    /// Send this, print one response, and end
    #[arg(long, short = 'm', value_name = "TEXT")]
    pub message: Option<String>,
}

/// `send`.
#[derive(Debug, Args)]
pub struct Send {
    /// Hostname, node id or address
    pub peer: String,
    /// The peer's port
    pub port: u16,
    /// What to send
    #[arg(long, short = 'd', value_name = "TEXT", required_unless_present = "stdin")]
    pub data: Option<String>,
    /// Send what standard input holds
    #[arg(long, conflicts_with = "data")]
    pub stdin: bool,
}

/// `recv` and `listen`.
#[derive(Debug, Args)]
pub struct Receive {
    /// Our port
    pub port: u16,
    /// End after so many; 0 for no end [default: 1 for recv, 0 for listen]
    #[arg(long, short = 'c', value_name = "N")]
    pub count: Option<u64>,
}

/// `dgram`.
#[derive(Debug, Args)]
pub struct Dgram {
    /// Hostname, node id or address
    pub peer: String,
    /// The peer's port
    pub port: u16,
    /// What to send
    #[arg(long, short = 'd', value_name = "TEXT")]
    pub data: String,
}

/// `broadcast`.
#[derive(Debug, Args)]
pub struct Broadcast {
    /// The network's number
    pub network: u16,
    /// What to send
    pub message: String,
    /// The port of all its members
    #[arg(long, default_value_t = 1000)]
    pub port: u16,
}

/// `send-message`.
#[derive(Debug, Args)]
pub struct SendMessage {
    /// Hostname, node id or address
    pub peer: String,
    /// What to send; - for standard input
    #[arg(long, short = 'd', value_name = "TEXT", required_unless_present = "data_file", allow_hyphen_values = true)]
    pub data: Option<String>,
    /// Send what a file holds
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub data_file: Option<PathBuf>,
    /// What it is
    #[arg(long, value_enum, default_value_t = MessageType::Text, value_name = "TYPE")]
    pub r#type: MessageType,
    /// Send it so many times
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// Send all of them on one stream
    #[arg(long)]
    pub reuse_conn: bool,
    /// The id of the message this one answers
    #[arg(long, value_name = "ID")]
    pub reply_to: Option<String>,
    /// Wait so long for an answer in the inbox
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub wait: Option<Duration>,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MessageType {
    /// A text.
    Text,
    /// A JSON document.
    Json,
    /// Anything.
    Binary,
}

/// `send-file`.
#[derive(Debug, Args)]
pub struct SendFile {
    /// Hostname, node id or address
    pub peer: String,
    /// The file
    pub file: PathBuf,
}

/// `inbox`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Inbox {
    /// Read one message whole.
    #[command(subcommand)]
    pub read: Option<InboxRead>,
    /// The newest only, whole
    #[arg(long)]
    pub latest: bool,
    /// From this node only: part of its address
    #[arg(long, value_name = "ADDR")]
    pub from: Option<String>,
    /// Which of them.
    #[command(flatten)]
    pub choice: Choice,
}

/// `inbox read`.
#[derive(Debug, Subcommand)]
pub enum InboxRead {
    /// Read one message whole
    Read {
        /// Its id, as `inbox` shows it
        id: String,
    },
}

/// `received`.
#[derive(Debug, Args)]
pub struct Received {
    /// Which of them.
    #[command(flatten)]
    pub choice: Choice,
}

/// Which of many.
#[derive(Clone, Debug, Args)]
pub struct Choice {
    /// At most so many, the newest; 0 for all
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub limit: usize,
    /// Those of the last so long
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub since: Option<Duration>,
    /// Delete them
    #[arg(long)]
    pub clear: bool,
    /// With --clear: only those older than this
    #[arg(long, value_parser = duration::parse, value_name = "DURATION", requires = "clear")]
    pub before: Option<Duration>,
}

/// `publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// The broker: hostname, node id or address
    pub peer: String,
    /// What it is about
    pub topic: String,
    /// What it says
    #[arg(long, short = 'd', value_name = "TEXT")]
    pub data: String,
}

/// `subscribe`.
#[derive(Debug, Args)]
pub struct Subscribe {
    /// The broker: hostname, node id or address
    pub peer: String,
    /// What about; * for all
    pub topic: String,
    /// End after so many; 0 for no end
    #[arg(long, short = 'c', default_value_t = 0, value_name = "N")]
    pub count: u64,
}

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

/// `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Hostname, node id or address
    pub peer: String,
    /// Megabytes to send
    #[arg(default_value_t = 1.0, value_name = "MB", value_parser = megabytes)]
    pub megabytes: f64,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// Which shell
    pub shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Write one page per command into this folder
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

const MEGABYTES_MAX: f64 = 4096.0;

fn megabytes(text: &str) -> Result<f64, String> {
    let megabytes = text.parse::<f64>().ok().filter(|megabytes| (0.000_001..=MEGABYTES_MAX).contains(megabytes));
    megabytes.ok_or_else(|| format!("invalid size \"{text}\"; expected megabytes, at most {MEGABYTES_MAX}"))
}

/// What existing scripts write in ways of their own, as the command line above has it: the word `extras` in front.
#[must_use]
pub fn normalised(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let takes_value = |word: &str| matches!(word, "--socket" | "--registry" | "--timeout");
    let mut index = 1;
    while let Some(word) = arguments.get(index).and_then(|word| word.to_str()) {
        if word == "extras" && index + 1 < arguments.len() {
            arguments.remove(index);
            break;
        }
        if !word.starts_with('-') {
            break;
        }
        index += if takes_value(word) { 2 } else { 1 };
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_agree_with_each_other() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn older_spellings_are_understood() {
        let normalised = |line: &str| {
            let words = normalised(line.split(' ').map(OsString::from));
            words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(normalised("pilotctl extras network list"), "pilotctl network list");
        assert_eq!(normalised("pilotctl --socket s --json extras set-tags x"), "pilotctl --socket s --json set-tags x");
        assert_eq!(normalised("pilotctl find extras"), "pilotctl find extras");
        assert_eq!(normalised("pilotctl extras"), "pilotctl extras");
    }
}
