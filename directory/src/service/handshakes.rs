//! Handshakes that travel through the directory: an inbox of requests and one of responses per node. A first request
//! to a private node has no other way (section 7).
//!
//! A request stays on file until it is answered, since it is the requester's signature for its side of the trust. It
//! is handed out once, and again after a restart of the directory or when the requester repeats it; a response is
//! handed out once.

use std::collections::{BTreeSet, HashMap};

use wire::NodeId;
use wire::registry::Answer;
use wire::registry::answer::{Delivered, HandshakeRequest, HandshakeResponse};

use super::{Now, Refusal, Service, grouped};
use crate::facts::{Change, RequestFact, ResponseFact};

/// Requests in one inbox (section 6.5), and responses.
const INBOX_MAX: usize = 100;

/// All inboxes.
#[derive(Debug)]
pub(super) struct Handshakes {
    requests: HashMap<NodeId, Vec<Pending>>,
    responses: HashMap<NodeId, Vec<ResponseFact>>,
    /// Whom a node has asked, to find its requests in other inboxes; and whom it has answered.
    asked: BTreeSet<(NodeId, NodeId)>,
    answered: BTreeSet<(NodeId, NodeId)>,
}

#[derive(Debug)]
struct Pending {
    fact: RequestFact,
    handed_out: bool,
}

impl Handshakes {
    pub(super) fn new(requests: Vec<RequestFact>, responses: Vec<ResponseFact>) -> Self {
        let asked = requests.iter().map(|fact| (fact.from, fact.to)).collect();
        let answered = responses.iter().map(|fact| (fact.from, fact.to)).collect();
        let pending = requests.into_iter().map(|fact| (fact.to, Pending { fact, handed_out: false }));
        Self {
            requests: grouped(pending),
            responses: grouped(responses.into_iter().map(|fact| (fact.to, fact))),
            asked,
            answered,
        }
    }

    /// Whether `from` waits for an answer of `to`.
    pub(super) fn is_on_file(&self, from: NodeId, to: NodeId) -> bool {
        self.asked.contains(&(from, to))
    }

    fn put(&mut self, fact: RequestFact) {
        self.asked.insert((fact.from, fact.to));
        self.requests.entry(fact.to).or_default().push(Pending { fact, handed_out: false });
    }

    fn take(&mut self, from: NodeId, to: NodeId) -> bool {
        if !self.asked.remove(&(from, to)) {
            return false;
        }
        if let Some(inbox) = self.requests.get_mut(&to) {
            inbox.retain(|pending| pending.fact.from != from);
            if inbox.is_empty() {
                self.requests.remove(&to);
            }
        }
        true
    }

    fn take_response(&mut self, from: NodeId, to: NodeId) -> bool {
        if !self.answered.remove(&(from, to)) {
            return false;
        }
        if let Some(inbox) = self.responses.get_mut(&to) {
            inbox.retain(|response| response.from != from);
            if inbox.is_empty() {
                self.responses.remove(&to);
            }
        }
        true
    }

    /// The oldest request that `to` has been handed and left unanswered: it may give way to a new one.
    fn oldest_left_unanswered(&self, to: NodeId) -> Option<NodeId> {
        self.requests.get(&to)?.iter().find(|pending| pending.handed_out).map(|pending| pending.fact.from)
    }

    fn is_full(&self, to: NodeId) -> bool {
        self.requests.get(&to).is_some_and(|inbox| inbox.len() >= INBOX_MAX)
    }

    fn waits(&self, from: NodeId, to: NodeId) -> bool {
        let mut inbox = self.requests.get(&to).into_iter().flatten();
        inbox.any(|pending| pending.fact.from == from && !pending.handed_out)
    }
}

impl Service {
    pub(super) fn request_handshake(
        &mut self,
        now: Now,
        from: NodeId,
        to: NodeId,
        justification: &str,
    ) -> Result<Answer, Refusal> {
        if from == to {
            return Err(Refusal::OwnPeer);
        }
        self.nodes.find(to)?;
        if self.handshakes.waits(from, to) {
            return Err(Refusal::HandshakePending { from, to });
        }
        self.close_request(from, to);
        if self.handshakes.is_full(to) {
            let oldest = self.handshakes.oldest_left_unanswered(to).ok_or(Refusal::InboxFull(to))?;
            self.close_request(oldest, to);
        }
        let fact = RequestFact { from, to, justification: justification.to_owned(), at: now.unix_seconds };
        self.changes.push(Change::Requested(fact.clone()));
        self.handshakes.put(fact);
        self.effects.notify(to);
        Ok(Answer::RequestHandshake { status: Delivered::Delivered })
    }

    /// Who waits is told nothing, and nobody of whoever waits or is banned: that stays unread.
    pub(super) fn poll_handshakes(&mut self, node: NodeId) -> Answer {
        if self.nodes.waits(node) {
            return Answer::PollHandshakes { requests: Vec::new(), responses: Vec::new() };
        }
        let mut requests = Vec::new();
        for pending in self.handshakes.requests.get_mut(&node).into_iter().flatten() {
            let Ok(sender) = self.nodes.find(pending.fact.from) else { continue };
            if std::mem::replace(&mut pending.handed_out, true) {
                continue;
            }
            requests.push(HandshakeRequest {
                from_node_id: pending.fact.from,
                justification: pending.fact.justification.clone(),
                public_key: Some(sender.fact.key),
                timestamp: pending.fact.at,
            });
        }
        let inbox = self.handshakes.responses.get(&node).into_iter().flatten();
        let readable = inbox.filter(|response| !self.nodes.is_kept_apart(response.from));
        let mut responses = Vec::new();
        for ResponseFact { from, to, accept, at } in readable.copied().collect::<Vec<_>>() {
            self.close_response(from, to);
            responses.push(HandshakeResponse { from_node_id: from, accept, timestamp: at });
        }
        Answer::PollHandshakes { requests, responses }
    }

    pub(super) fn respond_handshake(
        &mut self,
        now: Now,
        node: NodeId,
        peer: NodeId,
        accept: bool,
    ) -> Result<Answer, Refusal> {
        self.nodes.find(peer)?;
        let pending = self.handshakes.is_on_file(peer, node);
        // Daemons repeat an acceptance, and believe every one they read; so one without a request is only taken when
        // the peer's side of the trust is proven already.
        let repeated = self.trust.holds(node, peer) && self.trust.holds(peer, node);
        if accept && !pending && !repeated {
            return Err(Refusal::NoHandshakePending(peer));
        }
        if accept {
            self.give_trust(node, peer)?;
        }
        self.close_request(peer, node);
        if pending || repeated {
            self.put_response(ResponseFact { from: node, to: peer, accept, at: now.unix_seconds });
        }
        Ok(Answer::RespondHandshake { peer_id: peer, accept })
    }

    /// Removes what is on file between two nodes; true when there was anything.
    pub(super) fn close_handshakes_between(&mut self, one: NodeId, other: NodeId) -> bool {
        let mut any = false;
        for (from, to) in [(one, other), (other, one)] {
            any |= self.close_request(from, to);
            any |= self.close_response(from, to);
        }
        any
    }

    /// Removes all that a node has asked, was asked, has answered, or has been answered.
    pub(super) fn close_handshakes_of(&mut self, node: NodeId) {
        let to_all = (node, NodeId(0))..=(node, NodeId(u32::MAX));
        let asked = self.handshakes.asked.range(to_all.clone());
        let inbox = self.handshakes.requests.get(&node).into_iter().flatten();
        let requests: Vec<_> = asked.copied().chain(inbox.map(|pending| (pending.fact.from, node))).collect();
        for (from, to) in requests {
            self.close_request(from, to);
        }
        let responses = self.handshakes.responses.get(&node).into_iter().flatten();
        let given = self.handshakes.answered.range(to_all);
        let responses: Vec<_> = given.copied().chain(responses.map(|response| (response.from, node))).collect();
        for (from, to) in responses {
            self.close_response(from, to);
        }
    }

    fn put_response(&mut self, fact: ResponseFact) {
        let ResponseFact { from, to, .. } = fact;
        self.close_response(from, to);
        if let Some(oldest) = self.handshakes.responses.get(&to).filter(|inbox| inbox.len() >= INBOX_MAX) {
            self.close_response(oldest[0].from, to);
        }
        self.handshakes.answered.insert((from, to));
        self.handshakes.responses.entry(to).or_default().push(fact);
        self.changes.push(Change::Responded(fact));
        self.effects.notify(to);
    }

    fn close_request(&mut self, from: NodeId, to: NodeId) -> bool {
        let taken = self.handshakes.take(from, to);
        if taken {
            self.changes.push(Change::RequestClosed { from, to });
        }
        taken
    }

    fn close_response(&mut self, from: NodeId, to: NodeId) -> bool {
        let taken = self.handshakes.take_response(from, to);
        if taken {
            self.changes.push(Change::ResponseClosed { from, to });
        }
        taken
    }
}
