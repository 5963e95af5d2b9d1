//! Who gets which datagram: whoever bound the port it came to, else everyone, as older daemons send all to all.

use std::collections::BTreeMap;
use std::rc::Rc;

use wire::address::SocketAddress;

/// A datagram that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddress,
    /// Our port it came to.
    pub port: u16,
    /// What was sent.
    pub data: Box<[u8]>,
}

/// One who takes datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriberId(u64);

pub(super) type Receive = Rc<dyn Fn(&Datagram)>;

#[derive(Default)]
pub(super) struct Datagrams {
    next: u64,
    subscribers: BTreeMap<SubscriberId, Receive>,
    ports: BTreeMap<u16, SubscriberId>,
}

impl Datagrams {
    pub(super) fn subscribe(&mut self, receive: Receive) -> SubscriberId {
        let id = SubscriberId(self.next);
        self.next += 1;
        self.subscribers.insert(id, receive);
        id
    }

    pub(super) fn direct(&mut self, port: u16, subscriber: SubscriberId) {
        self.ports.insert(port, subscriber);
    }

    pub(super) fn release(&mut self, port: u16) {
        self.ports.remove(&port);
    }

    pub(super) fn unsubscribe(&mut self, subscriber: SubscriberId) {
        self.subscribers.remove(&subscriber);
        self.ports.retain(|_, owner| *owner != subscriber);
    }

    pub(super) fn receivers(&self, port: u16) -> Vec<Receive> {
        match self.ports.get(&port) {
            Some(owner) => self.subscribers.get(owner).cloned().into_iter().collect(),
            None => self.subscribers.values().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_one_receiver_and_no_port_has_all() {
        let mut datagrams = Datagrams::default();
        let (a, b) = (datagrams.subscribe(Rc::new(|_| {})), datagrams.subscribe(Rc::new(|_| {})));
        assert_eq!(datagrams.receivers(9).len(), 2);
        datagrams.direct(9, a);
        assert_eq!(datagrams.receivers(9).len(), 1);
        datagrams.unsubscribe(a);
        assert_eq!(datagrams.receivers(9).len(), 1, "b is all there is");
        datagrams.unsubscribe(b);
        assert!(datagrams.receivers(9).is_empty());
    }
}
