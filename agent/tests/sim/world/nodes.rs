//! What nodes want of their world, and what they tell their applications.

use std::net::SocketAddr;

use agent::Time;
use agent::node::{DialError, DialTrace, Event, Node, StreamId};
use wire::address::SocketAddress;

use super::{FIRST_PORT, Happening, World};
use crate::directory::encode;
use crate::flow::{Flow, Side};
use crate::host::{HostId, PathChange, Wish};

impl World {
    /// Calls the node of a host, then does all that it wants done.
    pub fn with_node<T>(&mut self, host: HostId, call: impl FnOnce(Time, &mut Node) -> T) -> T {
        let now = self.now;
        let this = &mut self.hosts[host.0];
        let unix_seconds = this.unix_seconds(now);
        let node = this.node_mut();
        node.set_wall_clock(unix_seconds);
        let result = call(now, node);
        self.settle(host);
        result
    }

    pub(super) fn settle(&mut self, host: HostId) {
        let mut buffer = vec![0; agent::node::DATAGRAM_MAX];
        loop {
            let now = self.now;
            let node = self.hosts[host.0].node_mut();
            let wish = if let Some(transmit) = node.poll_transmit(now, &mut buffer) {
                Wish::Transmit(transmit.to, buffer[..transmit.len].to_vec())
            } else if let Some((ticket, request)) = node.poll_request() {
                Wish::Ask(ticket, encode(&request))
            } else if let Some(event) = node.poll_event() {
                Wish::Tell(event)
            } else {
                break;
            };
            match wish {
                Wish::Transmit(to, bytes) => self.send(host, to, bytes),
                Wish::Ask(ticket, request) => self.ask(host, ticket, request),
                Wish::Tell(event) => self.tell(host, event),
            }
        }
        let due = self.hosts[host.0].node().and_then(Node::poll_timeout).map(|due| due.max(self.now));
        if self.hosts[host.0].wake_at != due {
            self.hosts[host.0].wake_at = due;
            if let Some(due) = due {
                self.push(due, Happening::HostDue(host));
            }
        }
    }

    pub(super) fn tell(&mut self, host: HostId, event: Event) {
        let now = self.now;
        match event {
            Event::Registered { node, .. } => self.hosts[host.0].known_as = Some(node),
            Event::TrustChanged
            | Event::CapabilityChanged
            | Event::TrustRequested { .. }
            | Event::DirectoryLost(_)
            | Event::DirectoryBack
            | Event::RelayChanged(_) => {}
            Event::Complaint(text) => self.hosts[host.0].complaints.push(text),
            Event::PathChanged { peer, direct } => {
                self.hosts[host.0].path_changes.push(PathChange { at: now, peer, direct });
            }
            Event::RelaysListed(list) => {
                let relays: Vec<SocketAddr> = list.iter().filter_map(|relay| relay.parse().ok()).collect();
                let node = self.hosts[host.0].node_mut();
                node.set_relays(now, &relays);
                let claiming = node.relays_that_take_claims().iter();
                let claiming: Vec<_> = claiming.filter_map(|(relay, key)| Some((relay.parse().ok()?, *key))).collect();
                node.set_claim_relays(now, &claiming);
            }
            Event::Datagram { source, port, data } => {
                let expected = self.hosts.iter().any(|host| host.known_as == Some(source.address.node));
                assert!(expected, "a datagram has come from nobody: {source}");
                self.hosts[host.0].datagrams.push((source.address.node, port, data));
            }
            Event::Accepted { port, stream, remote } => {
                let index = usize::from(port.wrapping_sub(FIRST_PORT));
                let dialler = self.flows.get(index).map(|flow| flow.hosts[0]);
                let dialled_by = dialler.and_then(|dialler| self.hosts[dialler.0].known_as);
                assert_eq!(dialled_by, Some(remote.address.node), "nobody else dialled port {port}");
                self.flows[index].half(Side::Acceptor).stream = Some(stream);
                self.hosts[host.0].streams.insert(stream, (index, Side::Acceptor));
                self.read(host, index, Side::Acceptor);
            }
            Event::Opened(stream) => {
                if let Some(&(index, side)) = self.hosts[host.0].streams.get(&stream) {
                    self.flows[index].opened_at = Some(now);
                    self.flows[index].write(now, side, self.hosts[host.0].node_mut());
                }
            }
            Event::Readable(stream) => {
                if let Some(&(index, side)) = self.hosts[host.0].streams.get(&stream) {
                    self.read(host, index, side);
                }
            }
            Event::Writable(stream) => {
                if let Some(&(index, side)) = self.hosts[host.0].streams.get(&stream) {
                    self.flows[index].write(now, side, self.hosts[host.0].node_mut());
                }
            }
        }
    }

    pub(super) fn read(&mut self, host: HostId, index: usize, side: Side) {
        let now = self.now;
        self.flows[index].read(now, side, self.hosts[host.0].node_mut());
        // What is left to be written may have waited for this.
        self.flows[index].write(now, side, self.hosts[host.0].node_mut());
    }

    /// Dials from one host to another and sends so many bytes each way. The number of the flow.
    ///
    /// # Panics
    /// If it cannot even be tried.
    pub fn dial(&mut self, from: HostId, to: HostId, bytes: [u64; 2]) -> usize {
        self.dial_with(from, to, bytes, Node::dial)
    }

    /// As [`World::dial`], followed by a trace that begins here.
    ///
    /// # Panics
    /// As there.
    pub fn dial_traced(&mut self, from: HostId, to: HostId, bytes: [u64; 2]) -> usize {
        self.dial_with(from, to, bytes, |node, now, to| node.dial_traced(now, to, DialTrace::New { sampled: true }))
    }

    fn dial_with(
        &mut self,
        from: HostId,
        to: HostId,
        bytes: [u64; 2],
        dial: impl FnOnce(&mut Node, Time, SocketAddress) -> Result<StreamId, DialError>,
    ) -> usize {
        let index = self.flows.len();
        let port = FIRST_PORT + u16::try_from(index).expect("few flows");
        self.flows.push(Flow::new(self.now, [from, to], port, bytes));
        let address = self.hosts[to.0].id().expect("registered").address();
        self.with_node(to, |_, node| node.bind(port)).expect("a port of its own");
        let dialled = self.with_node_unsettled(from, |now, node| dial(node, now, SocketAddress { address, port }));
        let stream = dialled.expect("a registered node may dial another");
        self.hosts[from.0].streams.insert(stream, (index, Side::Dialler));
        self.flows[index].half(Side::Dialler).stream = Some(stream);
        self.settle(from);
        index
    }

    pub(super) fn with_node_unsettled<T>(&mut self, host: HostId, call: impl FnOnce(Time, &mut Node) -> T) -> T {
        let now = self.now;
        call(now, self.hosts[host.0].node_mut())
    }
}
