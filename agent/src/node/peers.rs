//! Nodes this one talks to, or has been talked to by: the path to each, and what stands in between.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use wire::NodeId;

use super::Trouble;
use super::span::Reach;
use crate::Time;
use crate::path::Path;

/// The directory is asked again for a peer's endpoints at most this often.
const ENDPOINTS_LIFETIME: Duration = Duration::from_secs(30);
/// Relays towards one peer that are remembered as noted.
const RELAYS_NOTED_MAX: usize = 8;

/// One peer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// How datagrams get there.
    pub path: Path,
    /// What stood in between the last time.
    pub trouble: Option<Trouble>,
    /// When keys were last exchanged.
    pub established_at: Option<Time>,
    /// The relay through which the peer was last heard; it may be another than ours.
    pub relay: Option<SocketAddr>,
    /// Datagrams sent directly and through the relay.
    pub sent: (u64, u64),
    /// What is under way on behalf of streams that are traced.
    pub(super) reaches: Vec<Reach>,
    /// Our keys have been sent, and nothing has come of it yet.
    pub(super) keys_asked: bool,
    /// The relays noted as being used since the path last changed, newest last. Keys go through several at once.
    pub(super) relayed_by: VecDeque<SocketAddr>,
    /// The end of a search for a direct path that was last noted.
    pub(super) rest_noted: Option<Time>,
    /// When the refusal of one of its streams was last noted.
    pub(super) refusal_noted: Option<Time>,
    endpoints_at: Option<Time>,
    armed: Option<Time>,
}

impl Peer {
    /// Whether it is news that something goes through this relay; it is not the next time.
    pub(super) fn note_relay(&mut self, relay: SocketAddr) -> bool {
        if self.relayed_by.contains(&relay) {
            return false;
        }
        if self.relayed_by.len() >= RELAYS_NOTED_MAX {
            self.relayed_by.pop_front();
        }
        self.relayed_by.push_back(relay);
        true
    }

    /// Whether the directory should be asked where the peer is; it is, then.
    pub fn needs_endpoints(&mut self, now: Time) -> bool {
        let needs = self.endpoints_at.is_none_or(|at| now.since(at) >= ENDPOINTS_LIFETIME);
        if needs {
            self.endpoints_at = Some(now);
        }
        needs
    }
}

/// All peers, and when to look after them.
#[derive(Debug, Default)]
pub struct Peers {
    peers: HashMap<NodeId, Peer>,
    timers: BTreeSet<(Time, NodeId)>,
}

impl Peers {
    /// The peer; one with this path if it is new.
    pub fn admit(&mut self, node: NodeId, path: impl FnOnce() -> Path) -> &mut Peer {
        self.peers.entry(node).or_insert_with(|| Peer {
            path: path(),
            trouble: None,
            established_at: None,
            relay: None,
            sent: (0, 0),
            reaches: Vec::new(),
            keys_asked: false,
            relayed_by: VecDeque::new(),
            rest_noted: None,
            refusal_noted: None,
            endpoints_at: None,
            armed: None,
        })
    }

    /// The peer, if there is one.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Peer> {
        self.peers.get(&node)
    }

    /// The peer, if there is one; [`Peers::arm`] belongs behind every change of its path.
    pub fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.get_mut(&node)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.iter().map(|(node, peer)| (*node, peer))
    }

    /// All of them, for changes that bring no deadline forward by much.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.peers.values_mut()
    }

    /// Forgets the peer, and gives back what was known of it.
    pub fn remove(&mut self, node: NodeId) -> Option<Peer> {
        let peer = self.peers.remove(&node)?;
        if let Some(due) = peer.armed {
            self.timers.remove(&(due, node));
        }
        Some(peer)
    }

    /// Keeps those for which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        let timers = &mut self.timers;
        self.peers.retain(|node, peer| {
            let stays = keep(*node);
            if let Some(due) = peer.armed.filter(|_| !stays) {
                timers.remove(&(due, *node));
            }
            stays
        });
    }

    /// Sees to it that [`Peers::poll_timeout`] is not later than the path's next deadline. Most packets only move that
    /// on; then nothing is done, and the timer finds out when it fires.
    pub fn arm(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let Some(deadline) = peer.path.poll_timeout() else { return };
        if peer.armed.is_none_or(|armed| deadline < armed) {
            if let Some(armed) = peer.armed.replace(deadline) {
                self.timers.remove(&(armed, node));
            }
            self.timers.insert((deadline, node));
        }
    }

    /// When a path is to be looked after.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// A peer whose path is to be looked after at `now`.
    pub fn pop_due(&mut self, now: Time) -> Option<NodeId> {
        let (due, node) = *self.timers.first()?;
        if due > now {
            return None;
        }
        self.timers.pop_first();
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.armed = None;
        }
        Some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_news_once_also_where_several_are_used_in_turn() {
        let mut peers = Peers::default();
        let peer = peers.admit(NodeId(1), || Path::new(Time(0), true, &[1; 32]));
        let relay = |number: u16| SocketAddr::from(([192, 0, 2, 1], number));
        let news = |peer: &mut Peer| (1..=3).filter(|number| peer.note_relay(relay(*number))).count();
        assert_eq!([news(peer), news(peer), news(peer)], [3, 0, 0]);
        (10..1000).for_each(|number| assert!(peer.note_relay(relay(number))));
        assert_eq!(peer.relayed_by.len(), RELAYS_NOTED_MAX);
    }
}
