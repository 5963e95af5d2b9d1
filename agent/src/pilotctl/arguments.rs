//! The command line: every command with its words, defaults and help. What they do is in `commands`.

mod daemon;
mod flight;
mod groups;
mod node;
mod peers;

pub use daemon::{Daemon, Start};
pub use flight::Events;
pub use groups::{Broadcast, Capability, CapabilitySet, Group, Query, Relevant, Watch};
pub use node::{
    Completions, Disconnect, Find, Handshake, Man, Network, Peers, Register, Reject, SetHostname, SetTags, Trust,
};
pub use peers::{
    Bench, Choice, Connect, Dgram, Inbox, InboxRead, Listen, MessageType, Peer, Ping, Publish, Receive, Received, Send,
    SendFile, SendMessage, Subscribe,
};

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use wire::trace::TraceContext;

use super::duration;
use crate::config::values::Fingerprint;

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

    /// The directory, host:port, else PILOT_REGISTRY; for `daemon start` and `lookup`
    #[arg(long, global = true, value_name = "ADDR", display_order = 102)]
    pub registry: Option<String>,

    /// Speak TLS to it, and to none but the one with this fingerprint, which it prints; else PILOT_REGISTRY_FINGERPRINT
    #[arg(long, global = true, value_name = "HEX", value_parser = Fingerprint::parse, display_order = 103)]
    pub registry_fingerprint: Option<Fingerprint>,

    /// Give up after so long; 0 waits for ever
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration::parse, display_order = 104)]
    pub timeout: Option<Duration>,

    /// What is done belongs to this trace, else TRACEPARENT (W3C Trace Context)
    #[arg(long, global = true, value_name = "TRACEPARENT", value_parser = traceparent, display_order = 105)]
    pub traceparent: Option<TraceContext>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

fn traceparent(text: &str) -> Result<TraceContext, String> {
    text.parse().map_err(|error: wire::DecodeError| error.to_string())
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
  130  stopped from the keyboard before anything had come

Errors go to standard error: what happened, and a hint what to do next. With --json they are
{\"status\":\"error\",\"code\":…,\"message\":…,\"hint\":…}, where code is one of invalid_argument, not_found,
connection_failed, trust_required, not_running, auth_required, timeout, internal.

Environment:
  PILOT_SOCKET       the daemon's socket
  PILOT_REGISTRY     the directory, host:port
  PILOT_REGISTRY_FINGERPRINT  that of its certificate
  PILOT_ADMIN_TOKEN  for broadcasts
  TRACEPARENT        the trace that what is done belongs to
  NO_COLOR           no colours, whatever its value

Files:
  ~/.pilot/config.json  socket, registry, registry_fingerprint and admin_token, where nothing else names them
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
        after_help = "Examples:\n  pilotctl connect bravo 7 --message hello\n  tar c results | pilotctl connect bravo 5000\n  \
        pilotctl connect bravo --secure --message hello\n\n\
        With --secure nothing is said to a peer that does not prove who it is; both ends need pilot-agent."
    )]
    Connect(Connect),
    /// Send data on a stream and print the response
    #[command(
        after_help = "Examples:\n  pilotctl send bravo 7 --data hello\n  pilotctl send bravo 5000 --stdin < request.json"
    )]
    Send(Send),
    /// Wait for streams on a port and print what comes
    #[command(
        after_help = "Examples:\n  pilotctl recv 5000 --count 2 --timeout 30s\n  pilotctl recv --secure --count 0\n\n\
        With --secure peers that do not prove who they are within 10 s are refused and not counted."
    )]
    Recv(Receive),
    /// Print datagrams that come to a port
    #[command(after_help = "Example: pilotctl listen 2000 --json")]
    Listen(Listen),
    /// Send one datagram and hear that it left
    Dgram(Dgram),
    /// Send a message to every live member of a group
    #[command(after_help = "Examples:\n  pilotctl broadcast research --data \"news for all\"\n  \
        pilotctl broadcast 3 --file task.json --type json --parallel 64\n\n\
        The sender pays: one tunnel and one message for each live member, none for those who are offline. Nothing is\n\
        multiplied by a relay or the directory, so twice the members cost the sender twice the bytes: for a\n\
        message of 1000 bytes some 3.4 KB for each member to whom a tunnel has to be opened, 1.8 KB to others.\n\
        The exit status is 1 where a live member has not confirmed it.")]
    Broadcast(Box<Broadcast>),

    /// Send a message to a peer's inbox
    #[command(after_help = "Examples:\n  pilotctl send-message bravo --data \"any news?\"\n  \
        pilotctl send-message bravo --data-file task.json --type json\n  \
        pilotctl send-message bravo --data @ping --reply-to 4f1c… --wait 30s\n  \
        pilotctl send-message --group research --most-relevant citations --data \"who wrote it?\"\n\n\
        With --most-relevant the best live node that offers this gets it; where that fails, the next. One that may have\n\
        got it without saying so is named, and the next gets it as well, but for --at-most-once. Each has 15 s, of which\n\
        opening the stream may take 5 s while others remain to be tried; --timeout says both.")]
    SendMessage(Box<SendMessage>),
    /// Send a file; an interrupted transfer goes on where it stopped
    #[command(after_help = "Examples:\n  pilotctl send-file bravo results.tar\n  \
        pilotctl send-file --group research --most-relevant citations references.bib")]
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

    /// Find live nodes by what they can do, the best first
    #[command(after_help = "Examples:\n  pilotctl query \"resolve academic citations\" --group research\n  \
        pilotctl query --tag papers --limit 3 --json\n\n\
        Records are verified here: one that its node has not signed is withheld, and said to be.\n\
        The exit status is 1 where nobody is found, as with grep.")]
    Query(Query),
    /// Print who can do something, then what changes there, until interrupted
    #[command(after_help = "Example: pilotctl watch citations --group research --json")]
    Watch(Watch),
    /// Say what this node can do for others
    #[command(subcommand)]
    Capability(Capability),
    /// Groups of nodes, by name
    #[command(subcommand)]
    Group(Group),

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
    /// Show what has happened with a peer, or with all of them: dials, keys, punching, paths, streams
    #[command(after_help = "Example: pilotctl events specialist-papers --count 20")]
    Events(Events),
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

/// What existing scripts write in ways of their own, as the command line above has it: the word `extras` in front.
#[must_use]
pub fn normalised(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let takes_value = |word: &str| {
        matches!(word, "--socket" | "--registry" | "--registry-fingerprint" | "--timeout" | "--traceparent")
    };
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

    #[test]
    fn the_secure_channel_has_a_port_of_its_own() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).map(|arguments| arguments.command);
        for (line, is_secure, expected) in [
            ("pilotctl connect bravo", false, 1000),
            ("pilotctl connect bravo --secure", true, 443),
            ("pilotctl connect bravo 5000 --secure -m hello", true, 5000),
            ("pilotctl recv 5000", false, 5000),
            ("pilotctl recv --secure --count 2", true, 443),
            ("pilotctl recv 5000 --secure", true, 5000),
        ] {
            let found = match parse(line) {
                Ok(Command::Connect(what)) => (what.secure, what.port()),
                Ok(Command::Recv(what)) => (what.secure, what.port()),
                other => panic!("{line}: {other:?}"),
            };
            assert_eq!(found, (is_secure, expected), "{line}");
        }
        assert!(parse("pilotctl recv").is_err(), "a plain port has to be named");
        assert!(parse("pilotctl listen 5000 --secure").is_err(), "datagrams have no secure channel");
    }
}
