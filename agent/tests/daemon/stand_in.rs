//! A directory in front of the real one: it passes everything on, but keeps capability records and answers queries itself,
//! as a test wants it: honestly, tampered with, or not at all.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::timeout;
use wire::NodeId;
use wire::registry::answer::{Change, Happened, Hit, SIGNATURE_FAILED, asked_elsewhere, signed_at_another_time};
use wire::registry::capability::Record;
use wire::registry::request::{Changes, Query};
use wire::registry::{Answer, Operation, Request, Signature, push_message};

pub type Tamper = Box<dyn Fn(&mut Hit)>;

/// What the stand-in keeps.
#[derive(Default)]
pub struct Shelf {
    pub records: RefCell<BTreeMap<NodeId, (String, Signature)>>,
    /// Serials of all publications, in their order.
    pub published: RefCell<Vec<(NodeId, u64)>>,
    /// Done to each hit before it is handed out.
    pub tamper: RefCell<Option<Tamper>>,
    /// The next publications are refused with this.
    pub refusal: RefCell<Option<String>>,
    changes: RefCell<Vec<Change>>,
    changed: Notify,
    /// Questions for changes that wait now, and all there ever were.
    pub waiting: Cell<usize>,
    pub queries: Cell<usize>,
    /// What this directory makes of the time at which questions are signed.
    pub clock: Cell<Clock>,
    /// When the latest question was signed.
    pub signed_at: Cell<u64>,
    /// When those were signed that were taken for copies, by what they ask.
    copied_at: RefCell<BTreeMap<&'static str, u64>>,
}

#[derive(Clone, Copy, Default)]
pub enum Clock {
    /// Nothing.
    #[default]
    None,
    /// It knows of no times, and signatures cover none.
    Older,
    /// So many seconds ahead of this host's.
    Ahead(u64),
    /// The same, and the first time it takes each for a copy of another's.
    Suspicious(u64),
}

pub struct StandIn {
    pub address: SocketAddr,
    pub shelf: Rc<Shelf>,
    upstream: SocketAddr,
    serving: tokio::task::AbortHandle,
}

impl StandIn {
    pub async fn new(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shelf) = (listener.local_addr().unwrap(), Rc::new(Shelf::default()));
        let serving = spawn_local(serve(listener, upstream, Rc::clone(&shelf))).abort_handle();
        Self { address, shelf, upstream, serving }
    }

    /// Ends all connections, and takes no more.
    pub fn stop(&self) {
        self.serving.abort();
    }

    /// Is there again, and has forgotten which changes there were.
    pub async fn start_again(&mut self) {
        self.shelf.changes.borrow_mut().clear();
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(crate::world::LOOK).await,
            }
        };
        self.serving = spawn_local(serve(listener, self.upstream, Rc::clone(&self.shelf))).abort_handle();
    }
}

impl Shelf {
    /// Tells that something has happened.
    pub fn tell(&self, what: Happened, node_id: NodeId) {
        self.changes.borrow_mut().push(Change { what, node_id, hostname: None, network_id: None, at: 5 });
        self.changed.notify_waiters();
    }

    pub fn record(&self, node: NodeId) -> Record {
        Record::decode(&self.records.borrow()[&node].0).unwrap()
    }

    fn publish(&self, node_id: NodeId, text: String, signature: Option<Signature>) -> Answer {
        if let Some(error) = self.refusal.take() {
            return Answer::Error { error };
        }
        let record = Record::decode(&text).expect("nodes publish what they may");
        let signed = wire::registry::capability::signed_text(node_id, &text);
        let signature = signature.expect("records are signed");
        assert!(agent::identity::has_signed(&record.public_key.0, signed.as_bytes(), &signature.0));
        let serial = record.serial;
        self.published.borrow_mut().push((node_id, serial));
        self.records.borrow_mut().insert(node_id, (text, signature));
        self.tell(if record.withdrawn { Happened::Withdrawn } else { Happened::Published }, node_id);
        Answer::PublishCapability { node_id, serial }
    }

    /// Why a question is not answered.
    fn objection(&self, operation: &Operation) -> Option<Answer> {
        operation.signed_at().into_iter().for_each(|at| self.signed_at.set(at));
        match (self.clock.get(), operation.signed_at()) {
            (Clock::Older, Some(_)) => Some(Answer::error(&SIGNATURE_FAILED)),
            (Clock::Ahead(ahead), at) => {
                let (at, now) = (at?, agent::daemon::clock::unix_seconds() + ahead);
                (at.abs_diff(now) > 600).then(|| Answer::error(&signed_at_another_time(at, now)))
            }
            (Clock::Suspicious(ahead), at) => {
                let (at, mut copied_at) = (at?, self.copied_at.borrow_mut());
                if copied_at.remove(operation.name()).is_some_and(|before| at > before) {
                    return None;
                }
                copied_at.insert(operation.name(), at);
                Some(Answer::error(&asked_elsewhere(agent::daemon::clock::unix_seconds() + ahead)))
            }
            _ => None,
        }
    }

    /// Whose title begins with the words wanted; the lowest number is the best.
    fn query(&self, query: &Query) -> Answer {
        self.queries.set(self.queries.get() + 1);
        let mut hits = Vec::new();
        for (node, (text, signature)) in self.records.borrow().iter() {
            let record = Record::decode(text).unwrap();
            let is_wanted = query.node_id.is_none_or(|wanted| wanted == *node);
            if record.withdrawn || !is_wanted || !record.title.starts_with(&query.text) {
                continue;
            }
            let mut hit = Hit {
                node_id: *node,
                address: node.address(),
                hostname: Some(format!("host-{node}")),
                score: 1000 - u32::try_from(hits.len()).unwrap(),
                online: true,
                last_seen: Some(5),
                tags: Vec::new(),
                public_key: record.public_key,
                record: Some(text.clone()),
                signature: Some(*signature),
            };
            if let Some(tamper) = &*self.tamper.borrow() {
                tamper(&mut hit);
            }
            hits.push(hit);
        }
        Answer::Query { hits }
    }

    async fn changes(&self, changes: &Changes) -> Answer {
        // Cursors begin at 1; one of before a restart lies beyond all there are.
        let cursor = || self.changes.borrow().len() as u64 + 1;
        let wait = async {
            while cursor() == changes.after {
                self.changed.notified().await;
            }
        };
        if changes.after == 0 || changes.after > cursor() {
            return Answer::Changes { cursor: cursor(), reset: changes.after != 0, changes: Vec::new() };
        }
        self.waiting.set(self.waiting.get() + 1);
        let _ = timeout(Duration::from_secs(changes.wait_seconds.into()), wait).await;
        self.waiting.set(self.waiting.get() - 1);
        let from = usize::try_from(changes.after).unwrap() - 1;
        Answer::Changes { cursor: cursor(), reset: false, changes: self.changes.borrow()[from..].to_vec() }
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, shelf: Rc<Shelf>) {
    // Connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        connections.spawn_local(converse(client, upstream, Rc::clone(&shelf)));
    }
}

async fn converse(mut client: TcpStream, upstream: SocketAddr, shelf: Rc<Shelf>) {
    let mut real = TcpStream::connect(upstream).await.unwrap();
    while let Some(question) = read(&mut client).await {
        let request = Request::decode(&question).unwrap();
        let objection = shelf.objection(&request.operation);
        let answer = match request.operation {
            _ if objection.is_some() => objection,
            Operation::PublishCapability { node_id, record } => Some(shelf.publish(node_id, record, request.signature)),
            Operation::Query(query) => Some(shelf.query(&query)),
            Operation::Changes(changes) => Some(shelf.changes(&changes).await),
            _ => None,
        };
        let mut frame = Vec::new();
        if let Some(answer) = answer {
            push_message(&mut frame, &answer);
        } else {
            real.write_all(&u32::try_from(question.len()).unwrap().to_be_bytes()).await.unwrap();
            real.write_all(&question).await.unwrap();
            let Some(answer) = read(&mut real).await else { return };
            frame.extend(u32::try_from(answer.len()).unwrap().to_be_bytes());
            frame.extend(answer);
        }
        if client.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.ok()?;
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut message).await.ok()?;
    Some(message)
}
