//! Questions to the directory: signed, numbered, and remembered until they are answered.

use std::collections::{HashMap, VecDeque};

use wire::NodeId;
use wire::registry::answer::Answer;
use wire::registry::request::{Operation, Request};

use super::{Ticket, Unanswered};
use crate::identity::Identity;

/// Questions without answer, beyond which those that strangers can cause are answered by "unreachable" at once.
const OUTSTANDING_MAX: usize = 1024;

/// What a question was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The node's own registration.
    Registration,
    /// What the node offers.
    Publication,
    /// A peer's key.
    Identity(NodeId),
    /// A peer's endpoints.
    Endpoints(NodeId),
    /// Whether a stranger may come in.
    Admission(NodeId),
    /// The list of relays.
    Relays,
    /// Trust: asked, approved, withdrawn, polled.
    Trust(Operation),
}

/// Questions on their way.
#[derive(Debug, Default)]
pub struct Questions {
    last: u64,
    purposes: HashMap<Ticket, Purpose>,
    requests: VecDeque<(Ticket, Request)>,
    refused: VecDeque<Purpose>,
}

impl Questions {
    /// Asks.
    pub fn ask(&mut self, identity: &Identity, purpose: Purpose, operation: Operation) {
        let is_own =
            matches!(purpose, Purpose::Registration | Purpose::Publication | Purpose::Trust(_) | Purpose::Relays);
        if !is_own && self.purposes.len() >= OUTSTANDING_MAX {
            return self.refused.push_back(purpose);
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        self.purposes.insert(ticket, purpose);
        self.requests.push_back((ticket, sign(identity, operation)));
    }

    /// Whether nothing was refused.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.refused.is_empty()
    }

    /// The next request to be sent.
    pub fn poll_request(&mut self) -> Option<(Ticket, Request)> {
        self.requests.pop_front()
    }

    /// What the answered question was asked for; none for an answer that nobody awaits.
    pub fn take(&mut self, ticket: Ticket) -> Option<Purpose> {
        self.purposes.remove(&ticket)
    }

    /// What was asked about a peer is not of interest any more, whatever the answer: it may be older than what is known.
    /// What that was.
    pub fn forget_about(&mut self, peer: NodeId) -> Vec<Purpose> {
        let is_about = |purpose: &Purpose| match purpose {
            Purpose::Identity(node) | Purpose::Endpoints(node) | Purpose::Admission(node) => *node == peer,
            Purpose::Registration | Purpose::Publication | Purpose::Relays | Purpose::Trust(_) => false,
        };
        self.refused.retain(|purpose| !is_about(purpose));
        self.purposes.extract_if(|_, purpose| is_about(purpose)).map(|(_, purpose)| purpose).collect()
    }

    /// A question that was never asked, for there were too many.
    pub fn pop_refused(&mut self) -> Option<(Purpose, Result<Answer, Unanswered>)> {
        let purpose = self.refused.pop_front()?;
        Some((purpose, Err(Unanswered::Unreachable("too many questions at once".to_owned()))))
    }
}

/// The request for `operation`, signed if it has to be.
pub fn sign(identity: &Identity, operation: Operation) -> Request {
    let signature = operation.signed_text().map(|text| wire::registry::Base64(identity.sign(text.as_bytes())));
    Request { signature, ..Request::from(operation) }
}
