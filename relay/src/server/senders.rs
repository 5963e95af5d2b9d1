//! Who may send in a node's name, and how much.

use wire::NodeId;

use super::claims::Outcome;
use super::{Admission, Server};
use crate::admission::is_service_port;
use crate::contests::Claim;
use crate::endpoint::Path;
use crate::events::What;
use crate::metrics::DropReason;
use crate::sessions::{Session, Slot};
use crate::time::Time;

/// Relays to unknown destinations in a row after which each costs the sender [`UNKNOWN_COST`] packets beside itself.
const UNKNOWN_RUN_MAX: u8 = 32;
const UNKNOWN_COST: u64 = 16;
/// What each costs the source prefix, whose ids may be many, beside itself.
const UNKNOWN_PREFIX_COST: u64 = 4;

/// Whose packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// Of a node this shard owns.
    Own(Slot),
    /// Of another shard's node.
    Foreign,
    /// Nobody is checked.
    Unchecked,
}

impl Sender {
    /// The slot of a sender owned here.
    pub(super) const fn slot(self) -> Option<Slot> {
        match self {
            Self::Own(slot) => Some(slot),
            Self::Foreign | Self::Unchecked => None,
        }
    }
}

impl Server {
    /// Checks that a punch request comes from its requester. After a restart of ours it may be the first that is heard
    /// of a node: daemons whose peers are relayed send one every 15 s, and a discover once a minute.
    pub(super) fn admit_requester(&mut self, now: Time, from: Path, requester: NodeId) -> bool {
        match self.sessions.find(requester) {
            Some(session) => {
                let own = session.path.remote == from.remote;
                if own {
                    self.note_activity(now, requester);
                }
                own
            }
            None if self.sessions.owns(requester) && self.may_claim_by_relay(now, from, requester, None) => {
                self.claim(now, Claim { node: requester, path: from, extended: false }) == Outcome::Holds
            }
            None => false,
        }
    }

    /// Checks that a relayed packet comes from its sender and that the sender may send.
    pub(super) fn admit_sender(
        &mut self,
        now: Time,
        from: Path,
        sender: NodeId,
        len: usize,
    ) -> Result<Sender, DropReason> {
        if self.rules.admission == Admission::Open {
            let own = self.sessions.owns(sender).then(|| self.sessions.find_own(sender)).flatten();
            if let Some((slot, session)) = own
                && session.path.remote == from.remote
            {
                self.touch(now, slot, sender);
            }
            return Ok(Sender::Unchecked);
        }
        if !self.sessions.owns(sender) {
            return self.admit_foreign_sender(now, from, sender, len).map(|()| Sender::Foreign);
        }
        let slot = match self.sessions.find_own(sender) {
            Some((slot, session)) if session.path.remote == from.remote => {
                self.touch(now, slot, sender);
                slot
            }
            found => self.admit_moved_sender(now, from, sender, found.map(|(_, session)| session))?,
        };
        let activity = self.sessions.activity(slot);
        let quota = activity.quota;
        let within = quota.packets(&self.rules.sender_packets).charge(&mut activity.packets, now, 1)
            && quota.bytes(&self.rules.sender_bytes).charge(&mut activity.bytes, now, len as u64);
        if within {
            return Ok(Sender::Own(slot));
        }
        activity.tally.refused();
        self.note_seldom(now, slot, sender, What::BudgetExhausted);
        Err(DropReason::SenderBudget)
    }

    /// A packet that does not come from the sender's endpoint. The sender may have moved: a daemon that roams in the
    /// middle of a transfer says so by a discover only up to a minute later.
    pub(super) fn admit_moved_sender(
        &mut self,
        now: Time,
        from: Path,
        node: NodeId,
        held: Option<Session>,
    ) -> Result<Slot, DropReason> {
        if !self.may_claim_by_relay(now, from, node, held) {
            return Err(DropReason::SourceMismatch);
        }
        let extended = held.is_some_and(|session| session.extended);
        match self.claim(now, Claim { node, path: from, extended }) {
            Outcome::Holds => self.sessions.find_own(node).map(|(slot, _)| slot).ok_or(DropReason::SourceMismatch),
            Outcome::Contested => Err(DropReason::SourceContested),
            Outcome::Refused => Err(DropReason::SourceMismatch),
        }
    }

    /// From a proven address always; from another never in `strict`, and else only against a holder, who is asked first,
    /// and at the price of a discover, which would achieve the same.
    pub(super) fn may_claim_by_relay(&mut self, now: Time, from: Path, node: NodeId, held: Option<Session>) -> bool {
        let proven = node.is_node() && self.membership.proves(node, from.remote.ip);
        // No session begins where no answer may go.
        if is_service_port(from.remote.port) || self.rules.admission == Admission::Strict {
            return proven && !is_service_port(from.remote.port);
        }
        proven || (held.is_some() && self.may_be_stored(node) && self.charge_control(now, from))
    }

    /// Charges the source prefix for a packet whose sender may send it.
    pub(super) fn charge_relayed(&mut self, now: Time, from: Path, len: usize) -> bool {
        self.rules.admission == Admission::Open || self.relayed.charge(from.remote.ip, now, len as u64)
    }

    /// Charges the source prefix for a packet that goes no further, lest it cost nothing to send what is refused; the
    /// reason to count. Its source may be forged, so it is charged apart from what is relayed: else who writes an
    /// address into packets could use up what the nodes there may send. What the sender's budget refused is not charged
    /// again.
    pub(super) fn charge_refused(&mut self, now: Time, from: Path, reason: DropReason) -> DropReason {
        let is_free = reason == DropReason::SenderBudget || self.rules.admission == Admission::Open;
        if is_free || self.refused.charge(&[(self.rules.prefix_packets, 1)], from.remote.ip, now) {
            reason
        } else {
            DropReason::RefusedBudget
        }
    }

    /// A packet to nobody. In a row they cost the sender budget; each costs the source prefix, whose ids may be many.
    ///
    /// These are fines, owed where there is not so much left: at the rate of the budget there never is, so that nothing
    /// would be taken from those who send most. Of several fines one is owed, and so whoever stops, or whose peer comes
    /// back, relays again seventeen packets' time later, however much it has sent in vain.
    ///
    /// Who got here stands at the sender's endpoint, or has forged it: address, port and id. In such a node's name one can
    /// use up seventeen times as much of its budget as was sent, unless the node itself sends to somebody at a 32nd of that
    /// rate, which ends the run. Of its neighbours' it is five times as much; yet in an unbroken run no more than 5/17 of
    /// the sender's budget, which packets to somebody would take whole.
    pub(super) fn charge_unknown(&mut self, now: Time, from: Path, slot: Option<Slot>, sender: NodeId, dest: NodeId) {
        if self.rules.admission != Admission::Open {
            self.relayed.fine(from.remote.ip, now, UNKNOWN_PREFIX_COST);
        }
        let Some(slot) = slot else { return };
        let activity = self.sessions.activity(slot);
        activity.unknown_run = activity.unknown_run.saturating_add(1);
        match activity.unknown_run {
            1 => self.note_seldom(now, slot, sender, What::DestinationUnknown { dest }),
            ..=UNKNOWN_RUN_MAX => {}
            _ => activity.quota.packets(&self.rules.sender_packets).fine(&mut activity.packets, now, UNKNOWN_COST),
        }
    }
}
