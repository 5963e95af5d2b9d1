//! Questions to the owner: which key does the directory know of a node? Asked once for however many key exchanges come
//! in meanwhile, and the answer remembered for a while, so that strangers cannot make us ask at their pace.

use std::collections::HashMap;
use std::time::Duration;

use wire::NodeId;

use super::outcome::Via;
use super::{Offer, Tunnels};
use crate::Time;
use crate::identity::PUBLIC_KEY_LEN;

/// Nodes asked about at once.
pub const LOOKUPS_MAX: usize = 256;
/// A question or its answer holds for so long.
const LIFETIME: Duration = Duration::from_secs(10);
/// "Unknown" holds shorter: a node is unknown until it has registered.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(2);

/// What comes of wanting to know a node's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The directory's answer: a key, or that it has none.
    Told(Option<[u8; PUBLIC_KEY_LEN]>),
    /// The question is under way.
    Awaited,
    /// The question has to be asked now.
    Ask,
    /// Too many questions are under way.
    Refused,
}

impl Tunnels {
    /// Ends the tunnel with a peer that the directory keeps out. As [`Tunnels::forget`], and what the directory said of the
    /// peer before is forgotten too: whoever exchanges keys next is looked up anew. Whether there was a tunnel.
    pub fn ban(&mut self, peer: NodeId) -> bool {
        let was_known = self.knows(peer);
        self.forget(peer);
        self.lookups.forget(peer);
        was_known
    }
}

#[derive(Debug)]
enum State {
    Awaited(Option<(Offer, Via)>),
    Told(Option<[u8; PUBLIC_KEY_LEN]>),
}

/// Questions under way and fresh answers.
#[derive(Debug, Default)]
pub struct Lookups(HashMap<NodeId, (Time, State)>);

impl Lookups {
    /// Looks for the key of `node`. The first offer that comes with the question is kept until the answer.
    #[must_use]
    pub fn look_up(&mut self, now: Time, node: NodeId, offer: Option<(Offer, Via)>) -> Lookup {
        match self.0.get_mut(&node) {
            Some((since, state)) if is_fresh(now, *since, state) => match state {
                State::Told(key) => Lookup::Told(*key),
                State::Awaited(first) => {
                    *first = first.take().or(offer);
                    Lookup::Awaited
                }
            },
            _ => self.ask(now, node, offer),
        }
    }

    /// Takes the directory's answer and gives back the offer that waited for it.
    pub fn told(&mut self, now: Time, node: NodeId, key: Option<[u8; PUBLIC_KEY_LEN]>) -> Option<(Offer, Via)> {
        match self.0.insert(node, (now, State::Told(key))) {
            Some((_, State::Awaited(offer))) => offer,
            Some((_, State::Told(_))) => None,
            None => {
                self.0.remove(&node);
                None
            }
        }
    }

    /// Forgets what is known of `node`, and what is being asked: the next answer is awaited by whoever asks next.
    pub fn forget(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    fn ask(&mut self, now: Time, node: NodeId, offer: Option<(Offer, Via)>) -> Lookup {
        self.0.remove(&node);
        if self.0.len() >= LOOKUPS_MAX {
            self.0.retain(|_, (since, state)| is_fresh(now, *since, state) && matches!(state, State::Awaited(_)));
            if self.0.len() >= LOOKUPS_MAX {
                return Lookup::Refused;
            }
        }
        self.0.insert(node, (now, State::Awaited(offer)));
        Lookup::Ask
    }
}

fn is_fresh(now: Time, since: Time, state: &State) -> bool {
    let lifetime = if matches!(state, State::Told(None)) { UNKNOWN_LIFETIME } else { LIFETIME };
    now.since(since) < lifetime
}
