//! What the node offers to others, and the keys by which it knows them.

use wire::NodeId;
use wire::registry::{Base64, PublicKey};

use super::questions::Purpose;
use super::{Event, Node, StreamId};
use crate::Time;
use crate::capability::Publication;
use crate::capability::publication::{self, Kept};

impl Node {
    /// What the node offers.
    #[must_use]
    pub const fn publication(&self) -> &Publication {
        &self.publication
    }

    /// Offers, withdraws, tags.
    pub fn with_publication<R>(&mut self, now: Time, act: impl FnOnce(&mut Publication) -> R) -> R {
        let result = act(&mut self.publication);
        self.attend(now);
        result
    }

    /// The record to be kept over restarts, with its signature.
    #[must_use]
    pub fn kept_record(&self) -> Option<Kept> {
        let (record, text) = self.publication.made()?;
        let signed = wire::registry::capability::signed_text(record.node, text);
        Some(Kept { record: text.to_owned(), signature: Base64(self.identity.sign(signed.as_bytes())) })
    }

    /// The key by which this node knows `peer` of its own: that of their tunnel, or the one that is trusted.
    #[must_use]
    pub fn known_key(&self, peer: NodeId) -> Option<PublicKey> {
        if self.id() == Some(peer) {
            return Some(Base64(self.identity.public_key()));
        }
        let pinned = self.trust.pinned_key(peer);
        pinned.or_else(|| self.tunnel_key(peer).map(|key| key.0)).map(Base64)
    }

    /// The key that `peer` has proved to hold in the tunnel that is open to it; what the directory says of the peer since
    /// changes nothing.
    #[must_use]
    pub fn tunnel_key(&self, peer: NodeId) -> Option<PublicKey> {
        self.tunnels.as_ref()?.proven_key(peer).map(Base64)
    }

    /// The same for the other end of a stream that we have dialled, if it has been one key from the stream's opening on.
    #[must_use]
    pub fn stream_key(&self, stream: StreamId) -> Option<PublicKey> {
        let connection = self.connections.get(stream)?;
        self.tunnel_key(connection.key.peer).filter(|key| connection.proven_key == Some(key.0))
    }

    pub(super) fn attend_publication(&mut self, now: Time) {
        while let Some(operation) = self.publication.poll_operation(now) {
            self.questions.ask(&self.identity, Purpose::Publication, operation);
        }
        while let Some(event) = self.publication.poll_event() {
            self.tell(match event {
                publication::Event::Changed => Event::CapabilityChanged,
                publication::Event::Complaint(text) => Event::Complaint(text),
            });
        }
    }
}
