//! What a shard cannot decide itself: whose signature a claim bears, and whom the directory would introduce to whom.
//!
//! The rules put a [`Question`]; a cold thread (see [`crate::questions`]) has it judged by a [`Judge`], who asks an
//! [`Authority`]; the answer comes back to a shard as a [`Handoff`].

use std::collections::HashSet;
use std::time::Duration;

use ed25519_dalek::{Signature, VerifyingKey};
use wire::NodeId;
use wire::beacon::{COOKIE_LEN, claim_text};

use crate::contests::Claim;
use crate::cookie::LIFETIME;
use crate::endpoint::Path;
use crate::server::Handoff;
use crate::time::Time;

/// Cookies remembered as spent. What [`crate::server::Rules::claims_per_second`] lets through in [`REMEMBERED`] is a quarter.
const SPENT_MAX: usize = 1 << 16;
/// How long they are at least: a claim whose cookie fits may wait for its judgement as long again (see
/// [`crate::questions`]).
const REMEMBERED: Duration = Duration::from_secs(2 * LIFETIME.as_secs());

/// Who knows the nodes: the directory. Called by one cold thread, which may wait.
pub trait Authority: Send + Sync + 'static {
    /// The Ed25519 key `node` is registered with.
    fn public_key(&self, node: NodeId) -> Option<[u8; 32]>;

    /// Whether `requester` would be told where `target` is.
    fn lets_resolve(&self, requester: NodeId, target: NodeId) -> bool;
}

/// Two nodes of which one wants to be introduced to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Who asks.
    pub requester: NodeId,
    /// From where.
    pub from: Path,
    /// Whom it wants to reach.
    pub target: NodeId,
}

/// Something to be judged beside the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Has the node signed that it is there? The cookie fits.
    Signature {
        /// Which node, and where.
        claim: Claim,
        /// What it had to sign.
        cookie: [u8; COOKIE_LEN],
        /// Its signature.
        signature: [u8; 64],
    },
    /// May the two be introduced?
    Introduction(Introduction),
}

/// What became of a signed claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The node has signed it.
    Signed,
    /// It has not, or there is no such node.
    Forged,
    /// It has, and the same claim has counted before.
    Repeated,
}

/// Judges questions; a plain value.
#[derive(Debug)]
pub struct Judge {
    relay_key: [u8; 32],
    /// Cookies of claims that have counted, within the last [`REMEMBERED`] and the one before.
    spent: HashSet<[u8; COOKIE_LEN]>,
    spent_before: HashSet<[u8; COOKIE_LEN]>,
    turned: Time,
}

impl Judge {
    /// For the relay that is known by `relay_key`.
    #[must_use]
    pub fn new(relay_key: [u8; 32]) -> Self {
        Self { relay_key, spent: HashSet::new(), spent_before: HashSet::new(), turned: Time::default() }
    }

    /// The answer for the shards.
    pub fn judge(&mut self, now: Time, authority: &dyn Authority, question: &Question) -> Handoff {
        match question {
            Question::Signature { claim, cookie, signature } => {
                let has_signed = authority
                    .public_key(claim.node)
                    .and_then(|key| VerifyingKey::from_bytes(&key).ok())
                    .is_some_and(|key| {
                        let text = claim_text(&self.relay_key, claim.node, cookie);
                        key.verify_strict(&text, &Signature::from_bytes(signature)).is_ok()
                    });
                let verdict = match has_signed {
                    false => Verdict::Forged,
                    true if self.spend(now, cookie) => Verdict::Signed,
                    true => Verdict::Repeated,
                };
                Handoff::Claimed(*claim, verdict)
            }
            Question::Introduction(introduction) => {
                let Introduction { requester, target, .. } = *introduction;
                Handoff::Introduce(*introduction, authority.lets_resolve(requester, target))
            }
        }
    }

    /// Whether the cookie has not been spent yet; it is from now on. A claim counts once, so that a copy of it, which can
    /// come from nowhere else than its source, does not bring a node back to where it has just left.
    fn spend(&mut self, now: Time, cookie: &[u8; COOKIE_LEN]) -> bool {
        if now.since(self.turned) >= REMEMBERED {
            let is_old = now.since(self.turned) >= REMEMBERED * 2;
            self.spent_before = std::mem::take(&mut self.spent);
            if is_old {
                self.spent_before.clear();
            }
            self.turned = now;
        }
        self.spent.len() < SPENT_MAX && !self.spent_before.contains(cookie) && self.spent.insert(*cookie)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;
    use crate::endpoint::{Endpoint, LocalId};

    const RELAY: [u8; 32] = [9; 32];

    struct OneNode(SigningKey);

    impl Authority for OneNode {
        fn public_key(&self, node: NodeId) -> Option<[u8; 32]> {
            (node == NodeId(1)).then(|| self.0.verifying_key().to_bytes())
        }

        fn lets_resolve(&self, requester: NodeId, target: NodeId) -> bool {
            (requester, target) == (NodeId(1), NodeId(2))
        }
    }

    fn path() -> Path {
        let remote: Endpoint = "198.18.1.1:4000".parse::<std::net::SocketAddr>().unwrap().into();
        Path { remote, local: LocalId(0) }
    }

    fn question(node: u32, cookie: [u8; 16], text: &[u8], key: &SigningKey) -> Question {
        let claim = Claim { node: NodeId(node), path: path(), extended: false };
        Question::Signature { claim, cookie, signature: key.sign(text).to_bytes() }
    }

    fn verdict(judge: &mut Judge, now: Time, authority: &OneNode, question: &Question) -> Verdict {
        match judge.judge(now, authority, question) {
            Handoff::Claimed(_, verdict) => verdict,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_nodes_own_signature_for_this_relay_and_cookie_counts_and_only_once() {
        let authority = OneNode(SigningKey::from_bytes(&[1; 32]));
        let (key, other) = (&authority.0, SigningKey::from_bytes(&[2; 32]));
        let mut judge = Judge::new(RELAY);
        let now = Time(1_000_000_000_000);
        let cookie = [5; 16];
        let text = claim_text(&RELAY, NodeId(1), &cookie);
        for (what, forged) in [
            ("another's key", question(1, cookie, &text, &other)),
            ("another relay's", question(1, cookie, &claim_text(&[8; 32], NodeId(1), &cookie), key)),
            ("another cookie", question(1, cookie, &claim_text(&RELAY, NodeId(1), &[6; 16]), key)),
            ("another node", question(1, cookie, &claim_text(&RELAY, NodeId(2), &cookie), key)),
            ("a node nobody knows", question(3, cookie, &claim_text(&RELAY, NodeId(3), &cookie), key)),
        ] {
            assert_eq!(verdict(&mut judge, now, &authority, &forged), Verdict::Forged, "{what}");
        }
        let good = question(1, cookie, &text, key);
        assert_eq!(verdict(&mut judge, now, &authority, &good), Verdict::Signed);
        for later in [0, 1, 3] {
            let now = now + Duration::from_secs(later);
            assert_eq!(verdict(&mut judge, now, &authority, &good), Verdict::Repeated, "{later} s later");
        }
        let next = question(1, [6; 16], &claim_text(&RELAY, NodeId(1), &[6; 16]), key);
        assert_eq!(verdict(&mut judge, now, &authority, &next), Verdict::Signed, "a fresh cookie");
    }

    #[test]
    fn spent_cookies_are_forgotten_when_they_fit_no_more() {
        let mut judge = Judge::new(RELAY);
        let now = Time(1_000_000_000_000);
        assert!(judge.spend(now, &[1; 16]));
        assert!(!judge.spend(now + LIFETIME, &[1; 16]));
        // Spent at the end of one turn, and still known a turn later.
        let spent = now + (REMEMBERED - Duration::from_millis(1));
        assert!(judge.spend(spent, &[0; 16]));
        assert!(!judge.spend(spent + LIFETIME, &[0; 16]));
        assert!(!judge.spend(spent + REMEMBERED, &[0; 16]));
        assert!(judge.spend(now + REMEMBERED * 3, &[1; 16]));
        let number = |number: usize| std::array::from_fn(|byte| number.to_be_bytes()[byte % 8]);
        assert!((2..SPENT_MAX).all(|n| judge.spend(now + REMEMBERED * 3, &number(n))));
        assert!(judge.spend(now + REMEMBERED * 3, &[2; 16]));
        assert!(!judge.spend(now + REMEMBERED * 3, &[3; 16]), "no room: refused rather than believed twice");
        assert!(judge.spend(now + REMEMBERED * 6, &[3; 16]));
    }

    #[test]
    fn introductions_are_the_directorys_word() {
        let authority = OneNode(SigningKey::from_bytes(&[1; 32]));
        let mut judge = Judge::new(RELAY);
        for (requester, target, allowed) in [(1, 2, true), (2, 1, false)] {
            let asked = Introduction { requester: NodeId(requester), from: path(), target: NodeId(target) };
            let answer = judge.judge(Time(1), &authority, &Question::Introduction(asked));
            assert_eq!(answer, Handoff::Introduce(asked, allowed));
        }
    }
}
