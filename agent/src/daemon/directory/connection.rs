//! One connection to the directory: frames out, frames in, the oldest question first.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use wire::framing::FrameDecoder;
use wire::registry::answer::AnswerError;
use wire::registry::{Answer, MESSAGE_BYTES_MAX, Operation, Request, push_message};

use super::{ANSWER_TIMEOUT, Place, tls, unreachable};
use crate::node::Unanswered;

/// Addresses of the directory's name that are tried.
const ADDRESSES_MAX: usize = 8;
/// What one of several addresses may take to answer, so that a dead one does not hide the next; the last may take longer.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(2);
const LAST_ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
const LATE: &str = "its name cannot be resolved in time";
/// What the C library says when no name server has answered; any other answer is one.
const NO_ANSWER: &str = "Temporary failure in name resolution";
/// Questions that are sent before the first is answered.
const PIPELINED_MAX: usize = 128;
const READ_BYTES: usize = 8192;
/// What has been sent and is not acknowledged within this time will not be: the way there is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is probed, so that its end is known before the next question.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(5));

/// A question and who waits for its answer.
#[derive(Debug)]
pub(super) struct Question {
    pub request: Request,
    pub answer: oneshot::Sender<Result<Answer, Unanswered>>,
    /// Until when the answer is awaited, once the question has been put.
    pub deadline: Option<Instant>,
}

impl Question {
    /// Who asked may have gone; then nobody minds.
    pub(super) fn fail(self, reason: &str) {
        let _ = self.answer.send(Err(unreachable(reason)));
    }

    /// Whether asking twice does what asking once does, whatever has become of the first.
    const fn may_be_repeated(&self) -> bool {
        // A copy of what says when it was signed counts for nothing on another connection.
        if self.request.operation.signed_at().is_some() {
            return false;
        }
        matches!(
            self.request.operation,
            Operation::Register(_)
                | Operation::Heartbeat { .. }
                | Operation::Lookup { .. }
                | Operation::Resolve { .. }
                | Operation::ResolveHostname { .. }
                | Operation::CheckTrust { .. }
                | Operation::ListNetworks
                | Operation::ListNodes { .. }
                | Operation::GetNetworkPolicy { .. }
                | Operation::BeaconList
                | Operation::PublishCapability { .. }
                | Operation::Query(_)
                | Operation::Changes(_)
        )
    }
}

/// How a conversation ends.
pub(super) enum Ending {
    /// Nobody is left to ask.
    Over,
    /// The connection broke, and why.
    Broken(String),
    /// This host has moved.
    Moved,
}

trait Bytes: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Bytes for T {}

pub(super) struct Connection {
    stream: Box<dyn Bytes>,
}

/// Connects to the first address of the directory that takes it, within a time that is bounded. Where no name server
/// answers, that is one of those it had last, which are kept in `known`: a name server may be away when the directory is not.
pub(super) async fn open(place: &Place, known: &mut Vec<SocketAddr>) -> Result<Connection, String> {
    let resolved = timeout(LOOKUP_TIMEOUT, addresses(place)).await;
    match resolved.unwrap_or_else(|_| Err(LATE.to_owned())) {
        Ok(addresses) => *known = addresses,
        Err(reason) if known.is_empty() || !is_unanswered(&reason) => return Err(reason),
        Err(reason) => {
            tracing::debug!(registry = %place.registry, %reason, "trying where the directory was");
            return open_first(place, known).await.map_err(|refusal| format!("{reason}; where it was: {refusal}"));
        }
    }
    open_first(place, known).await
}

/// Whether nobody has said anything of the name: neither that it is, nor that it is not.
fn is_unanswered(reason: &str) -> bool {
    reason == LATE || reason.contains(NO_ANSWER)
}

async fn open_first(place: &Place, addresses: &[SocketAddr]) -> Result<Connection, String> {
    let mut reason = "its name has no address".to_owned();
    let addresses = &addresses[..addresses.len().min(ADDRESSES_MAX)];
    for (index, address) in addresses.iter().enumerate() {
        let is_last = index + 1 == addresses.len();
        let patience = if is_last { LAST_ADDRESS_TIMEOUT } else { ADDRESS_TIMEOUT };
        match timeout(patience, connect(place, *address)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(refusal)) => reason = refusal,
            Err(_) => reason = "it does not answer".to_owned(),
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
    let socket = SockRef::from(&stream);
    // A host that lost its way there is not told so by its kernel for a quarter of an hour.
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT)).map_err(|error| error.to_string())?;
    socket.set_tcp_keepalive(&KEEPALIVE).map_err(|error| error.to_string())?;
    let stream: Box<dyn Bytes> = match &place.fingerprint {
        None => Box::new(stream),
        Some(fingerprint) => Box::new(tls::connect(stream, *fingerprint).await?),
    };
    Ok(Connection { stream })
}

impl Connection {
    /// Puts questions, `first` before those that come in, until the connection breaks or `moved` returns. Those that are
    /// open then fail, but for those that may be repeated after a move: they are left in `first`.
    pub(super) async fn converse(
        self,
        first: &mut VecDeque<Question>,
        incoming: &mut mpsc::Receiver<Question>,
        moved: impl Future<Output = ()>,
    ) -> Ending {
        let (reader, writer) = split(self.stream);
        let mut conversation = Conversation {
            writer,
            frame: Vec::new(),
            reader,
            decoder: FrameDecoder::new(MESSAGE_BYTES_MAX),
            open: VecDeque::new(),
        };
        let ending = tokio::select! {
            biased;
            // What is asked after the move must not be put to a connection that cannot carry it.
            () = moved => Ending::Moved,
            reason = conversation.run(first, incoming) => reason.map_or(Ending::Over, Ending::Broken),
        };
        match &ending {
            Ending::Over => {}
            Ending::Broken(reason) => conversation.open.into_iter().for_each(|question| question.fail(reason)),
            Ending::Moved => {
                for question in conversation.open.into_iter().rev() {
                    if question.may_be_repeated() {
                        first.push_front(question);
                    } else {
                        question
                            .fail("this host has moved to another network meanwhile; look what was done and ask again");
                    }
                }
            }
        }
        ending
    }
}

struct Conversation {
    writer: WriteHalf<Box<dyn Bytes>>,
    frame: Vec<u8>,
    reader: ReadHalf<Box<dyn Bytes>>,
    decoder: FrameDecoder,
    /// What waits for an answer, the oldest first.
    open: VecDeque<Question>,
}

impl Conversation {
    async fn run(&mut self, first: &mut VecDeque<Question>, incoming: &mut mpsc::Receiver<Question>) -> Option<String> {
        while let Some(question) = first.pop_front() {
            if let Err(reason) = self.put(question).await {
                return Some(reason);
            }
        }
        let mut piece = vec![0; READ_BYTES];
        loop {
            let deadline = self.open.front().and_then(|question| question.deadline);
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

    async fn put(&mut self, mut question: Question) -> Result<(), String> {
        self.frame.clear();
        push_message(&mut self.frame, &question.request);
        // One that is put again waits no longer for that.
        let deadline = *question.deadline.get_or_insert_with(|| Instant::now() + ANSWER_TIMEOUT);
        self.open.push_back(question);
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
            let Some(question) = self.open.pop_front() else {
                return Err("it answers what was not asked".to_owned());
            };
            let answer = Answer::decode(frame).map_err(|error: AnswerError| unreachable(error.to_string()));
            let _ = question.answer.send(answer);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::HostPort;

    #[tokio::test]
    async fn an_address_that_is_a_black_hole_does_not_hide_the_next() {
        // Nobody takes the connections of this one: once its backlog is full the kernel drops what comes.
        let hole = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        hole.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        hole.listen(0).unwrap();
        let hole = (hole.local_addr().unwrap().as_socket().unwrap(), hole);
        let mut backlog = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(500), TcpStream::connect(hole.0)).await {
            backlog.push(stream.unwrap());
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let place = Place { registry: HostPort::parse(&address.to_string()).unwrap(), fingerprint: None };
        open_first(&place, &[hole.0, address]).await.map(|_| ()).unwrap();
        assert!(open_first(&place, &[hole.0]).await.is_err_and(|reason| reason.contains("does not answer")));
    }
}
