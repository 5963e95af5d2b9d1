//! One Binding request and what comes of it: retransmission as in RFC 8489, but brief, since a relay is near and nobody
//! waits for the result.

use std::net::SocketAddr;
use std::time::Duration;

use wire::stun::{
    ChangeRequest, Class, HEADER_LEN, Header, Outcome, REQUEST_MAX, Request, Response, Success, TransactionId,
};

use crate::Time;

/// Time between retransmissions, and to wait after the last.
pub const RETRANSMIT_INTERVAL: Duration = Duration::from_millis(500);
/// Requests sent before the server, or the way back, counts as dead.
pub const TRIES_MAX: u32 = 3;

/// What a request is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// Whether the server answers, and what it sees.
    First,
    /// Whether an answer comes in from another address and port.
    FilterAddress,
    /// Whether an answer comes in from another port.
    FilterPort,
    /// What another destination sees.
    Mapping,
    /// Whether the own mapped address can be reached from inside.
    Hairpin,
}

/// Where an exchange stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// An answer is awaited.
    Pending,
    /// It has come, from where it was to come from.
    Answered,
    /// The server does not do what was asked for.
    Refused,
    /// None has come.
    Silent,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub test: Test,
    pub to: SocketAddr,
    pub state: State,
    /// What the server saw.
    pub mapped: Option<SocketAddr>,
    /// The server's other address.
    pub other: Option<SocketAddr>,
    transaction: TransactionId,
    tries: u32,
    due: Time,
}

impl Exchange {
    pub fn new(now: Time, test: Test, to: SocketAddr, random: [u8; 12]) -> Self {
        let transaction = TransactionId::new(random);
        Self { test, to, state: State::Pending, mapped: None, other: None, transaction, tries: 0, due: now }
    }

    pub fn poll_timeout(&self) -> Option<Time> {
        (self.state == State::Pending).then_some(self.due)
    }

    pub fn handle_timeout(&mut self, now: Time) {
        if self.state == State::Pending && self.tries >= TRIES_MAX && self.due <= now {
            self.state = State::Silent;
        }
    }

    pub fn poll_transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        if self.state != State::Pending || self.tries >= TRIES_MAX || self.due > now {
            return None;
        }
        self.tries += 1;
        self.due = now + RETRANSMIT_INTERVAL;
        let mut out = vec![0; REQUEST_MAX];
        let len = Request { change: self.change(), ..Request::new(self.transaction) }.encode(&mut out);
        out.truncate(len);
        Some(out)
    }

    /// Whether a datagram with the magic cookie carries the id of this exchange.
    pub fn is_named_in(&self, datagram: &[u8]) -> bool {
        datagram.get(4..HEADER_LEN) == Some(self.transaction.as_bytes().as_slice())
    }

    /// Takes a datagram that carries the id; whether it is what was awaited, late copies included.
    pub fn handle_datagram(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        if self.test == Test::Hairpin {
            // What comes back is the request itself; where from, depends on the NAT.
            let is_request = Header::decode(datagram).is_ok_and(|header| header.class == Class::Request);
            if is_request {
                self.settle(State::Answered);
            }
            return is_request;
        }
        let Ok(Response { outcome, .. }) = Response::decode(datagram) else { return false };
        match (outcome, self.is_due_from(from)) {
            (Outcome::Success(success), true) => self.handle_success(&success),
            // A server that knows nothing of CHANGE-REQUEST answers as if it was not there.
            (Outcome::Success(_) | Outcome::Error { .. }, _) if from == self.to => self.settle(State::Refused),
            _ => return false,
        }
        true
    }

    fn handle_success(&mut self, success: &Success<'_>) {
        if self.state == State::Pending {
            self.mapped = Some(canonical(success.mapped));
            self.other = success.other.map(canonical);
        }
        self.settle(State::Answered);
    }

    fn settle(&mut self, state: State) {
        if self.state == State::Pending {
            self.state = state;
        }
    }

    fn change(&self) -> ChangeRequest {
        let (address, port) = match self.test {
            Test::FilterAddress => (true, true),
            Test::FilterPort => (false, true),
            Test::First | Test::Mapping | Test::Hairpin => (false, false),
        };
        ChangeRequest { address, port }
    }

    fn is_due_from(&self, from: SocketAddr) -> bool {
        match self.test {
            Test::FilterAddress => from.ip() != self.to.ip(),
            Test::FilterPort => from.ip() == self.to.ip() && from.port() != self.to.port(),
            Test::First | Test::Mapping | Test::Hairpin => from == self.to,
        }
    }
}

/// A socket of both families shows IPv4 addresses as IPv6 ones.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
