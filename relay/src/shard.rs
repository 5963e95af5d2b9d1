//! The driver of one core: complete, decide, submit. Of all that a datagram passes, only this reads the clock.
//!
//! ```text
//! wait → reap completions → retry failed sends of the last batch → give its buffers back
//!      → mail, timers → decide on every datagram → chain trains → queue the sends → wait (which submits) …
//! end: cancel the receives → reap to the last completion → decide and send as ever → write the ledger → publish
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::endpoint::{LocalId, Path};
use crate::event_queues::EventQueues;
use crate::fairness::filter::Family;
use crate::guard::Guard;
use crate::ledger::Ledger;
use crate::locals::{LOCALS_MAX, Locals};
use crate::mailbox::{Mail, Mailbox};
use crate::metrics::{Counter, DropReason, Gauge, Published};
use crate::questions::Questions;
use crate::server::{Action, Handoff, REPLY_MAX, Server};
use crate::socket::LocalSockets;
use crate::time::Time;
use crate::train::{Car, Trains};
use crate::uring::{Completion, FileSlot, Lease, Received, Region, Ring, RingError, SENDS_MAX, Wait};

/// Receives decided on in one batch.
const BATCH_MAX: usize = 64;
/// A batch stops taking receives when fewer sends than this are left: a merged run holds at most so many datagrams,
/// each of which may need two.
const SEND_RESERVE: usize = 2 * 128;
const FILES: u32 = 2 * LOCALS_MAX as u32 + 1;
const WAKE: FileSlot = FileSlot(2 * LOCALS_MAX as u32);
const REPLIES_MAX: usize = 2048;
/// Records written to the ledger in one turn, so that many changes at once delay nobody.
const RECORDS_PER_TURN_MAX: usize = 64;
/// How long the kernel may take to end the receives; it takes microseconds.
const FINISH_WITHIN: Duration = Duration::from_secs(1);
/// Looks at the ring between two looks at the clock while spinning.
const SPINS_PER_CLOCK: u32 = 64;

/// What a shard needs beside its rules.
#[derive(Debug)]
pub struct Setup {
    /// Its number.
    pub index: usize,
    /// How long to look for news before sleeping.
    pub spin: Duration,
    /// All shards' mailboxes.
    pub mailboxes: Arc<[Mailbox]>,
    /// Where its counters go.
    pub published: Arc<Published>,
    /// Where its control events go.
    pub events: Arc<EventQueues>,
    /// Where its questions go.
    pub questions: Arc<Questions>,
    /// Where its sessions are written for the next process.
    pub ledger: Option<Arc<Ledger>>,
}

/// One core's driver.
pub struct Shard {
    setup: Setup,
    server: Server,
    guard: Guard,
    ring: Ring,
    sockets: Vec<Socket>,
    pending: VecDeque<Received>,
    batch: Vec<Lease>,
    trains: Trains<Region>,
    /// Where the rules write an answer.
    reply: [u8; REPLY_MAX],
    replies_used: usize,
    failures: Vec<(u32, i32)>,
    ended: Vec<(FileSlot, i32)>,
    /// Held until everything received has been decided on.
    stopping: Option<mpsc::Sender<()>>,
    ledger: Option<Arc<Ledger>>,
}

/// What a shard knows of the sockets of one local address.
#[derive(Clone, Copy, Debug, Default)]
struct Socket {
    installed: bool,
    /// The device cannot offload segmentation.
    plain: bool,
}

impl LocalId {
    const fn main(self) -> FileSlot {
        FileSlot(self.0 as u32 * 2)
    }

    const fn fragmenting(self) -> FileSlot {
        FileSlot(self.0 as u32 * 2 + 1)
    }

    const fn of(FileSlot(slot): FileSlot) -> Self {
        Self((slot / 2) as u16)
    }
}

impl Shard {
    /// A shard on the calling thread, which must be the one that calls [`Self::run`].
    ///
    /// # Errors
    /// [`RingError`], naming what the kernel lacks.
    pub fn new(setup: Setup, mut server: Server) -> Result<Self, RingError> {
        if setup.ledger.is_some() {
            server.keep_ledger();
        }
        let mut ring = Ring::new(FILES, REPLIES_MAX * REPLY_MAX)?;
        ring.install(WAKE, setup.mailboxes[setup.index].as_fd())?;
        ring.watch(WAKE)?;
        Ok(Self {
            guard: Guard::new(server.exempt()),
            server,
            ring,
            sockets: vec![Socket::default(); LOCALS_MAX],
            pending: VecDeque::with_capacity(BATCH_MAX),
            batch: Vec::with_capacity(BATCH_MAX),
            trains: Trains::new(SENDS_MAX),
            reply: [0; REPLY_MAX],
            replies_used: 0,
            failures: Vec::new(),
            ended: Vec::new(),
            stopping: None,
            ledger: setup.ledger.clone(),
            setup,
        })
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// When the ring itself fails. No datagram can cause that.
    pub fn run(mut self) -> io::Result<()> {
        while self.stopping.is_none() {
            self.wait()?;
            self.turn()?;
        }
        self.finish()
    }

    fn turn(&mut self) -> io::Result<()> {
        let now = Time::read_clock();
        self.reap(now)?;
        self.settle_failures()?;
        self.release_batch()?;
        self.decide_batch(now);
        self.handle_timers(now);
        self.send_own();
        self.queue_trains()?;
        self.hand_off();
        self.ask_questions(now);
        self.hand_out_events();
        self.write_ledger(RECORDS_PER_TURN_MAX);
        let unwritten = self.server.unwritten() as u64;
        self.server.counters().set(Gauge::Unwritten, unwritten);
        self.server.counters().count(Counter::Turns);
        self.setup.published.publish(self.server.counters());
        Ok(())
    }

    /// Decides on everything that has been received, and leaves the sockets to whoever has them next: no datagram is lost
    /// between the two.
    fn finish(&mut self) -> io::Result<()> {
        let mut armed = Vec::new();
        for id in (0..LOCALS_MAX as u16).map(LocalId) {
            if self.sockets[usize::from(id.0)].installed {
                self.ring.cancel(id.main())?;
                armed.push(id.main());
            }
        }
        let deadline = Time::read_clock() + FINISH_WITHIN;
        loop {
            // Those that ended by themselves are not armed again.
            armed.retain(|slot| !self.ended.iter().any(|(ended, _)| ended == slot));
            let idle = self.pending.is_empty() && self.batch.is_empty() && self.failures.is_empty();
            let late = Time::read_clock() >= deadline;
            if (armed.is_empty() && idle) || late {
                if late {
                    tracing::warn!(shard = self.setup.index, "the kernel has not ended all receives in time");
                }
                break;
            }
            let wait = if idle { Wait::AtMost(FINISH_WITHIN / 10) } else { Wait::No };
            self.ring.submit_and_wait(wait)?;
            self.turn()?;
        }
        self.ring.submit()?;
        self.write_ledger(usize::MAX);
        self.setup.published.publish(self.server.counters());
        // Before the ring and its memory are taken down: somebody waits to receive in our place.
        self.stopping = None;
        Ok(())
    }

    /// Most batches change no session.
    fn write_ledger(&mut self, records_max: usize) {
        let Some(ledger) = &self.ledger else { return };
        for _ in 0..records_max {
            let Some((slot, record)) = self.server.poll_record() else { return };
            if let Err(error) = ledger.write(self.setup.index, slot, record.as_ref()) {
                let shard = self.setup.index;
                tracing::error!(shard, %error, "sessions are no longer kept for a restart; give this service more memory");
                if let Err(error) = ledger.void() {
                    tracing::error!(shard, %error, "and those kept so far cannot be taken back");
                }
                self.ledger = None;
                // Else they would come together for ever, and be waited for.
                self.server.end_ledger();
                return;
            }
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        let is_behind = self.ledger.is_some() && self.server.unwritten() > 0;
        if !self.pending.is_empty() || is_behind {
            return self.ring.submit_and_wait(Wait::No);
        }
        if !self.setup.spin.is_zero() {
            self.ring.submit()?;
            self.spin();
        }
        let due = self.server.poll_timeout();
        let due = self.guard.next_review().map_or(due, |review| review.min(due));
        let timeout = due.since(Time::read_clock());
        self.ring.submit_and_wait(Wait::AtMost(timeout))
    }

    /// Waking up costs more than a short look around.
    fn spin(&mut self) {
        let until = Time::read_clock() + self.setup.spin;
        loop {
            for _ in 0..SPINS_PER_CLOCK {
                if self.ring.has_news() {
                    return;
                }
                std::hint::spin_loop();
            }
            if Time::read_clock() >= until {
                return;
            }
        }
    }

    fn reap(&mut self, now: Time) -> io::Result<()> {
        while let Some(completion) = self.ring.next_completion() {
            match completion {
                Completion::Received(received) => self.pending.push_back(received),
                Completion::ReceiveEnded(slot, errno) => self.ended.push((slot, errno)),
                Completion::SendFailed(train, errno) => self.failures.push((train, errno)),
                Completion::Woken => self.read_mail(now)?,
            }
        }
        Ok(())
    }

    /// Sends of the last batch that the kernel refused: trains go again singly, what is too large is fragmented.
    fn settle_failures(&mut self) -> io::Result<()> {
        if self.failures.is_empty() {
            return Ok(());
        }
        let failures = std::mem::take(&mut self.failures);
        for (index, errno) in &failures {
            let Some(train) = self.trains.trains().get(*index as usize) else { continue };
            let LocalId(local) = train.to.local;
            if *errno == libc::EIO && train.cars > 1 && !self.sockets[usize::from(local)].plain {
                self.sockets[usize::from(local)].plain = true;
                tracing::warn!(shard = self.setup.index, "the device cannot offload UDP segmentation; sending singly");
            }
            let slot = match *errno {
                // The route's MTU is smaller than the interface's.
                libc::EMSGSIZE => train.to.local.fragmenting(),
                libc::EINVAL | libc::EIO if train.cars > 1 => train.to.local.main(),
                _ => {
                    self.server.counters().add(Counter::SendsFailed, train.cars as u64);
                    continue;
                }
            };
            if slot == train.to.local.fragmenting() {
                self.server.counters().add(Counter::Fragmented, train.cars as u64);
            }
            for car in self.trains.cars(train) {
                let part = std::iter::once((car.region, car.bytes.clone()));
                self.ring.send(slot, &train.to.remote, 0, part, *index)?;
            }
        }
        self.ring.submit()?;
        // What fails again has failed for good; receives that complete meanwhile wait for their turn.
        while let Some(completion) = self.ring.next_completion() {
            match completion {
                Completion::SendFailed(..) => self.server.counters().count(Counter::SendsFailed),
                Completion::Received(received) => self.pending.push_back(received),
                Completion::ReceiveEnded(slot, errno) => self.ended.push((slot, errno)),
                Completion::Woken => self.read_mail(Time::read_clock())?,
            }
        }
        self.failures = failures;
        self.failures.clear();
        Ok(())
    }

    /// Gives the last batch's buffers back, and only then receives again where the kernel ran out of them.
    fn release_batch(&mut self) -> io::Result<()> {
        for lease in self.batch.drain(..) {
            self.ring.give_back(lease);
        }
        self.ring.publish();
        self.trains.clear();
        self.replies_used = 0;
        if self.stopping.is_some() {
            // Nothing is armed again; `finish` looks at what has ended.
            return Ok(());
        }
        for (slot, errno) in std::mem::take(&mut self.ended) {
            if errno == libc::ENOBUFS {
                self.server.counters().count(Counter::BuffersExhausted);
            }
            if self.sockets[usize::from(LocalId::of(slot).0)].installed {
                self.server.counters().count(Counter::Rearmed);
                self.ring.receive(slot)?;
            }
        }
        Ok(())
    }

    fn decide_batch(&mut self, now: Time) {
        let foreseen = if self.server.should_foresee() { BATCH_MAX } else { 0 };
        for received in self.pending.iter().take(foreseen) {
            let payload = &self.ring.bytes(&received.lease)[received.payload.clone()];
            payload.chunks(received.segment.max(1)).for_each(|datagram| self.server.foresee(datagram));
        }
        while self.batch.len() < BATCH_MAX
            && self.trains.room() >= SEND_RESERVE
            && self.replies_used + SEND_RESERVE <= REPLIES_MAX
        {
            let Some(received) = self.pending.pop_front() else { break };
            self.decide(now, received);
        }
        if !self.batch.is_empty() {
            self.server.counters().count(Counter::Batches);
        }
    }

    /// Shows every datagram of a receive to the rules.
    fn decide(&mut self, now: Time, received: Received) {
        let Received { socket, mut lease, from, payload, segment, truncated, lost } = received;
        let from = Path { remote: from, local: LocalId::of(socket) };
        self.server.counters().count(Counter::Receives);
        let datagrams = payload.len().div_ceil(segment.max(1)).max(1);
        self.guard.note_receive(from.local, &from.remote, datagrams, lost, self.server.counters());
        let mut start = payload.start;
        // An empty datagram is one too.
        loop {
            let end = payload.end.min(start.saturating_add(segment.max(1)));
            if truncated {
                self.server.refuse(DropReason::Truncated);
            } else {
                self.decide_one(now, from, &mut lease, start, end);
            }
            start = end;
            if start >= payload.end {
                break;
            }
        }
        self.batch.push(lease);
    }

    fn decide_one(&mut self, now: Time, from: Path, lease: &mut Lease, start: usize, end: usize) {
        if self.trains.room() < 2 || self.replies_used == REPLIES_MAX {
            self.server.refuse(DropReason::NoSendSlot);
            return;
        }
        let datagram = &mut self.ring.bytes_mut(lease)[start..end];
        match self.server.handle_datagram(now, from, datagram, &mut self.reply) {
            Action::Forward { to, part } => {
                let bytes = start + part.start..start + part.end;
                self.add(to, Car { region: lease.region(), bytes });
            }
            Action::Reply { len, via } => self.add_reply(Path { local: via, ..from }, len),
            Action::ReplyAndSend { len, send } => {
                self.add_reply(from, len);
                self.add_own(send.to, send.bytes());
            }
            Action::Drop(reason) => self.guard.note_drop(from.remote, reason),
            Action::Defer => {}
        }
    }

    fn add_reply(&mut self, to: Path, len: usize) {
        let reply = self.reply;
        self.add_own(to, &reply[..len]);
    }

    /// A message of our own, copied to memory that stays until it is sent.
    fn add_own(&mut self, to: Path, message: &[u8]) {
        if self.replies_used == REPLIES_MAX || self.trains.room() == 0 {
            self.server.counters().count(Counter::Sends);
            self.server.counters().count(Counter::SendsFailed);
            return;
        }
        let start = self.replies_used * REPLY_MAX;
        self.replies_used += 1;
        let bytes = start..start + message.len();
        self.ring.replies()[bytes.clone()].copy_from_slice(message);
        self.add(to, Car { region: Region::Replies, bytes });
    }

    fn add(&mut self, to: Path, car: Car<Region>) {
        let single = self.sockets[usize::from(to.local.0)].plain
            || self.server.locals().get(to.local).is_none_or(|local| car.bytes.len() > local.payload_max);
        self.trains.add(to, car, single);
    }

    /// Queues the batch's sends; the next wait submits them.
    fn queue_trains(&mut self) -> io::Result<()> {
        for (index, train) in self.trains.trains().iter().enumerate() {
            let counters = self.server.counters();
            counters.add(Counter::Sends, train.cars as u64);
            counters.add(Counter::Trains, u64::from(train.cars > 1));
            let too_large = self.server.locals().get(train.to.local).is_some_and(|l| train.segment > l.payload_max);
            let slot = if too_large {
                self.server.counters().count(Counter::Fragmented);
                train.to.local.fragmenting()
            } else {
                train.to.local.main()
            };
            let parts = self.trains.cars(train).map(|car| (car.region, car.bytes.clone()));
            self.ring.send(slot, &train.to.remote, train.segment, parts, index as u32)?;
        }
        Ok(())
    }

    fn handle_timers(&mut self, now: Time) {
        if now >= self.server.poll_timeout() {
            self.server.handle_timeout(now);
        }
        if self.guard.is_due(now) {
            self.guard.review(now, self.setup.index, self.server.counters());
        }
    }

    /// What the rules want sent beside the answers.
    fn send_own(&mut self) {
        while self.trains.room() > 0 && self.replies_used < REPLIES_MAX {
            let Some(send) = self.server.poll_send() else { break };
            self.add_own(send.to, send.bytes());
        }
    }

    fn hand_off(&mut self) {
        while let Some((shard, handoff)) = self.server.poll_handoff() {
            match (self.setup.mailboxes[shard].post(Mail::Handoff(handoff)), handoff) {
                (Ok(()), _) => {}
                (Err(_), Handoff::Sent(node, tally)) => {
                    // The rest may wait, too.
                    self.server.keep_untold(node, tally);
                    return;
                }
                (Err(_), _) => self.server.counters().count(Counter::MailDropped),
            }
        }
    }

    /// Most batches have none.
    fn ask_questions(&mut self, now: Time) {
        let mut has_asked = false;
        while let Some(question) = self.server.poll_question() {
            if self.setup.questions.post(self.setup.index, now, question) {
                has_asked = true;
            } else {
                self.server.counters().count(Counter::QuestionsDropped);
            }
        }
        if has_asked {
            self.setup.questions.ring();
        }
    }

    /// Most batches have none.
    fn hand_out_events(&mut self) {
        if !self.server.has_events() {
            return;
        }
        while let Some(event) = self.server.poll_event() {
            if self.setup.events.post(self.setup.index, event).is_err() {
                self.server.counters().count(Counter::EventsDropped);
            }
        }
        self.setup.events.ring();
    }

    fn read_mail(&mut self, now: Time) -> io::Result<()> {
        let mailboxes = Arc::clone(&self.setup.mailboxes);
        let mailbox = &mailboxes[self.setup.index];
        mailbox.acknowledge();
        self.ring.watch(WAKE)?;
        while let Some(mail) = mailbox.take() {
            match mail {
                Mail::Handoff(handoff) => self.server.handle_handoff(now, handoff),
                // What would be received there now, nobody would end.
                Mail::Locals(..) if self.stopping.is_some() => {}
                Mail::Locals(locals, sockets) => self.change_locals(locals, sockets)?,
                Mail::Inherit(locals, records, answer) => {
                    self.server.set_locals(locals);
                    let _ = answer.send(self.server.inherit(now, &records));
                }
                Mail::Drain => self.server.drain(),
                Mail::Nudge => {}
                Mail::Stop(stopping) => self.stopping = Some(stopping),
            }
        }
        Ok(())
    }

    /// Installs new sockets and closes those whose address has gone.
    fn change_locals(&mut self, locals: Arc<Locals>, sockets: Vec<LocalSockets>) -> io::Result<()> {
        for (id, _) in locals.iter().filter(|(_, local)| !local.present) {
            let socket = &mut self.sockets[usize::from(id.0)];
            if std::mem::take(socket).installed {
                self.ring.uninstall(id.main())?;
                self.ring.uninstall(id.fragmenting())?;
                self.guard.uninstall(id);
            }
        }
        for LocalSockets { id, main, fragmenting, lost_before } in sockets {
            // What ended there concerned the socket before.
            self.ended.retain(|(slot, _)| *slot != id.main());
            self.ring.install(id.main(), main.as_fd())?;
            self.ring.install(id.fragmenting(), fragmenting.as_fd())?;
            self.ring.receive(id.main())?;
            self.sockets[usize::from(id.0)] = Socket { installed: true, ..Socket::default() };
            let is_ipv4 = locals.get(id).is_some_and(|local| local.bound.is_ipv4());
            self.guard.install(id, if is_ipv4 { Family::V4 } else { Family::V6 }, main, lost_before);
        }
        self.server.set_locals(locals);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
