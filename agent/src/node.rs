//! A node: tunnels, paths, streams, trust and its place in the directory, joined to one plain value.
//!
//! ```text
//!   datagrams ──► handle_datagram ─┐              ┌─ poll_transmit ──► datagrams
//!   answers ────► handle_answer   ─┤              ├─ poll_request  ──► the directory
//!   the application: dial, write … ─┼──► Node ────┼─ poll_event    ──► the application
//!   time ───────► handle_timeout  ─┘              └─ poll_timeout
//! ```
//!
//! After every call the owner takes all three polls until they are empty, then waits for the next input or for
//! [`Node::poll_timeout`]. There is no I/O, clock or chance inside: a seed and the same calls give the same outputs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use wire::NodeId;
use wire::address::{Address, SocketAddress};
use wire::registry::answer::Answer;
use wire::registry::request::Request;

use crate::Time;
use crate::identity::Identity;
use crate::stream;

/// Room for any datagram that [`Node::poll_transmit`] writes.
pub const DATAGRAM_MAX: usize = 65_535;

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name wanted; may be empty.
    pub hostname: String,
    /// An email address or another name of whoever runs the node; may be empty.
    pub owner: String,
    /// The release that is announced.
    pub version: String,
    /// Anyone may connect; otherwise only those that are trusted, or that share a network.
    pub public: bool,
    /// Never go direct, and hide the own endpoint.
    pub relay_only: bool,
    /// Trust whoever asks.
    pub trust_auto_approve: bool,
    /// Relays, the first that answers is used. Replaced by the directory's list unless `relays_fixed`.
    pub relays: Vec<SocketAddr>,
    /// The list of relays is the operator's; the directory is not asked for one.
    pub relays_fixed: bool,
    /// The endpoint to announce, where the operator knows better than the relay.
    pub endpoint: Option<SocketAddr>,
    /// For every stream.
    pub stream: stream::Config,
}

/// One stream of a node; also the connection number that clients of the daemon see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// One question to the directory, to match its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A datagram to be sent: it stands at the start of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// Bytes of it.
    pub len: usize,
}

/// What the application should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The directory has given the node its id.
    Registered {
        /// The id.
        node: NodeId,
        /// The address that goes with it.
        address: Address,
    },
    /// The directory refused something the node was told to announce, as a hostname that another has.
    Complaint(String),
    /// A stream that was dialled is open.
    Opened(StreamId),
    /// A peer has opened a stream to a bound port.
    Accepted {
        /// The bound port.
        port: u16,
        /// The stream.
        stream: StreamId,
        /// Who dialled.
        remote: SocketAddress,
    },
    /// A stream has bytes to read, or its end has come: then `read` gives nothing and [`Node::stream_end`] says why.
    Readable(StreamId),
    /// A stream takes bytes again after a `write` that took fewer than it was given.
    Writable(StreamId),
    /// A datagram has come.
    Datagram {
        /// Who sent it.
        source: SocketAddress,
        /// Our port it came to.
        port: u16,
        /// What was sent.
        data: Box<[u8]>,
    },
    /// The path to a peer has changed.
    PathChanged {
        /// The peer.
        peer: NodeId,
        /// The direct endpoint; none through the relay.
        direct: Option<SocketAddr>,
    },
    /// The directory's list of relays, to be resolved and given to [`Node::set_relays`].
    RelaysListed(Vec<String>),
    /// What [`Node::trust`] holds has changed; keep it.
    TrustChanged,
}

/// Why a question to the directory has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// There is no connection, or it broke before the answer came.
    #[error("the directory cannot be reached: {0}")]
    Unreachable(String),
}

/// Why a stream cannot be dialled, or a datagram not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The directory has not given this node its id yet.
    #[error("this node is not registered yet")]
    NotRegistered,
    /// The address is no other node's.
    #[error("this is no other node's address")]
    NotANode,
    /// As many streams as there may be.
    #[error("too many connections")]
    TooMany,
    /// Longer than a packet can carry.
    #[error("too long for a datagram")]
    TooLong,
}

/// Why a port cannot be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Another has it.
    #[error("port {0} already bound")]
    InUse(u16),
    /// No free port is left.
    #[error("no free port")]
    Exhausted,
}

/// One stream, for a person.
#[derive(Clone, Copy, Debug)]
pub struct StreamInfo {
    /// Its number.
    pub id: StreamId,
    /// Our port.
    pub local_port: u16,
    /// The other end.
    pub remote: SocketAddress,
    /// Where it stands.
    pub state: stream::State,
    /// How it fares.
    pub metrics: stream::Metrics,
    /// Bytes taken from the application, bytes given to it.
    pub bytes_sent: u64,
    /// Bytes given to the application.
    pub bytes_received: u64,
}

/// One peer, for a person.
#[derive(Clone, Copy, Debug)]
pub struct PeerInfo {
    /// Who.
    pub node: NodeId,
    /// The direct endpoint in use; none through the relay.
    pub direct: Option<SocketAddr>,
    /// Whether there is a session; all sessions are authenticated.
    pub has_session: bool,
    /// Round-trip time of the path in use, once measured.
    pub rtt: Option<Duration>,
}

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of them.
    pub bytes_sent: u64,
    /// Datagrams received, whatever became of them.
    pub datagrams_received: u64,
    /// Bytes of them.
    pub bytes_received: u64,
    /// Frames sealed.
    pub sealed: u64,
    /// Frames opened.
    pub opened: u64,
    /// Frames that did not open.
    pub not_opened: u64,
    /// Datagrams dropped for any reason, those included.
    pub dropped: u64,
}

/// A node.
pub struct Node {
    _config: Config,
}

#[expect(clippy::unimplemented, reason = "the shape first")]
#[expect(unused_variables, reason = "the shape first")]
impl Node {
    /// A node that knows nobody yet. `seed` is fresh chance at each start.
    #[must_use]
    pub fn new(now: Time, config: Config, identity: Arc<Identity>, seed: &[u8; 32]) -> Self {
        unimplemented!()
    }

    /// Unix seconds, which trust messages carry. To be told now and then: once a turn of the owner's loop.
    pub fn set_wall_clock(&mut self, unix_seconds: u64) {
        unimplemented!()
    }

    /// The endpoints of the tunnel socket in the host's own networks: at the start, and whenever they change.
    pub fn set_local_endpoints(&mut self, now: Time, endpoints: &[SocketAddr]) {
        unimplemented!()
    }

    /// Relays, the best first.
    pub fn set_relays(&mut self, now: Time, relays: &[SocketAddr]) {
        unimplemented!()
    }

    /// Takes a datagram of the tunnel socket. What is sealed is opened in place.
    pub fn handle_datagram(&mut self, now: Time, source: SocketAddr, datagram: &mut [u8]) {
        unimplemented!()
    }

    /// The network reports that datagrams to `destination` do not arrive (ICMP).
    pub fn handle_unreachable(&mut self, now: Time, destination: SocketAddr) {
        unimplemented!()
    }

    /// The directory's answer to one of [`Node::poll_request`].
    pub fn handle_answer(&mut self, now: Time, ticket: Ticket, answer: Result<Answer, Unanswered>) {
        unimplemented!()
    }

    /// Does what has fallen due. Early and late calls do no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        unimplemented!()
    }

    /// When [`Node::handle_timeout`] is to be called, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        unimplemented!()
    }

    /// Writes the next datagram to be sent into `out`, which has room for [`DATAGRAM_MAX`]. Datagrams of one stream come
    /// in a row, of one size but the last, so that the owner can send them as one.
    pub fn poll_transmit(&mut self, now: Time, out: &mut [u8]) -> Option<Transmit> {
        unimplemented!()
    }

    /// The next question to the directory, signed where it has to be.
    pub fn poll_request(&mut self) -> Option<(Ticket, Request)> {
        unimplemented!()
    }

    /// The next thing the application should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        unimplemented!()
    }

    /// The node's id, once it is registered.
    #[must_use]
    pub fn id(&self) -> Option<NodeId> {
        unimplemented!()
    }

    /// A request with this node's signature, for what the application itself asks of the directory.
    #[must_use]
    pub fn sign(&self, operation: wire::registry::Operation) -> Request {
        unimplemented!()
    }

    // --- the application: ports and streams ---

    /// Takes a port for streams and datagrams; 0 for any free one.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(&mut self, port: u16) -> Result<u16, BindError> {
        unimplemented!()
    }

    /// Gives a port back. Its open streams go on.
    pub fn unbind(&mut self, port: u16) {
        unimplemented!()
    }

    /// Opens a stream; [`Event::Opened`] follows, or [`Event::Readable`] when it fails.
    ///
    /// # Errors
    /// [`DialError`] when it cannot even be tried.
    pub fn dial(&mut self, now: Time, to: SocketAddress) -> Result<StreamId, DialError> {
        unimplemented!()
    }

    /// Takes bytes to be sent, as many as there is room for; none once the stream takes no more.
    pub fn write(&mut self, now: Time, stream: StreamId, bytes: &[u8]) -> usize {
        unimplemented!()
    }

    /// Bytes that [`Node::write`] would take.
    #[must_use]
    pub fn writable_bytes(&self, stream: StreamId) -> usize {
        unimplemented!()
    }

    /// Gives bytes that have arrived in order, as many as `out` holds.
    pub fn read(&mut self, now: Time, stream: StreamId, out: &mut [u8]) -> usize {
        unimplemented!()
    }

    /// Why no more bytes will come, once that is so; what has arrived before can still be read.
    #[must_use]
    pub fn stream_end(&self, stream: StreamId) -> Option<stream::End> {
        unimplemented!()
    }

    /// The application is done with a stream: what it wrote is still delivered, then the stream is gone.
    pub fn close(&mut self, now: Time, stream: StreamId) {
        unimplemented!()
    }

    /// Gives a stream up with an RST.
    pub fn abort(&mut self, now: Time, stream: StreamId) {
        unimplemented!()
    }

    /// Sends a datagram from `port`.
    ///
    /// # Errors
    /// [`DialError`] when it cannot even be tried.
    pub fn send_datagram(&mut self, now: Time, port: u16, to: SocketAddress, data: &[u8]) -> Result<(), DialError> {
        unimplemented!()
    }

    // --- the application: peers ---

    /// Leaves the relay for this peer if a direct path can be found, and tries at once.
    pub fn prefer_direct(&mut self, now: Time, peer: NodeId) {
        unimplemented!()
    }

    /// Whether [`Node::prefer_direct`] has something to go on: there is a tunnel.
    #[must_use]
    pub fn peer(&self, peer: NodeId) -> Option<PeerInfo> {
        unimplemented!()
    }

    /// All peers with a tunnel, or with one under way.
    pub fn peers(&self) -> impl Iterator<Item = PeerInfo> + '_ {
        std::iter::empty()
    }

    /// All streams.
    pub fn streams(&self) -> impl Iterator<Item = StreamInfo> + '_ {
        std::iter::empty()
    }

    /// Ports that are bound.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        std::iter::empty()
    }

    /// Sums since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        unimplemented!()
    }

    /// The relay in use, once one has answered.
    #[must_use]
    pub fn relay(&self) -> Option<SocketAddr> {
        unimplemented!()
    }

    /// This node's endpoint as the relay sees it.
    #[must_use]
    pub fn mapped_endpoint(&self) -> Option<SocketAddr> {
        unimplemented!()
    }

    // --- asked for by the daemon ---

    /// The name to announce with the next registration; the directory has taken it already.
    pub fn set_hostname(&mut self, hostname: String) {
        unimplemented!()
    }

    /// Whether anyone may connect; the directory has been told already.
    pub fn set_public(&mut self, public: bool) {
        unimplemented!()
    }

    /// Whom this node trusts.
    #[must_use]
    pub fn trust(&self) -> &crate::trust::Trust {
        unimplemented!()
    }

    /// [`crate::trust::Trust::restore`].
    pub fn restore_trust(&mut self, text: &str) -> Result<(), crate::trust::Corrupt> {
        unimplemented!()
    }

    /// [`crate::trust::Trust::request`].
    pub fn trust_request(
        &mut self,
        now: Time,
        peer: NodeId,
        justification: &str,
    ) -> Result<(), crate::trust::CommandError> {
        unimplemented!()
    }

    /// [`crate::trust::Trust::approve`].
    pub fn trust_approve(&mut self, now: Time, peer: NodeId) -> Result<bool, crate::trust::CommandError> {
        unimplemented!()
    }

    /// [`crate::trust::Trust::reject`].
    pub fn trust_reject(
        &mut self,
        now: Time,
        peer: NodeId,
        reason: &str,
    ) -> Result<bool, crate::trust::CommandError> {
        unimplemented!()
    }

    /// [`crate::trust::Trust::revoke`].
    pub fn trust_revoke(&mut self, now: Time, peer: NodeId) -> Result<bool, crate::trust::CommandError> {
        unimplemented!()
    }
}
