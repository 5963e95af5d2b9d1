//! Registers every peer with the directory, signed, many requests ahead on a few connections.
//!
//! A peer's identity derives from the seed and its index, so that another run with the same seed finds the same node
//! ids and the directory does not grow. The connections stay open: the directory counts a live connection that carried
//! a peer's signature as proof of its address.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use wire::NodeId;
use wire::registry::request::Register;
use wire::registry::{self, Answer, Base64, Operation, Request};

use crate::peers::share;
use crate::progress::Counter;

/// Requests on the way per connection. Together with their answers they fit any socket buffer, so that neither side
/// ever waits for the other to read first.
const AHEAD_MAX: u32 = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 64 << 10;

/// Node ids of all peers, and the connections that brought them.
#[derive(Debug)]
pub struct Registered {
    /// By peer.
    pub ids: Vec<NodeId>,
    /// Dropping them ends what they prove.
    pub connections: Vec<TcpStream>,
}

/// Why peers could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Nobody listens.
    #[error("cannot reach the directory at {registry}: {error}")]
    Unreachable {
        /// The directory.
        registry: SocketAddr,
        /// What the connection attempt ended with.
        error: io::Error,
    },
    /// The connection broke, or no answer came for 30 s.
    #[error("the directory at {registry} stopped answering: {error}")]
    Silent {
        /// The directory.
        registry: SocketAddr,
        /// What reading or writing ended with.
        error: io::Error,
    },
    /// It refused a registration.
    #[error("the directory at {registry} refuses a registration: {reason}")]
    Refused {
        /// The directory.
        registry: SocketAddr,
        /// Its words.
        reason: String,
    },
    /// It answered something else.
    #[error("the directory at {registry} answers a registration with {answer}")]
    Unexpected {
        /// The directory.
        registry: SocketAddr,
        /// What came.
        answer: String,
    },
}

/// Registers `peers` peers at the endpoints that `endpoint` names, over `connections` connections.
///
/// # Errors
/// The first thing that goes wrong on any connection.
pub fn register(
    registry: SocketAddr,
    seed: u64,
    peers: u32,
    connections: u32,
    endpoint: &(dyn Fn(u32) -> SocketAddr + Sync),
    registered: &Counter,
) -> Result<Registered, RegisterError> {
    let connections = connections.min(peers);
    let mut all = Registered { ids: Vec::with_capacity(peers as usize), connections: Vec::new() };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|index| {
                let peers = share(peers, index, connections);
                scope.spawn(move || {
                    let mut connection = Connection::open(registry)?;
                    let ids = connection.register(seed, peers, endpoint, registered)?;
                    Ok((ids, connection.stream))
                })
            })
            .collect();
        for worker in workers {
            let (ids, stream) = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            all.ids.extend(ids);
            all.connections.push(stream);
        }
        Ok(all)
    })
}

/// The identity of a peer. It protects nothing, so it may be guessable.
#[must_use]
pub fn identity(seed: u64, peer: u32) -> SigningKey {
    let mut secret = *b"loadgen identity\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    secret[16..24].copy_from_slice(&seed.to_be_bytes());
    secret[24..28].copy_from_slice(&peer.to_be_bytes());
    SigningKey::from_bytes(&secret)
}

fn request(seed: u64, peer: u32, endpoint: SocketAddr) -> Request {
    let key = identity(seed, peer);
    let operation = Operation::Register(Register {
        listen_addr: endpoint.to_string(),
        public_key: Base64(key.verifying_key().to_bytes()),
        owner: String::new(),
        hostname: String::new(),
        version: String::new(),
        lan_addrs: Vec::new(),
        relay_only: false,
    });
    let text = operation.signed_text().expect("a register request has a signed text");
    let signature = Base64(key.sign(text.as_bytes()).to_bytes());
    Request { signature: Some(signature), ..operation.into() }
}

struct Connection {
    registry: SocketAddr,
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    fn open(registry: SocketAddr) -> Result<Self, RegisterError> {
        let unreachable = |error| RegisterError::Unreachable { registry, error };
        let stream = TcpStream::connect_timeout(&registry, CONNECT_TIMEOUT).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(unreachable)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(unreachable)?;
        Ok(Self { registry, stream, received: Vec::new() })
    }

    fn register(
        &mut self,
        seed: u64,
        peers: Range<u32>,
        endpoint: &(dyn Fn(u32) -> SocketAddr + Sync),
        registered: &Counter,
    ) -> Result<Vec<NodeId>, RegisterError> {
        let mut ids = Vec::with_capacity(peers.len());
        let mut asked = peers.start;
        let mut requests = Vec::new();
        while ids.len() < peers.len() {
            let answered = peers.start + ids.len() as u32;
            // Half a window at a time, so that there is always something for the directory to do.
            if asked < peers.end && asked - answered <= AHEAD_MAX / 2 {
                let until = peers.end.min(answered + AHEAD_MAX);
                requests.clear();
                for peer in asked..until {
                    registry::push_message(&mut requests, &request(seed, peer, endpoint(peer)));
                }
                self.stream.write_all(&requests).map_err(|error| self.silent(error))?;
                asked = until;
            }
            self.read_answers(&mut ids)?;
            registered.add(u64::from(peers.start + ids.len() as u32 - answered));
        }
        Ok(ids)
    }

    /// Reads at least one answer, and all that have arrived with it.
    fn read_answers(&mut self, ids: &mut Vec<NodeId>) -> Result<(), RegisterError> {
        let before = ids.len();
        while ids.len() == before {
            let held = self.received.len();
            self.received.resize(held + READ_BYTES, 0);
            let read = self.stream.read(&mut self.received[held..]).map_err(|error| self.silent(error))?;
            self.received.truncate(held + read);
            if read == 0 {
                return Err(self.silent(io::ErrorKind::UnexpectedEof.into()));
            }
            let mut rest = &self.received[..];
            while let Some((message, behind)) =
                registry::split_message(rest).map_err(|error| self.unexpected(&error))?
            {
                ids.push(self.node_id(message)?);
                rest = behind;
            }
            let used = self.received.len() - rest.len();
            self.received.drain(..used);
        }
        Ok(())
    }

    fn node_id(&self, message: &[u8]) -> Result<NodeId, RegisterError> {
        match Answer::decode(message) {
            Ok(Answer::Register(registered)) => Ok(registered.node_id),
            Ok(Answer::Error { error }) => Err(RegisterError::Refused { registry: self.registry, reason: error }),
            Ok(other) => Err(self.unexpected(&format!("{other:?}"))),
            Err(error) => Err(self.unexpected(&error)),
        }
    }

    fn silent(&self, error: io::Error) -> RegisterError {
        RegisterError::Silent { registry: self.registry, error }
    }

    fn unexpected(&self, answer: &dyn std::fmt::Display) -> RegisterError {
        RegisterError::Unexpected { registry: self.registry, answer: answer.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_differ_by_seed_and_peer_and_repeat() {
        let keys = [(1, 1), (1, 2), (2, 1)].map(|(seed, peer)| identity(seed, peer).verifying_key().to_bytes());
        assert_ne!(keys[0], keys[1]);
        assert_ne!(keys[0], keys[2]);
        assert_eq!(keys[0], identity(1, 1).verifying_key().to_bytes());
    }

    #[test]
    fn the_request_is_signed_over_endpoint_and_key() {
        let request = request(1, 5, "127.64.0.6:29001".parse().unwrap());
        let key = identity(1, 5).verifying_key();
        let text = format!("register:127.64.0.6:29001:{}", Base64(key.to_bytes()));
        let signature = ed25519_dalek::Signature::from_bytes(&request.signature.expect("signed").0);
        key.verify_strict(text.as_bytes(), &signature).expect("a valid signature");
    }
}
