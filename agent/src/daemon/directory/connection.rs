//! One connection to the directory: frames out, frames in, the oldest question first.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use wire::framing::FrameDecoder;
use wire::registry::answer::AnswerError;
use wire::registry::{Answer, MESSAGE_BYTES_MAX, Request, push_message};

use super::{ANSWER_TIMEOUT, Place, tls, unreachable};
use crate::node::Unanswered;

/// Addresses of the directory's name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Questions that are sent before the first is answered.
const PIPELINED_MAX: usize = 128;
const READ_BYTES: usize = 8192;

/// A question and who waits for its answer.
#[derive(Debug)]
pub(super) struct Question {
    pub request: Request,
    pub answer: oneshot::Sender<Result<Answer, Unanswered>>,
}

impl Question {
    /// Who asked may have gone; then nobody minds.
    pub(super) fn fail(self, reason: &str) {
        let _ = self.answer.send(Err(unreachable(reason)));
    }
}

trait Bytes: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Bytes for T {}

pub(super) struct Connection {
    stream: Box<dyn Bytes>,
}

/// Connects to the first address of the directory that takes it.
pub(super) async fn open(place: &Place) -> Result<Connection, String> {
    let mut reason = "its name has no address".to_owned();
    for address in addresses(place).await?.into_iter().take(ADDRESSES_MAX) {
        match connect(place, address).await {
            Ok(connection) => return Ok(connection),
            Err(refusal) => reason = refusal,
        }
    }
    Err(reason)
}

async fn addresses(place: &Place) -> Result<Vec<SocketAddr>, String> {
    if let Some(address) = place.registry.address() {
        return Ok(vec![address]);
    }
    let found = lookup_host((place.registry.host.as_str(), place.registry.port)).await;
    found.map(Iterator::collect).map_err(|error| error.to_string())
}

async fn connect(place: &Place, address: SocketAddr) -> Result<Connection, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    // Questions are small, and somebody waits for each.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let stream: Box<dyn Bytes> = match &place.fingerprint {
        None => Box::new(stream),
        Some(fingerprint) => Box::new(tls::connect(stream, *fingerprint).await?),
    };
    Ok(Connection { stream })
}

impl Connection {
    /// Puts questions until the connection breaks, and fails those that are open then. `None` when nobody is left to ask.
    pub(super) async fn converse(self, first: Question, incoming: &mut mpsc::Receiver<Question>) -> Option<String> {
        let (reader, writer) = split(self.stream);
        let mut conversation = Conversation {
            writer,
            frame: Vec::new(),
            reader,
            decoder: FrameDecoder::new(MESSAGE_BYTES_MAX),
            open: VecDeque::new(),
        };
        let reason = conversation.run(first, incoming).await?;
        for (question, _) in conversation.open {
            let _ = question.send(Err(unreachable(reason.as_str())));
        }
        Some(reason)
    }
}

struct Conversation {
    writer: WriteHalf<Box<dyn Bytes>>,
    frame: Vec<u8>,
    reader: ReadHalf<Box<dyn Bytes>>,
    decoder: FrameDecoder,
    /// Who waits for an answer, the oldest first, and until when.
    open: VecDeque<(oneshot::Sender<Result<Answer, Unanswered>>, Instant)>,
}

impl Conversation {
    async fn run(&mut self, first: Question, incoming: &mut mpsc::Receiver<Question>) -> Option<String> {
        if let Err(reason) = self.put(first).await {
            return Some(reason);
        }
        let mut piece = vec![0; READ_BYTES];
        loop {
            let deadline = self.open.front().map(|(_, deadline)| *deadline);
            tokio::select! {
                question = incoming.recv(), if self.open.len() < PIPELINED_MAX => {
                    if let Err(reason) = self.put(question?).await {
                        return Some(reason);
                    }
                }
                read = self.reader.read(&mut piece) => {
                    let taken = match read {
                        Ok(0) => Err("it has closed the connection".to_owned()),
                        Ok(count) => self.take(&piece[..count]),
                        Err(error) => Err(error.to_string()),
                    };
                    if let Err(reason) = taken {
                        return Some(reason);
                    }
                }
                () = until(deadline) => return Some("it does not answer".to_owned()),
            }
        }
    }

    async fn put(&mut self, Question { request, answer }: Question) -> Result<(), String> {
        self.frame.clear();
        push_message(&mut self.frame, &request);
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        self.open.push_back((answer, deadline));
        let written = timeout_at(deadline, async {
            self.writer.write_all(&self.frame).await?;
            self.writer.flush().await
        });
        written.await.map_err(|_| "it takes no questions".to_owned())?.map_err(|error| error.to_string())
    }

    fn take(&mut self, mut piece: &[u8]) -> Result<(), String> {
        loop {
            let frame =
                self.decoder.decode(&mut piece).map_err(|error| format!("it speaks another protocol: {error}"))?;
            let Some(frame) = frame else { return Ok(()) };
            let Some((question, _)) = self.open.pop_front() else {
                return Err("it answers what was not asked".to_owned());
            };
            let answer = Answer::decode(frame).map_err(|error: AnswerError| unreachable(error.to_string()));
            let _ = question.send(answer);
        }
    }
}

/// Never, where there is no deadline.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
