//! One connection to the daemon as a plain value: bytes in, bytes out, and what they mean (section 10).
//!
//! Decides which reply answers which request, and to which stream, port or datagram queue a push belongs. Reading and
//! writing the socket, and waking whoever waits, is left to the driver.
//!
//! Replies carry no request id, so at most one request is under way; whoever wants to ask meanwhile waits. A request
//! that nobody waits for any longer stays under way until its reply has come: taken for the next one's, it would lie.

use std::collections::{BTreeMap, VecDeque};

use wire::DecodeError;
use wire::address::SocketAddress;
use wire::framing::FrameDecoder;
use wire::ipc::{self, Reply, Request, command};

use super::{Answer, Datagram, RequestError};

/// Bytes that have come on streams and nobody has read, before the socket is not read any further.
const INBOUND_BYTES_MAX: usize = 4 << 20;
/// Bytes on their way to the socket, before streams take no more.
const OUTBOUND_BYTES_MAX: usize = 256 << 10;
/// Bytes of a stream in one frame.
const SEND_BYTES_MAX: usize = 32 << 10;
/// Streams of one listener that wait to be taken; more are closed.
const BACKLOG_MAX: usize = 128;
/// Datagrams of one port that wait to be taken; more are lost, as datagrams are.
const DATAGRAMS_MAX: usize = 1024;

/// What a connection knows.
pub(super) struct Mux {
    decoder: FrameDecoder,
    outbound: Vec<u8>,
    outstanding: Option<Outstanding>,
    answer: Option<Result<Answer, RequestError>>,
    streams: BTreeMap<u32, Inbound>,
    inbound_bytes: usize,
    backlogs: BTreeMap<u16, VecDeque<Incoming>>,
    datagrams: BTreeMap<u16, VecDeque<Datagram>>,
    ended: Option<String>,
    /// Something has been asked or sent.
    spoken: bool,
    /// Why the daemon does not take the connection, said before anything was asked.
    unwelcome: Option<String>,
}

/// The request under way.
struct Outstanding {
    command: u8,
    abandoned: bool,
}

/// What has come on a stream.
#[derive(Default)]
struct Inbound {
    received: VecDeque<u8>,
    ended: bool,
    closing: bool,
    complaint: Option<String>,
}

/// A stream that a peer has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Incoming {
    pub connection: u32,
    pub remote: SocketAddress,
}

/// What reading a stream gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Pending,
    /// Nothing any more.
    End,
    /// Nothing any more, and the daemon said why.
    Failed(String),
}

impl Mux {
    pub(super) const fn new() -> Self {
        Self {
            decoder: ipc::frame_decoder(),
            outbound: Vec::new(),
            outstanding: None,
            answer: None,
            streams: BTreeMap::new(),
            inbound_bytes: 0,
            backlogs: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            ended: None,
            spoken: false,
            unwelcome: None,
        }
    }

    // --- the socket ---

    /// Takes bytes from the socket.
    ///
    /// # Errors
    /// What is not the daemon's protocol; the connection is of no use then.
    pub(super) fn handle_bytes(&mut self, mut bytes: &[u8]) -> Result<(), DecodeError> {
        loop {
            let frame = match self.decoder.decode(&mut bytes)? {
                Some(frame) => frame.to_vec(),
                None => return Ok(()),
            };
            match Reply::decode(&frame) {
                Ok(reply) => self.handle_reply(reply),
                // A newer daemon may push what is not known here.
                Err(DecodeError::UnknownType(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The socket has ended, and why.
    pub(super) fn handle_end(&mut self, reason: String) {
        self.ended.get_or_insert(reason);
        for stream in self.streams.values_mut() {
            stream.ended = true;
        }
    }

    /// Whether the socket may be read on.
    pub(super) const fn has_room(&self) -> bool {
        self.inbound_bytes < INBOUND_BYTES_MAX
    }

    /// Bytes for the socket.
    pub(super) fn take_outbound(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outbound)
    }

    pub(super) const fn has_outbound(&self) -> bool {
        !self.outbound.is_empty()
    }

    pub(super) fn end(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    // --- requests ---

    /// Begins a request; false while another is under way.
    pub(super) fn begin(&mut self, request: &Request<'_>) -> bool {
        if self.outstanding.is_some() || self.answer.is_some() {
            return false;
        }
        self.spoken = true;
        let start = self.outbound.len();
        request.encode(&mut self.outbound);
        let command = self.outbound[start + 4];
        self.outstanding = Some(Outstanding { command, abandoned: false });
        true
    }

    /// Sends what is answered by nothing.
    pub(super) fn send(&mut self, request: &Request<'_>) {
        self.spoken = true;
        request.encode(&mut self.outbound);
    }

    /// The answer to the request begun last, once it is there.
    pub(super) fn take_answer(&mut self) -> Option<Result<Answer, RequestError>> {
        let unwelcome = || self.unwelcome.clone().map(RequestError::Refused);
        let ended = || self.ended.clone().map(|reason| Err(unwelcome().unwrap_or(RequestError::Disconnected(reason))));
        let answer = self.answer.take().or_else(ended)?;
        self.outstanding = None;
        Some(answer)
    }

    /// Nobody waits for the answer any longer.
    pub(super) fn abandon(&mut self) {
        if let Some(answer) = self.answer.take() {
            self.discard(answer);
        } else if let Some(outstanding) = &mut self.outstanding {
            outstanding.abandoned = true;
        }
    }

    fn handle_answer(&mut self, answer: Result<Answer, RequestError>) {
        match self.outstanding.take() {
            Some(Outstanding { abandoned: true, .. }) => self.discard(answer),
            Some(_) => self.answer = Some(answer),
            None => {}
        }
    }

    /// A stream that opened for nobody is closed again.
    fn discard(&mut self, answer: Result<Answer, RequestError>) {
        if let Ok(Answer::Connection(connection)) = answer {
            self.close(connection);
            self.forget(connection);
        }
    }

    fn expects(&self, reply: u8) -> bool {
        self.outstanding.as_ref().is_some_and(|outstanding| outstanding.command.wrapping_add(1) == reply)
    }

    fn handle_reply(&mut self, reply: Reply<'_>) {
        match reply {
            Reply::BindOk { port } if self.expects(command::BIND_OK) => self.handle_answer(Ok(Answer::Port(port))),
            Reply::DialOk { connection } if self.expects(command::DIAL_OK) => {
                self.streams.insert(connection, Inbound::default());
                self.handle_answer(Ok(Answer::Connection(connection)));
            }
            Reply::Answer { command, json } if self.expects(command) => {
                self.handle_answer(Ok(Answer::Json(json.to_owned())));
            }
            // Late ones, to nobody.
            Reply::BindOk { .. } | Reply::DialOk { .. } | Reply::Answer { .. } => {}
            Reply::Error { text, .. } => self.handle_error(text),
            Reply::CloseOk { connection } => {
                if self.expects(command::CLOSE_OK) {
                    self.handle_answer(Ok(Answer::Connection(connection)));
                }
                if let Some(stream) = self.streams.get_mut(&connection) {
                    stream.ended = true;
                }
            }
            Reply::Accept { listen_port, connection, remote } => self.handle_incoming(listen_port, connection, remote),
            Reply::Recv { connection, data } => {
                if let Some(stream) = self.streams.get_mut(&connection) {
                    stream.received.extend(data);
                    self.inbound_bytes += data.len();
                }
            }
            Reply::RecvFrom { source, port, data } => {
                let Some(queue) = self.datagrams.get_mut(&port) else { return };
                if queue.len() < DATAGRAMS_MAX {
                    queue.push_back(Datagram { source, port, data: data.into() });
                }
            }
        }
    }

    /// An error answers the request under way. Without one it is about something sent; on which stream it does not
    /// say, so it is believed only where there is no choice.
    fn handle_error(&mut self, text: &str) {
        if self.outstanding.is_some() {
            self.handle_answer(Err(RequestError::Refused(text.to_owned())));
        } else if !self.spoken {
            self.unwelcome = Some(text.to_owned());
        } else if self.streams.len() == 1
            && let Some(stream) = self.streams.values_mut().next()
        {
            stream.ended = true;
            stream.complaint = Some(text.to_owned());
        }
    }

    fn handle_incoming(&mut self, port: u16, connection: u32, remote: SocketAddress) {
        match self.backlogs.get_mut(&port) {
            Some(backlog) if backlog.len() < BACKLOG_MAX => {
                backlog.push_back(Incoming { connection, remote });
                self.streams.insert(connection, Inbound::default());
            }
            _ => self.send(&Request::Close { connection }),
        }
    }

    // --- ports ---

    pub(super) fn listen(&mut self, port: u16) {
        self.backlogs.entry(port).or_default();
    }

    pub(super) fn accept(&mut self, port: u16) -> Option<Incoming> {
        self.backlogs.get_mut(&port)?.pop_front()
    }

    pub(super) fn listen_datagrams(&mut self, port: u16) {
        self.datagrams.entry(port).or_default();
    }

    pub(super) fn take_datagram(&mut self, port: u16) -> Option<Datagram> {
        self.datagrams.get_mut(&port)?.pop_front()
    }

    // --- streams ---

    /// Bytes of a stream, as many as `out` holds.
    pub(super) fn read(&mut self, connection: u32, out: &mut [u8]) -> Read {
        let Some(stream) = self.streams.get_mut(&connection) else { return Read::End };
        let len = out.len().min(stream.received.len());
        if len > 0 {
            for (slot, byte) in out.iter_mut().zip(stream.received.drain(..len)) {
                *slot = byte;
            }
            self.inbound_bytes -= len;
            return Read::Bytes(len);
        }
        match (&stream.complaint, stream.ended) {
            (Some(complaint), _) => Read::Failed(complaint.clone()),
            (None, true) => Read::End,
            (None, false) => Read::Pending,
        }
    }

    /// Takes bytes to be sent, as many as there is room for; `None` when the stream takes no more at all.
    pub(super) fn write(&mut self, connection: u32, bytes: &[u8]) -> Option<usize> {
        let stream = self.streams.get(&connection)?;
        if stream.ended || stream.closing {
            return None;
        }
        let len = bytes.len().min(SEND_BYTES_MAX).min(OUTBOUND_BYTES_MAX.saturating_sub(self.outbound.len()));
        if len > 0 {
            self.send(&Request::Send { connection, data: &bytes[..len] });
        }
        Some(len)
    }

    /// Asks for the end of a stream, once.
    pub(super) fn close(&mut self, connection: u32) {
        if let Some(stream) = self.streams.get_mut(&connection)
            && !stream.closing
        {
            stream.closing = true;
            if self.ended.is_none() {
                self.send(&Request::Close { connection });
            }
        }
    }

    pub(super) fn is_ended(&self, connection: u32) -> bool {
        self.streams.get(&connection).is_none_or(|stream| stream.ended)
    }

    /// Nobody reads the stream any longer.
    pub(super) fn forget(&mut self, connection: u32) {
        if let Some(stream) = self.streams.remove(&connection) {
            self.inbound_bytes -= stream.received.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(reply: Reply<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        reply.encode(&mut out);
        out
    }

    fn dialled(mux: &mut Mux, connection: u32) {
        let to = "0:0000.0000.0002:7".parse().unwrap();
        assert!(mux.begin(&Request::Dial { to }));
        mux.handle_bytes(&reply(Reply::DialOk { connection })).unwrap();
        assert_eq!(mux.take_answer(), Some(Ok(Answer::Connection(connection))));
    }

    #[test]
    fn pushes_between_a_request_and_its_reply_go_where_they_belong() {
        let mut mux = Mux::new();
        dialled(&mut mux, 5);
        assert!(mux.begin(&Request::Info));
        mux.handle_bytes(&reply(Reply::Recv { connection: 5, data: b"abc" })).unwrap();
        assert_eq!(mux.take_answer(), None);
        mux.handle_bytes(&reply(Reply::CloseOk { connection: 5 })).unwrap();
        mux.handle_bytes(&reply(Reply::Answer { command: command::INFO + 1, json: "{}" })).unwrap();
        assert_eq!(mux.take_answer(), Some(Ok(Answer::Json("{}".into()))));
        let mut out = [0; 8];
        assert_eq!(mux.read(5, &mut out), Read::Bytes(3));
        assert_eq!(mux.read(5, &mut out), Read::End);
    }

    #[test]
    fn a_late_answer_is_not_taken_for_the_next_ones() {
        let mut mux = Mux::new();
        assert!(mux.begin(&Request::ResolveHostname("one")));
        mux.abandon();
        assert!(!mux.begin(&Request::ResolveHostname("two")), "the first is still under way");
        let answer = command::RESOLVE_HOSTNAME + 1;
        mux.handle_bytes(&reply(Reply::Answer { command: answer, json: "\"one\"" })).unwrap();
        assert_eq!(mux.take_answer(), None);
        assert!(mux.begin(&Request::ResolveHostname("two")));
        mux.handle_bytes(&reply(Reply::Answer { command: answer, json: "\"two\"" })).unwrap();
        assert_eq!(mux.take_answer(), Some(Ok(Answer::Json("\"two\"".into()))));
    }

    #[test]
    fn a_stream_that_opens_for_nobody_is_closed() {
        let mut mux = Mux::new();
        assert!(mux.begin(&Request::Dial { to: "0:0000.0000.0002:7".parse().unwrap() }));
        mux.abandon();
        mux.take_outbound();
        mux.handle_bytes(&reply(Reply::DialOk { connection: 9 })).unwrap();
        let mut expected = Vec::new();
        Request::Close { connection: 9 }.encode(&mut expected);
        assert_eq!(mux.take_outbound(), expected);
    }

    #[test]
    fn an_error_without_a_question_ends_the_only_stream() {
        let mut mux = Mux::new();
        dialled(&mut mux, 1);
        mux.handle_bytes(&reply(Reply::Error { code: 1, text: "connection 1 not found" })).unwrap();
        assert_eq!(mux.read(1, &mut [0; 4]), Read::Failed("connection 1 not found".into()));
        assert_eq!(mux.write(1, b"more"), None);
    }

    #[test]
    fn queues_are_bounded() {
        let mut mux = Mux::new();
        dialled(&mut mux, 1);
        while mux.write(1, &[0; SEND_BYTES_MAX]).unwrap() > 0 {}
        assert!(mux.take_outbound().len() < OUTBOUND_BYTES_MAX + SEND_BYTES_MAX);
        assert!(mux.write(1, b"x").unwrap() > 0, "there is room again");
        while mux.has_room() {
            mux.handle_bytes(&reply(Reply::Recv { connection: 1, data: &[0; SEND_BYTES_MAX] })).unwrap();
        }
        mux.forget(1);
        assert!(mux.has_room());
        mux.listen_datagrams(53);
        let source = "0:0000.0000.0002:9".parse().unwrap();
        for _ in 0..=DATAGRAMS_MAX {
            mux.handle_bytes(&reply(Reply::RecvFrom { source, port: 53, data: b"" })).unwrap();
            mux.handle_bytes(&reply(Reply::RecvFrom { source, port: 54, data: b"" })).unwrap();
        }
        assert_eq!(std::iter::from_fn(|| mux.take_datagram(53)).count(), DATAGRAMS_MAX);
        assert_eq!(mux.take_datagram(54), None, "nobody asked for it");
    }

    #[test]
    fn the_end_of_the_socket_answers_what_is_under_way() {
        let mut mux = Mux::new();
        dialled(&mut mux, 1);
        assert!(mux.begin(&Request::Info));
        mux.handle_end("gone".into());
        assert_eq!(mux.take_answer(), Some(Err(RequestError::Disconnected("gone".into()))));
        assert_eq!(mux.read(1, &mut [0; 4]), Read::End);
    }
}
