//! A stream to a peer as commands use it that carry bytes: plain, or with `--secure` sealed once more between two programs
//! that have proved whose nodes they run on. A peer that proves nothing gets nothing.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::client::{SecureError, Stream};
use crate::pilotctl::exit::{Code, Failure};
use crate::pilotctl::session::{Daemon, Peer, close};
use crate::pilotctl::{clock, text};
use crate::services::secure::{self, Chance, Error, Proofs, Role};

/// Bytes read from a plain stream at once.
const READ_BYTES: usize = 32 << 10;

/// An open stream.
pub(super) struct Channel {
    pub reader: Reader,
    pub writer: Writer,
}

/// What the peer says.
pub(super) enum Reader {
    Plain(ReadHalf<Stream>),
    Secure(Box<secure::Reader<ReadHalf<Stream>>>),
}

/// What the peer hears.
pub(super) enum Writer {
    Plain(WriteHalf<Stream>),
    Secure(Box<secure::Writer<WriteHalf<Stream>>>),
}

/// How channels are opened.
pub(super) enum Opening {
    Plain,
    /// The proofs that have come so far.
    Secure(RefCell<Proofs>),
}

impl Opening {
    /// Fails early where the daemon does not take part.
    pub(super) async fn new(daemon: &Daemon, is_secure: bool) -> Result<Self, Failure> {
        if !is_secure {
            return Ok(Self::Plain);
        }
        daemon.client.identity(None).await.map_err(insecure)?;
        Ok(Self::Secure(RefCell::default()))
    }

    pub(super) async fn dial(&self, daemon: &Daemon, peer: &Peer, port: u16) -> Result<Channel, Failure> {
        let stream = daemon.dial(peer, port).await?;
        self.open(daemon, stream, Role::Client).await
    }

    /// Opens a channel over a stream that has been dialled or accepted.
    pub(super) async fn open(&self, daemon: &Daemon, stream: Stream, role: Role) -> Result<Channel, Failure> {
        let Self::Secure(seen) = self else {
            let (reader, writer) = tokio::io::split(stream);
            return Ok(Channel { reader: Reader::Plain(reader), writer: Writer::Plain(writer) });
        };
        let chance = Chance { secret: clock::secret()?, nonce: clock::chance()? };
        let calendar = Rc::new(|| Duration::from_secs(clock::unix_seconds()));
        let opened = daemon.client.secure(stream, role, chance, calendar, seen).await.map_err(insecure)?;
        let (reader, writer) = opened.split();
        Ok(Channel { reader: Reader::Secure(Box::new(reader)), writer: Writer::Secure(Box::new(writer)) })
    }
}

impl Reader {
    /// What comes next, none at the end. May be dropped half-way.
    pub(super) async fn read(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Plain(stream) => {
                let mut bytes = vec![0; READ_BYTES];
                let len = stream.read(&mut bytes).await.map_err(|error| broken(&error))?;
                bytes.truncate(len);
                Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
            }
            Self::Secure(records) => records.read().await.map_err(|error| insecure(error.into())),
        }
    }
}

impl Writer {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await.map_err(|error| broken(&error)),
            Self::Secure(records) => records.write(bytes).await.map_err(|error| insecure(error.into())),
        }
    }

    /// Ends the stream, once what was written is with the daemon.
    pub(super) async fn close(self) {
        match self {
            Self::Plain(stream) => close(stream).await,
            Self::Secure(records) => close(records.into_inner()).await,
        }
    }
}

fn broken(error: &std::io::Error) -> Failure {
    let reason = match error.kind() {
        std::io::ErrorKind::BrokenPipe => "the peer closed the stream".to_owned(),
        _ => text::harmless(&error.to_string()).into_owned(),
    };
    Failure::new(Code::ConnectionFailed, reason)
        .hint("does something listen on that port, and does it trust this node?")
}

fn insecure(error: SecureError) -> Failure {
    let told = |error: &dyn std::fmt::Display| {
        Failure::new(Code::ConnectionFailed, text::harmless(&error.to_string()).into_owned())
    };
    match error {
        SecureError::Foreign => told(&error).hint("run pilot-agent on this host, or leave --secure out"),
        SecureError::Request(error) => Failure::from(error).while_("--secure"),
        SecureError::Channel(error) => match error {
            Error::Stream(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                told(&"the peer closed the stream before the secure channel was open, or within a record").hint(PROOFS)
            }
            Error::Stream(error) => broken(&error),
            Error::NotSigned(_) => told(&error).hint("see the daemon: pilotctl health"),
            Error::TooLong(_) => Failure::usage(error.to_string()),
            _ => told(&error).hint(PROOFS),
        },
    }
}

/// What a peer has to do.
const PROOFS: &str = "the peer has to prove who it is: pilotctl recv --secure there, or connect --secure, both beside \
                      pilot-agent and with clocks less than 5 s apart";
