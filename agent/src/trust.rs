//! Whom this node trusts, who asks to be trusted, and whom it has asked (sections 7 and 6.5).
//!
//! A request travels two ways at once: by the directory, which keeps it until the peer fetches it, and as a message to
//! the peer's port 444. A private peer drops streams of strangers without a word, so the second way alone could lose
//! it; the first alone would be as slow as the peer's poll. The same holds for answers. Whichever comes second changes
//! nothing.
//!
//! What is believed:
//! - a message on port 444 only from the node at the other end of the stream, with a signature by the key the directory
//!   has for it, a fresh time, and once;
//! - an accept, by whichever way, only for a request of ours that has no answer yet (weakness 19): nobody becomes
//!   trusted without a word of this node's own.
//!
//! Nothing but the freshness of messages depends on the wall clock: should it be wrong or jump, requests and answers
//! still come by the directory.
//!
//! | part | subject |
//! |---|---|
//! | `belief` | what a message or an answer changes, and what is refused |
//! | [`store`] | the file that keeps it, and the shapes clients of the daemon see |
//! | `sources` | messages that came lately: none twice, and not too many of one peer |
//! | `schedule` | when the directory is asked whether it holds something for us |
//! | `retries` | what could not be delivered and is tried again |

mod belief;
mod retries;
mod schedule;
mod sources;
pub mod store;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use wire::NodeId;
use wire::codec::DecodeError;
use wire::registry::answer::{Answer, HandshakeRequest, HandshakeResponse};
use wire::registry::request::JUSTIFICATION_BYTES_MAX;
use wire::registry::{Operation, PublicKey};
use wire::services::handshake::{Kind, Message, signed_text};

use crate::Time;
use crate::identity::{self, Identity};

use belief::Way;
use retries::Retries;
use schedule::Schedule;
use sources::Sources;
pub use store::{Corrupt, Pending, Requested, Trusted};

/// Requests of others that wait for the user.
pub const PENDING_MAX: usize = 256;
/// Requests of ours that have no answer; the oldest makes room.
pub const REQUESTED_MAX: usize = 256;
/// Messages of one peer within [`MESSAGE_AGE_MAX`].
pub const MESSAGES_PER_PEER_MAX: usize = 16;
/// A message may be this old …
pub const MESSAGE_AGE_MAX: Duration = Duration::from_secs(5 * 60);
/// … and this far ahead.
pub const MESSAGE_AHEAD_MAX: Duration = Duration::from_secs(30);
/// So long after the user revoked trust, nothing but the user gives it back.
pub const REVOKED_FOR: Duration = Duration::from_secs(5 * 60);
/// The sender of a message leaves its stream open so long, for receivers that read after the end only.
pub const LINGER: Duration = Duration::from_millis(500);
/// Entries of one answer of the directory that are looked at; it keeps at most 100 for a node.
const POLLED_MAX: usize = 256;
const REVOKED_MAX: usize = 1024;

/// Whom a node trusts.
pub struct Trust {
    identity: Arc<Identity>,
    own: NodeId,
    auto_approve: bool,
    unix: u64,
    trusted: BTreeMap<NodeId, Trusted>,
    pending: BTreeMap<NodeId, Pending>,
    requested: BTreeMap<NodeId, Requested>,
    revoked: BTreeMap<NodeId, Time>,
    sources: Sources,
    schedule: Schedule,
    retries: Retries,
    outputs: VecDeque<Output>,
}

/// What the owner has to do or should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Dial port 444 of `peer`, write `message` in one piece, close after [`LINGER`]; then tell
    /// [`Trust::handle_sent`] or [`Trust::handle_send_failed`].
    Send {
        /// To whom.
        peer: NodeId,
        /// What.
        message: Vec<u8>,
    },
    /// Ask the directory, signed; then tell [`Trust::handle_answer`].
    Ask(Operation),
    /// What [`Trust::to_json`] gives has changed: keep it.
    Changed,
    /// A peer asks to be trusted; the user has to decide.
    Requested {
        /// Who.
        peer: NodeId,
        /// Why, in the peer's words.
        justification: String,
    },
    /// This node and the peer trust each other now.
    Established(NodeId),
    /// The peer refused a request of ours.
    Rejected {
        /// Who.
        peer: NodeId,
        /// Why, in the peer's words; empty by way of the directory.
        reason: String,
    },
    /// The peer took its trust back; this node has done the same.
    Revoked(NodeId),
}

/// Why a message on port 444 changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More bytes have to come: not a refusal unless the stream has ended.
    #[error("the message is not complete")]
    Incomplete,
    /// It is no such message.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// This node has no id yet.
    #[error("this node is not registered yet")]
    NotRegistered,
    /// It speaks for a node that is not at the other end of the stream.
    #[error("node {claimed} is not at the other end of the stream")]
    NotThePeer {
        /// For whom it speaks.
        claimed: NodeId,
    },
    /// The key in it is not the one the directory has.
    #[error("the key is not the one the directory has for this node")]
    WrongKey,
    /// The signature is not by that key, or for another pair of nodes.
    #[error("the signature is wrong")]
    WrongSignature,
    /// Its time is too far from ours.
    #[error("the message is {0} s off this node's clock")]
    NotFresh(i64),
    /// It has come before.
    #[error("the message has come before")]
    Duplicate,
    /// This peer has sent too many.
    #[error("too many messages of this node")]
    TooMany,
    /// Too many others wait for the user; see `pilotctl pending`.
    #[error("{PENDING_MAX} requests wait already")]
    PendingFull,
    /// It answers nothing we asked.
    #[error("nothing was asked of this node")]
    NotAsked,
}

/// Why a command cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// This node has no id yet.
    #[error("this node is not registered yet; wait for the directory")]
    NotRegistered,
    /// The peer is this node itself, or nobody.
    #[error("this is no other node")]
    NotAPeer,
    /// The directory would not take it.
    #[error("the justification has {0} bytes; {JUSTIFICATION_BYTES_MAX} at most")]
    TooLong(usize),
}

impl Trust {
    /// A node that trusts nobody yet; with `auto_approve` it will trust whoever asks.
    #[must_use]
    pub fn new(identity: Arc<Identity>, auto_approve: bool) -> Self {
        Self {
            identity,
            own: NodeId::UNSET,
            auto_approve,
            unix: 0,
            trusted: BTreeMap::new(),
            pending: BTreeMap::new(),
            requested: BTreeMap::new(),
            revoked: BTreeMap::new(),
            sources: Sources::default(),
            schedule: Schedule::default(),
            retries: Retries::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Whether [`Self::restore`] would take the text.
    ///
    /// # Errors
    /// As there.
    pub fn check(text: &str) -> Result<(), Corrupt> {
        store::from_json(text).map(drop)
    }

    /// Takes what the text of a trust file says, in the place of what is known.
    ///
    /// # Errors
    /// [`Corrupt`] for what is no such text; nothing has changed then.
    pub fn restore(&mut self, text: &str) -> Result<(), Corrupt> {
        let content = store::from_json(text)?;
        self.trusted = content.trusted.into_iter().map(|entry| (entry.node_id, entry)).collect();
        self.pending = content.pending.into_iter().map(|entry| (entry.node_id, entry)).take(PENDING_MAX).collect();
        self.requested =
            content.requested.into_iter().map(|entry| (entry.node_id, entry)).take(REQUESTED_MAX).collect();
        Ok(())
    }

    /// The text of the trust file.
    #[must_use]
    pub fn to_json(&self) -> String {
        store::to_json(self.trusted.values(), self.pending.values(), self.requested.values())
    }

    /// The directory has given this node its id. Asks at once what it holds for us.
    pub fn set_own(&mut self, now: Time, own: NodeId) {
        self.own = own;
        self.schedule.start(now);
    }

    /// Unix seconds. To be told now and then: once a turn of the owner's loop.
    pub const fn set_wall_clock(&mut self, unix_seconds: u64) {
        self.unix = unix_seconds;
    }

    /// Whether `node` is trusted.
    #[must_use]
    pub fn trusts(&self, node: NodeId) -> bool {
        self.trusted.contains_key(&node)
    }

    /// All that are trusted, in the shape of section 10.
    pub fn trusted(&self) -> impl ExactSizeIterator<Item = &Trusted> + '_ {
        self.trusted.values()
    }

    /// All that ask to be trusted, in the shape of section 10.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = &Pending> + '_ {
        self.pending.values()
    }

    /// Whether a request of ours to `node` has no answer yet.
    #[must_use]
    pub fn has_requested(&self, node: NodeId) -> bool {
        self.requested.contains_key(&node)
    }

    // --- the user ---

    /// Asks `peer` for trust. Where the peer has asked already, this approves it.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn request(&mut self, now: Time, peer: NodeId, justification: &str) -> Result<(), CommandError> {
        self.check_peer(peer)?;
        if justification.len() > JUSTIFICATION_BYTES_MAX {
            return Err(CommandError::TooLong(justification.len()));
        }
        self.revoked.remove(&peer);
        if self.pending.contains_key(&peer) {
            self.approve(now, peer)?;
            return Ok(());
        }
        self.note_request(peer, justification);
        self.schedule.hurry(now);
        self.ask(Operation::RequestHandshake {
            from_node_id: self.own,
            to_node_id: peer,
            justification: justification.to_owned(),
        });
        self.send(peer, Kind::Request, justification);
        Ok(())
    }

    /// Trusts `peer`, which has asked for it. False where it has not; then nothing changes.
    ///
    /// # Errors
    /// [`CommandError::NotRegistered`], [`CommandError::NotAPeer`].
    pub fn approve(&mut self, _now: Time, peer: NodeId) -> Result<bool, CommandError> {
        self.check_peer(peer)?;
        let Some(pending) = self.pending.get(&peer) else { return Ok(false) };
        let key = pending.public_key;
        self.revoked.remove(&peer);
        self.establish(peer, key);
        self.accept(peer);
        Ok(true)
    }

    /// Refuses to trust `peer`, which has asked for it. False where it has not; then nothing changes.
    ///
    /// # Errors
    /// [`CommandError::NotRegistered`], [`CommandError::NotAPeer`].
    pub fn reject(&mut self, _now: Time, peer: NodeId, reason: &str) -> Result<bool, CommandError> {
        self.check_peer(peer)?;
        if self.pending.remove(&peer).is_none() {
            return Ok(false);
        }
        self.outputs.push_back(Output::Changed);
        self.ask(Operation::RespondHandshake { node_id: self.own, peer_id: peer, accept: false });
        self.send(peer, Kind::Reject, reason);
        Ok(true)
    }

    /// Trusts `peer` no longer, and tells it. False where it was not trusted; the directory is told all the same.
    ///
    /// # Errors
    /// [`CommandError::NotRegistered`], [`CommandError::NotAPeer`].
    pub fn revoke(&mut self, now: Time, peer: NodeId) -> Result<bool, CommandError> {
        self.check_peer(peer)?;
        let was_trusted = self.forget(peer);
        if self.revoked.len() >= REVOKED_MAX {
            self.revoked.retain(|_, since| now.since(*since) < REVOKED_FOR);
        }
        if self.revoked.len() >= REVOKED_MAX {
            let oldest = self.revoked.iter().min_by_key(|(_, since)| **since).map(|(peer, _)| *peer);
            oldest.map(|peer| self.revoked.remove(&peer));
        }
        self.revoked.insert(peer, now);
        self.ask(Operation::RevokeTrust { node_id: self.own, peer_id: peer });
        if was_trusted {
            self.send(peer, Kind::Revoke, "");
        }
        Ok(was_trusted)
    }

    // --- peers and the directory ---

    /// Takes what has come so far on a stream to port 444 whose other end is `from`, for which the directory has
    /// `registered_key`.
    ///
    /// # Errors
    /// [`Refusal::Incomplete`] when more has to come; any other means that the message changes nothing.
    pub fn handle_message(
        &mut self,
        now: Time,
        from: NodeId,
        registered_key: [u8; identity::PUBLIC_KEY_LEN],
        message: &[u8],
    ) -> Result<(), Refusal> {
        let decoded = Message::decode(message)?.ok_or(Refusal::Incomplete)?;
        self.check_message(now, from, &registered_key, &decoded)?;
        let key = Some(wire::registry::Base64(registered_key));
        match decoded.kind {
            Kind::Request => self.handle_request(now, from, key, &decoded.justification, Way::Stream),
            Kind::Accept => self.handle_accept(from, key),
            Kind::Reject => self.handle_reject(from, decoded.reason),
            Kind::Revoke => {
                self.handle_revoke(from);
                Ok(())
            }
        }
    }

    /// The directory's answer to an [`Output::Ask`]; none when it cannot be reached.
    pub fn handle_answer(&mut self, now: Time, operation: Operation, answer: Option<&Answer>) {
        match (operation, answer) {
            (Operation::PollHandshakes { .. }, Some(Answer::PollHandshakes { requests, responses })) => {
                self.schedule.handle_answered(now);
                self.handle_polled(now, requests, responses);
            }
            (Operation::PollHandshakes { .. }, _) => self.schedule.handle_answered(now),
            (operation, None) => self.retries.ask_again(now, operation),
            (operation, Some(Answer::Error { error })) if error.contains("rate limited") => {
                self.retries.ask_again(now, operation);
            }
            (_, Some(_)) => {}
        }
    }

    /// What the directory held for us.
    pub fn handle_polled(&mut self, now: Time, requests: &[HandshakeRequest], responses: &[HandshakeResponse]) {
        // Answers first: a peer that we asked, and that accepted, need not wait for the user as well.
        let own = self.own;
        for response in responses.iter().take(POLLED_MAX).filter(|response| is_peer(own, response.from_node_id)) {
            // One that answers nothing comes twice at best: by both ways.
            let _ = if response.accept {
                self.handle_accept(response.from_node_id, None)
            } else {
                self.handle_reject(response.from_node_id, String::new())
            };
        }
        for request in requests.iter().take(POLLED_MAX).filter(|request| is_peer(own, request.from_node_id)) {
            let (from, key) = (request.from_node_id, request.public_key);
            // A refusal is that the list is full; the peer has to ask again.
            let _ = self.handle_request(now, from, key, &request.justification, Way::Directory);
        }
    }

    /// The relay says that the directory holds something for us (0A).
    pub fn handle_notified(&mut self, now: Time) {
        self.schedule.hurry_once(now);
    }

    /// The key the directory has for `node`: completes an entry that came without one.
    pub fn handle_key(&mut self, node: NodeId, registered_key: [u8; identity::PUBLIC_KEY_LEN]) {
        let key = wire::registry::Base64(registered_key);
        let trusted = self.trusted.get_mut(&node).map(|entry| &mut entry.public_key);
        let pending = self.pending.get_mut(&node).map(|entry| &mut entry.public_key);
        let mut is_new = false;
        for entry in trusted.into_iter().chain(pending).filter(|entry| entry.is_none()) {
            *entry = Some(key);
            is_new = true;
        }
        if is_new {
            self.outputs.push_back(Output::Changed);
        }
    }

    /// An [`Output::Send`] has been delivered.
    pub fn handle_sent(&mut self, peer: NodeId) {
        self.retries.handle_sent(peer);
    }

    /// An [`Output::Send`] has not been delivered. The directory has it as well; an answer is tried again all the same,
    /// for directories refuse answers to requests that they have not seen.
    pub fn handle_send_failed(&mut self, now: Time, peer: NodeId) {
        self.retries.handle_send_failed(now, peer);
    }

    /// Does what has fallen due.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.own == NodeId::UNSET {
            return;
        }
        if self.schedule.handle_timeout(now) {
            self.ask(Operation::PollHandshakes { node_id: self.own });
        }
        while let Some(operation) = self.retries.poll_ask(now) {
            self.ask(operation);
        }
        while let Some((peer, kind, text)) = self.retries.poll_send(now) {
            let message = self.compose(peer, kind, &text);
            self.outputs.push_back(Output::Send { peer, message });
        }
    }

    /// When [`Trust::handle_timeout`] is to be called, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.own == NodeId::UNSET {
            return None;
        }
        [self.schedule.poll_timeout(), self.retries.poll_timeout()].into_iter().flatten().min()
    }

    /// Whether there is something for the owner.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// The key with which `node` became trusted.
    #[must_use]
    pub fn pinned_key(&self, node: NodeId) -> Option<[u8; identity::PUBLIC_KEY_LEN]> {
        self.trusted.get(&node)?.public_key.map(|key| key.0)
    }

    /// The next thing the owner has to do or should know.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    // --- what follows ---

    fn establish(&mut self, peer: NodeId, key: Option<PublicKey>) {
        let key = key.or_else(|| self.pending.get(&peer).and_then(|entry| entry.public_key));
        let key = key.or_else(|| self.trusted.get(&peer).and_then(|entry| entry.public_key));
        self.pending.remove(&peer);
        self.requested.remove(&peer);
        let entry = Trusted { approved_at: self.unix, mutual: true, network: 0, node_id: peer, public_key: key };
        self.trusted.insert(peer, entry);
        self.outputs.push_back(Output::Changed);
        self.outputs.push_back(Output::Established(peer));
    }

    /// Says by both ways that `peer` is trusted, the directory first: then the peer may resolve us when it hears of it.
    fn accept(&mut self, peer: NodeId) {
        self.ask(Operation::ReportTrust { node_id: self.own, peer_id: peer });
        self.ask(Operation::RespondHandshake { node_id: self.own, peer_id: peer, accept: true });
        self.send(peer, Kind::Accept, "");
    }

    fn forget(&mut self, peer: NodeId) -> bool {
        let had_request = self.requested.remove(&peer).is_some();
        let had_pending = self.pending.remove(&peer).is_some();
        let was_trusted = self.trusted.remove(&peer).is_some();
        self.retries.forget(peer);
        if had_request || had_pending || was_trusted {
            self.outputs.push_back(Output::Changed);
        }
        was_trusted
    }

    fn note_request(&mut self, peer: NodeId, justification: &str) {
        if !self.requested.contains_key(&peer) && self.requested.len() >= REQUESTED_MAX {
            let oldest = self.requested.values().min_by_key(|entry| entry.requested_at).map(|entry| entry.node_id);
            oldest.map(|peer| self.requested.remove(&peer));
        }
        let entry = Requested { justification: justification.to_owned(), node_id: peer, requested_at: self.unix };
        self.requested.insert(peer, entry);
        self.outputs.push_back(Output::Changed);
    }

    fn ask(&mut self, operation: Operation) {
        self.outputs.push_back(Output::Ask(operation));
    }

    fn send(&mut self, peer: NodeId, kind: Kind, text: &str) {
        let message = self.compose(peer, kind, text);
        self.retries.note(peer, kind, text);
        self.outputs.push_back(Output::Send { peer, message });
    }

    fn compose(&self, peer: NodeId, kind: Kind, text: &str) -> Vec<u8> {
        let text_of = |of: Kind| if kind == of { text.to_owned() } else { String::new() };
        let message = Message {
            kind,
            node_id: self.own,
            public_key: BASE64.encode(self.identity.public_key()),
            justification: text_of(Kind::Request),
            signature: BASE64.encode(self.identity.sign(signed_text(self.own, peer).as_bytes())),
            reason: text_of(Kind::Reject),
            timestamp: i64::try_from(self.unix).unwrap_or(i64::MAX),
        };
        message.encode()
    }

    fn check_peer(&self, peer: NodeId) -> Result<(), CommandError> {
        if self.own == NodeId::UNSET {
            return Err(CommandError::NotRegistered);
        }
        if is_peer(self.own, peer) { Ok(()) } else { Err(CommandError::NotAPeer) }
    }
}

fn is_peer(own: NodeId, node: NodeId) -> bool {
    node != own && node != NodeId::UNSET && node != NodeId::BROADCAST
}
