//! Two honest nodes that relay to each other while others misbehave.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::{Peer, World, evidence, meanwhile};

const SEND_INTERVAL: Duration = Duration::from_millis(5);
const LAST_DELIVERY_WITHIN: Duration = Duration::from_secs(2);

/// The pair.
pub struct HonestPair {
    sender: Peer,
    receiver: Peer,
}

impl HonestPair {
    /// Registers both and waits until one reaches the other.
    pub fn join(world: &World) -> Self {
        let pair = Self {
            sender: Peer::join(&world.host("honest-1"), "honest-1"),
            receiver: Peer::join(&world.host("honest-2"), "honest-2"),
        };
        pair.sender.wait_reaching(&pair.receiver, Duration::from_secs(2));
        pair
    }

    /// Relays for as long as `mischief` takes; every datagram must arrive, once and in order.
    pub fn relay_while<T>(&self, mischief: impl FnOnce() -> T) -> T {
        let sending = |over: &AtomicBool| {
            let mut number = 0_u64;
            while !over.load(Ordering::Relaxed) {
                self.sender.relay(self.receiver.node(), &number.to_be_bytes());
                number += 1;
                // Also answers the relay, should it ask whether this node is still there.
                let unexpected = self.sender.receive(SEND_INTERVAL);
                assert_eq!(unexpected, None, "the sender is sent something");
            }
            number
        };
        let receiving = |over: &AtomicBool| {
            let mut numbers = Vec::new();
            loop {
                match self.receiver.receive(LAST_DELIVERY_WITHIN) {
                    Some(delivery) => numbers.push(delivery.inner),
                    None if over.load(Ordering::Relaxed) => return numbers,
                    None => {}
                }
            }
        };
        let (result, sent, received) = meanwhile(sending, receiving, mischief);
        let expected: Vec<_> = (0..sent).map(|number| number.to_be_bytes().to_vec()).collect();
        let lost = expected.len().abs_diff(received.len());
        assert!(received == expected, "honest nodes lost {lost} of {sent} datagrams, or their order");
        evidence(format!("honest nodes meanwhile: {sent} of {sent} datagrams, in order"));
        result
    }
}
