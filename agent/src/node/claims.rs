//! Signed claims at relays: when one is sent, and what answers a challenge.

use std::net::SocketAddr;

use wire::NodeId;
use wire::beacon::{CLAIM_LEN, COOKIE_LEN, Message, claim_text};
use wire::codec::Writer;

use super::Node;
use super::attendance::STANDING_MAX;
use crate::Time;

impl Node {
    /// Relays of the directory's last list that take signed claims, as it names them, with their keys.
    #[must_use]
    pub fn relays_that_take_claims(&self) -> &[(String, [u8; 32])] {
        &self.claim_relay_names
    }

    /// The addresses of relays that take signed claims, with their keys. Those that are in use are sent one.
    pub fn set_claim_relays(&mut self, now: Time, relays: &[(SocketAddr, [u8; 32])]) {
        self.claims.set_relays(relays);
        self.attend(now);
    }

    /// A discover that tells `node` goes to `relay`: beside it goes a wish to be challenged, where the relay takes claims.
    pub(super) fn claim_beside(&mut self, now: Time, relay: SocketAddr, node: NodeId) {
        if node.is_node() && self.claims.ask(now, relay) {
            self.send_claim(relay, node, &[0; COOKIE_LEN], &[0; 64]);
        }
    }

    /// Relays in use, or standing by, of which it is news that they take claims: the next discover to them may be far off.
    pub(super) fn claim_where_news(&mut self, now: Time) {
        let Some(node) = self.id().filter(|node| node.is_node()) else { return };
        loop {
            let candidate = self.relays.candidate();
            let is_used =
                |relay| candidate == Some(relay) || self.relays.others().take(STANDING_MAX).any(|other| other == relay);
            let Some(relay) = self.claims.poll_unasked(is_used) else { return };
            self.claim_beside(now, relay, node);
        }
    }

    /// A relay wants a signature. Whether it gets one.
    pub(super) fn answer_challenge(
        &mut self,
        now: Time,
        relay: SocketAddr,
        relay_key: &[u8; 32],
        cookie: &[u8; COOKIE_LEN],
    ) -> bool {
        let Some(node) = self.id() else { return false };
        let answers = self.claims.take_challenge(now, relay, relay_key);
        if answers {
            let signature = self.identity.sign(&claim_text(relay_key, node, cookie));
            self.send_claim(relay, node, cookie, &signature);
        }
        answers
    }

    fn send_claim(&mut self, relay: SocketAddr, node: NodeId, cookie: &[u8; COOKIE_LEN], signature: &[u8; 64]) {
        let mut bytes = [0; CLAIM_LEN];
        Message::Claim { node, cookie, signature }.encode(&mut Writer::new(&mut bytes));
        self.send_small(relay, bytes.into());
    }
}
