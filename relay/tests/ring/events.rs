//! What befalls a node leaves its shard: a thread that waits for events gets them, from every shard.

use std::sync::{Arc, mpsc};

use relay::events::{Destination, Event, What};
use relay::metrics::Counter;
use wire::NodeId;
use wire::beacon::Message;
use wire::trace::TraceContext;

use super::world::{LOOPBACK, Node, PATIENCE, World};

const CONTEXT: TraceContext = TraceContext { trace_id: [0xAB; 16], span_id: [0xCD; 8], flags: 1 };

/// Events as they come; of different shards in any order.
struct Events {
    come: mpsc::Receiver<(usize, Event)>,
    passed_over: Vec<(usize, Event)>,
}

impl Events {
    /// The first event that `wanted` says is the one, with its shard.
    fn take(&mut self, wanted: impl Fn(&Event) -> bool) -> (usize, Event) {
        if let Some(index) = self.passed_over.iter().position(|(_, event)| wanted(event)) {
            return self.passed_over.remove(index);
        }
        loop {
            let (shard, event) = self.come.recv_timeout(PATIENCE).expect("the event comes");
            if wanted(&event) {
                return (shard, event);
            }
            self.passed_over.push((shard, event));
        }
    }
}

#[test]
fn sessions_and_traces_reach_whoever_waits_for_them() {
    const SHARDS: usize = 2;
    let world = World::serving(LOOPBACK, SHARDS);
    let queues = Arc::clone(world.relay.events());
    let (post, come) = mpsc::channel();
    let mut events = Events { come, passed_over: Vec::new() };
    let keeper = std::thread::spawn(move || {
        while queues.wait() {
            queues.drain(|shard, event| {
                let _ = post.send((shard, event));
            });
        }
    });
    let nodes: Vec<Node> = (1..=4).map(|id| Node::new(world.place(), NodeId(id))).collect();
    for node in &nodes {
        let (shard, event) = events.take(|event| event.node == node.id);
        assert_eq!(shard, node.id.0 as usize % SHARDS);
        assert!(matches!(event.what, What::SessionStarted { at, .. } if at.port == node.address().port()), "{event:?}");
    }
    let before = world.total();
    for sender in &nodes {
        let dest = NodeId(sender.id.0 % 4 + 1);
        sender.send(Message::Trace { sender: sender.id, dest, context: CONTEXT });
        let is_sent = |event: &Event| event.node == sender.id && matches!(event.what, What::TraceSent { .. });
        let (shard, event) = events.take(is_sent);
        assert_eq!(shard, sender.id.0 as usize % SHARDS, "steered by the sender");
        let what = event.what;
        assert!(
            matches!(what, What::TraceSent { peer, context: CONTEXT, found: Destination::Session, .. } if peer == dest),
            "{what:?}"
        );
    }
    let after = world.total();
    assert_eq!(after.get(Counter::Deferred) - before.get(Counter::Deferred), 4);
    assert_eq!(after.get(Counter::EventsDropped), 0);
    world.relay.events().close();
    keeper.join().unwrap();
    world.stop();
}
