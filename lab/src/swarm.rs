//! Many of our nodes in this process, as the far ends of one daemon's tunnels: a thousand daemons would be too heavy, and
//! it is not they who are measured. Each has its own key, socket and engine ([`agent::node::Node`]); this file is their
//! one driver. What they ask of the directory goes over one connection beside it, where its limits for one address do
//! not apply.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use agent::Time;
use agent::identity::Identity;
use agent::node::{Config, DATAGRAM_MAX, Event, Node, StreamId, Unanswered};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sha2::{Digest as _, Sha256};
use wire::address::SocketAddress;
use wire::registry::answer::Answer;
use wire::registry::{push_message, split_message};

use crate::wait::{Stopwatch, unix_seconds};
use crate::world::{Host, REGISTRY_PORT};

const ECHO: &[u8] = b"still there?";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the driver sleeps at most, so that its caller's deadline is kept.
const TURN_MAX: Duration = Duration::from_millis(20);
/// Datagrams taken from one member before the others have their turn.
const BURST_MAX: usize = 16;

/// Many nodes, driven by whoever calls.
pub struct Swarm {
    members: Vec<Member>,
    directory: Directory,
    watch: Stopwatch,
    buffer: Vec<u8>,
}

struct Member {
    node: Node,
    socket: UdpSocket,
    stream: Option<StreamId>,
    /// What has come back of the present echo.
    echoed: Vec<u8>,
    answered: bool,
    ended: Option<String>,
}

impl Swarm {
    /// So many public nodes on a host. They register as soon as they are driven.
    #[must_use]
    #[track_caller]
    pub fn start(host: &Host, relay_host: &Host, count: usize) -> Self {
        let watch = Stopwatch::start();
        let beacon = host.beacon(false);
        let member = |number: usize| {
            let seed: [u8; 32] = Sha256::digest(format!("{} {number}", host.name())).into();
            let config = Config {
                hostname: format!("{}-{number}", host.name()),
                owner: format!("{number}@swarm.test"),
                public: true,
                relays: vec![beacon],
                relays_fixed: true,
                ..Config::default()
            };
            let socket = UdpSocket::bind((host.v4(), 0)).expect("a host has free UDP ports");
            socket.set_nonblocking(true).expect("a socket can be non-blocking");
            let endpoint = socket.local_addr().expect("it is bound");
            let mut node = Node::new(Time::default(), config, Arc::new(Identity::from_seed(&seed)), &seed);
            node.set_wall_clock(unix_seconds());
            node.set_local_endpoints(Time::default(), &[endpoint]);
            Member { node, socket, stream: None, echoed: Vec::new(), answered: false, ended: None }
        };
        let members = host.namespace().enter(|| (0..count).map(member).collect());
        Self { members, directory: Directory::connect(relay_host), watch, buffer: vec![0; DATAGRAM_MAX] }
    }

    /// How many have been given an id.
    #[must_use]
    pub fn registered(&self) -> usize {
        self.members.iter().filter(|member| member.node.id().is_some()).count()
    }

    /// How many have had their last echo answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.members.iter().filter(|member| member.answered).count()
    }

    /// How many have a tunnel to somebody, and how many of these go through the relay.
    #[must_use]
    pub fn tunnels(&self) -> (usize, usize) {
        let peers = self.members.iter().flat_map(|member| member.node.peers().filter(|peer| peer.has_session));
        peers.fold((0, 0), |(all, relayed), peer| (all + 1, relayed + usize::from(peer.direct.is_none())))
    }

    /// Why streams ended that should not have, one text for each.
    #[must_use]
    pub fn ended(&self) -> Vec<String> {
        self.members.iter().filter_map(|member| member.ended.clone()).collect()
    }

    /// The `number`th dials the echo port of a node and keeps the stream; others follow when the caller says so, because
    /// daemons take only so many strangers a second.
    #[track_caller]
    pub fn dial(&mut self, number: usize, to: SocketAddress) {
        let now = self.now();
        let member = &mut self.members[number];
        let stream = member.node.dial(now, to).unwrap_or_else(|error| panic!("member {number} cannot dial: {error}"));
        member.stream = Some(stream);
        member.attend(now, &mut self.directory, &mut self.buffer);
    }

    /// Everyone with a stream asks for an echo over it.
    pub fn ask_again(&mut self) {
        let now = self.now();
        for member in &mut self.members {
            member.answered = false;
            member.ask(now);
            member.attend(now, &mut self.directory, &mut self.buffer);
        }
    }

    /// Drives all until something is so; whether it came to be in time.
    pub fn drive_until(&mut self, within: Duration, mut is_so: impl FnMut(&Self) -> bool) -> bool {
        let watch = Stopwatch::start();
        loop {
            if is_so(self) {
                return true;
            }
            if watch.elapsed() >= within {
                return false;
            }
            self.turn();
        }
    }

    /// Drives all for so long.
    pub fn drive_for(&mut self, length: Duration) {
        self.drive_until(length, |_| false);
    }

    fn now(&self) -> Time {
        Time::default() + self.watch.elapsed()
    }

    fn turn(&mut self) {
        let now = self.now();
        let due = self.members.iter().filter_map(|member| member.node.poll_timeout()).min();
        let wait = due.map_or(TURN_MAX, |due| due.since(now).min(TURN_MAX));
        let mut sockets: Vec<_> =
            self.members.iter().map(|member| PollFd::new(member.socket.as_fd(), PollFlags::POLLIN)).collect();
        // A millisecond too late is no harm; a turn too many would be.
        let timeout = PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
        if poll(&mut sockets, timeout).is_err() {
            return;
        }
        let readable: Vec<bool> = sockets.iter().map(|socket| socket.any().unwrap_or(false)).collect();
        let now = self.now();
        for (member, readable) in self.members.iter_mut().zip(readable) {
            let due = member.node.poll_timeout().is_some_and(|due| due <= now);
            if readable {
                member.receive(now, &mut self.buffer);
            }
            if due {
                member.node.set_wall_clock(unix_seconds());
                member.node.handle_timeout(now);
            }
            if readable || due || now == Time::default() {
                member.attend(now, &mut self.directory, &mut self.buffer);
            }
        }
    }
}

impl Member {
    fn receive(&mut self, now: Time, buffer: &mut [u8]) {
        for _ in 0..BURST_MAX {
            match self.socket.recv_from(buffer) {
                Ok((length, source)) => self.node.handle_datagram(now, source, &mut buffer[..length]),
                // An earlier datagram met a closed port.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    }

    /// Takes all that the engine has to give.
    fn attend(&mut self, now: Time, directory: &mut Directory, buffer: &mut [u8]) {
        loop {
            let mut idle = true;
            while let Some(transmit) = self.node.poll_transmit(now, buffer) {
                // What the kernel does not take is lost like any other datagram.
                let _ = self.socket.send_to(&buffer[..transmit.len], transmit.to);
                idle = false;
            }
            while let Some((ticket, request)) = self.node.poll_request() {
                let answer = directory.ask(&request);
                self.node.handle_answer(now, ticket, answer);
                idle = false;
            }
            while let Some(event) = self.node.poll_event() {
                self.handle_event(now, &event);
                idle = false;
            }
            if idle {
                return;
            }
        }
    }

    fn handle_event(&mut self, now: Time, event: &Event) {
        match event {
            Event::Opened(stream) if Some(*stream) == self.stream => self.ask(now),
            Event::Readable(stream) if Some(*stream) == self.stream => self.read(now, *stream),
            _ => {}
        }
    }

    fn ask(&mut self, now: Time) {
        if let Some(stream) = self.stream {
            self.echoed.clear();
            self.node.write(now, stream, ECHO);
        }
    }

    fn read(&mut self, now: Time, stream: StreamId) {
        let mut bytes = [0; 256];
        loop {
            let count = self.node.read(now, stream, &mut bytes);
            if count == 0 {
                break;
            }
            self.echoed.extend_from_slice(&bytes[..count]);
        }
        self.answered |= self.echoed == ECHO;
        if let Some(end) = self.node.stream_end(stream) {
            self.ended = Some(format!("{end:?}"));
            self.stream = None;
        }
    }
}

/// The directory as one connection that answers in order.
struct Directory {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Directory {
    #[track_caller]
    fn connect(relay_host: &Host) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, REGISTRY_PORT));
        let connected = relay_host.namespace().enter(|| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT));
        let stream = connected.unwrap_or_else(|error| panic!("the directory takes no connection: {error}"));
        stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(ANSWER_TIMEOUT))).expect("sockets do this");
        Self { stream, received: Vec::new() }
    }

    fn ask(&mut self, request: &wire::registry::request::Request) -> Result<Answer, Unanswered> {
        let unreachable = |error: &dyn std::fmt::Display| Unanswered::Unreachable(error.to_string());
        let mut message = Vec::new();
        push_message(&mut message, request);
        self.stream.write_all(&message).map_err(|error| unreachable(&error))?;
        let mut bytes = [0; 16_384];
        loop {
            if let Some((body, rest)) = split_message(&self.received).map_err(|error| unreachable(&error))? {
                let answer = Answer::decode(body).map_err(|error| unreachable(&error));
                let taken = self.received.len() - rest.len();
                self.received.drain(..taken);
                return answer;
            }
            let count = self.stream.read(&mut bytes).map_err(|error| unreachable(&error))?;
            if count == 0 {
                return Err(Unanswered::Unreachable("the connection has ended".to_owned()));
            }
            self.received.extend_from_slice(&bytes[..count]);
        }
    }
}
