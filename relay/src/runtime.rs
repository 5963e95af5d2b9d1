//! A running relay: sockets for every local address, a pinned thread a shard, and a thread that follows the host's
//! addresses. Cold; nothing here is on the path of a datagram.
//!
//! The sockets may be those of a relay before ([`Relay::start_with`]), and may be served on by one after
//! ([`Relay::descriptors`]): whoever has them open keeps what arrives while nobody receives.

mod addresses;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use wire::NodeId;

use self::addresses::{Addresses, Bound};
use crate::authority::{Authority, Judge};
use crate::config::Config;
use crate::contests::Board;
use crate::event_queues::EventQueues;
use crate::inheritance::{Descriptor, Inheritance, Refused, Role, SocketName};
use crate::interfaces::Changes;
use crate::ledger::{Geometry, Ledger, Record};
use crate::locals::{Locals, Service};
use crate::mailbox::{Mail, Mailbox};
use crate::membership::Membership;
use crate::metrics::{Counter, Counters, Published};
use crate::questions::{self, Questions};
use crate::server::{Handoff, Server, Shared};
use crate::sessions::{Table, shard_of, slots_per_shard};
use crate::shard::{Setup, Shard};
use crate::socket;
use crate::uring::RingError;
use crate::usage::Usage;

/// Between two tries to serve an address that another still holds.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Why a relay does not start, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel lacks something.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// Somebody has the port.
    #[error("UDP {0} is in use by another program; stop it, or choose another address with {1}")]
    Busy(SocketAddr, &'static str),
    /// An address cannot be bound.
    #[error("cannot listen on UDP {0}: {1}; choose an address of this host with {2}")]
    Bind(SocketAddr, io::Error, &'static str),
    /// A shard's thread could not be set up.
    #[error("cannot start shard {0}: {1}")]
    Thread(usize, io::Error),
    /// Something else of the environment.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
}

/// A relay at work.
#[derive(Debug)]
pub struct Relay {
    mailboxes: Arc<[Mailbox]>,
    published: Vec<Arc<Published>>,
    events: Arc<EventQueues>,
    questions: Arc<Questions>,
    table: Arc<Table>,
    membership: Arc<Membership>,
    addresses: Arc<Mutex<Addresses>>,
    ledger: Option<Arc<Ledger>>,
    /// Sockets that are bound and not served yet, and the changes since.
    waiting: Mutex<Option<(Bound, Changes)>>,
    ended: Mutex<mpsc::Receiver<Ended>>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    /// Whether the shards have been told to stop.
    finished: AtomicBool,
}

/// A shard's thread has ended, on request (`Ok`) or not.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub shard: usize,
    /// Why.
    pub result: io::Result<()>,
}

impl Relay {
    /// Binds and starts one thread a shard. Datagrams wait in the sockets until [`Self::serve`].
    ///
    /// # Errors
    /// [`StartError`], which names what to change.
    pub fn start(config: &Config, membership: Arc<Membership>) -> Result<Self, StartError> {
        Self::start_with(config, membership, Vec::new(), || Ok(()))
    }

    /// As [`Self::start`], on the sockets of a relay before where they fit; [`Self::refused`] has the others. An address
    /// whose sockets do not fit is bound by [`Self::bind_late`]. `confine` is called when the others are bound and no thread
    /// is started yet.
    ///
    /// # Errors
    /// [`StartError`], which names what to change.
    pub fn start_with(
        config: &Config,
        membership: Arc<Membership>,
        sockets: Vec<Descriptor>,
        confine: impl FnOnce() -> io::Result<()>,
    ) -> Result<Self, StartError> {
        let shards = config.shards();
        let mailboxes: Result<Arc<[Mailbox]>, io::Error> = (0..shards).map(|_| Mailbox::new()).collect();
        let mailboxes = mailboxes.map_err(|error| StartError::Io("cannot make an eventfd", error))?;
        let events = EventQueues::new(shards).map_err(|error| StartError::Io("cannot make an eventfd", error))?;
        let events = Arc::new(events);
        let questions = Questions::new().map_err(|error| StartError::Io("cannot make an eventfd", error))?;
        let questions = Arc::new(questions);
        let inheritance = Inheritance::sort(sockets, shards, socket::facts);
        let mut addresses = Addresses::new(config, Arc::clone(&mailboxes), inheritance);
        // Listening for changes first, so that none falls between.
        let changes = Changes::subscribe().map_err(|error| StartError::Io("cannot open a netlink socket", error))?;
        let bound = addresses.bind_at_start()?;
        confine().map_err(|error| StartError::Io("cannot confine this process", error))?;
        let shared = Shared {
            table: Table::new(shards, config.sessions_max),
            membership: Arc::clone(&membership),
            board: Board::new(shards),
        };
        let slots = slots_per_shard(shards, config.sessions_max);
        let ledger = Ledger::create(Geometry { shards, slots, sessions_max: config.sessions_max });
        let ledger = ledger.map(Arc::new);
        if let Err(error) = &ledger {
            tracing::warn!(%error, "no memory that outlives this process; a restart will lose the sessions");
        }
        let ledger = ledger.ok();
        let (report, ended) = mpsc::channel();
        let mut published = Vec::new();
        let mut threads = Vec::new();
        for (index, cpu) in config.cpus.iter().enumerate() {
            let counters = Arc::new(Published::default());
            published.push(Arc::clone(&counters));
            let setup = Setup {
                index,
                spin: config.spin,
                mailboxes: Arc::clone(&mailboxes),
                published: counters,
                events: Arc::clone(&events),
                questions: Arc::clone(&questions),
                ledger: ledger.clone(),
            };
            let server = Server::new(config.rules.clone(), index, &shared, Arc::new(Locals::default()));
            threads.push(spawn_shard(setup, server, *cpu, report.clone())?);
        }
        Ok(Self {
            mailboxes,
            published,
            events,
            questions,
            table: shared.table,
            membership,
            addresses: Arc::new(Mutex::new(addresses)),
            ledger,
            waiting: Mutex::new(Some((bound, changes))),
            ended: Mutex::new(ended),
            threads: Mutex::new(threads),
            finished: AtomicBool::new(false),
        })
    }

    /// Begins to serve, and to follow the host's addresses. Call it when `membership` holds what is known at start: a
    /// node that discovers itself before would not be stored until it does so again, a minute later.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn serve(&self) -> Result<(), StartError> {
        let Some((mut bound, changes)) = lock(&self.waiting).take() else { return Ok(()) };
        let addresses = lock(&self.addresses);
        addresses.note_lost_before(&mut bound);
        addresses.deliver(bound);
        if addresses.has_wildcard() {
            let thread = follow(Arc::clone(&self.addresses), changes);
            thread.map_err(|error| StartError::Io("cannot start a thread", error))?;
        }
        Ok(())
    }

    /// Has what the shards cannot decide themselves decided with the help of `authority`, who knows the nodes. `relay_key` is
    /// that of the rules' cookies.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn consult(&self, authority: Arc<dyn Authority>, relay_key: [u8; 32]) -> Result<(), StartError> {
        let (questions, mailboxes) = (Arc::clone(&self.questions), Arc::clone(&self.mailboxes));
        let thread = questions::answer(questions, Judge::new(relay_key), authority, mailboxes);
        lock(&self.threads).push(thread.map_err(|error| StartError::Io("cannot start a thread", error))?);
        Ok(())
    }

    /// What of the sockets of the relay before could not be served on, and why; each is told once.
    #[must_use]
    pub fn refused(&self) -> Vec<Refused> {
        std::mem::take(&mut lock(&self.addresses).inheritance.refused)
    }

    /// Binds the addresses whose inherited sockets did not fit, once nobody has these open any more. Call it before
    /// [`Self::inherit`].
    ///
    /// # Errors
    /// [`StartError`], which names what to change.
    pub fn bind_late(&self) -> Result<(), StartError> {
        let mut waiting = lock(&self.waiting);
        let Some((bound, _)) = &mut *waiting else { return Ok(()) };
        lock(&self.addresses).bind_late(bound)
    }

    /// Takes over the sessions of a relay before, so far as their nodes' local addresses are served, and says how many.
    /// Call it before [`Self::serve`].
    #[must_use]
    pub fn inherit(&self, records: Vec<Record>) -> usize {
        if records.is_empty() {
            return 0;
        }
        let (locals, records) = (Arc::new(self.locals()), Arc::from(records));
        let (answer, answers) = mpsc::channel();
        for mailbox in self.mailboxes.iter() {
            post(mailbox, Mail::Inherit(Arc::clone(&locals), Arc::clone(&records), answer.clone()));
        }
        drop(answer);
        // A shard that dies instead is told by `wait_ended`.
        answers.iter().sum()
    }

    /// Copies of all sockets, with names that tell the next relay what they are.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn descriptors(&self) -> io::Result<Vec<Descriptor>> {
        let addresses = lock(&self.addresses);
        let mut descriptors = Vec::new();
        for group in &addresses.groups {
            for (shard, (main, sibling)) in group.members.iter().enumerate() {
                for (role, file) in [(Role::Main, main), (Role::Fragmenting, sibling)] {
                    let name = SocketName { service: group.service, role, shard, bound: group.bound }.to_string();
                    descriptors.push(Descriptor { name, file: file.try_clone()? });
                }
            }
        }
        Ok(descriptors)
    }

    /// Has `changed` told whenever what [`Self::descriptors`] says has changed.
    pub fn tell_of_changes(&self, changed: mpsc::Sender<()>) {
        lock(&self.addresses).changed = Some(changed);
    }

    /// A copy of the sessions' ledger.
    #[must_use]
    pub fn ledger(&self) -> Option<OwnedFd> {
        self.ledger.as_ref()?.as_fd().try_clone_to_owned().ok()
    }

    /// Closes the sockets, so that nobody but the next relay has them. Call it after [`Self::finish`].
    pub fn close_sockets(&self) {
        lock(&self.addresses).groups.clear();
    }

    /// Datagrams the kernel has dropped at the sockets for want of room, since they were opened.
    #[must_use]
    pub fn kernel_drops(&self) -> u64 {
        let addresses = lock(&self.addresses);
        let mains = addresses.groups.iter().flat_map(|group| &group.members).map(|(main, _)| main);
        mains.map(|main| u64::from(socket::receive_queue(main.as_fd()).unwrap_or_default().drops)).sum()
    }

    /// Tells the shards to begin no session any more.
    pub fn drain(&self) {
        for mailbox in self.mailboxes.iter() {
            post(mailbox, Mail::Drain);
        }
    }

    /// Has every shard go round its loop, which [`Counter::Turns`] then shows.
    pub fn nudge(&self) {
        for mailbox in self.mailboxes.iter() {
            // A full mailbox wakes its shard as well.
            let _ = mailbox.post(Mail::Nudge);
        }
    }

    /// Waits until every shard has taken in what it was told before. One that has ended does so no more.
    pub fn wait_for_a_turn(&self) {
        let before = self.turns();
        self.nudge();
        let moved = |(index, turns): (usize, &u64)| self.turns()[index] > *turns;
        while !before.iter().enumerate().all(moved) && self.threads_live() {
            thread::yield_now();
        }
    }

    fn threads_live(&self) -> bool {
        let threads = lock(&self.threads);
        !threads.is_empty() && threads.iter().all(|thread| !thread.is_finished())
    }

    /// How often each shard has gone round its loop.
    #[must_use]
    pub fn turns(&self) -> Vec<u64> {
        self.counters().iter().map(|counters| counters.get(Counter::Turns)).collect()
    }

    /// The local addresses served now.
    #[must_use]
    pub fn locals(&self) -> Locals {
        lock(&self.addresses).locals.clone()
    }

    /// The port of the beacon, also where it was picked.
    #[must_use]
    pub fn beacon_port(&self) -> Option<u16> {
        let locals = self.locals();
        locals.iter().find(|(_, local)| local.service == Service::Beacon).map(|(_, local)| local.bound.port())
    }

    /// Which nodes exist, to be fed by a directory.
    #[must_use]
    pub fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    /// Every shard's counters.
    #[must_use]
    pub fn counters(&self) -> Vec<Counters> {
        self.published.iter().map(|published| published.snapshot()).collect()
    }

    /// The control events of all shards, for the one who keeps them. With nobody to take them the queues fill up, and what
    /// comes then is dropped and counted.
    #[must_use]
    pub const fn events(&self) -> &Arc<EventQueues> {
        &self.events
    }

    /// Every live session, as a cold reader sees them.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Tells the shard that owns `node`. A full mailbox drops the message: all of them are hints that come again.
    pub fn hand(&self, node: NodeId, handoff: Handoff) {
        let _ = self.mailboxes[shard_of(node, self.mailboxes.len())].post(Mail::Handoff(handoff));
    }

    /// As [`Self::hand`], but waits for room: for what must not be lost.
    pub fn hand_surely(&self, node: NodeId, handoff: Handoff) {
        post(&self.mailboxes[shard_of(node, self.mailboxes.len())], Mail::Handoff(handoff));
    }

    /// Tells every shard, and waits for room.
    pub fn hand_to_all(&self, handoff: Handoff) {
        self.mailboxes.iter().for_each(|mailbox| post(mailbox, Mail::Handoff(handoff)));
    }

    /// What `node` has sent so far. Its shard adds it up within a minute, or a moment after it was asked for this.
    #[must_use]
    pub fn usage(&self, node: NodeId) -> Usage {
        self.hand(node, Handoff::AddUp(node));
        self.table.usage().of(node)
    }

    /// Waits until a shard ends; `None` when all have.
    #[must_use]
    pub fn wait_ended(&self) -> Option<Ended> {
        lock(&self.ended).recv().ok()
    }

    /// Has all shards receive no more and decide on what they have received. Returns when that is done and the ledger is
    /// whole: from then on another may receive.
    pub fn finish(&self) {
        if self.finished.swap(true, Ordering::SeqCst) {
            return;
        }
        let (stopping, stopped) = mpsc::channel();
        for mailbox in self.mailboxes.iter() {
            post(mailbox, Mail::Stop(stopping.clone()));
        }
        drop(stopping);
        // Nothing is ever sent: every shard drops its end, also one that fails.
        let _ = stopped.recv();
    }

    /// [`Self::finish`], and waits for the shards' ends.
    pub fn stop(&self) {
        self.finish();
        self.questions.close();
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// What a panicking cold thread leaves behind is still whole: every change is made in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts in what must not be lost: a full mailbox is waited for.
fn post(mailbox: &Mailbox, mail: Mail) {
    let mut mail = mail;
    while let Err(refused) = mailbox.post(mail) {
        mail = refused;
        thread::yield_now();
    }
}

/// Starts a shard and waits until it has its ring.
fn spawn_shard(
    setup: Setup,
    server: Server,
    cpu: usize,
    report: mpsc::Sender<Ended>,
) -> Result<thread::JoinHandle<()>, StartError> {
    let index = setup.index;
    let (ready, is_ready) = mpsc::channel();
    let mailboxes = Arc::clone(&setup.mailboxes);
    let body = move || {
        if let Err(error) = pin(cpu) {
            tracing::warn!(shard = index, cpu, %error, "cannot pin the shard's thread");
        }
        match Shard::new(setup, server) {
            Ok(shard) => {
                let _ = ready.send(Ok(()));
                // Other shards hold the channel open, so a panic has to be reported, too.
                let result = panic::catch_unwind(AssertUnwindSafe(|| shard.run()))
                    .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")));
                mailboxes[index].close();
                let _ = report.send(Ended { shard: index, result });
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    };
    let thread = thread::Builder::new().name(format!("shard-{index}")).spawn(body);
    let thread = thread.map_err(|error| StartError::Thread(index, error))?;
    is_ready.recv().map_err(|_| StartError::Thread(index, io::Error::other("the thread ended at once")))??;
    Ok(thread)
}

fn pin(cpu: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Follows the host's addresses for as long as the process lives.
fn follow(addresses: Arc<Mutex<Addresses>>, changes: Changes) -> io::Result<()> {
    let body = move || {
        let mut is_complete = true;
        loop {
            if let Err(error) = changes.wait((!is_complete).then_some(RETRY_INTERVAL)) {
                tracing::error!(%error, "address changes are no longer followed; restart after changing addresses");
                return;
            }
            // A panic here must not end the following of addresses for good.
            let refreshed = panic::catch_unwind(AssertUnwindSafe(|| lock(&addresses).refresh()));
            if refreshed.is_err() {
                tracing::error!("following the host's addresses failed once; the next change is tried again");
            }
            is_complete = refreshed.unwrap_or(true);
        }
    };
    thread::Builder::new().name("addresses".to_owned()).spawn(body).map(drop)
}
