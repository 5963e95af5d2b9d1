use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::contests::Board;
use crate::ledger;
use crate::locals::{Local, Service};
use crate::membership::Membership;
use crate::server::{Rules, Shared};
use crate::sessions::Table;
use crate::socket::bind_group;

const SESSIONS_MAX: usize = 64;

/// A lone shard on the test's own thread, at no address, and its mailbox.
fn shard(ledger: Option<Arc<Ledger>>) -> (Shard, Arc<[Mailbox]>) {
    let mailboxes: Arc<[Mailbox]> = [Mailbox::new().unwrap()].into();
    let setup = Setup {
        index: 0,
        spin: Duration::ZERO,
        mailboxes: Arc::clone(&mailboxes),
        published: Arc::new(Published::default()),
        events: Arc::new(EventQueues::new(1).unwrap()),
        questions: Arc::new(Questions::new().unwrap()),
        ledger,
    };
    let shared = Shared {
        table: Table::new(1, SESSIONS_MAX),
        membership: Arc::new(Membership::default()),
        board: Board::new(1),
    };
    let server = Server::new(Rules::default(), 0, &shared, Arc::new(Locals::default()));
    (Shard::new(setup, server).unwrap(), mailboxes)
}

/// One address of loopback and its sockets.
fn place() -> (Arc<Locals>, Vec<LocalSockets>) {
    let (bound, mut members) = bind_group(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1).unwrap();
    let (main, fragmenting) = members.remove(0);
    let local = Local { bound, seen_as: bound, service: Service::Beacon, payload_max: 1472, present: true };
    let sockets = vec![LocalSockets { id: LocalId(0), main, fragmenting, lost_before: 0 }];
    (Arc::new(Locals::new(vec![local])), sockets)
}

#[test]
fn a_shard_that_stops_takes_no_new_socket_in() {
    for is_stopping in [false, true] {
        let (mut shard, mailboxes) = shard(None);
        let (stopping, _stopped) = mpsc::channel();
        shard.stopping = is_stopping.then_some(stopping);
        let (locals, sockets) = place();
        mailboxes[0].post(Mail::Locals(locals, sockets)).unwrap();
        shard.read_mail(Time::read_clock()).unwrap();
        assert_eq!(shard.sockets[0].installed, !is_stopping);
    }
}

#[test]
fn a_ledger_that_cannot_be_written_is_void_and_nothing_waits_for_it() {
    let ledger = Arc::new(Ledger::full().unwrap());
    let (mut shard, mailboxes) = shard(Some(Arc::clone(&ledger)));
    let (locals, _sockets) = place();
    let bound = locals.get(LocalId(0)).unwrap().bound;
    let record = |node: u32| ledger::Record {
        node: wire::NodeId(node),
        remote: SocketAddr::from((Ipv4Addr::LOCALHOST, 4000)).into(),
        local: bound,
        extended: false,
        grade: crate::sessions::Grade::Unproven,
        seen: Time::read_clock(),
    };
    let (answer, answers) = mpsc::channel();
    mailboxes[0].post(Mail::Inherit(locals, (1..=9).map(record).collect(), answer)).unwrap();
    shard.read_mail(Time::read_clock()).unwrap();
    assert_eq!((answers.recv(), shard.server.unwritten()), (Ok(9), 9));
    shard.turn().unwrap();
    assert_eq!(shard.server.unwritten(), 0);
    assert_eq!(shard.server.counters().gauge(Gauge::Unwritten), 0);
    let left = ledger::read(ledger.as_fd().try_clone_to_owned().unwrap());
    assert!(matches!(left, Err(ledger::Skew::Foreign)));
}
