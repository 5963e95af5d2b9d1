//! One client: its requests in the order they come, and the ports and streams it owns, which go when it goes.
//!
//! Requests that are quick are answered at once; those that ask the directory or a peer run beside, a bounded number, so
//! that bytes on open streams do not wait for them. A stream that takes no more holds up what this client sends, and
//! nobody else.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use wire::DecodeError;
use wire::NodeId;
use wire::address::SocketAddress;
use wire::ipc::{ERROR_CODE, Reply, Request, command, frame_decoder};
use wire::trace::TraceContext;

use super::outgoing::{Gone, Outgoing};
use super::{Context, info, requests};
use crate::Time;
use crate::daemon::byte_stream::ByteStream;
use crate::daemon::core::{Core, Datagram, Listener, SubscriberId};
use crate::daemon::services::EXCHANGE_PORT;
use crate::node::{Delivery, DialError, StreamId};
use crate::stream::End;

/// Streams of one client, those it accepted included.
const STREAMS_MAX: usize = 4096;
/// Ports of one client.
const PORTS_MAX: usize = 256;
/// Requests of one client that run beside.
const BESIDE_MAX: usize = 64;
const READ_BYTES: usize = 64 << 10;
/// Bytes of a stream in one frame.
const RECV_BYTES: usize = 16 << 10;
/// `length=4, command=1, connection=4`.
const RECV_HEADER_BYTES: usize = 9;
/// What is left to be said to a client whose requests have ended.
const FAREWELL: Duration = Duration::from_secs(1);
/// A client that is gone may have sent what its stream does not take yet; the stream has so long to take it.
const LINGER: Duration = Duration::from_secs(30);

pub(super) struct Client {
    pub(super) context: Rc<Context>,
    outgoing: Rc<Outgoing>,
    subscriber: SubscriberId,
    streams: RefCell<BTreeMap<StreamId, Stream>>,
    ports: RefCell<BTreeMap<u16, Port>>,
    /// Where this client's datagrams come from, once it has sent one.
    datagram_port: Cell<Option<u16>>,
    /// The trace its dials belong to.
    trace: Cell<Option<TraceContext>>,
    beside: RefCell<JoinSet<()>>,
    cancelled: Notify,
}

struct Stream {
    bytes: Rc<ByteStream>,
    reader: AbortHandle,
    /// The client has been told that the peer has closed.
    end_told: Rc<Cell<bool>>,
    /// When it was opened, if it was by the client and to a peer's data exchange.
    exchange_since: Option<Time>,
}

impl Stream {
    /// The client is done with it.
    fn end(&self, core: &Core) {
        self.reader.abort();
        let id = self.bytes.id();
        if let Some(began) = self.exchange_since {
            core.act(|node, now| {
                // The data exchange answers what it has taken; a stream that broke says nothing of what was on it.
                let is_whole = matches!(node.stream_end(id), None | Some(End::Finished));
                let stream = node.stream(id).filter(|stream| stream.bytes_sent > 0 && stream.bytes_received > 0);
                if let Some(stream) = stream.filter(|_| is_whole) {
                    let (what, bytes) = ("exchange", stream.bytes_sent);
                    node.note_delivery(now, id, Delivery { is_received: false, what, bytes, began });
                }
            });
        }
        self.bytes.close();
    }
}

struct Port {
    listener: Rc<Listener>,
    acceptor: AbortHandle,
}

/// What a request that runs beside comes to.
pub(super) enum Outcome {
    /// JSON, under the request's command plus one.
    Json(serde_json::Value),
    /// A stream to this port is open.
    Dialled(ByteStream, u16),
    /// The text of an error.
    Failed(String),
}

/// Serves one client until it goes.
pub(super) async fn serve(context: Rc<Context>, socket: UnixStream) {
    let (reader, writer) = socket.into_split();
    let outgoing = Rc::new(Outgoing::default());
    let receiver = Rc::clone(&outgoing);
    let subscriber = context.core.subscribe(Rc::new(move |datagram: &Datagram| {
        receiver.offer(&Reply::RecvFrom { source: datagram.source, port: datagram.port, data: &datagram.data });
    }));
    let client = Rc::new(Client {
        context,
        outgoing: Rc::clone(&outgoing),
        subscriber,
        streams: RefCell::default(),
        ports: RefCell::default(),
        datagram_port: Cell::new(None),
        trace: Cell::new(None),
        beside: RefCell::default(),
        cancelled: Notify::new(),
    });
    let written = outgoing.write_to(writer);
    tokio::pin!(written);
    tokio::select! {
        () = client.take_requests(reader) => {
            outgoing.finish();
            let _ = timeout(FAREWELL, written).await;
        }
        () = &mut written => {}
    }
    client.leave();
}

impl Client {
    async fn take_requests(self: &Rc<Self>, mut reader: OwnedReadHalf) {
        let mut decoder = frame_decoder();
        let mut piece = vec![0; READ_BYTES];
        loop {
            let Ok(count @ 1..) = reader.read(&mut piece).await else { return };
            let mut input = &piece[..count];
            loop {
                let frame = match decoder.decode(&mut input) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(error) => {
                        // Where the next frame starts is unknown now.
                        let _ = self.fail(&format!("this is no frame: {error}")).await;
                        return;
                    }
                };
                if self.handle(frame, &reader).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Follows one request.
    async fn handle(self: &Rc<Self>, frame: &[u8], reader: &OwnedReadHalf) -> Result<(), Gone> {
        let request = match Request::decode(frame) {
            Ok(request) => request,
            Err(error) => return self.fail(&undecodable(frame, error)).await,
        };
        let core = &self.context.core;
        match request {
            Request::Bind { port } => match self.bind(port) {
                Ok(port) => self.outgoing.push(&Reply::BindOk { port }).await,
                Err(text) => self.fail(&text).await,
            },
            Request::Unbind { port } => match self.unbind(port) {
                true => self.answer(command::UNBIND, &serde_json::json!({ "port": port })).await,
                false => self.fail(&format!("unbind: port {port} is not bound by this client")).await,
            },
            Request::Send { connection, data } => self.send(StreamId(connection), data, reader).await,
            Request::Close { connection } => self.close(StreamId(connection)).await,
            Request::SendTo { to, data } => match self.send_to(to, data) {
                Ok(()) => Ok(()),
                Err(text) => self.fail(&text).await,
            },
            Request::SendToConfirmed { to, data } => match self.send_to(to, data) {
                Ok(()) => {
                    self.outgoing.push(&Reply::Answer { command: command::SEND_TO_CONFIRMED + 1, json: "" }).await
                }
                Err(text) => self.fail(&text).await,
            },
            Request::Info => self.answer(command::INFO, &info::info(&self.context)).await,
            Request::Health => self.answer(command::HEALTH, &info::health(&self.context)).await,
            Request::PreferDirect { node } => {
                let answer = info::prefer_direct(core, node);
                self.answer(command::PREFER_DIRECT, &answer).await
            }
            Request::Cancel(_) => {
                let count = self.beside.borrow().len();
                self.cancelled.notify_waiters();
                self.answer(command::CANCEL, &serde_json::json!({ "cancelled": count })).await
            }
            Request::Dial { to } => {
                let (core, trace) = (Rc::clone(core), self.trace.get());
                self.beside(command::DIAL, async move {
                    match core.dial(to, trace).await {
                        Ok(stream) => Outcome::Dialled(stream, to.port),
                        Err(failure) => Outcome::Failed(failure.to_string()),
                    }
                })
                .await
            }
            slow => {
                let work = requests::follow(Rc::clone(self), slow);
                self.beside(frame[0], work).await
            }
        }
    }

    /// Lets `work` run beside other requests, and answers `command` with what it comes to.
    async fn beside(self: &Rc<Self>, command: u8, work: impl Future<Output = Outcome> + 'static) -> Result<(), Gone> {
        while self.beside.borrow_mut().try_join_next().is_some() {}
        if self.beside.borrow().len() >= BESIDE_MAX {
            return self.fail(&format!("too many requests under way: at most {BESIDE_MAX}; await an answer")).await;
        }
        let client = Rc::clone(self);
        self.beside.borrow_mut().spawn_local(async move {
            let outcome = tokio::select! {
                outcome = work => outcome,
                () = client.cancelled.notified() => Outcome::Failed("cancelled".to_owned()),
            };
            // A client that is gone needs no answer.
            let _ = match outcome {
                Outcome::Json(json) => client.answer(command, &json).await,
                Outcome::Failed(text) => client.fail(&text).await,
                Outcome::Dialled(stream, port) => client.adopt_dialled(stream, port).await,
            };
        });
        Ok(())
    }

    async fn answer(&self, command: u8, json: &serde_json::Value) -> Result<(), Gone> {
        let json = json.to_string();
        if json.len() >= wire::ipc::FRAME_MAX {
            return self.fail("the answer is too long for one frame").await;
        }
        self.outgoing.push(&Reply::Answer { command: command + 1, json: &json }).await
    }

    async fn fail(&self, text: &str) -> Result<(), Gone> {
        self.outgoing.push(&Reply::Error { code: ERROR_CODE, text }).await
    }

    /// The client's dials belong there from now on.
    pub(super) fn set_trace(&self, trace: Option<TraceContext>) {
        self.trace.set(trace);
    }

    // --- ports ---

    fn bind(self: &Rc<Self>, port: u16) -> Result<u16, String> {
        if self.ports.borrow().len() >= PORTS_MAX {
            return Err(format!("too many ports: at most {PORTS_MAX} for one client; unbind some"));
        }
        let listener = Rc::new(self.context.core.listen(port).map_err(|error| error.to_string())?);
        let port = listener.port();
        self.context.core.direct_datagrams(port, self.subscriber);
        let acceptor = tokio::task::spawn_local(Rc::clone(self).accept(Rc::clone(&listener))).abort_handle();
        self.ports.borrow_mut().insert(port, Port { listener, acceptor });
        Ok(port)
    }

    fn unbind(&self, port: u16) -> bool {
        let Some(Port { listener, acceptor }) = self.ports.borrow_mut().remove(&port) else { return false };
        acceptor.abort();
        listener.close();
        self.context.core.release_datagrams(port);
        true
    }

    async fn accept(self: Rc<Self>, listener: Rc<Listener>) {
        loop {
            let (stream, remote) = listener.accept().await;
            if self.streams.borrow().len() >= STREAMS_MAX {
                self.context.core.abort(stream.id());
                continue;
            }
            let id = stream.id().0;
            let accept = Reply::Accept { listen_port: listener.port(), connection: id, remote };
            if self.outgoing.push(&accept).await.is_err() {
                return;
            }
            self.adopt(stream, None);
        }
    }

    // --- streams ---

    async fn adopt_dialled(self: &Rc<Self>, stream: ByteStream, port: u16) -> Result<(), Gone> {
        if self.streams.borrow().len() >= STREAMS_MAX {
            return self.fail(&format!("too many connections: at most {STREAMS_MAX} for one client; close some")).await;
        }
        self.outgoing.push(&Reply::DialOk { connection: stream.id().0 }).await?;
        let exchange_since = (port == EXCHANGE_PORT).then(|| self.context.core.clock().now());
        self.adopt(stream, exchange_since);
        Ok(())
    }

    /// What comes on the stream goes to the client from now on.
    fn adopt(self: &Rc<Self>, stream: ByteStream, exchange_since: Option<Time>) {
        let (id, bytes, end_told) = (stream.id(), Rc::new(stream), Rc::new(Cell::new(false)));
        let reader = read(Rc::clone(&bytes), Rc::clone(&self.outgoing), Rc::clone(&end_told));
        let reader = tokio::task::spawn_local(reader).abort_handle();
        self.streams.borrow_mut().insert(id, Stream { bytes, reader, end_told, exchange_since });
    }

    async fn send(&self, id: StreamId, data: &[u8], reader: &OwnedReadHalf) -> Result<(), Gone> {
        let stream = self.streams.borrow().get(&id).map(|stream| Rc::clone(&stream.bytes));
        let Some(stream) = stream else { return self.fail(&format!("connection {} not found", id.0)).await };
        let sent = tokio::select! {
            sent = stream.send_all(data) => sent,
            () = deserted(reader) => return Err(Gone),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(End::Finished) => self.fail(&format!("connection {} is closed", id.0)).await,
            Err(end) => self.fail(&format!("connection {}: {end}", id.0)).await,
        }
    }

    async fn close(&self, id: StreamId) -> Result<(), Gone> {
        let closed = Reply::CloseOk { connection: id.0 };
        let stream = self.streams.borrow_mut().remove(&id);
        let Some(stream) = stream else {
            // A client may end another's stream, as `pilotctl disconnect` does; one that is gone is closed.
            self.context.core.abort(id);
            return self.outgoing.push(&closed).await;
        };
        stream.end(&self.context.core);
        self.outgoing.push(&closed).await?;
        // Older drivers wait for the second one, which tells that nothing more will come.
        if stream.end_told.get() { Ok(()) } else { self.outgoing.push(&closed).await }
    }

    // --- datagrams ---

    /// Sends a datagram from this client's own port, so that answers come back to it.
    pub(super) fn send_to(&self, to: SocketAddress, data: &[u8]) -> Result<(), String> {
        if to.address.node == NodeId::BROADCAST {
            return Err("sendto: broadcast is not available; send to a network: pilotctl broadcast".to_owned());
        }
        let port = self.datagram_port()?;
        let sent = self.context.core.act(|node, now| node.send_datagram(now, port, to, data));
        sent.map_err(|error: DialError| format!("sendto: {error}"))
    }

    fn datagram_port(&self) -> Result<u16, String> {
        if let Some(port) = self.datagram_port.get() {
            return Ok(port);
        }
        let port = self.context.core.act(|node, _| node.bind(0)).map_err(|error| format!("sendto: {error}"))?;
        self.context.core.direct_datagrams(port, self.subscriber);
        self.datagram_port.set(Some(port));
        Ok(port)
    }

    /// Gives back all that the client owned. What it wrote to its streams is still delivered.
    fn leave(&self) {
        self.beside.borrow_mut().abort_all();
        let core = &self.context.core;
        core.unsubscribe(self.subscriber);
        let streams = std::mem::take(&mut *self.streams.borrow_mut());
        streams.values().for_each(|stream| stream.end(core));
        let ports: Vec<u16> = self.ports.borrow().keys().copied().collect();
        for port in ports {
            self.unbind(port);
        }
        if let Some(port) = self.datagram_port.take() {
            core.act(|node, _| node.unbind(port));
        }
        let lost = self.outgoing.datagrams_lost();
        if lost > 0 {
            tracing::info!(datagrams = lost, "a client that did not read has missed datagrams");
        }
    }
}

/// Hands what comes on a stream to the client while it reads; otherwise the bytes stay in the stream, whose window closes.
async fn read(stream: Rc<ByteStream>, outgoing: Rc<Outgoing>, end_told: Rc<Cell<bool>>) {
    let connection = stream.id().0;
    loop {
        let received = poll_fn(|context| {
            let room = std::task::ready!(outgoing.poll_room(context));
            if room.is_err() {
                return Poll::Ready(Err(End::Aborted));
            }
            outgoing.append(|out| {
                // Straight into the frame: header first, its length when it is known.
                let start = out.len();
                out.resize(start + RECV_HEADER_BYTES + RECV_BYTES, 0);
                let received = stream.poll_receive(context, &mut out[start + RECV_HEADER_BYTES..]);
                match received {
                    Poll::Ready(Ok(count)) => {
                        out.truncate(start + RECV_HEADER_BYTES + count);
                        let length = u32::try_from(RECV_HEADER_BYTES - 4 + count).expect("a frame is short");
                        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
                        out[start + 4] = command::RECV;
                        out[start + 5..start + RECV_HEADER_BYTES].copy_from_slice(&connection.to_be_bytes());
                    }
                    _ => out.truncate(start),
                }
                received
            })
        })
        .await;
        if received.is_err() {
            break;
        }
    }
    end_told.set(true);
    let _ = outgoing.push(&Reply::CloseOk { connection }).await;
}

/// Returns when the client is gone and has been for long enough.
async fn deserted(reader: &OwnedReadHalf) {
    // Readiness for "priority" data, which such sockets never have, is also told when the other end is closed.
    let _ = reader.ready(Interest::PRIORITY).await;
    sleep(LINGER).await;
}

/// What is wrong with a frame, in the words of older daemons where they have some.
fn undecodable(frame: &[u8], error: DecodeError) -> String {
    match (frame.first(), error) {
        (Some(&command::DIAL), DecodeError::Truncated { .. }) => "dial: missing address/port".to_owned(),
        (Some(command), DecodeError::UnknownType(unknown)) if u32::from(*command) == unknown => {
            format!("unknown command: 0x{command:02X}")
        }
        (Some(command), error) => format!("command 0x{command:02X}: {error}"),
        (None, _) => "an empty frame has no command".to_owned(),
    }
}
