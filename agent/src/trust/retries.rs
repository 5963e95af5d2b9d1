//! What could not be delivered: questions while the directory is out of reach, answers to peers that were.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

use wire::NodeId;
use wire::registry::Operation;
use wire::services::handshake::Kind;

use crate::Time;

/// Before a question is put again.
const ASK_DELAY: Duration = Duration::from_secs(5);
/// Questions kept; the oldest makes room.
const ASKS_MAX: usize = 256;
/// Before a message is sent again; and then no more.
const SEND_DELAYS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(20), Duration::from_secs(80)];
/// Peers whose messages are kept.
const SENDS_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Retries {
    asks: VecDeque<(Time, Operation)>,
    sends: BTreeMap<NodeId, Sent>,
}

/// The last message to a peer, until it is delivered.
struct Sent {
    kind: Kind,
    text: String,
    attempts: usize,
    /// When to send it again; none while it is under way.
    due: Option<Time>,
}

impl Retries {
    /// The directory could not be reached.
    pub(super) fn ask_again(&mut self, now: Time, operation: Operation) {
        if self.asks.iter().any(|(_, known)| *known == operation) {
            return;
        }
        if self.asks.len() >= ASKS_MAX {
            self.asks.pop_front();
        }
        self.asks.push_back((now + ASK_DELAY, operation));
    }

    /// A message leaves; it takes the place of an earlier one to the same peer.
    pub(super) fn note(&mut self, peer: NodeId, kind: Kind, text: &str) {
        if self.sends.len() >= SENDS_MAX && !self.sends.contains_key(&peer) {
            self.sends.pop_first();
        }
        self.sends.insert(peer, Sent { kind, text: text.to_owned(), attempts: 0, due: None });
    }

    pub(super) fn handle_sent(&mut self, peer: NodeId) {
        self.sends.remove(&peer);
    }

    pub(super) fn handle_send_failed(&mut self, now: Time, peer: NodeId) {
        let Some(sent) = self.sends.get_mut(&peer) else { return };
        match SEND_DELAYS.get(sent.attempts) {
            // A request waits in the directory, and a stranger's stream is not let in next time either.
            Some(delay) if sent.kind != Kind::Request => {
                sent.attempts += 1;
                sent.due = Some(now + *delay);
            }
            _ => self.handle_sent(peer),
        }
    }

    /// Nothing said to or about `peer` holds any longer.
    pub(super) fn forget(&mut self, peer: NodeId) {
        self.sends.remove(&peer);
        self.asks.retain(|(_, operation)| match operation {
            Operation::ReportTrust { peer_id, .. }
            | Operation::RevokeTrust { peer_id, .. }
            | Operation::RespondHandshake { peer_id, .. } => *peer_id != peer,
            Operation::RequestHandshake { to_node_id, .. } => *to_node_id != peer,
            _ => true,
        });
    }

    pub(super) fn poll_ask(&mut self, now: Time) -> Option<Operation> {
        self.asks.front().is_some_and(|(due, _)| *due <= now).then(|| self.asks.pop_front().map(|(_, ask)| ask))?
    }

    pub(super) fn poll_send(&mut self, now: Time) -> Option<(NodeId, Kind, String)> {
        let (peer, sent) = self.sends.iter_mut().find(|(_, sent)| sent.due.is_some_and(|due| due <= now))?;
        sent.due = None;
        Some((*peer, sent.kind, sent.text.clone()))
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let ask = self.asks.front().map(|(due, _)| *due);
        ask.into_iter().chain(self.sends.values().filter_map(|sent| sent.due)).min()
    }
}
