//! The driver of some of the peers, on one thread: makes them known to the relay, sends their share of the plan on
//! time, reads what arrives for them, counts.
//!
//! Sending keeps to the plan whatever else happens; between two due times the thread sleeps, because the kernel notes
//! when each datagram arrives and reading it later changes no latency.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use wire::NodeId;
use wire::beacon::{Message, RELAY_HEADER_LEN, kind};
use wire::codec::Writer;

use crate::arrivals::{Arrival, Arrivals};
use crate::clock::{self, Clock};
use crate::delivery::{Heard, Roster};
use crate::discovery::Discovery;
use crate::payload::{STAMP_LEN, Stamp};
use crate::peers::Placement;
use crate::plan::{Plan, Share};
use crate::progress::{Counter, Live, PUBLISH_INTERVAL};
use crate::renewals::Renewals;
use crate::socket::{self, BATCH_MAX, Flushed, ReceiveBatch, SendBatch, Socket};
use crate::tally::Tally;
use crate::timeline::empty_latency;

/// Receive batches taken from one socket before the plan is looked at again.
const RECEIVE_ROUNDS_MAX: usize = 4;
/// The longest sleep between two looks at the sockets while sending.
const READ_INTERVAL_MAX: Duration = Duration::from_millis(5);
/// How far the sender may fall behind the end of the plan before the rest is given up.
const OVERTIME_MAX: Duration = Duration::from_secs(1);
/// After this silence nothing is on the way any more.
const STRAGGLER_SILENCE: Duration = Duration::from_millis(500);
/// Stragglers are waited for this long at most, and for slower workers too.
const STRAGGLER_MAX: Duration = Duration::from_secs(10);
/// Bytes of a discover without a key.
const DISCOVER_LEN: usize = 5;
/// The hole-punch probe a daemon answers a punch command with (SPEC 3).
const PUNCH_PROBE: &[u8; 4] = b"PILP";

/// What all workers share.
#[derive(Debug)]
pub struct Load {
    /// The time line of all.
    pub clock: Clock,
    /// Who everybody is.
    pub roster: Roster,
    /// What has to be sent when.
    pub plan: Plan,
    /// The workers that have something to send: those with a flow's sender among their peers.
    pub senders: Vec<u32>,
    /// Workers that have not sent their last datagram yet.
    pub sending: AtomicU32,
    /// When all peers were known to the relay; renewals count from there.
    pub known_since_ns: u64,
    /// Peers known so far.
    pub discovered: Counter,
    /// The run so far.
    pub live: Live,
}

/// How the roll-call of one worker's peers ended.
#[derive(Debug, Default)]
pub struct RollCall {
    /// Peers that the relay delivers to.
    pub confirmed: u32,
    /// Answers to discovers.
    pub answered: u64,
    /// Why the kernel refused to send, if it did.
    pub send_error: Option<io::Error>,
}

/// Sockets, buffers, and the peers that live on them.
#[derive(Debug)]
pub struct Worker {
    index: u32,
    peers: Range<u32>,
    renewals: Renewals,
    inbox: ReceiveBatch,
    outbox: Outbox,
}

impl Worker {
    /// Opens `sockets` sockets for `peers`, the first one at `port` where that is free.
    pub fn open(
        index: u32,
        peers: Range<u32>,
        sockets: u16,
        port: u16,
        relay: SocketAddr,
        datagram_len: usize,
    ) -> io::Result<Self> {
        let sockets = (0..sockets)
            .map(|offset| Socket::bind(relay, port + offset, datagram_len))
            .collect::<io::Result<Vec<_>>>()?;
        // One byte more than expected, so that a datagram that grew is noticed.
        let inbox = ReceiveBatch::new(datagram_len + 1);
        let batches = sockets.iter().map(|_| SendBatch::new(relay, datagram_len)).collect();
        let renewals = Renewals::new(peers.clone());
        Ok(Self { index, peers, renewals, inbox, outbox: Outbox { sockets, batches, flushed: Flushed::default() } })
    }

    /// The peers it drives.
    #[must_use]
    pub fn peers(&self) -> Range<u32> {
        self.peers.clone()
    }

    /// The endpoint of one of its peers.
    #[must_use]
    pub fn endpoint(&self, placement: &Placement, peer: u32) -> SocketAddr {
        placement.endpoint(peer, self.outbox.sockets[self.outbox.lane(peer)].port())
    }

    /// The smallest receive buffer that the kernel granted.
    pub fn receive_buffer_bytes(&self) -> io::Result<usize> {
        let sizes = self.outbox.sockets.iter().map(Socket::receive_buffer_bytes);
        sizes.collect::<io::Result<Vec<_>>>().map(|sizes| sizes.into_iter().min().unwrap_or(0))
    }

    /// Makes every peer known to the relay, and proves it: each sends itself a probe, which the relay must deliver.
    pub fn discover(&mut self, load: &Load) -> io::Result<RollCall> {
        let mut discovery = Discovery::new(self.peers(), load.clock.now_ns());
        let mut roll_call = RollCall::default();
        loop {
            let now_ns = load.clock.now_ns();
            if discovery.is_over(now_ns) {
                break;
            }
            for _ in 0..BATCH_MAX {
                let Some(peer) = discovery.poll_send(now_ns) else { break };
                self.outbox.push_discover(&load.roster, peer);
                self.outbox.push_probe(&load.roster, peer);
            }
            let flushed = self.outbox.flush();
            let is_hopeless = flushed.sent == 0 && flushed.refused > 0 && discovery.confirmed() == 0;
            roll_call.send_error = flushed.error.or(roll_call.send_error);
            if is_hopeless {
                break;
            }

            let before = discovery.confirmed();
            let heard = self.receive(load, |outbox, heard, arrived_ns| match heard {
                Heard::Probe(peer) => {
                    discovery.handle_confirmed(peer, arrived_ns);
                }
                Heard::Answer => roll_call.answered += 1,
                Heard::Knock(Some(peer)) => outbox.push_punch_probe(&load.roster, peer),
                _ => {}
            })?;
            load.discovered.add((discovery.confirmed() - before) as u64);
            if heard == 0 {
                let patience = discovery.poll_timeout().saturating_sub(load.clock.now_ns());
                socket::wait_readable(&self.outbox.sockets, Duration::from_nanos(patience))?;
            }
        }
        roll_call.confirmed = u32::try_from(discovery.confirmed()).expect("at most the number of peers");
        Ok(roll_call)
    }

    /// Takes all memory that a load needs, which may take longer than the first datagrams can wait.
    #[must_use]
    pub fn prepare(&self, load: &Load) -> Account {
        Account::new(self.index, load, &self.peers)
    }

    /// Sends this worker's share of the plan, which begins at `start_ns`, and counts on a fresh `account` what comes of
    /// it.
    pub fn relay(&mut self, load: &Load, start_ns: u64, mut account: Account) -> io::Result<Tally> {
        socket::sharpen_timers();
        let overrun_before = self.overrun()?;
        if let Some(turn) = load.senders.iter().position(|sender| *sender == self.index) {
            let busy_before = clock::thread_time();
            self.send_plan(load, start_ns, turn, &mut account)?;
            let sending = Duration::from_nanos(load.clock.now_ns().saturating_sub(start_ns)).as_secs_f64();
            let busy = clock::thread_time().saturating_sub(busy_before).as_secs_f64();
            account.tally.busiest_percent = (busy * 100.0 / sending.max(f64::MIN_POSITIVE)).min(100.0);
        }
        load.sending.fetch_sub(1, Ordering::AcqRel);
        self.await_stragglers(load, start_ns, &mut account)?;
        account.tally.overrun = self.overrun()? - overrun_before;
        Ok(account.tally)
    }

    fn send_plan(&mut self, load: &Load, start_ns: u64, turn: usize, account: &mut Account) -> io::Result<()> {
        let flows = load.roster.flows.sent_by(&self.peers);
        let mut share = load.plan.share(turn as u64, load.senders.len() as u64, flows);
        let end_ns = load.plan.due_ns(load.plan.packets() - 1) + nanos(OVERTIME_MAX);

        while let Some(due_ns) = share.next_due_ns() {
            let now_ns = load.clock.now_ns();
            let Some(elapsed_ns) = now_ns.checked_sub(start_ns) else {
                socket::wait_readable(&[], Duration::from_nanos(start_ns - now_ns))?;
                continue;
            };
            if elapsed_ns > end_ns {
                account.tally.unsent = share.remaining();
                break;
            }
            if due_ns <= elapsed_ns {
                self.send_due(load, elapsed_ns, &mut share, account);
            }
            self.renew_sessions(load, account);
            self.receive_load(load, start_ns, account)?;

            let elapsed_ns = load.clock.now_ns() - start_ns;
            if let Some(pause_ns) = share.next_due_ns().and_then(|due_ns| due_ns.checked_sub(elapsed_ns)) {
                socket::wait_readable(&[], Duration::from_nanos(pause_ns).min(READ_INTERVAL_MAX))?;
            }
        }
        Ok(())
    }

    /// Sends what is due at `elapsed_ns`, one batch at most.
    fn send_due(&mut self, load: &Load, elapsed_ns: u64, share: &mut Share, account: &mut Account) {
        for _ in 0..BATCH_MAX {
            if share.next_due_ns().is_none_or(|due_ns| due_ns > elapsed_ns) {
                break;
            }
            let Some(departure) = share.next() else { break };
            account.tally.record_departure(departure.due_ns, elapsed_ns);
            let sequence = account.sequences.next(departure.flow);
            self.outbox.push_relay(&load.roster, &Stamp { flow: departure.flow, sequence, due_ns: departure.due_ns });
        }
        let flushed = self.outbox.flush();
        account.tally.record_sent(elapsed_ns, flushed.sent, flushed.refused);
    }

    fn renew_sessions(&mut self, load: &Load, account: &mut Account) {
        let known_for_ns = load.clock.now_ns().saturating_sub(load.known_since_ns);
        for _ in 0..BATCH_MAX {
            let Some(peer) = self.renewals.poll(known_for_ns) else { break };
            self.outbox.push_discover(&load.roster, peer);
        }
        account.tally.renewed += self.outbox.flush().sent;
    }

    /// Reads until nothing has come for a while and nobody is sending any more.
    fn await_stragglers(&mut self, load: &Load, start_ns: u64, account: &mut Account) -> io::Result<()> {
        let begin_ns = load.clock.now_ns();
        let end_ns = begin_ns + nanos(STRAGGLER_MAX);
        let mut silent_since_ns = begin_ns;
        loop {
            let heard = self.receive_load(load, start_ns, account)?;
            let now_ns = load.clock.now_ns();
            if heard > 0 || load.sending.load(Ordering::Acquire) > 0 {
                silent_since_ns = now_ns;
            }
            let deadline_ns = end_ns.min(silent_since_ns + nanos(STRAGGLER_SILENCE));
            if now_ns >= deadline_ns {
                return Ok(());
            }
            socket::wait_readable(&self.outbox.sockets, Duration::from_nanos(deadline_ns - now_ns))?;
        }
    }

    fn receive_load(&mut self, load: &Load, start_ns: u64, account: &mut Account) -> io::Result<usize> {
        let heard = self.receive(load, |outbox, heard, arrived_ns| match heard {
            Heard::Knock(Some(peer)) => outbox.push_punch_probe(&load.roster, peer),
            heard => account.record(heard, arrived_ns.saturating_sub(start_ns)),
        })?;
        account.publish(load);
        Ok(heard)
    }

    /// Reads what has arrived on all sockets and shows each datagram's judgement and time of arrival to `each`, which
    /// may push replies. Returns how many there were.
    fn receive(&mut self, load: &Load, mut each: impl FnMut(&mut Outbox, Heard, u64)) -> io::Result<usize> {
        let mut total = 0;
        for lane in 0..self.outbox.sockets.len() {
            for _ in 0..RECEIVE_ROUNDS_MAX {
                let count = self.inbox.receive(&self.outbox.sockets[lane])?;
                if count == 0 {
                    break;
                }
                total += count;
                let reading = load.clock.read();
                for index in 0..count {
                    let datagram = self.inbox.datagram(index);
                    let heard = load.roster.judge(datagram.bytes, datagram.source, datagram.destination, &self.peers);
                    each(&mut self.outbox, heard, reading.place(datagram.stamp));
                }
            }
        }
        Ok(total)
    }

    fn overrun(&self) -> io::Result<u64> {
        self.outbox.sockets.iter().map(socket::dropped).sum()
    }
}

/// Datagrams on their way out, sorted by socket.
#[derive(Debug)]
struct Outbox {
    sockets: Vec<Socket>,
    batches: Vec<SendBatch>,
    flushed: Flushed,
}

impl Outbox {
    /// Which socket `peer` lives on.
    fn lane(&self, peer: u32) -> usize {
        peer as usize % self.sockets.len()
    }

    fn push_discover(&mut self, roster: &Roster, peer: u32) {
        let extended = matches!(roster.placement, Placement::SharedSockets { .. });
        let message = Message::Discover { node: roster.ids[peer as usize], extended };
        message.encode(&mut Writer::new(self.slot(roster, peer, DISCOVER_LEN)));
    }

    fn push_probe(&mut self, roster: &Roster, peer: u32) {
        let id = roster.ids[peer as usize];
        let slot = self.slot(roster, peer, RELAY_HEADER_LEN + STAMP_LEN);
        let inner = write_relay_header(slot, id, id);
        roster.payloads.write(&Stamp::probe(peer), inner);
    }

    fn push_relay(&mut self, roster: &Roster, stamp: &Stamp) {
        let flow = roster.flows.get(stamp.flow).expect("the plan draws from these flows");
        let slot = self.slot(roster, flow.sender, RELAY_HEADER_LEN + roster.payloads.len(stamp));
        let inner = write_relay_header(slot, roster.ids[flow.sender as usize], roster.ids[flow.receiver as usize]);
        roster.payloads.write(stamp, inner);
    }

    fn push_punch_probe(&mut self, roster: &Roster, peer: u32) {
        self.slot(roster, peer, PUNCH_PROBE.len()).copy_from_slice(PUNCH_PROBE);
    }

    /// Room for a datagram from `peer`.
    fn slot(&mut self, roster: &Roster, peer: u32, len: usize) -> &mut [u8] {
        let lane = self.lane(peer);
        if self.batches[lane].is_full() {
            self.flush_lane(lane);
        }
        self.batches[lane].push(roster.placement.source(peer), len)
    }

    /// Sends everything and tells what became of all datagrams since the last time.
    fn flush(&mut self) -> Flushed {
        for lane in 0..self.sockets.len() {
            self.flush_lane(lane);
        }
        std::mem::take(&mut self.flushed)
    }

    fn flush_lane(&mut self, lane: usize) {
        let flushed = self.batches[lane].flush(&self.sockets[lane]);
        self.flushed.sent += flushed.sent;
        self.flushed.refused += flushed.refused;
        self.flushed.error = flushed.error.or(self.flushed.error.take());
    }
}

/// Writes the header of a relay message and returns the rest, where the inner datagram goes.
fn write_relay_header(slot: &mut [u8], sender: NodeId, dest: NodeId) -> &mut [u8] {
    let (header, inner) = slot.split_at_mut(RELAY_HEADER_LEN);
    Writer::new(header).u8(kind::RELAY).u32(sender.0).u32(dest.0);
    inner
}

/// How many datagrams each flow of one worker has sent.
#[derive(Debug)]
struct Sequences {
    first: u32,
    next: Vec<u64>,
}

impl Sequences {
    fn new(flows: &Range<u32>) -> Self {
        Self { first: flows.start, next: vec![0; flows.len()] }
    }

    /// The number of the next datagram of `flow`.
    fn next(&mut self, flow: u32) -> u64 {
        let next = &mut self.next[(flow - self.first) as usize];
        *next += 1;
        *next - 1
    }
}

/// What one worker sends and hears during a load.
#[derive(Debug)]
pub struct Account {
    worker: u32,
    sequences: Sequences,
    first_rank: u32,
    arrivals: Arrivals,
    tally: Tally,
    /// Latencies since they were last published, and when that was.
    recent: Histogram<u32>,
    published_ns: u64,
}

impl Account {
    fn new(worker: u32, load: &Load, peers: &Range<u32>) -> Self {
        let ranks = load.roster.flows.received_by(peers);
        Self {
            worker,
            sequences: Sequences::new(&load.roster.flows.sent_by(peers)),
            first_rank: ranks.start,
            arrivals: Arrivals::new(ranks.len()),
            tally: Tally::new(load.plan.duration_ns),
            recent: empty_latency(),
            published_ns: 0,
        }
    }

    /// Records what arrived at `arrived_ns` after the start of the load.
    fn record(&mut self, heard: Heard, arrived_ns: u64) {
        let tally = &mut self.tally;
        match heard {
            Heard::Delivery { rank, stamp } => {
                let arrival = self.arrivals.record((rank - self.first_rank) as usize, stamp.sequence);
                match arrival {
                    Arrival::InOrder | Arrival::Reordered => {
                        tally.reordered += u64::from(arrival == Arrival::Reordered);
                        tally.record_delivery(stamp.due_ns, arrived_ns);
                        self.recent.saturating_record(arrived_ns.saturating_sub(stamp.due_ns));
                    }
                    Arrival::Duplicate => tally.duplicated += 1,
                    Arrival::Stale => tally.stale += 1,
                }
            }
            Heard::Misdelivered => tally.misdelivered += 1,
            Heard::Corrupt => tally.corrupt += 1,
            Heard::Foreign => tally.foreign += 1,
            // Repeated discovers and probes may still be answered; renewals are.
            Heard::Probe(_) | Heard::Answer | Heard::Knock(_) => {}
        }
    }

    /// Tells the view how things are, now and then.
    fn publish(&mut self, load: &Load) {
        let now_ns = load.clock.now_ns();
        if now_ns >= self.published_ns + nanos(PUBLISH_INTERVAL) {
            self.published_ns = now_ns;
            load.live.publish(self.worker, &self.tally, &mut self.recent);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("seconds, not centuries")
}
