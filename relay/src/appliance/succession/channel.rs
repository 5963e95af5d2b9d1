//! A connection to a relay's own socket, which carries messages and open files.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixCredentials, getsockopt, sendmsg, sockopt::PeerCredentials};
use relay::socket::receive_with_descriptors;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use super::messages::{Answer, Request, Status};

/// A message holds at most the names of one packet's descriptors.
const MESSAGE_MAX: usize = 96 << 10;
/// How long the other side may take for its next word: a successor makes its tables and rings meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that carries messages.
#[derive(Debug)]
pub struct Channel(pub(super) Socket);

impl Channel {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Self::new(socket)
    }

    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Who is on the other side, by the kernel's word: at a relay's socket whoever has made it.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn peer(&self) -> io::Result<UnixCredentials> {
        Ok(getsockopt(&self.0, PeerCredentials)?)
    }

    pub(super) fn send(&self, message: &impl Serialize, files: &[OwnedFd]) -> anyhow::Result<()> {
        let text = serde_json::to_vec(message)?;
        let raw: Vec<_> = files.iter().map(|file| file.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&text)], rights, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// The next message and what came with it; `None` at the end.
    pub(super) fn receive<M: for<'a> Deserialize<'a>>(&self) -> anyhow::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MESSAGE_MAX];
        let (len, files) = receive_with_descriptors(&self.0, &mut bytes)?;
        if len == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(&bytes[..len]).context("another version speaks otherwise")?;
        Ok(Some((message, files)))
    }

    /// Asks and takes the answer.
    ///
    /// # Errors
    /// There is none, or it is no.
    pub fn ask(&self, request: &Request) -> anyhow::Result<(Answer, Vec<OwnedFd>)> {
        self.send(request, &[])?;
        match self.receive()? {
            Some((Answer::Refused { why }, _)) => bail!("{why}"),
            Some(answer) => Ok(answer),
            None => bail!("the relay has ended"),
        }
    }
}

/// Connects to the relay at `path`; `None` where none listens.
///
/// # Errors
/// It may not be connected to.
pub fn connect(path: &Path) -> anyhow::Result<Option<Channel>> {
    match Channel::connect(path) {
        Ok(channel) => Ok(Some(channel)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot ask the relay at {}", path.display())),
    }
}

/// How the relay behind `channel` is.
///
/// # Errors
/// It does not say.
pub fn status(channel: &Channel) -> anyhow::Result<Status> {
    match channel.ask(&Request::Status)? {
        (Answer::Status(status), _) => Ok(*status),
        (other, _) => bail!("the relay answers {other:?}"),
    }
}
