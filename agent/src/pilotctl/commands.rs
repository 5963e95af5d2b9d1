//! What each command does. One file per subject; each asks the daemon, then shows the answer.

mod broadcast;
mod capability;
mod channel;
mod daemon;
mod datagrams;
mod delivery;
mod events;
mod exchange;
mod explain;
mod flight;
mod groups;
mod mailbox;
mod names;
mod networks;
mod node;
mod peers;
mod ping;
mod query;
mod relevant;
mod streams;
mod trust;
mod watch;

use super::arguments::{Arguments, Command};
use super::directory;
use super::documents;
use super::exit::Failure;
use super::places::Places;
use super::screen::Screen;
use super::session::Session;

/// Does what the command line says.
///
/// # Errors
/// Why it failed, for the user.
pub async fn run(arguments: Arguments, screen: &mut Screen) -> Result<(), Failure> {
    let places = Places::of_user();
    let session = &Session {
        is_socket_named: arguments.socket.is_some(),
        socket: arguments.socket.unwrap_or_else(|| places.socket()),
        registry_fingerprint: match arguments.registry_fingerprint {
            Some(named) => Some(named),
            None => places.registry_fingerprint(arguments.registry.is_some())?,
        },
        registry: arguments.registry.or_else(|| places.registry()),
        timeout: arguments.timeout,
        traceparent: arguments.traceparent.or_else(trace_of_environment),
        places,
    };
    match arguments.command {
        Command::Daemon(command) => daemon::run(session, screen, command).await,

        Command::Ping(what) => ping::ping(session, screen, &what).await,
        Command::Traceroute(what) => ping::traceroute(session, screen, &what.peer).await,
        Command::Bench(what) => ping::bench(session, screen, &what).await,

        Command::Connect(what) => streams::connect(session, screen, &what).await,
        Command::Send(what) => streams::send(session, screen, what).await,
        Command::Recv(what) => streams::receive(session, screen, &what).await,

        Command::Listen(what) => datagrams::listen(session, screen, &what).await,
        Command::Dgram(what) => datagrams::send(session, screen, &what).await,
        Command::Broadcast(what) if what.message.is_some() => datagrams::broadcast(session, screen, &what).await,
        Command::Broadcast(what) => broadcast::broadcast(session, screen, &what).await,

        Command::SendMessage(what) => exchange::send_message(session, screen, *what).await,
        Command::SendFile(what) => exchange::send_file(session, screen, &what).await,
        Command::Inbox(what) => mailbox::inbox(session, screen, what),
        Command::Received(what) => mailbox::received(session, screen, &what.choice),

        Command::Publish(what) => events::publish(session, screen, &what).await,
        Command::Subscribe(what) => events::subscribe(session, screen, &what).await,

        Command::Handshake(what) => trust::handshake(session, screen, &what).await,
        Command::Approve(who) => trust::approve(session, screen, &who.peer).await,
        Command::Reject(what) => trust::reject(session, screen, &what).await,
        Command::Untrust(who) => trust::untrust(session, screen, &who.peer).await,
        Command::Pending => trust::pending(session, screen).await,
        Command::Trust(what) => trust::trusted(session, screen, &what).await,

        Command::Query(what) => query::query(session, screen, &what).await,
        Command::Watch(what) => watch::watch(session, screen, &what).await,
        Command::Capability(what) => capability::run(session, screen, what).await,
        Command::Group(what) => groups::run(session, screen, what).await,

        Command::Find(what) => names::find(session, screen, &what.hostname).await,
        Command::Lookup(who) => names::lookup(session, screen, &who.peer).await,
        Command::SetHostname(what) => names::set_hostname(session, screen, &what.hostname).await,
        Command::ClearHostname => names::clear_hostname(session, screen).await,
        Command::SetPublic => names::set_visibility(session, screen, true).await,
        Command::SetPrivate => names::set_visibility(session, screen, false).await,
        Command::SetTags(what) => names::set_tags(session, screen, &what.tags).await,
        Command::ClearTags => names::clear_tags(session, screen).await,
        Command::Network(command) => networks::run(session, screen, command).await,
        Command::RotateKey => names::rotate_key(session, screen).await,
        Command::Register(_) => names::register(session, screen).await,
        Command::Deregister => names::deregister(session, screen).await,

        Command::Explain(who) => explain::explain(session, screen, &who.peer).await,
        Command::Events(what) => flight::events(session, screen, &what).await,
        Command::Peers(what) => peers::peers(session, screen, &what).await,
        Command::Connections => peers::connections(session, screen).await,
        Command::Disconnect(what) => peers::disconnect(session, screen, what.connection).await,
        Command::PreferDirect(who) => peers::prefer_direct(session, screen, &who.peer).await,
        Command::Info => node::info(session, screen).await,
        Command::Health => node::health(session, screen).await,

        // Existing scripts take the bare number, with --json too.
        Command::Version => Ok(screen.line(env!("CARGO_PKG_VERSION"))?),
        Command::Completions(what) => Ok(screen.bytes(&documents::completions(what.shell))?),
        Command::Man(what) => match what.folder {
            None => Ok(screen.bytes(&documents::manual()?)?),
            Some(folder) => {
                let pages = documents::manual_pages(&folder)?;
                screen.talk(&format!("{pages} pages in {}", folder.display()));
                Ok(())
            }
        },
    }
}

/// The trace of whoever started this program. Whatever else the variable may hold counts as nothing.
fn trace_of_environment() -> Option<wire::trace::TraceContext> {
    std::env::var("TRACEPARENT").ok()?.parse().ok()
}

/// A field that is a text, for a person.
fn text_of<'a>(value: &'a serde_json::Value, field: &str) -> std::borrow::Cow<'a, str> {
    super::text::harmless(value[field].as_str().unwrap_or_default())
}

/// A field that is a number; 0 where it is missing.
fn number_of(value: &serde_json::Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_default()
}
