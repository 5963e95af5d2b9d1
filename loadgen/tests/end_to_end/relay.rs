//! A relay just large enough to be measured, whose every fault is asked for and counted.

use std::collections::{BTreeSet, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use wire::NodeId;
use wire::beacon::{Message, RELAY_HEADER_LEN, relay_into_deliver, relay_into_deliver_to};
use wire::codec::Writer;

/// What a relay does to every `every`-th datagram of the load. Probes and discovers pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not delivered.
    Drop,
    /// It is delivered twice.
    Duplicate,
    /// It is delivered after the next one.
    Reorder,
    /// Its last byte is changed.
    Corrupt,
    /// It is delivered under the receiver's own name.
    Rename,
    /// Something else is delivered besides it.
    Babble,
}

/// How a relay treats what it gets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behaviour {
    /// The fault, and every how manieth datagram has it.
    pub fault: Option<(Fault, u64)>,
    /// Discovers ignored at the start.
    pub deaf_for: u64,
    /// Answers discovers but keeps no session.
    pub forgetful: bool,
    /// Asks each peer for a sign of life before it takes its discover.
    pub suspicious: bool,
    /// Datagrams of the load a second that it relays; what exceeds this is dropped.
    pub capacity_pps: Option<f64>,
}

/// A bucket of tokens, one per datagram, that fills at a rate and never holds more than a few milliseconds' worth. Its
/// time is that of the plan, by which each datagram says when it was due: no pause of anybody changes what passes.
struct Capacity {
    pps: f64,
    tokens: f64,
    /// The run that the time is of.
    run: u64,
    filled_ns: u64,
}

impl Capacity {
    const DEPTH_SECONDS: f64 = 0.03;

    fn new(pps: f64) -> Self {
        Self { pps, tokens: 0.0, run: 0, filled_ns: 0 }
    }

    /// Whether the datagram with this payload passes.
    fn take(&mut self, payload: &[u8]) -> bool {
        let number = |at: usize| u64::from_be_bytes(*payload[at..].first_chunk().expect("a stamp"));
        let (run, due_ns) = (number(0), number(20));
        let depth = self.pps * Self::DEPTH_SECONDS;
        if run != self.run {
            *self = Self { run, tokens: depth, ..Self::new(self.pps) };
        }
        let gained = due_ns.saturating_sub(self.filled_ns) as f64 / 1e9 * self.pps;
        self.tokens = (self.tokens + gained).min(depth);
        self.filled_ns = self.filled_ns.max(due_ns);
        let is_there = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(is_there));
        is_there
    }
}

/// What a relay has counted.
#[derive(Default)]
struct Counts {
    /// Datagrams of the load that it read.
    heard: AtomicU64,
    /// How often the fault was made.
    faults: AtomicU64,
}

/// A relay on a thread; it ends when this is dropped.
pub struct Relay {
    pub address: SocketAddr,
    /// The relay's own, for what the kernel knows about it.
    socket: UdpSocket,
    counts: Arc<Counts>,
    sources: Arc<Mutex<BTreeSet<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    pub fn start(at: &str, behaviour: Behaviour) -> Self {
        let socket = UdpSocket::bind(at).unwrap();
        loadgen::socket::grow_buffers(&socket2::SockRef::from(&socket)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let address = socket.local_addr().unwrap();
        let (counts, stop) = (Arc::<Counts>::default(), Arc::new(AtomicBool::new(false)));
        let sources = Arc::new(Mutex::new(BTreeSet::new()));
        let state = RelayState {
            socket: socket.try_clone().unwrap(),
            address,
            behaviour,
            sessions: HashMap::new(),
            alive: Vec::new(),
            discovers: 0,
            capacity: behaviour.capacity_pps.map(Capacity::new),
            held: None,
            counts: counts.clone(),
            sources: sources.clone(),
        };
        let is_stopped = stop.clone();
        let thread = std::thread::spawn(move || state.serve(&is_stopped));
        Self { address, socket, counts, sources, stop, thread: Some(thread) }
    }

    /// Datagrams of the load that it read.
    pub fn heard(&self) -> u64 {
        self.counts.heard.load(Ordering::Relaxed)
    }

    /// How often the fault was made.
    pub fn faults(&self) -> u64 {
        self.counts.faults.load(Ordering::Relaxed)
    }

    /// Datagrams of any kind that it never read: the kernel had no room for them while it was kept from reading.
    pub fn dropped(&self) -> u64 {
        loadgen::socket::dropped(&self.socket).unwrap()
    }

    /// From where discovers came, sorted.
    pub fn sources(&self) -> Vec<SocketAddr> {
        self.sources.lock().unwrap().iter().copied().collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let result = self.thread.take().map(JoinHandle::join);
        assert!(matches!(result, Some(Ok(()))) || std::thread::panicking(), "the relay's thread panicked");
    }
}

struct RelayState {
    socket: UdpSocket,
    address: SocketAddr,
    behaviour: Behaviour,
    /// Endpoint, and whether it understands deliveries that name the receiver.
    sessions: HashMap<NodeId, (SocketAddr, bool)>,
    alive: Vec<SocketAddr>,
    discovers: u64,
    capacity: Option<Capacity>,
    held: Option<(Vec<u8>, SocketAddr)>,
    counts: Arc<Counts>,
    sources: Arc<Mutex<BTreeSet<SocketAddr>>>,
}

impl RelayState {
    fn serve(mut self, stop: &AtomicBool) {
        let mut buffer = [0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            let Ok((len, source)) = self.socket.recv_from(&mut buffer) else { continue };
            let datagram = &mut buffer[..len];
            match Message::decode(datagram) {
                Ok(Message::Discover { node, extended }) => self.discover(node, extended, source),
                Ok(Message::Relay { sender, dest, .. }) => self.relay(datagram, sender, dest),
                _ if datagram == b"PILP" => self.alive.push(source),
                other => panic!("{source} sent {other:?}"),
            }
        }
    }

    fn discover(&mut self, node: NodeId, extended: bool, source: SocketAddr) {
        self.discovers += 1;
        self.sources.lock().unwrap().insert(source);
        if self.discovers <= self.behaviour.deaf_for {
            return;
        }
        if self.behaviour.suspicious && !self.alive.contains(&source) {
            self.send(&Message::PunchCommand(self.address), source);
            return;
        }
        if !self.behaviour.forgetful {
            self.sessions.insert(node, (source, extended));
        }
        self.send(&Message::DiscoverReply(source), source);
    }

    fn relay(&mut self, datagram: &mut [u8], sender: NodeId, dest: NodeId) {
        let Some(&(to, extended)) = self.sessions.get(&dest) else { return };
        let is_probe = sender == dest;
        let passes = is_probe || self.capacity.as_mut().is_none_or(|it| it.take(&datagram[RELAY_HEADER_LEN..]));
        let part = if extended { relay_into_deliver_to(datagram) } else { relay_into_deliver(datagram) };
        let delivery = &mut datagram[part];
        if is_probe {
            self.socket.send_to(delivery, to).unwrap();
            return;
        }
        let number = self.counts.heard.fetch_add(1, Ordering::Relaxed) + 1;
        if !passes {
            return;
        }
        match self.behaviour.fault {
            Some((fault, every)) if number.is_multiple_of(every) => {
                self.counts.faults.fetch_add(1, Ordering::Relaxed);
                self.spoil(fault, delivery, dest, to);
            }
            _ => {
                self.socket.send_to(delivery, to).unwrap();
                if let Some((held, to)) = self.held.take() {
                    self.socket.send_to(&held, to).unwrap();
                }
            }
        }
    }

    fn spoil(&mut self, fault: Fault, delivery: &mut [u8], dest: NodeId, to: SocketAddr) {
        match fault {
            Fault::Drop => return,
            Fault::Reorder => {
                self.held = Some((delivery.to_vec(), to));
                return;
            }
            Fault::Corrupt => *delivery.last_mut().unwrap() ^= 1,
            Fault::Rename => delivery[1..5].copy_from_slice(&dest.0.to_be_bytes()),
            Fault::Duplicate => {
                self.socket.send_to(delivery, to).unwrap();
            }
            Fault::Babble => {
                self.socket.send_to(b"\x06babble babble babble babble", to).unwrap();
            }
        }
        self.socket.send_to(delivery, to).unwrap();
    }

    fn send(&self, message: &Message<'_>, to: SocketAddr) {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer);
        message.encode(&mut writer);
        self.socket.send_to(writer.written(), to).unwrap();
    }
}
