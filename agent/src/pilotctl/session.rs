//! A command's connection to the daemon: who a peer is, and what to do when it cannot be reached.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use wire::NodeId;
use wire::address::{Address, SocketAddress};
use wire::ipc::{HandshakeRequest, Request};
use wire::trace::TraceContext;

use super::duration;
use super::exit::{Code, Failure};
use super::places::Places;
use super::screen::Screen;
use super::text;
use crate::client::{Client, RequestError, Stream, is_unknown_command};
use crate::config::values::Fingerprint;

/// For an answer of the daemon that waits for nobody else.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// For a stream to open: the daemon itself gives up earlier.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// For the daemon's word that a stream is closed; the rest it does alone.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What our daemon says when it cannot ask the directory.
const DIRECTORY_AWAY: &str = "the directory cannot be reached";

/// Where a command runs, and what it was told.
#[derive(Clone)]
pub(super) struct Session {
    pub places: Places,
    pub socket: PathBuf,
    /// Whether the command line names the socket.
    pub is_socket_named: bool,
    pub registry: Option<String>,
    /// With it TLS is spoken to the directory.
    pub registry_fingerprint: Option<Fingerprint>,
    /// As the command line has it; zero is for ever.
    pub timeout: Option<Duration>,
    /// The trace that what is done belongs to.
    pub traceparent: Option<TraceContext>,
}

/// A node as the user named it.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub node: NodeId,
    pub address: Address,
}

impl Session {
    /// Connects to the daemon.
    pub(super) async fn connect(&self) -> Result<Daemon, Failure> {
        let daemon = Daemon { client: Client::connect(&self.socket).await? };
        if let Some(trace) = self.traceparent {
            // A daemon that knows no traces does everything else.
            let _ = daemon.trace(&json!({"op": "trace", "traceparent": trace.to_string()})).await;
        }
        Ok(daemon)
    }

    /// Waits no longer than the user wants, or than `usual`.
    pub(super) async fn within<T>(
        &self,
        usual: Duration,
        what: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let limit = self.limit(usual);
        match limit {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out(what, limit))),
        }
    }

    /// How long to wait, none for ever.
    pub(super) fn limit(&self, usual: Duration) -> Option<Duration> {
        Some(self.timeout.unwrap_or(usual)).filter(|limit| !limit.is_zero())
    }
}

/// What took too long.
pub(super) fn timed_out(what: &str, limit: Duration) -> Failure {
    Failure::new(Code::Timeout, format!("{what}: no answer within {}", duration::limit(limit)))
        .hint("wait longer with --timeout, or see the path: pilotctl explain PEER")
}

/// The daemon, connected.
pub(super) struct Daemon {
    pub client: Client,
}

impl Daemon {
    /// Asks what the daemon answers by itself.
    pub(super) async fn ask(&self, request: Request<'_>) -> Result<Value, Failure> {
        match tokio::time::timeout(ANSWER_TIMEOUT, self.client.ask(request)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Failure::new(Code::Timeout, "the daemon does not answer")
                .hint("see its log, or start it again: pilotctl daemon stop; pilotctl daemon start")),
        }
    }

    /// Asks what only this fleet's daemon knows: `op` and its fields.
    pub(super) async fn extension(&self, request: &Value) -> Result<Value, Failure> {
        self.ask(Request::Extension(&request.to_string())).await.map_err(|failure| {
            let is_older =
                is_unknown_command(&failure.message) || failure.message.contains("does not know the operation");
            match failure.code {
                Code::ConnectionFailed if is_older => {
                    failure.hint("this needs a newer daemon, pilot-agent: pilotctl daemon stop; pilotctl daemon start")
                }
                Code::ConnectionFailed if failure.message.contains("not found") => {
                    Failure { code: Code::NotFound, ..failure }.hint("see groups: pilotctl group list")
                }
                _ => failure,
            }
        })
    }

    /// The id of the trace a stream belongs to, if the daemon knows one.
    pub(super) async fn trace_of(&self, stream: &Stream) -> Option<String> {
        let answer = self.trace(&json!({"op": "trace", "connection": stream.connection()})).await.ok()?;
        Some(answer["trace_id"].as_str()?.to_owned())
    }

    async fn trace(&self, question: &Value) -> Result<Value, Failure> {
        self.ask(Request::Extension(&question.to_string())).await
    }

    /// Who the user means.
    pub(super) async fn peer(&self, screen: &mut Screen, named: &str) -> Result<Peer, Failure> {
        if let Some(address) = parse_peer(named)? {
            return Ok(Peer { node: address.node, address });
        }
        let answer = self.resolve(named).await.map_err(|failure| match failure.code {
            Code::ConnectionFailed if failure.message.contains(DIRECTORY_AWAY) => {
                let asked = text::harmless(named);
                Failure::new(Code::ConnectionFailed, format!("cannot resolve \"{asked}\": {}", failure.message))
                    .hint("the daemon keeps trying; a peer's address works without the directory")
            }
            Code::ConnectionFailed if !failure.message.contains("connection") => {
                let asked = text::harmless(named);
                Failure::new(Code::NotFound, format!("cannot resolve \"{asked}\": {}", failure.message))
                    .hint("is the hostname correct, and does its node trust this one? see: pilotctl handshake")
            }
            _ => failure,
        })?;
        let address = answer["address"].as_str().and_then(|address| address.parse::<Address>().ok());
        let address = address.ok_or_else(|| RequestError::Senseless("a name without an address".to_owned()))?;
        screen.talk(&format!("resolved \"{}\" → {address}", text::harmless(named)));
        Ok(Peer { node: address.node, address })
    }

    /// What the directory knows of a hostname.
    pub(super) async fn resolve(&self, hostname: &str) -> Result<Value, Failure> {
        self.ask(Request::ResolveHostname(hostname)).await
    }

    /// Opens a stream.
    pub(super) async fn dial(&self, peer: &Peer, port: u16) -> Result<Stream, Failure> {
        match self.client.dial(SocketAddress { address: peer.address, port }).await {
            Ok(stream) => Ok(stream),
            Err(RequestError::Refused(reason)) => Err(self.unreachable(peer, port, &reason).await),
            Err(error) => Err(error.into()),
        }
    }

    /// Why a peer cannot be reached, as far as this node knows.
    async fn unreachable(&self, peer: &Peer, port: u16, reason: &str) -> Failure {
        let Peer { node, address } = peer;
        let message = format!("cannot connect to {address} port {port}: {reason}");
        if reason.contains("refused") || reason.contains("reset") {
            return Failure::new(Code::ConnectionFailed, message)
                .hint(format!("nothing listens there; is the node itself reachable? pilotctl ping {address}"));
        }
        if ["not found", "not trusted", "untrusted"].iter().any(|word| reason.contains(word)) {
            return Failure::new(Code::TrustRequired, message).hint(format!("run: pilotctl handshake {address}"));
        }
        let asked = Request::Handshake(HandshakeRequest::WaitForTrust { node: *node, timeout_ms: 0 });
        let trusted = self.ask(asked).await.map(|answer| answer["trusted"].as_bool());
        match trusted {
            Ok(Some(false)) => Failure::new(Code::ConnectionFailed, message).hint(format!(
                "is it running, and public? a private node must trust this one first: pilotctl handshake {address}"
            )),
            _ => Failure::new(Code::ConnectionFailed, message)
                .hint(format!("see what was tried: pilotctl explain {address}")),
        }
    }
}

/// Closes a stream and waits for the daemon's word, so that what was written is not lost with the connection.
pub(super) async fn close(mut stream: impl tokio::io::AsyncWrite + Unpin) {
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, tokio::io::AsyncWriteExt::shutdown(&mut stream)).await;
}

/// A node id or an address; `None` for what must be a hostname.
fn parse_peer(named: &str) -> Result<Option<Address>, Failure> {
    let invalid = |expected: &str| Failure::usage(format!("\"{}\" is not {expected}", text::harmless(named)));
    if !named.is_empty() && named.bytes().all(|byte| byte.is_ascii_digit()) {
        let node = named.parse().map(NodeId).map_err(|_| invalid("a node id"))?;
        return if node.is_node() { Ok(Some(node.address())) } else { Err(invalid("a node id")) };
    }
    if named.contains(':') {
        return named.parse().map(Some).map_err(|error: wire::address::AddressError| Failure::usage(error.to_string()));
    }
    if named.is_empty() {
        return Err(invalid("a hostname, node id or address"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_number_an_address_or_a_name() {
        assert_eq!(parse_peer("2"), Ok(Some(NodeId(2).address())));
        assert_eq!(parse_peer("0:0000.4B2E.1A3D"), Ok(Some(NodeId(0x4B2E_1A3D).address())));
        assert_eq!(parse_peer("specialist-papers"), Ok(None));
        for wrong in ["0", "4294967295", "99999999999", "0:12", ""] {
            assert_eq!(parse_peer(wrong).unwrap_err().exit(), crate::pilotctl::exit::Exit::Usage, "{wrong}");
        }
    }
}
