//! The kernel picks the shard by the sender's id.

use relay::metrics::Counter;
use wire::NodeId;

use super::world::{LOOPBACK, Node, World};

#[test]
fn every_senders_packets_are_counted_on_the_shard_of_its_id() {
    const SHARDS: usize = 2;
    let world = World::serving(LOOPBACK, SHARDS);
    let sink = Node::new(world.place(), NodeId(1000));
    let senders: Vec<Node> = (1..=20).map(|id| Node::new(world.place(), NodeId(id * 7))).collect();
    let mut expected = [0; SHARDS];
    for (sender, packets) in senders.iter().zip(1u32..) {
        for number in 0..packets {
            sender.relay(sink.id, &number.to_be_bytes());
            assert_eq!(sink.delivery(sender.id), number.to_be_bytes());
        }
        expected[sender.id.0 as usize % SHARDS] += u64::from(packets);
    }
    let forwarded = world.counters().iter().map(|shard| shard.get(Counter::Forwarded)).collect::<Vec<_>>();
    assert_eq!(forwarded, expected);
    world.stop();
}
