//! Peers that the directory's administrator keeps out. Relays pass nothing between us any more; what goes directly only
//! the two ends can end. Trust is left as it is, so that all comes back by itself when the ban is lifted.

use wire::NodeId;

use super::control::{ControlKind, Question};
use super::questions::Purpose;
use super::{Event, Node, Trouble};
use crate::Time;

impl Node {
    /// Ends the tunnel and the streams with a banned node, if there are any. What the directory said of it before the ban is
    /// forgotten, also what is still on its way: it must not let the node in again.
    pub(super) fn part_from(&mut self, now: Time, peer: NodeId) {
        if Some(peer) == self.id() {
            return;
        }
        for purpose in self.questions.forget_about(peer) {
            let question = match purpose {
                Purpose::Identity(_) => Question::Lookup,
                Purpose::Endpoints(_) => Question::Resolve,
                _ => continue,
            };
            self.follow_answer(now, peer, question, Some(Trouble::Banned.to_string()));
        }
        self.admission.forget(peer);
        let had_tunnel = self.tunnels.as_mut().is_some_and(|tunnels| tunnels.ban(peer));
        let streams = self.connections.with(peer);
        let is_open = |id: &&_| self.connections.get(**id).is_some_and(|connection| connection.stream.end().is_none());
        let open = streams.iter().filter(is_open).count();
        if !had_tunnel && open == 0 {
            return;
        }
        self.admit_peer(now, peer);
        self.follow_session(now, peer, Some(Trouble::Banned.to_string()));
        self.note(now, peer, ControlKind::PeerBanned { streams: open });
        let before = self.peers.remove(peer);
        let state = self.admit_peer(now, peer);
        state.trouble = Some(Trouble::Banned);
        if let Some(before) = before {
            (state.sent, state.reaches) = (before.sent, before.reaches);
            if before.path.direct().is_some() {
                self.tell(Event::PathChanged { peer, direct: None });
            }
        }
        for id in streams {
            if let Some(connection) = self.connections.get_mut(id) {
                // Not even a reset: it would ask for keys again.
                connection.stream.ban();
                self.settle(now, id);
            }
        }
    }
}
