//! What is believed of a message on port 444 or of an answer of the directory, and what follows from it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use wire::NodeId;
use wire::registry::request::JUSTIFICATION_BYTES_MAX;
use wire::registry::{Operation, PublicKey};
use wire::services::handshake::{Message, signed_text};

use super::{
    MESSAGE_AGE_MAX, MESSAGE_AHEAD_MAX, Output, PENDING_MAX, Pending, REVOKED_FOR, Refusal, Trust, Trusted, is_peer,
};
use crate::Time;
use crate::identity;

/// By which way something has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Stream,
    Directory,
}

impl Trust {
    pub(super) fn check_message(
        &mut self,
        now: Time,
        from: NodeId,
        registered_key: &[u8; identity::PUBLIC_KEY_LEN],
        message: &Message,
    ) -> Result<(), Refusal> {
        if self.own == NodeId::UNSET {
            return Err(Refusal::NotRegistered);
        }
        if message.node_id != from || !is_peer(self.own, from) {
            return Err(Refusal::NotThePeer { claimed: message.node_id });
        }
        self.sources.count(now, from)?;
        if !message.public_key.is_empty() && message.public_key != BASE64.encode(registered_key) {
            return Err(Refusal::WrongKey);
        }
        let signature = BASE64.decode(&message.signature).ok().and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
        let text = signed_text(from, self.own);
        if !signature.is_some_and(|signature| identity::has_signed(registered_key, text.as_bytes(), &signature)) {
            return Err(Refusal::WrongSignature);
        }
        let age = i64::try_from(self.unix).unwrap_or(i64::MAX).saturating_sub(message.timestamp);
        if age > MESSAGE_AGE_MAX.as_secs().cast_signed() || age < -MESSAGE_AHEAD_MAX.as_secs().cast_signed() {
            return Err(Refusal::NotFresh(age));
        }
        self.sources.note(now, from, message)
    }

    pub(super) fn handle_request(
        &mut self,
        now: Time,
        from: NodeId,
        key: Option<PublicKey>,
        justification: &str,
        way: Way,
    ) -> Result<(), Refusal> {
        // One whose key has changed since is perhaps another: the user decides anew.
        let has_other_key =
            |entry: &Trusted| matches!((entry.public_key, key), (Some(known), Some(given)) if known != given);
        let is_known = self.trusted.get(&from).map(|entry| !has_other_key(entry));
        let is_revoked = self.revoked.get(&from).is_some_and(|since| now.since(*since) < REVOKED_FOR);
        if is_known == Some(true) {
            // It has forgotten, or the accept was lost.
            self.accept(from);
            return Ok(());
        }
        let both_asked = self.requested.contains_key(&from);
        if is_known.is_none() && (both_asked || (self.auto_approve && !is_revoked)) {
            self.establish(from, key);
            self.accept(from);
            return Ok(());
        }
        self.note_pending(from, key, justification, way)
    }

    fn note_pending(
        &mut self,
        from: NodeId,
        key: Option<PublicKey>,
        justification: &str,
        way: Way,
    ) -> Result<(), Refusal> {
        let justification = &justification[..justification.floor_char_boundary(JUSTIFICATION_BYTES_MAX)];
        let known = self.pending.get(&from);
        if known.is_none() && self.pending.len() >= PENDING_MAX {
            return Err(Refusal::PendingFull);
        }
        // The directory's copy of a request that has come already says nothing new.
        let is_news = known.is_none_or(|known| way == Way::Stream && known.justification != justification);
        let key = key.or(known.and_then(|known| known.public_key));
        let is_changed = is_news || known.is_some_and(|known| known.public_key != key);
        let received_at = known.filter(|_| !is_news).map_or(self.unix, |known| known.received_at);
        let justification = known.filter(|_| !is_news).map_or(justification, |known| &known.justification).to_owned();
        self.pending.insert(
            from,
            Pending { justification: justification.clone(), node_id: from, public_key: key, received_at },
        );
        if is_changed {
            self.outputs.push_back(Output::Changed);
        }
        if is_news {
            self.outputs.push_back(Output::Requested { peer: from, justification });
        }
        Ok(())
    }

    pub(super) fn handle_accept(&mut self, from: NodeId, key: Option<PublicKey>) -> Result<(), Refusal> {
        if !self.requested.contains_key(&from) {
            // By the other way it has come already.
            return if self.trusts(from) { Ok(()) } else { Err(Refusal::NotAsked) };
        }
        self.establish(from, key);
        self.ask(Operation::ReportTrust { node_id: self.own, peer_id: from });
        Ok(())
    }

    pub(super) fn handle_reject(&mut self, from: NodeId, reason: String) -> Result<(), Refusal> {
        self.requested.remove(&from).ok_or(Refusal::NotAsked)?;
        self.outputs.push_back(Output::Changed);
        self.outputs.push_back(Output::Rejected { peer: from, reason });
        Ok(())
    }

    pub(super) fn handle_revoke(&mut self, from: NodeId) {
        if self.pending.remove(&from).is_some() {
            self.outputs.push_back(Output::Changed);
        }
        if self.trusts(from) {
            self.forget(from);
            self.ask(Operation::RevokeTrust { node_id: self.own, peer_id: from });
            self.outputs.push_back(Output::Revoked(from));
        }
    }
}
