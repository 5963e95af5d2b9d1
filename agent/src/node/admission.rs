//! Which strangers may open streams and send datagrams (SPEC 7, 8.5): how many at once, and whom the directory knows
//! to be trusted.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use wire::NodeId;

use super::bucket::{Bucket, Rate};
use crate::Time;

/// SYNs of strangers in all, and of any one peer.
const SYNS: Rate = Rate { per_second: 100, burst: 200 };
const SYNS_OF_ONE: Rate = Rate { per_second: 10, burst: 64 };
/// Resets sent for streams that are not there.
const RESETS: Rate = Rate { per_second: 100, burst: 200 };
/// The directory's word holds so long: yes, and no.
const TRUSTED_FOR: Duration = Duration::from_mins(1);
const UNTRUSTED_FOR: Duration = Duration::from_secs(5);
/// A peer we have dialled may dial back for so long.
const REPLY_WINDOW: Duration = Duration::from_mins(2);
/// Peers remembered, and packets that wait for the directory's word: in all and of one peer.
const PEERS_MAX: usize = 4096;
const HELD_MAX: usize = 64;
const HELD_OF_ONE_MAX: usize = 4;

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Admitted,
    /// Drop it without a word.
    Dropped,
    /// Keep it until the directory has spoken.
    Held,
    /// Keep it, and ask the directory.
    Ask,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stranger {
    word: Option<(bool, Time)>,
    asked: bool,
    dialled_at: Option<Time>,
    syns: Bucket,
}

/// Who may come in. `P` is what is kept of a packet until the directory has spoken.
#[derive(Debug)]
pub struct Admission<P> {
    strangers: HashMap<NodeId, Stranger>,
    syns: Bucket,
    resets: Bucket,
    held: VecDeque<(NodeId, P)>,
}

impl<P> Default for Admission<P> {
    fn default() -> Self {
        Self { strangers: HashMap::new(), syns: Bucket::default(), resets: Bucket::default(), held: VecDeque::new() }
    }
}

impl<P> Admission<P> {
    /// Whether another SYN of this peer may come now. Strangers share what is left for strangers.
    pub fn admit_syn(&mut self, now: Time, peer: NodeId, is_stranger: bool) -> bool {
        self.stranger(now, peer).syns.take(now, SYNS_OF_ONE) && (!is_stranger || self.syns.take(now, SYNS))
    }

    /// Whether another reset may be sent now.
    pub fn admit_reset(&mut self, now: Time) -> bool {
        self.resets.take(now, RESETS)
    }

    /// We dial the peer: it may dial back.
    pub fn handle_dial(&mut self, now: Time, peer: NodeId) {
        self.stranger(now, peer).dialled_at = Some(now);
    }

    /// A packet of a peer that is not trusted here.
    pub fn judge(&mut self, now: Time, peer: NodeId) -> Verdict {
        let stranger = self.stranger(now, peer);
        if stranger.dialled_at.is_some_and(|at| now.since(at) < REPLY_WINDOW) {
            return Verdict::Admitted;
        }
        match stranger.word {
            Some((true, at)) if now.since(at) < TRUSTED_FOR => Verdict::Admitted,
            Some((false, at)) if now.since(at) < UNTRUSTED_FOR => Verdict::Dropped,
            _ if std::mem::replace(&mut stranger.asked, true) => Verdict::Held,
            _ => Verdict::Ask,
        }
    }

    /// Keeps a packet, if there is room.
    pub fn hold(&mut self, peer: NodeId, packet: P) {
        let of_peer = self.held.iter().filter(|(holder, _)| *holder == peer).count();
        if self.held.len() < HELD_MAX && of_peer < HELD_OF_ONE_MAX {
            self.held.push_back((peer, packet));
        }
    }

    /// The directory has spoken, or could not be asked; what was kept of the peer's if it is trusted.
    pub fn handle_word(&mut self, now: Time, peer: NodeId, trusted: Option<bool>) -> Vec<P> {
        let stranger = self.stranger(now, peer);
        stranger.asked = false;
        stranger.word = trusted.map(|trusted| (trusted, now));
        let held = std::mem::take(&mut self.held);
        let (of_peer, others) = held.into_iter().partition::<VecDeque<_>, _>(|(holder, _)| *holder == peer);
        self.held = others;
        if trusted == Some(true) { of_peer.into_iter().map(|(_, packet)| packet).collect() } else { Vec::new() }
    }

    /// What was kept of a peer, and what the directory said of it, counts for nothing any more.
    pub fn forget(&mut self, peer: NodeId) {
        self.strangers.remove(&peer);
        self.held.retain(|(holder, _)| *holder != peer);
    }

    /// Trust has changed: what the directory said before does not count any more, nor who was dialled.
    pub fn forget_words(&mut self) {
        for stranger in self.strangers.values_mut() {
            (stranger.word, stranger.dialled_at) = (None, None);
        }
    }

    fn stranger(&mut self, now: Time, peer: NodeId) -> &mut Stranger {
        if self.strangers.len() >= PEERS_MAX && !self.strangers.contains_key(&peer) {
            let is_of_use = |stranger: &Stranger| {
                stranger.asked
                    || stranger.word.is_some_and(|(_, at)| now.since(at) < TRUSTED_FOR)
                    || stranger.dialled_at.is_some_and(|at| now.since(at) < REPLY_WINDOW)
            };
            self.strangers.retain(|_, stranger| is_of_use(stranger));
            if self.strangers.len() >= PEERS_MAX {
                self.strangers.clear();
            }
        }
        self.strangers.entry(peer).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_000_000_000_000);
    const PEER: NodeId = NodeId(7);

    #[test]
    fn a_stranger_is_held_until_the_directory_has_spoken() {
        let mut admission = Admission::default();
        assert_eq!(admission.judge(NOW, PEER), Verdict::Ask);
        admission.hold(PEER, 1);
        admission.hold(NodeId(8), 2);
        assert_eq!(admission.judge(NOW, PEER), Verdict::Held);
        admission.hold(PEER, 3);
        assert_eq!(admission.handle_word(NOW, PEER, Some(true)), [1, 3]);
        assert_eq!(admission.judge(NOW, PEER), Verdict::Admitted);
        assert_eq!(admission.judge(NOW + TRUSTED_FOR, PEER), Verdict::Ask);
        assert!(admission.handle_word(NOW, NodeId(8), Some(false)).is_empty());
        assert_eq!(admission.judge(NOW, NodeId(8)), Verdict::Dropped);
        assert_eq!(admission.judge(NOW + UNTRUSTED_FOR, NodeId(8)), Verdict::Ask);
    }

    #[test]
    fn a_silent_directory_admits_nobody_and_is_asked_again() {
        let mut admission = Admission::default();
        assert_eq!(admission.judge(NOW, PEER), Verdict::Ask);
        admission.hold(PEER, ());
        assert!(admission.handle_word(NOW, PEER, None).is_empty());
        assert_eq!(admission.judge(NOW, PEER), Verdict::Ask);
    }

    #[test]
    fn who_was_dialled_may_dial_back_until_trust_is_withdrawn() {
        let mut admission = Admission::<()>::default();
        admission.handle_dial(NOW, PEER);
        assert_eq!(admission.judge(NOW, PEER), Verdict::Admitted);
        admission.forget_words();
        assert_eq!(admission.judge(NOW, PEER), Verdict::Ask);
        admission.handle_dial(NOW, NodeId(8));
        assert_eq!(admission.judge(NOW + REPLY_WINDOW, NodeId(8)), Verdict::Ask);
    }

    #[test]
    fn one_peer_cannot_use_up_all_syns() {
        let mut admission = Admission::<()>::default();
        let admitted = (0..1000).filter(|_| admission.admit_syn(NOW, PEER, true)).count();
        assert_eq!(admitted, 64);
        assert!(admission.admit_syn(NOW, NodeId(8), true));
        assert!(admission.admit_syn(NOW + Duration::from_millis(100), PEER, true));
        let all = (100..1000).filter(|node| admission.admit_syn(NOW, NodeId(*node), true)).count();
        assert!((100..=200).contains(&all), "{all}");
        assert!(admission.admit_syn(NOW, NodeId(9), false), "strangers do not use up what friends need");
    }

    #[test]
    fn memory_is_bounded() {
        let mut admission = Admission::default();
        for node in 1..10_000 {
            let _ = admission.judge(NOW, NodeId(node));
            admission.hold(NodeId(node), ());
        }
        assert!(admission.strangers.len() <= PEERS_MAX && admission.held.len() == HELD_MAX);
        let mut admission = Admission::default();
        (0..100).for_each(|_| admission.hold(PEER, ()));
        admission.hold(NodeId(8), ());
        assert_eq!(admission.held.len(), HELD_OF_ONE_MAX + 1);
    }
}
