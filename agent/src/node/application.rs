//! What the application may do and ask.

use wire::NodeId;
use wire::address::{Address, SocketAddress};
use wire::packet::{self, Flags, PAYLOAD_MAX, Packet, Protocol};
use wire::registry::Operation;
use wire::registry::request::Request;

use std::net::SocketAddr;

use super::connections::{Connection, Key, Owner};
use super::peers::Peer;
use super::questions::sign;
use super::span::DialTrace;
use super::{BindError, Counters, DialError, Event, Node, PeerInfo, StreamId, StreamInfo, Trouble};
use crate::Time;
use crate::nat::Behavior;
use crate::registration::Status;
use crate::stream::{End, Stream};
use crate::trust::Trust;

/// The longest datagram: what fits into one of UDP, sealed and relayed.
const DATAGRAM_PAYLOAD_MAX: usize = PAYLOAD_MAX - 128;

impl Node {
    // --- ports and streams ---

    /// Takes a port for streams and datagrams; 0 for any free one.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(&mut self, port: u16) -> Result<u16, BindError> {
        if port == super::handshakes::HANDSHAKE_PORT {
            return Err(BindError::InUse(port));
        }
        self.ports.bind(port)
    }

    /// Gives a port back. Its open streams go on.
    pub fn unbind(&mut self, port: u16) {
        self.ports.unbind(port);
    }

    /// Opens a stream; [`super::Event::Opened`] follows, or [`super::Event::Readable`] when it fails.
    ///
    /// # Errors
    /// [`DialError`] when it cannot even be tried.
    pub fn dial(&mut self, now: Time, to: SocketAddress) -> Result<StreamId, DialError> {
        let id = self.open(now, to, Owner::Application, None)?;
        self.attend(now);
        Ok(id)
    }

    /// As [`Node::dial`], followed by a trace: its spans come from [`Node::poll_span`], and the peer is told if it
    /// understands that.
    ///
    /// # Errors
    /// [`DialError`] when it cannot even be tried.
    pub fn dial_traced(&mut self, now: Time, to: SocketAddress, trace: DialTrace) -> Result<StreamId, DialError> {
        let id = self.open(now, to, Owner::Application, Some(trace))?;
        self.attend(now);
        Ok(id)
    }

    /// Opens a stream for `owner`.
    pub(super) fn open(
        &mut self,
        now: Time,
        to: SocketAddress,
        owner: Owner,
        trace: Option<DialTrace>,
    ) -> Result<StreamId, DialError> {
        let peer = to.address.node;
        let own = self.check_peer(peer)?;
        if self.connections.is_full() {
            return Err(DialError::TooMany);
        }
        let key = |local_port| Key { peer, local_port, remote_port: to.port };
        let port = self.ports.ephemeral(|port| self.connections.find(&key(port)).is_none());
        let port = port.ok_or(DialError::TooMany)?;
        let local = SocketAddress { address: Address { network: to.address.network, node: own }, port };
        let stream = Stream::connect(now, self.config.stream);
        let is_application = owner == Owner::Application;
        let mut connection = Connection::new(now, stream, key(port), local, to, owner);
        connection.opening = true;
        let id = self.connections.insert(connection);
        if peer != own {
            // Who gets a message about trust is not let in for it.
            if is_application {
                self.admission.handle_dial(now, peer);
            }
            let state = self.admit_peer(now, peer);
            // That it is banned counts until the directory knows it again.
            state.trouble.take_if(|trouble| *trouble != Trouble::Banned);
        }
        self.follow_dial(now, id, trace);
        if peer != own {
            self.reach(now, peer);
        }
        Ok(id)
    }

    fn check_peer(&self, peer: NodeId) -> Result<NodeId, DialError> {
        let own = self.id().ok_or(DialError::NotRegistered)?;
        if peer.is_node() { Ok(own) } else { Err(DialError::NotANode) }
    }

    /// Takes bytes to be sent, as many as there is room for; none once the stream takes no more.
    pub fn write(&mut self, now: Time, stream: StreamId, bytes: &[u8]) -> usize {
        let Some(connection) = self.connections.get_mut(stream) else { return 0 };
        let taken = connection.stream.write(now, bytes);
        connection.bytes_sent += taken as u64;
        connection.wants_to_write = taken < bytes.len();
        self.connections.make_ready(stream);
        taken
    }

    /// Bytes that [`Node::write`] would take.
    #[must_use]
    pub fn writable_bytes(&self, stream: StreamId) -> usize {
        self.connections.get(stream).map_or(0, |connection| connection.stream.writable_bytes())
    }

    /// Gives bytes that have arrived in order, as many as `out` holds.
    pub fn read(&mut self, _now: Time, stream: StreamId, out: &mut [u8]) -> usize {
        let Some(connection) = self.connections.get_mut(stream) else { return 0 };
        let count = connection.stream.read(out);
        connection.bytes_received += count as u64;
        // There may be more, or the end: nothing else would tell.
        let has_more = connection.stream.readable_bytes() > 0 || connection.stream.end().is_some();
        connection.readable_told = count > 0 && has_more && !connection.released;
        let tells = connection.readable_told;
        self.connections.make_ready(stream);
        if tells {
            self.tell(Event::Readable(stream));
        }
        count
    }

    /// Why no more bytes will come, once that is so; what has arrived before can still be read.
    #[must_use]
    pub fn stream_end(&self, stream: StreamId) -> Option<End> {
        match self.connections.get(stream) {
            Some(connection) => connection.stream.end(),
            None => Some(End::Finished),
        }
    }

    /// The application is done with a stream: what it wrote is still delivered, then the stream is gone.
    pub fn close(&mut self, now: Time, stream: StreamId) {
        if let Some(connection) = self.connections.get_mut(stream) {
            connection.released = true;
            connection.stream.close(now);
            self.connections.make_ready(stream);
            self.follow_end(now, stream, false);
        }
    }

    /// Gives a stream up with an RST.
    pub fn abort(&mut self, now: Time, stream: StreamId) {
        if let Some(connection) = self.connections.get_mut(stream) {
            connection.released = true;
            connection.stream.abort();
            self.connections.make_ready(stream);
            self.follow_end(now, stream, false);
        }
    }

    /// Sends a datagram from `port`.
    ///
    /// # Errors
    /// [`DialError`] when it cannot even be tried.
    pub fn send_datagram(&mut self, now: Time, port: u16, to: SocketAddress, data: &[u8]) -> Result<(), DialError> {
        let own = self.check_peer(to.address.node)?;
        if data.len() > DATAGRAM_PAYLOAD_MAX {
            return Err(DialError::TooLong);
        }
        let packet = Packet {
            version: packet::VERSION,
            flags: Flags::NONE,
            protocol: Protocol::DATAGRAM,
            source: SocketAddress { address: Address { network: to.address.network, node: own }, port },
            destination: to,
            sequence: 0,
            acknowledgement: 0,
            window_segments: 0,
            payload: data,
        };
        let peer = to.address.node;
        if peer != own {
            self.admission.handle_dial(now, peer);
            self.admit_peer(now, peer).path.handle_wish(now);
            self.attend_path(now, peer);
        }
        self.send_packet(now, peer, &packet);
        self.attend(now);
        Ok(())
    }

    // --- peers ---

    /// Leaves the relay for this peer if a direct path can be found, and tries at once.
    pub fn prefer_direct(&mut self, now: Time, peer: NodeId) {
        if self.check_peer(peer).is_ok() && Some(peer) != self.id() {
            self.reach(now, peer);
            self.with_path(now, peer, |path| path.handle_preference(now));
            self.attend(now);
        }
    }

    /// One peer.
    #[must_use]
    pub fn peer(&self, peer: NodeId) -> Option<PeerInfo> {
        Some(self.peer_info(peer, self.peers.get(peer)?))
    }

    /// All peers with a tunnel, or with one under way.
    pub fn peers(&self) -> impl Iterator<Item = PeerInfo> + '_ {
        self.peers.iter().map(|(node, peer)| self.peer_info(node, peer))
    }

    fn peer_info(&self, node: NodeId, peer: &Peer) -> PeerInfo {
        let has_session = self.tunnels.as_ref().is_some_and(|tunnels| tunnels.has_session(node));
        PeerInfo { node, direct: peer.path.direct(), has_session, rtt: peer.path.rtt() }
    }

    /// What stands between this node and a peer, as far as it is known.
    #[must_use]
    pub fn trouble(&self, peer: NodeId) -> Option<&Trouble> {
        self.peers.get(peer)?.trouble.as_ref()
    }

    // --- trust ---

    /// Whom this node trusts.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Asks for trust, gives it or withdraws it.
    pub fn with_trust<R>(&mut self, now: Time, act: impl FnOnce(&mut Trust) -> R) -> R {
        let result = act(&mut self.trust);
        self.attend(now);
        result
    }

    // --- what the node knows of itself ---

    /// All streams.
    pub fn streams(&self) -> impl Iterator<Item = StreamInfo> + '_ {
        self.connections.iter().filter_map(|(id, connection)| stream_info(id, connection))
    }

    /// One of them.
    #[must_use]
    pub fn stream(&self, id: StreamId) -> Option<StreamInfo> {
        stream_info(id, self.connections.get(id)?)
    }

    /// Ports that are bound, that of trust messages among them.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.ports.iter().chain([super::handshakes::HANDSHAKE_PORT])
    }

    /// Sums since the start.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The relay in use, once one has answered.
    #[must_use]
    pub fn relay(&self) -> Option<SocketAddr> {
        self.relays.current()
    }

    /// This node's endpoint as the relay sees it.
    #[must_use]
    pub fn mapped_endpoint(&self) -> Option<SocketAddr> {
        self.relays.mapped()
    }

    /// What the NATs on the way do.
    #[must_use]
    pub fn nat(&self) -> &Behavior {
        self.nat.behavior()
    }

    /// Where the registration stands.
    #[must_use]
    pub fn registration(&self) -> Status {
        self.registration.status()
    }

    /// The directory has taken another hostname for this node: it is announced from now on.
    pub fn set_hostname(&mut self, hostname: &str) {
        self.registration.set_hostname(hostname);
    }

    /// The directory shows this node to anyone, or not: from now on strangers may connect, or not.
    pub fn set_visibility(&mut self, public: bool) {
        self.registration.set_visibility(public);
    }

    /// A request with this node's signature, for what the application itself asks of the directory.
    #[must_use]
    pub fn sign(&self, operation: Operation) -> Request {
        sign(&self.identity, operation)
    }
}

fn stream_info(id: StreamId, connection: &Connection) -> Option<StreamInfo> {
    (connection.owner == Owner::Application).then(|| StreamInfo {
        id,
        local_port: connection.key.local_port,
        remote: connection.remote,
        state: connection.stream.state(),
        metrics: connection.stream.metrics(),
        bytes_sent: connection.bytes_sent,
        bytes_received: connection.bytes_received,
    })
}
