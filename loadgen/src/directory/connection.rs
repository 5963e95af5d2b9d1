//! One connection to the directory: blocking with many requests ahead while the population enrols, never blocking while
//! a load is made.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use wire::registry::{self, Answer, Request};

/// Requests on the way while enrolling. Together with their answers they fit any socket buffer, so that neither side
/// ever waits for the other to read first.
const AHEAD_MAX: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 64 << 10;

/// Why a directory could not be loaded. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody listens.
    #[error("cannot reach the directory at {registry}: {error}\nstart one with: pilot-directory")]
    Unreachable {
        /// The directory.
        registry: SocketAddr,
        /// What the connection attempt ended with.
        error: io::Error,
    },
    /// The connection broke, or no answer came in time.
    #[error("the directory at {registry} stopped answering: {error}\nsee its log")]
    Silent {
        /// The directory.
        registry: SocketAddr,
        /// What reading or writing ended with.
        error: io::Error,
    },
    /// It refused what the population needs.
    #[error("the directory at {registry} refuses a {request} request: {reason}\n{}", hint(reason))]
    Refused {
        /// The directory.
        registry: SocketAddr,
        /// What was asked.
        request: &'static str,
        /// Its words.
        reason: String,
    },
    /// It answered something else.
    #[error("the directory at {registry} answers with {answer}\ncheck that --registry names a directory")]
    Unexpected {
        /// The directory.
        registry: SocketAddr,
        /// What came.
        answer: String,
    },
    /// The process whose figures were asked for.
    #[error("--pid {pid}: {error}; leave it out to have the process found by its port")]
    Process {
        /// Its number.
        pid: u32,
        /// What the kernel said.
        error: io::Error,
    },
}

fn hint(reason: &str) -> &'static str {
    if reason.contains("rate limited") || reason.contains("registrations") {
        "its limits answered: run loadgen on the directory's host, whose loopback addresses it does not limit, or start \
         it with --exempt for this address"
    } else {
        "see the directory's log; a directory in use may refuse what a new one takes"
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    registry: SocketAddr,
    stream: TcpStream,
    is_blocking: bool,
    /// Only the first `held` bytes are of the directory.
    received: Vec<u8>,
    held: usize,
    unwritten: Vec<u8>,
    written: usize,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`Failure::Unreachable`].
    pub fn open(registry: SocketAddr) -> Result<Self, Failure> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&registry, CONNECT_TIMEOUT)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error| Failure::Unreachable { registry, error })?;
        let (received, unwritten) = (Vec::new(), Vec::new());
        Ok(Self { registry, stream, is_blocking: true, received, held: 0, unwritten, written: 0 })
    }

    /// Asks all of `requests`, many ahead, and hands each answer over in order, with the request's own mark.
    ///
    /// # Errors
    /// The connection fails, or `take` fails.
    pub fn ask_all<M>(
        &mut self,
        requests: impl Iterator<Item = (M, Request)>,
        mut take: impl FnMut(&M, Answer) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let registry = self.registry;
        self.set_blocking(true)?;
        let mut requests = requests.fuse();
        let mut waiting = std::collections::VecDeque::new();
        loop {
            // Half a window at a time, so that there is always something for the directory to do.
            if waiting.len() <= AHEAD_MAX / 2 {
                for (mark, request) in requests.by_ref().take(AHEAD_MAX - waiting.len()) {
                    registry::push_message(&mut self.unwritten, &request);
                    waiting.push_back(mark);
                }
                self.stream.write_all(&self.unwritten).map_err(|error| self.silent(error))?;
                self.unwritten.clear();
            }
            if waiting.is_empty() {
                return Ok(());
            }
            let mut result = Ok(());
            self.read(|message| {
                if let Some(mark) = waiting.pop_front()
                    && result.is_ok()
                {
                    result = Answer::decode(message)
                        .map_err(|error| Failure::Unexpected { registry, answer: error.to_string() })
                        .and_then(|answer| take(&mark, answer));
                }
            })?;
            result?;
        }
    }

    /// From now on neither [`Self::write`] nor [`Self::read`] waits.
    ///
    /// # Errors
    /// The system refuses.
    pub fn set_nonblocking(&mut self) -> Result<(), Failure> {
        self.set_blocking(false)
    }

    fn set_blocking(&mut self, is_blocking: bool) -> Result<(), Failure> {
        self.is_blocking = is_blocking;
        self.stream.set_nonblocking(!is_blocking).map_err(|error| self.silent(error))
    }

    /// Appends to what [`Self::write`] writes.
    pub fn push(&mut self, framed: &[u8]) {
        self.unwritten.extend_from_slice(framed);
    }

    /// Whether anything is left to write.
    #[must_use]
    pub const fn wants_to_write(&self) -> bool {
        self.written < self.unwritten.len()
    }

    /// Writes as much as the kernel takes.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn write(&mut self) -> Result<(), Failure> {
        while self.wants_to_write() {
            match self.stream.write(&self.unwritten[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.silent(error)),
            }
        }
        self.unwritten.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads once, and hands over every message that is complete.
    ///
    /// # Errors
    /// The connection is broken or closed, or what comes is no message.
    pub fn read(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
        if self.received.len() < self.held + READ_BYTES {
            self.received.resize(self.held + READ_BYTES, 0);
        }
        match self.stream.read(&mut self.received[self.held..]) {
            Ok(0) => return Err(self.silent(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => self.held += read,
            // A blocking socket says so when its time is up.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_blocking => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(self.silent(error)),
        }
        let mut rest = &self.received[..self.held];
        loop {
            match registry::split_message(rest) {
                Ok(Some((message, behind))) => {
                    take(message);
                    rest = behind;
                }
                Ok(None) => break,
                Err(error) => {
                    return Err(Failure::Unexpected { registry: self.registry, answer: error.to_string() });
                }
            }
        }
        let left = rest.len();
        self.received.copy_within(self.held - left..self.held, 0);
        self.held = left;
        Ok(())
    }

    /// To wait for.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// No answer has come in time.
    #[must_use]
    pub fn timed_out(&self) -> Failure {
        self.silent(io::ErrorKind::TimedOut.into())
    }

    fn silent(&self, error: io::Error) -> Failure {
        Failure::Silent { registry: self.registry, error }
    }
}
