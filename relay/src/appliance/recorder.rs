//! Keeps the control events of all shards: the last of each node, and the latest of all. A cold thread takes them from the
//! shards as they come; whoever asks takes what has come since first, so an answer is never behind.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, panic, thread};

use relay::Time;
use relay::event_queues::EventQueues;
use relay::events::Event;
use wire::NodeId;

use super::spans::{SpanCounts, Spans};

/// Nodes whose own events are kept; beyond them the one that has been quiet the longest is forgotten.
pub const NODES_MAX: usize = 1 << 16;
/// Events kept of each. With [`NODES_MAX`] and 64 bytes an event: 64 MiB when full, a fourth of that where nodes have
/// only begun a session.
pub const EVENTS_MAX: usize = 16;
/// Nodes, and events of each, that others can cause: 16 MiB when full. They have a place of their own, so that whoever
/// claims a node's id, or asks for it, cannot push out what the node itself did.
const NODES_MAX_BY_OTHERS: usize = 1 << 15;
const EVENTS_MAX_BY_OTHERS: usize = 8;
/// The latest events of all nodes.
pub const LATEST_MAX: usize = 1024;
/// The same event again within this time is no news, where nodes cause it by habit: those whose peers are relayed ask for
/// a punch every 15 s. Of the others only what stands last already, so that a history ends with what is true.
const REPEAT_INTERVAL: Duration = Duration::from_secs(300);

type Histories = telemetry::Recorder<NodeId, Event>;

/// What is kept, and the thread that keeps it. Dropping it ends the thread.
#[derive(Debug)]
pub struct Recorder {
    queues: Arc<EventQueues>,
    kept: Arc<Mutex<Kept>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Kept {
    own: Histories,
    by_others: Histories,
    latest: VecDeque<Event>,
    spans: Spans,
}

impl Recorder {
    /// Keeps what comes through `queues`, and makes `spans` of what belongs to a trace.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(queues: Arc<EventQueues>, spans: Spans) -> io::Result<Self> {
        let kept = Arc::new(Mutex::new(Kept::new(spans)));
        let (theirs, mine) = (Arc::clone(&kept), Arc::clone(&queues));
        let body = move || {
            while mine.wait() {
                let keep = || lock(&theirs).take_in(&mine);
                // A panic here must not end the recording for good.
                if panic::catch_unwind(panic::AssertUnwindSafe(keep)).is_err() {
                    tracing::error!("recording control events failed once; what comes next is recorded again");
                }
            }
        };
        let thread = Some(thread::Builder::new().name("recorder".to_owned()).spawn(body)?);
        Ok(Self { queues, kept, thread })
    }

    /// The last events of `node`, the oldest first.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Vec<Event> {
        let kept = self.up_to_date();
        let mut events: Vec<Event> = kept.own.events(node).chain(kept.by_others.events(node)).copied().collect();
        events.sort_by_key(|event| event.at);
        events
    }

    /// The latest events of all nodes, at most [`LATEST_MAX`], the oldest first.
    #[must_use]
    pub fn latest(&self) -> Vec<Event> {
        self.up_to_date().latest.iter().copied().collect()
    }

    /// What became of the spans so far.
    #[must_use]
    pub fn spans(&self) -> SpanCounts {
        lock(&self.kept).spans.counts()
    }

    fn up_to_date(&self) -> MutexGuard<'_, Kept> {
        let mut kept = lock(&self.kept);
        kept.take_in(&self.queues);
        kept
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.queues.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        lock(&self.kept).take_in(&self.queues);
    }
}

impl Kept {
    fn new(spans: Spans) -> Self {
        Self {
            own: Histories::new(NODES_MAX, EVENTS_MAX),
            by_others: Histories::new(NODES_MAX_BY_OTHERS, EVENTS_MAX_BY_OTHERS),
            latest: VecDeque::with_capacity(LATEST_MAX),
            spans,
        }
    }

    fn take_in(&mut self, queues: &EventQueues) {
        queues.drain(|shard, event| self.keep(shard, event));
    }

    fn keep(&mut self, shard: usize, event: Event) {
        self.spans.take_in(shard, &event);
        let histories = if event.what.is_by_others() { &mut self.by_others } else { &mut self.own };
        let is_repeat = |before: &Event| before.what == event.what && event.at.since(before.at) < REPEAT_INTERVAL;
        let is_no_news = {
            let mut before = histories.events(event.node);
            if event.what.is_habit() { before.any(is_repeat) } else { before.last().is_some_and(is_repeat) }
        };
        if is_no_news {
            return;
        }
        histories.record(event.node, event);
        if self.latest.len() == LATEST_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(event);
    }
}

/// Every change is made in one step, so what a panic leaves behind is whole.
fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells when a point of the relay's time was on the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    now: Time,
    unix: Duration,
}

impl WallClock {
    /// Both clocks, read together.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "people and collectors read wall-clock time")]
    pub fn read() -> Self {
        Self { now: Time::read_clock(), unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    /// A clock of a test.
    #[cfg(test)]
    pub const fn of(now: Time, unix: Duration) -> Self {
        Self { now, unix }
    }

    /// When `at` was, as time since 1970.
    #[must_use]
    pub const fn unix(&self, at: Time) -> Duration {
        // `at` may be read after this clock was.
        self.unix.saturating_add(at.since(self.now)).saturating_sub(self.now.since(at))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use relay::endpoint::Endpoint;
    use relay::events::What;
    use relay::sessions::Grade;

    use super::*;

    const ALICE: NodeId = NodeId(1);

    fn event(at_seconds: u64, what: What) -> Event {
        Event { at: Time(at_seconds * 1_000_000_000), node: ALICE, what }
    }

    #[test]
    fn what_others_cause_cannot_push_out_a_nodes_own_events() {
        let mut kept = Kept::new(Spans::new(telemetry::Exporter::none()));
        let own = event(1, What::SessionExpired);
        kept.keep(0, own);
        for port in 1..1000 {
            let at = place(1);
            kept.keep(0, event(2, What::PunchedBy { peer: NodeId(port), at }));
        }
        assert_eq!(kept.own.events(ALICE).collect::<Vec<_>>(), [&own]);
        assert_eq!(kept.by_others.events(ALICE).count(), EVENTS_MAX_BY_OTHERS);
        assert!(kept.latest.len() <= LATEST_MAX);
    }

    #[test]
    fn a_repetition_is_no_news_until_some_time_has_passed() {
        let mut kept = Kept::new(Spans::new(telemetry::Exporter::none()));
        for at in [1, 2, 300, 301, 302] {
            kept.keep(0, event(at, What::BudgetExhausted));
        }
        let times: Vec<u64> = kept.own.events(ALICE).map(|event| event.at.0 / 1_000_000_000).collect();
        assert_eq!(times, [1, 301]);
    }

    fn place(port: u16) -> Endpoint {
        SocketAddr::from(([198, 18, 0, 1], port)).into()
    }

    /// What is kept of `sequence`, one event a second.
    fn kept_of(sequence: &[What]) -> Vec<What> {
        let mut kept = Kept::new(Spans::new(telemetry::Exporter::none()));
        (1..).zip(sequence).for_each(|(at, what)| kept.keep(0, event(at, *what)));
        let history: Vec<What> = kept.own.events(ALICE).map(|event| event.what).collect();
        assert_eq!(kept.latest.iter().map(|event| event.what).collect::<Vec<_>>(), history);
        history
    }

    #[test]
    fn what_comes_to_pass_again_is_kept() {
        let started = What::SessionStarted { at: place(1), grade: Grade::Unproven };
        let came_back = [started, What::SessionWithdrawn, started];
        assert_eq!(kept_of(&came_back), came_back);
        let there = What::SessionMoved { from: place(1), to: place(2) };
        let back = What::SessionMoved { from: place(2), to: place(1) };
        let to_and_fro = [started, there, back, there];
        assert_eq!(kept_of(&to_and_fro), to_and_fro);
        assert_eq!(kept_of(&[started, started, there, there]), [started, there], "told twice");
    }

    #[test]
    fn habits_are_kept_once_even_where_others_lie_between() {
        let punch = |peer| What::PunchBrokered { peer: NodeId(peer), at: place(2) };
        let notify = What::NotifySent { at: place(1) };
        let sequence = [punch(2), punch(3), What::BudgetExhausted, notify];
        assert_eq!(kept_of(&sequence.repeat(4)), sequence);
    }
}
