//! What a relay leaves to the next one, and takes over from the one before; and how it comes to an end.

use super::Server;
use crate::endpoint::{LocalId, Path};
use crate::ledger::Record;
use crate::locals::Locals;
use crate::metrics::{Counter, Gauge};
use crate::sessions::{Activity, Change, Grade, Held, Session};
use crate::time::Time;

impl Server {
    /// Notes from now on what changes, for [`Self::poll_record`].
    pub fn keep_ledger(&mut self) {
        self.sessions.note_changes();
    }

    /// Notes nothing any more: nobody writes it down.
    pub fn end_ledger(&mut self) {
        self.sessions.end_changes();
    }

    /// How many records [`Self::poll_record`] has.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.sessions.changes()
    }

    /// A slot of this shard's part whose record is out of date, and what it has to be.
    pub fn poll_record(&mut self) -> Option<(usize, Option<Record>)> {
        let Change { slot, held } = self.sessions.poll_change()?;
        let record = held.and_then(|Held { node, session, activity }| {
            let local = self.locals.get(session.path.local)?.bound;
            let (remote, extended) = (session.path.remote, session.extended);
            Some(Record { node, remote, local, extended, grade: activity.grade, seen: activity.seen })
        });
        Some((slot, record))
    }

    /// Takes over the sessions of `records` whose node is this shard's and whose local address is still served; says how
    /// many. What each node may send at once begins anew, and contests of before are forgotten: who still wants an id says
    /// so again.
    pub fn inherit(&mut self, now: Time, records: &[Record]) -> usize {
        let timeout = self.rules.session_timeout;
        let mut inherited = 0;
        for record in records {
            let Record { node, remote, local, extended, grade, seen } = *record;
            let served = local_id(&self.locals, record);
            let Some(id) = served.filter(|_| self.sessions.owns(node) && self.sessions.find_own(node).is_none()) else {
                continue;
            };
            debug_assert!(self.locals.get(id).is_some_and(|entry| entry.bound == local));
            // A record from the future is a broken one.
            if seen > now || now.since(seen) > timeout || self.is_barred(grade) {
                continue;
            }
            let claimed = grade == Grade::SignedClaim;
            let session = Session { path: Path { remote, local: id }, extended, claimed };
            let activity = Activity { seen, grade, quota: self.quotas.of(node), ..Activity::default() };
            inherited += usize::from(self.sessions.insert(node, session, activity).is_ok());
        }
        self.counters.add(Counter::SessionsInherited, inherited as u64);
        self.counters.set(Gauge::Sessions, self.sessions.live() as u64);
        inherited
    }

    /// Begins no session any more; those there are go on.
    pub const fn drain(&mut self) {
        self.draining = true;
    }
}

/// The local address of a record, where it is served.
fn local_id(locals: &Locals, record: &Record) -> Option<LocalId> {
    locals.iter().find(|(_, local)| local.present && local.bound == record.local).map(|(id, _)| id)
}
