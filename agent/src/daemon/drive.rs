//! The loop around the node: datagrams in, what follows out, timers. One turn does a bounded amount of work and then lets
//! the other tasks of the thread have theirs, so that a flood of datagrams starves neither clients nor timers.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::time::{Instant, Sleep, sleep_until};

use super::clock::unix_seconds;
use super::core::Core;
use super::sockets::{Inbox, Outbox, Sending, Sockets};
use crate::node::{Event, Node};

/// Datagrams sent in one turn.
const SENT_MAX: usize = 1024;

/// Runs until it is dropped. `concern` gets the events that are for nobody in particular.
pub async fn drive(core: Rc<Core>, sockets: Rc<Sockets>, concern: impl Fn(Event)) {
    let mut inbox = Inbox::default();
    let mut outbox = Outbox::default();
    // One timer, set again each turn.
    let timer: Sleep = sleep_until(core.clock().instant(core.clock().now()));
    tokio::pin!(timer);
    let mut mapped = None;
    loop {
        core.turn(|node, now| {
            node.set_wall_clock(unix_seconds());
            node.handle_timeout(now);
        });
        sockets.take_errors(|destination| core.turn(|node, now| node.handle_unreachable(now, destination)));
        inbox.receive(&sockets, |source, datagram| {
            core.turn(|node, now| node.handle_datagram(now, source, datagram));
        });
        let sending = outbox.send(&sockets, SENT_MAX, |out| core.turn(|node, now| node.poll_transmit(now, out)));
        follow_mapping(&core, &mut mapped);
        ask(&core);
        while let Some(event) = core.turn(|node, _| node.poll_event()) {
            if let Some(event) = core.handle_event(event) {
                core.observer().take_event(&core, &event);
                concern(event);
            }
        }
        core.observer().attend(&core);
        // Tasks that the events woke run before the next turn, and so do the kernel's news.
        tokio::task::yield_now().await;
        if sending == Sending::More {
            continue;
        }
        let deadline: Option<Instant> = core.look(|node| node.poll_timeout()).map(|time| core.clock().instant(time));
        if let Some(deadline) = deadline {
            timer.as_mut().reset(deadline);
        }
        tokio::select! {
            () = core.acted() => {}
            () = sockets.readable() => {}
            () = timer.as_mut(), if deadline.is_some() => {}
            () = outbox.writable(&sockets), if sending == Sending::Blocked => {}
        }
    }
}

/// Another endpoint at the relay is another way to the directory too, as when the router has changed its uplink: the
/// connection is made anew before the node announces where it is now.
fn follow_mapping(core: &Core, known: &mut Option<SocketAddr>) {
    let Some(mapped) = core.look(Node::mapped_endpoint) else { return };
    if known.replace(mapped).is_some_and(|before| before != mapped) {
        core.directory().reconnect();
    }
}

/// Puts the node's questions to the directory.
fn ask(core: &Rc<Core>) {
    while let Some((ticket, request)) = core.turn(|node, _| node.poll_request()) {
        let core = Rc::clone(core);
        tokio::task::spawn_local(async move {
            let answer = core.directory().ask(request).await;
            core.act(|node, now| node.handle_answer(now, ticket, answer));
        });
    }
}
