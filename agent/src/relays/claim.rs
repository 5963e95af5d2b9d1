//! Signed claims (messages 0B and 0C, ours): this node shows a relay with its key that it holds its id.
//!
//! ```text
//!   node ── discover, claim of zeros ──► relay
//!   node ◄── challenge ─────────────── relay     unless the session is claimed already
//!   node ── claim, signed ─────────────► relay     and the session is where the node is, at once
//! ```
//!
//! A claim of zeros goes beside every discover that tells the id, so that a relay that was restarted, or that sees this node
//! elsewhere than before, asks; it is silent otherwise. What gets lost is made good by the next discover. Only relays of
//! which the directory says that they take claims, and under which key, are ever sent one.

use std::net::SocketAddr;
use std::time::Duration;

use super::{RELAYS_MAX, is_same};
use crate::Time;

/// A challenge is answered this long after the claim of zeros that asked for it.
pub const CHALLENGE_WINDOW: Duration = Duration::from_secs(5);
/// Challenges answered of each claim of zeros: one may have been forged, which only a relay's key in it shows.
pub const ANSWERS_MAX: u8 = 2;

/// A relay that takes claims.
#[derive(Clone, Copy, Debug)]
struct Claimable {
    relay: SocketAddr,
    key: [u8; 32],
    /// When it was last sent a claim of zeros.
    asked: Option<Time>,
    answers_left: u8,
}

/// The relays that take claims, and what they were sent.
#[derive(Debug, Default)]
pub struct Claims {
    relays: Vec<Claimable>,
}

impl Claims {
    /// The relays that take claims, with their keys, as the directory lists them. Those of which that is news, or whose key
    /// is, are yet to be asked: [`Claims::poll_unasked`].
    pub fn set_relays(&mut self, relays: &[(SocketAddr, [u8; 32])]) {
        let mut known: Vec<Claimable> = Vec::new();
        for (relay, key) in relays {
            if known.len() == RELAYS_MAX || known.iter().any(|other| is_same(other.relay, *relay)) {
                continue;
            }
            let before = self.find(*relay).filter(|before| before.key == *key).copied();
            known.push(before.unwrap_or(Claimable { relay: *relay, key: *key, asked: None, answers_left: 0 }));
        }
        self.relays = known;
    }

    /// A relay that has not been asked since it is known to take claims, and for which `is_used` holds.
    pub fn poll_unasked(&self, is_used: impl Fn(SocketAddr) -> bool) -> Option<SocketAddr> {
        let unasked = self.relays.iter().filter(|claimable| claimable.asked.is_none());
        unasked.map(|claimable| claimable.relay).find(|relay| is_used(*relay))
    }

    /// Whether a claim of zeros is to go to `relay`, to which a discover goes now.
    pub fn ask(&mut self, now: Time, relay: SocketAddr) -> bool {
        let Some(claimable) = self.relays.iter_mut().find(|claimable| is_same(claimable.relay, relay)) else {
            return false;
        };
        (claimable.asked, claimable.answers_left) = (Some(now), ANSWERS_MAX);
        true
    }

    /// Whether the challenge of `relay` is to be answered: it was asked for a moment ago, and names the key of the list.
    pub fn take_challenge(&mut self, now: Time, relay: SocketAddr, relay_key: &[u8; 32]) -> bool {
        let found = self.relays.iter_mut().find(|claimable| is_same(claimable.relay, relay));
        let Some(claimable) = found.filter(|claimable| claimable.key == *relay_key) else { return false };
        let in_time = claimable.asked.is_some_and(|asked| now.since(asked) <= CHALLENGE_WINDOW);
        let answers = in_time && claimable.answers_left > 0;
        claimable.answers_left -= u8::from(answers);
        answers
    }

    fn find(&self, relay: SocketAddr) -> Option<&Claimable> {
        self.relays.iter().find(|claimable| is_same(claimable.relay, relay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time(1_000_000_000);
    const KEY: [u8; 32] = [1; 32];

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_a_relay_that_takes_claims_is_asked_and_only_its_key_answered() {
        let (ours, old) = (address("198.18.0.1:9001"), address("198.18.0.2:9001"));
        let mut claims = Claims::default();
        assert!(!claims.ask(START, ours), "nothing is known yet");
        claims.set_relays(&[(ours, KEY)]);
        assert!(!claims.ask(START, old));
        assert!(!claims.take_challenge(START, ours, &KEY), "nobody has asked");
        assert!(claims.ask(START, ours));
        assert!(!claims.take_challenge(START, ours, &[2; 32]), "another relay's key");
        assert!(!claims.take_challenge(START, old, &KEY));
        assert!(claims.take_challenge(START + CHALLENGE_WINDOW, ours, &KEY));
        let mapped = address("[::ffff:198.18.0.1]:9001");
        assert!(claims.take_challenge(START, mapped, &KEY), "a socket of both families shows it so");
        assert!(!claims.take_challenge(START, ours, &KEY), "two answers are enough");
        assert!(claims.ask(START, ours));
        assert!(!claims.take_challenge(START + CHALLENGE_WINDOW + Duration::from_nanos(1), ours, &KEY), "too late");
    }

    #[test]
    fn a_relay_that_is_new_or_has_a_new_key_is_to_be_asked() {
        let (one, two) = (address("198.18.0.1:9001"), address("[2001:db8::2]:9001"));
        let mut claims = Claims::default();
        claims.set_relays(&[(one, KEY), (two, KEY), (one, [3; 32])]);
        assert_eq!(claims.poll_unasked(|relay| relay == two), Some(two));
        assert_eq!(claims.poll_unasked(|_| true), Some(one));
        assert!(claims.ask(START, one) && claims.ask(START, two));
        assert_eq!(claims.poll_unasked(|_| true), None);
        claims.set_relays(&[(two, KEY), (one, KEY)]);
        assert_eq!(claims.poll_unasked(|_| true), None, "the same list again is no news");
        assert!(claims.take_challenge(START, one, &KEY), "and forgets nothing");
        claims.set_relays(&[(one, [2; 32])]);
        assert_eq!(claims.poll_unasked(|_| true), Some(one));
        assert!(!claims.take_challenge(START, one, &[2; 32]));
        assert!(!claims.ask(START, two), "it has left the list");
        let many: Vec<_> = (0..100).map(|port| (SocketAddr::new(one.ip(), 9000 + port), KEY)).collect();
        claims.set_relays(&many);
        assert_eq!(claims.relays.len(), RELAYS_MAX);
    }
}
