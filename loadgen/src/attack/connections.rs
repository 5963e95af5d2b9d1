//! What is done to a server over TCP. Every connection ends by its own error, the server's patience, or ours.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::args::{Config, Kind};
use super::datagrams::Chance;
use crate::clock::Clock;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two turns of writing to all connections.
const TURN: Duration = Duration::from_millis(20);
const DEEP: usize = 100_000;
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// What came of an attack over TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Connections that were accepted.
    pub opened: u64,
    /// Connections that were refused or not answered.
    pub refused: u64,
    /// Connections that the server ended.
    pub ended: u64,
    /// Bytes the server took.
    pub bytes: u64,
}

/// Keeps `config.connections` connections busy until the time is up.
pub fn attack(config: &Config, clock: &Clock) -> Done {
    let mut done = Done::default();
    let mut chance = Chance(config.seed);
    let mut held: Vec<Held> = Vec::new();
    while clock.now_ns() < config.duration_ns {
        while held.len() < config.connections as usize && clock.now_ns() < config.duration_ns {
            match open(config.target, config.source) {
                Ok(stream) => {
                    done.opened += 1;
                    held.push(Held { stream, script: script(config.kind, &mut chance), at: 0 });
                }
                Err(_) => {
                    done.refused += 1;
                    break;
                }
            }
            if config.kind == Kind::ConnectFlood {
                held.clear();
            }
        }
        held.retain_mut(|one| match one.turn(config.kind, &mut chance) {
            Ok(written) => {
                done.bytes += written as u64;
                true
            }
            Err(_) => {
                done.ended += 1;
                false
            }
        });
        if config.kind != Kind::ConnectFlood {
            std::thread::park_timeout(TURN);
        }
    }
    done
}

fn open(target: SocketAddr, source: Option<std::net::IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&target.into(), CONNECT_TIMEOUT)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// One connection and what it has still to say.
struct Held {
    stream: TcpStream,
    script: Vec<u8>,
    at: usize,
}

impl Held {
    /// Writes what is next and looks whether the server has hung up. An error is the end.
    fn turn(&mut self, kind: Kind, chance: &mut Chance) -> io::Result<usize> {
        match self.stream.read(&mut [0; 4096]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if self.at == self.script.len() {
            if !matches!(kind, Kind::TlsGarbage | Kind::DeepJson | Kind::Http) {
                return Ok(0);
            }
            self.script = script(kind, chance);
            self.at = 0;
        }
        let rest = &self.script[self.at..];
        let slow = matches!(kind, Kind::SlowLoris) || (kind == Kind::Http && rest.first() == Some(&b'X'));
        let piece = if slow { &rest[..rest.len().min(1)] } else { rest };
        match self.stream.write(piece) {
            Ok(written) => {
                self.at += written;
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// What a connection says.
fn script(kind: Kind, chance: &mut Chance) -> Vec<u8> {
    match kind {
        Kind::SlowLoris => {
            framed(format!(r#"{{"type":"lookup","node_id":1,"x":"{}"}}"#, "y".repeat(60_000)).as_bytes())
        }
        Kind::TlsGarbage => {
            let mut noise = vec![0; 4096];
            chance.fill(&mut noise);
            [TLS_HELLO, &noise].concat()
        }
        Kind::GiantLength => u32::MAX.to_be_bytes().to_vec(),
        Kind::DeepJson => framed("[".repeat(DEEP).as_bytes()),
        Kind::Http => match chance.below(4) {
            // Begins like a request whose headers never end.
            0 => [b"GET / HTTP/1.1\r\nHost: x\r\n".as_slice(), b"X-A: b\r\n".repeat(2000).as_slice()].concat(),
            1 => b"POST /api/nodes HTTP/1.1\r\nHost: x\r\nContent-Length: 4294967296\r\n\r\nxxxx".to_vec(),
            2 => [b"GET /".as_slice(), &b"a".repeat(100_000), b" HTTP/1.1\r\n\r\n"].concat(),
            _ => {
                let mut noise = vec![0; 2048];
                chance.fill(&mut noise);
                noise
            }
        },
        _ => Vec::new(),
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}
