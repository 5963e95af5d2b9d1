//! The services the daemon offers on ports of the node: each accepts streams and lets the service's own code serve them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wire::address::SocketAddress;

use super::byte_stream::ByteStream;
use super::clock::unix_time;
use super::core::{Core, Listener};
use super::runtime::Ring;
use super::state::State;
use crate::config::Services;
use crate::node::Delivery;
use crate::services::events::Broker;
use crate::services::exchange::receiver::{self, Received, Receiver};
use crate::services::files::{Chosen, Threads, Uring};
use crate::services::slots::Slots;
use crate::services::{WallClock, echo};

const ECHO_PORT: u16 = 7;
/// The data exchange.
pub const EXCHANGE_PORT: u16 = 1001;
const EVENTS_PORT: u16 = 1002;
/// Streams that one service serves at a time; more are refused.
const STREAMS_MAX: usize = 1024;
/// Those of one peer.
const STREAMS_PER_PEER_MAX: usize = 32;

/// Binds the ports of `services` and serves them.
///
/// # Errors
/// A port is taken, which at the start none is.
pub fn start(core: &Rc<Core>, state: &State, services: Services, ring: Ring) -> anyhow::Result<()> {
    if services.echo {
        serve(core.listen(ECHO_PORT)?, "echo", |stream, _| async move {
            // How an echo ends is its client's business.
            let _ = echo::serve(stream).await;
        });
    }
    if services.data_exchange {
        let config = receiver::Config::new(state.inbox(), state.received());
        let clock: WallClock = Rc::new(unix_time);
        let tell = Rc::new(|received| tracing::info!(?received, "received"));
        let receiver = Rc::new(Receiver::new(config, files(ring), clock, tell));
        let owner = Rc::clone(core);
        serve(core.listen(EXCHANGE_PORT)?, "data exchange", move |stream, from| {
            let (receiver, core) = (Rc::clone(&receiver), Rc::clone(&owner));
            async move {
                let (id, began) = (stream.id(), Cell::new(core.clock().now()));
                let note = |received: &Received| {
                    let (what, bytes) = match received {
                        Received::Message { bytes, .. } => ("message", *bytes as u64),
                        Received::File { bytes, .. } => ("file", *bytes),
                    };
                    let now = core.clock().now();
                    let began = began.replace(now);
                    core.act(|node, now| {
                        node.note_delivery(now, id, Delivery { is_received: true, what, bytes, began });
                    });
                };
                if let Err(error) = receiver.serve_noting(from.address, stream, &note).await {
                    tracing::debug!(%from, %error, "data exchange");
                }
            }
        });
    }
    if services.event_stream {
        let broker = Rc::new(Broker::new());
        serve(core.listen(EVENTS_PORT)?, "event stream", move |stream, from| {
            let broker = Rc::clone(&broker);
            async move {
                if let Err(error) = broker.serve(from.address, stream).await {
                    tracing::debug!(%from, %error, "event stream");
                }
            }
        });
    }
    Ok(())
}

/// How files are read and written under this runtime.
const fn files(ring: Ring) -> Chosen {
    match ring {
        Ring::Available => Chosen::Uring(Uring),
        Ring::Forbidden => Chosen::Threads(Threads),
    }
}

fn serve<F: Future<Output = ()> + 'static>(
    listener: Listener,
    name: &'static str,
    serve: impl Fn(ByteStream, SocketAddress) -> F + 'static,
) {
    let slots = Rc::new(RefCell::new(Slots::new(STREAMS_MAX, STREAMS_PER_PEER_MAX)));
    tokio::task::spawn_local(async move {
        loop {
            let (stream, from) = listener.accept().await;
            let peer = from.address.node;
            if !slots.borrow_mut().take(peer) {
                tracing::debug!(service = name, %from, "refused: too many streams");
                stream.abort();
                continue;
            }
            let (slots, work) = (Rc::clone(&slots), serve(stream, from));
            tokio::task::spawn_local(async move {
                work.await;
                slots.borrow_mut().give_back(peer);
            });
        }
    });
}
