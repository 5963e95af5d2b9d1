//! How far this node has been told of bans.

use std::time::Duration;

use wire::registry::bans::{Cursor, OVERLAP_SECONDS};

use crate::Time;

/// A node that has registered so lately, and knew nobody before, needs the bans of the latest minutes alone. A heartbeat
/// may take a while to be answered.
const NEWCOMER: Duration = Duration::from_secs(OVERLAP_SECONDS - 60);

/// What the next heartbeat asks for. A directory that does not answer is asked all the same: it may be another one tomorrow.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// When this node may first have met others.
    registered_at: Option<Time>,
    next: Option<Cursor>,
}

impl Told {
    pub(super) fn handle_registered(&mut self, now: Time) {
        self.registered_at.get_or_insert(now);
    }

    pub(super) const fn handle_list(&mut self, next: Cursor) {
        self.next = Some(next);
    }

    pub(super) fn since(&self, now: Time) -> Cursor {
        let is_newcomer = self.registered_at.is_none_or(|at| now.since(at) < NEWCOMER);
        self.next.unwrap_or(if is_newcomer { Cursor::PRESENT } else { Cursor::ALL })
    }
}
