//! When a node's record is published, and with which serial.
//!
//! ```text
//!   offer, withdraw ──► owed ──► published ◄── the directory has taken it
//!                        ▲  │
//!   registered (anew) ───┘  └─ refused: told, until the next registration or offer
//! ```
//!
//! A record is made once for what it says: unchanged content keeps its serial over restarts, so that nobody sees a change
//! where there is none. It is published after each registration, since the directory may have lost it. Signing and sending
//! is left to the owner, and so is keeping [`Kept`] over restarts.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::NodeId;
use wire::registry::capability::{Record, SERIAL_MAX};
use wire::registry::{Answer, Operation, PublicKey, Signature};

use super::offer::{Offer, OfferError};
use crate::Time;
use crate::node::Unanswered;

/// The first pause after a failure; it doubles
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
/// up to this.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// How a directory refuses an older record: "serial 3, already have 5".
const ALREADY_HAVE: &str = "already have ";
/// Refusals that pass by themselves.
const TRANSIENT: [&str; 3] = ["rate limited", "too many requests", "node not found"];
/// Characters of a directory's text that are passed on.
const TEXT_CHARS_MAX: usize = 200;
const EVENTS_MAX: usize = 16;

/// What the owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What is [`Kept`], or [`Publication::status`], is another.
    Changed,
    /// The directory refuses the record or the tags; told once.
    Complaint(String),
}

/// How the record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing has been offered.
    Nothing,
    /// It will be published; what is in the way, once that is known.
    Pending(Option<String>),
    /// The directory has it, or its withdrawal.
    Published(u64),
    /// The directory refuses it.
    Refused(String),
}

/// What is kept over restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The record's text.
    pub record: String,
    /// The node's signature of it.
    pub signature: Signature,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Offer(Box<Offer>),
    Withdrawal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// With the revision of what is wanted.
    Record(u64),
    Tags,
}

/// The publication of one node's record.
#[derive(Debug)]
pub struct Publication {
    public_key: PublicKey,
    wanted: Wanted,
    /// Counts changes of `wanted`.
    revision: u64,
    tags: Option<Vec<String>>,
    /// The record that was made last, and its text.
    made: Option<(Record, String)>,
    /// The highest serial used, or heard of.
    serial: u64,
    unix_ms: u64,
    node: Option<NodeId>,
    owes_record: bool,
    owes_tags: bool,
    due: Time,
    outstanding: Option<Ask>,
    failures: u32,
    status: Status,
    events: VecDeque<Event>,
}

impl Publication {
    /// Of a node with this key, which offers nothing yet.
    #[must_use]
    pub const fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            wanted: Wanted::Nothing,
            revision: 0,
            tags: None,
            made: None,
            serial: 0,
            unix_ms: 0,
            node: None,
            owes_record: false,
            owes_tags: false,
            due: Time(0),
            outstanding: None,
            failures: 0,
            status: Status::Nothing,
            events: VecDeque::new(),
        }
    }

    /// Unix seconds, from which serials are made.
    pub const fn set_wall_clock(&mut self, unix_seconds: u64) {
        self.unix_ms = unix_seconds.saturating_mul(1000);
    }

    /// Goes on with the record that was kept: what was offered or withdrawn stays so until something else is said.
    ///
    /// # Errors
    /// The text is no record.
    pub fn restore(&mut self, kept: &Kept) -> Result<(), OfferError> {
        let record = Record::decode(&kept.record)?;
        self.serial = record.serial;
        self.wanted = if record.withdrawn { Wanted::Withdrawal } else { Wanted::Offer(Box::new(Offer::of(&record))) };
        self.made = Some((record, kept.record.clone()));
        self.status = Status::Pending(None);
        Ok(())
    }

    /// Offers this from now on, in place of what was offered before.
    ///
    /// # Errors
    /// [`OfferError`]: it cannot be published.
    pub fn offer(&mut self, now: Time, offer: Offer) -> Result<(), OfferError> {
        let offer = offer.checked()?;
        self.want(now, Wanted::Offer(Box::new(offer)));
        Ok(())
    }

    /// Takes back what is offered, also what this node no longer remembers.
    pub fn withdraw(&mut self, now: Time) {
        self.want(now, Wanted::Withdrawal);
    }

    /// The node's tags, told after each registration.
    pub fn set_tags(&mut self, now: Time, tags: Vec<String>) {
        self.tags = Some(tags);
        self.owes_tags = true;
        self.due = now;
    }

    /// The directory has taken other tags from the user: ours are not told again.
    pub fn forget_tags(&mut self) {
        self.tags = None;
        self.owes_tags = false;
    }

    /// The directory has registered the node, and may have lost what it was told.
    pub fn handle_registered(&mut self, now: Time, node: NodeId) {
        self.node = Some(node);
        self.owes_record = self.wanted != Wanted::Nothing;
        self.owes_tags = self.tags.is_some();
        self.due = now;
        self.failures = 0;
    }

    /// The next request, to be signed and sent. There is none before the one before is answered.
    pub fn poll_operation(&mut self, now: Time) -> Option<Operation> {
        if self.poll_timeout()? > now {
            return None;
        }
        let node_id = self.node?;
        if self.owes_record {
            let record = self.text(node_id)?;
            self.outstanding = Some(Ask::Record(self.revision));
            return Some(Operation::PublishCapability { node_id, record });
        }
        self.outstanding = Some(Ask::Tags);
        Some(Operation::SetTags { node_id, tags: self.tags.clone()? })
    }

    /// When [`Publication::poll_operation`] will have something, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let owes = self.owes_record || self.owes_tags;
        (owes && self.outstanding.is_none() && self.node.is_some()).then_some(self.due)
    }

    /// The answer to the operation taken last.
    pub fn handle_answer(&mut self, now: Time, answer: Result<&Answer, &Unanswered>) {
        let Some(ask) = self.outstanding.take() else { return };
        match (ask, answer) {
            (Ask::Record(revision), Ok(Answer::PublishCapability { serial, .. })) => {
                self.failures = 0;
                if revision == self.revision {
                    self.owes_record = false;
                    self.become_status(Status::Published(*serial));
                }
            }
            (Ask::Tags, Ok(Answer::SetTags { .. })) => {
                self.failures = 0;
                self.owes_tags = false;
            }
            (_, Ok(Answer::Error { error })) => self.handle_refusal(now, ask, &clip(error)),
            (_, Ok(_)) => self.handle_refusal(now, ask, "the directory's answer does not fit the question"),
            (_, Err(unanswered)) => self.try_later(now, ask, &clip(&unanswered.to_string())),
        }
    }

    /// The next thing the owner should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How the record stands.
    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// The record and its text, once one was made.
    #[must_use]
    pub fn made(&self) -> Option<(&Record, &str)> {
        self.made.as_ref().map(|(record, text)| (record, text.as_str()))
    }

    /// What is offered, published or not.
    #[must_use]
    pub fn offered(&self) -> Option<&Offer> {
        match &self.wanted {
            Wanted::Offer(offer) => Some(offer),
            Wanted::Nothing | Wanted::Withdrawal => None,
        }
    }

    fn want(&mut self, now: Time, wanted: Wanted) {
        let is_settled = self.wanted == wanted && matches!(self.status, Status::Published(_));
        if is_settled {
            return;
        }
        self.wanted = wanted;
        self.revision += 1;
        self.owes_record = true;
        self.due = now;
        self.failures = 0;
        self.become_status(Status::Pending(None));
    }

    /// The text of the record that says what is wanted: the one that was made, where it does.
    fn text(&mut self, node: NodeId) -> Option<String> {
        let with = |serial| match &self.wanted {
            Wanted::Nothing => None,
            Wanted::Offer(offer) => Some(offer.record(node, self.public_key, serial)),
            Wanted::Withdrawal => {
                Some(Record { withdrawn: true, ..Offer::default().record(node, self.public_key, serial) })
            }
        };
        if let Some((made, text)) = &self.made
            && made.serial == self.serial
            && with(made.serial).as_ref() == Some(made)
        {
            return Some(text.clone());
        }
        self.serial = self.unix_ms.max(self.serial + 1).min(SERIAL_MAX);
        let record = with(self.serial)?;
        let text = record.encode().ok()?;
        self.made = Some((record, text.clone()));
        self.tell(Event::Changed);
        Some(text)
    }

    fn handle_refusal(&mut self, now: Time, ask: Ask, error: &str) {
        if let (Ask::Record(_), Some(has)) = (ask, serial_had(error))
            // A directory that claims the highest, after which there is none, is not followed.
            && has < SERIAL_MAX
        {
            // What was made is outdone; the next has to be newer still.
            self.serial = self.serial.max(has);
            self.made = None;
            if self.failures == 0 {
                self.failures = 1;
                self.due = now;
                return;
            }
            return self.try_later(now, ask, error);
        }
        if TRANSIENT.iter().any(|phrase| error.contains(phrase)) {
            return self.try_later(now, ask, error);
        }
        match ask {
            Ask::Record(revision) if revision == self.revision => {
                self.owes_record = false;
                self.become_status(Status::Refused(error.to_owned()));
            }
            Ask::Record(_) => return,
            Ask::Tags => self.owes_tags = false,
        }
        self.tell(Event::Complaint(error.to_owned()));
    }

    fn try_later(&mut self, now: Time, ask: Ask, reason: &str) {
        self.due = now + BACK_OFF_MIN.saturating_mul(1 << self.failures.min(6)).min(BACK_OFF_MAX);
        self.failures = self.failures.saturating_add(1);
        if matches!(ask, Ask::Record(_)) {
            self.become_status(Status::Pending(Some(reason.to_owned())));
        }
    }

    fn become_status(&mut self, status: Status) {
        if self.status != status {
            self.status = status;
            self.tell(Event::Changed);
        }
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// The serial a directory has, in its own words.
fn serial_had(error: &str) -> Option<u64> {
    let (_, rest) = error.rsplit_once(ALREADY_HAVE)?;
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Another's text, fit for a log.
fn clip(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(TEXT_CHARS_MAX).collect()
}
