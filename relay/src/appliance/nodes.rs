//! `pilot-relay nodes …`: who belongs to the network. Asks the relay at work on its admin address; changes nothing itself.

mod client;
mod rate;
mod table;

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use self::client::{Client, Failure};
use self::rate::{Rate, rate};
use super::{succession, upgrade};

/// Nodes asked for at once.
const PAGE: usize = 500;

/// Where a relay serves whose settings say nothing else.
const DEFAULT_HTTP: &str = "127.0.0.1:3000";

const EXIT_STATUS: &str = "\
A node is named by its number (5), address (0:0000.0000.0005), hostname, or public key (base64).

Of several, each is tried; one that cannot be done keeps none of the others.

Exit status, of several the highest:
  0  done, or it was so already
  1  it cannot be done; the message says why
  2  the command line is wrong
  3  no such node
  4  no relay answers at the admin address
  5  the admin token cannot be read, or is not the relay's";

/// What to do, and where. The flags have names of their own inside, as clap takes global ones of the same name for those of
/// the relay.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    command: Command,
    /// Admin address of the relay, as 127.0.0.1:3000 or http://127.0.0.1:3000 [default: that of the relay at work, else
    /// 127.0.0.1:3000]
    #[arg(id = "nodes_http", long = "http", global = true, value_name = "ADDR", env = "PILOT_RELAY_HTTP")]
    http: Option<String>,
    /// File with the administrator's token [default: admin-token in the data folder]
    #[arg(
        id = "nodes_token_file",
        long = "admin-token-file",
        global = true,
        value_name = "FILE",
        env = "PILOT_RELAY_ADMIN_TOKEN_FILE"
    )]
    admin_token_file: Option<PathBuf>,
    /// Data folder of the relay, for its admin token [default: /var/lib/pilot-relay for root, else
    /// ~/.local/share/pilot-relay]
    #[arg(id = "nodes_data_dir", long = "data-dir", global = true, value_name = "DIR", env = "PILOT_RELAY_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Print JSON, one document: of several nodes an array in their order, in which {"node": NAME, "error": TEXT} stands
    /// for one that failed. Errors are told on standard error, too
    #[arg(id = "nodes_json", long = "json", global = true)]
    json: bool,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List nodes, and keys that were approved or banned before they registered
    List {
        /// Only these
        #[arg(long, value_enum, default_value_t = State::All)]
        state: State,
    },
    /// Show all that is known of one node
    Show {
        /// Which
        node: String,
    },
    /// Let nodes in: such as wait, or by public key such as have not registered yet
    Approve {
        /// Which
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Keep nodes out: nothing of them is relayed, resolved or found from now on, and they cannot register
    ///
    /// Tunnels that lead directly to other nodes, past the relay: our agents end theirs with their next heartbeat, within a
    /// minute; unmodified daemons keep theirs until they end by themselves.
    Ban {
        /// Which
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// Why, to be shown with the node
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// End bans
    Unban {
        /// Which
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// End registrations, with names, trust and memberships. Numbers stay with their keys; a node that still runs registers
    /// again, so ban it to keep it out
    Remove {
        /// Which
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Say what a node may send through the relay, in the place of --sender-packets and --sender-bytes; without flags, show it
    Quota {
        /// Which
        node: String,
        /// Packets per second, as 500 or 20k; `default` is what everyone may send, `unlimited` is no limit
        #[arg(long, value_name = "N", value_parser = rate)]
        packets: Option<Rate>,
        /// Bytes per second, as 10M
        #[arg(long, value_name = "N", value_parser = rate)]
        bytes: Option<Rate>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    All,
    Approved,
    Pending,
    Banned,
}

/// Runs it.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { command, http, admin_token_file, data_dir, json } = arguments;
    let http = http.unwrap_or_else(|| at_work(data_dir.as_deref()).unwrap_or_else(|| DEFAULT_HTTP.to_owned()));
    let done = Client::new(&http, admin_token_file, data_dir).and_then(|client| match command {
        Command::List { state } => list(&client, state, json),
        Command::Show { node } => show(&client.get(&node_path(&node, ""))?, json),
        Command::Approve { nodes } => each(&client, &nodes, "approve", &Value::Null, json),
        Command::Ban { nodes, reason } => each(&client, &nodes, "ban", &json!({ "reason": reason }), json),
        Command::Unban { nodes } => each(&client, &nodes, "unban", &Value::Null, json),
        Command::Remove { nodes } => each(&client, &nodes, "remove", &Value::Null, json),
        Command::Quota { node, packets: None, bytes: None } => {
            let found = client.get(&node_path(&node, ""))?;
            if json { print(&found["quota"]) } else { write(&table::quota(&found)) }
        }
        Command::Quota { node, packets, bytes } => {
            let mut wanted = serde_json::Map::new();
            packets.map(|Rate(rate)| wanted.insert("packets_per_second".to_owned(), rate.into()));
            bytes.map(|Rate(rate)| wanted.insert("bytes_per_second".to_owned(), rate.into()));
            each(&client, &[node], "quota", &Value::Object(wanted), json)
        }
    });
    Ok(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("pilot-relay: {failure}");
            failure.exit_code()
        }
    })
}

/// The admin address of the relay at work, by its own word; `None` where it cannot be asked, or does not say.
fn at_work(data_dir: Option<&Path>) -> Option<String> {
    let (_, channel) = upgrade::find(data_dir).ok()?;
    let mut address = succession::status(&channel?).ok()?.admin?;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    Some(address.to_string())
}

/// Of `/nodes/NODE` and what follows.
fn node_path(node: &str, act: &str) -> String {
    format!("/nodes/{}{act}", client::encoded(node))
}

fn list(client: &Client, state: State, json: bool) -> Result<(), Failure> {
    let state = state.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let (mut nodes, mut keys) = (Vec::new(), Vec::new());
    let (mut after, mut begun) = (0, false);
    loop {
        let mut page = client.get(&format!("/nodes?state={state}&after={after}&limit={PAGE}"))?;
        let now = page["now"].as_u64().unwrap_or_default();
        let (some, said) = (taken(&mut page["nodes"]), taken(&mut page["keys"]));
        if json {
            nodes.extend(some);
            keys.extend(said);
        } else {
            // Page by page, so that a large network begins to appear at once.
            write(&table::nodes(&some, now, !begun))?;
            keys.extend(said);
            begun = true;
        }
        match page["next_after"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    if json { print(&json!({ "nodes": nodes, "keys": keys })) } else { write(&table::keys(&keys)) }
}

fn taken(value: &mut Value) -> Vec<Value> {
    match value.take() {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}

fn show(node: &Value, json: bool) -> Result<(), Failure> {
    if json { print(node) } else { write(&table::one(node)) }
}

/// Does the same to all of them.
fn each(client: &Client, nodes: &[String], act: &str, body: &Value, json: bool) -> Result<(), Failure> {
    let ask = |node: &String| client.post(&node_path(node, &format!("/{act}")), body);
    if let [node] = nodes {
        let answer = ask(node)?;
        return if json { print(&answer) } else { write(&table::done(node, act, &answer)) };
    }
    let (mut answers, mut failures, mut untried) = (Vec::new(), Vec::new(), &nodes[..0]);
    for (index, node) in nodes.iter().enumerate() {
        match ask(node) {
            Ok(answer) if json => answers.push(answer),
            Ok(answer) => write(&table::done(node, act, &answer))?,
            Err(failure) => {
                eprintln!("pilot-relay: {node}: {failure}");
                answers.push(json!({ "node": node, "error": failure.to_string() }));
                let concerns_all = failure.concerns_all();
                failures.push(failure);
                if concerns_all {
                    untried = &nodes[index + 1..];
                    break;
                }
            }
        }
    }
    answers.extend(untried.iter().map(|node| json!({ "node": node, "error": "not tried" })));
    if json {
        print(&Value::Array(answers))?;
    }
    Failure::of_several(&failures, nodes.len(), untried).map_or(Ok(()), Err)
}

fn print(value: &Value) -> Result<(), Failure> {
    write(&format!("{value:#}\n"))
}

/// A reader that has gone away is no error.
fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Other(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
