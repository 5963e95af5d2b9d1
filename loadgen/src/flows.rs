//! Who sends to whom: the flows of a run. A flow goes from one peer to one other.
//!
//! Flows are numbered in the order of their senders, and ranked in the order of their receivers, so that the flows
//! that neighbouring peers send are a range of numbers and those they receive a range of ranks.

use std::ops::Range;

use crate::plan::{below, mix};

/// The pattern of flows among the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Every peer sends to one other and receives from one other, drawn at random.
    Pairs,
    /// A few peers send to all others; each of these receives from one sender.
    OneToMany {
        /// How many send.
        senders: u32,
    },
    /// All other peers send to a few; each to one receiver.
    ManyToOne {
        /// How many receive.
        receivers: u32,
    },
}

impl std::fmt::Display for Shape {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pairs => write!(out, "pairs"),
            Self::OneToMany { senders } => write!(out, "one-to-many, {senders} senders"),
            Self::ManyToOne { receivers } => write!(out, "many-to-one, {receivers} receivers"),
        }
    }
}

/// Who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The sending peer.
    pub sender: u32,
    /// The receiving peer, another one.
    pub receiver: u32,
    /// Its place among all flows in the order of their receivers.
    pub rank: u32,
}

/// All flows of a run, by number.
#[derive(Clone, Debug)]
pub struct Flows(Vec<Flow>);

impl Flows {
    /// Draws the flows of `shape` among `peers` peers; at least one peer is on either side.
    #[must_use]
    pub fn draw(shape: Shape, peers: u32, seed: u64) -> Self {
        let mut ends = match shape {
            Shape::Pairs => (0..).zip(cycle(peers, seed)).collect(),
            Shape::OneToMany { senders } => fan(peers, senders, seed),
            Shape::ManyToOne { receivers } => {
                fan(peers, receivers, seed).into_iter().map(|(hub, leaf)| (leaf, hub)).collect()
            }
        };
        ends.sort_unstable();
        let mut flows: Vec<_> = ends.into_iter().map(|(sender, receiver)| Flow { sender, receiver, rank: 0 }).collect();
        let mut by_receiver: Vec<u32> = (0..).take(flows.len()).collect();
        by_receiver.sort_by_key(|flow| flows[*flow as usize].receiver);
        for (rank, flow) in (0..).zip(by_receiver) {
            flows[flow as usize].rank = rank;
        }
        Self(flows)
    }

    /// The flow of that number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&Flow> {
        self.0.get(number as usize)
    }

    /// The numbers of the flows that `peers` send.
    #[must_use]
    pub fn sent_by(&self, peers: &Range<u32>) -> Range<u32> {
        let before = |peer: u32| self.0.partition_point(|flow| flow.sender < peer) as u32;
        before(peers.start)..before(peers.end)
    }

    /// The ranks of the flows that `peers` receive.
    #[must_use]
    pub fn received_by(&self, peers: &Range<u32>) -> Range<u32> {
        let before = |peer: u32| self.0.iter().filter(|flow| flow.receiver < peer).count() as u32;
        before(peers.start)..before(peers.end)
    }
}

/// Sattolo's algorithm: one random cycle through all peers, as everyone's successor. Nobody follows himself.
fn cycle(peers: u32, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..peers).collect();
    for last in (1..peers).rev() {
        order.swap(last as usize, draw(seed, last, last) as usize);
    }
    order
}

/// `hubs` peers, evenly spread among all so that every worker has its share of them, each with an equal part of the
/// others, dealt at random.
fn fan(peers: u32, hubs: u32, seed: u64) -> Vec<(u32, u32)> {
    let hub = |index: u32| (u64::from(index) * u64::from(peers) / u64::from(hubs)) as u32;
    let is_hub: Vec<bool> = (0..hubs).fold(vec![false; peers as usize], |mut is_hub, index| {
        is_hub[hub(index) as usize] = true;
        is_hub
    });
    let mut others: Vec<u32> = (0..peers).filter(|peer| !is_hub[*peer as usize]).collect();
    for last in (1..others.len() as u32).rev() {
        others.swap(last as usize, draw(seed, last, last + 1) as usize);
    }
    others.into_iter().zip(0..).map(|(other, turn)| (hub(turn % hubs), other)).collect()
}

fn draw(seed: u64, at: u32, bound: u32) -> u32 {
    below(mix(seed.wrapping_add(mix(u64::from(at)))), bound)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn counts(flows: &Flows, end: impl Fn(&Flow) -> u32) -> HashMap<u32, u32> {
        flows.0.iter().fold(HashMap::new(), |mut counts, flow| {
            *counts.entry(end(flow)).or_default() += 1;
            counts
        })
    }

    proptest! {
        #[test]
        fn pairs_form_one_cycle(peers in 2_u32..500, seed: u64) {
            let flows = Flows::draw(Shape::Pairs, peers, seed);
            let mut at = 0;
            for step in 1..=peers {
                prop_assert_eq!(flows.0[at as usize].sender, at);
                at = flows.0[at as usize].receiver;
                prop_assert_eq!(at == 0, step == peers);
            }
        }

        #[test]
        fn a_few_reach_everybody_else_once(peers in 2_u32..500, hubs in 1_u32..499, seed: u64) {
            let hubs = hubs.min(peers - 1);
            let flows = Flows::draw(Shape::OneToMany { senders: hubs }, peers, seed);
            let (senders, receivers) = (counts(&flows, |flow| flow.sender), counts(&flows, |flow| flow.receiver));
            prop_assert_eq!(receivers.len() as u32, peers - hubs);
            prop_assert!(receivers.values().all(|count| *count == 1));
            prop_assert!(senders.len() as u32 <= hubs && receivers.keys().all(|peer| !senders.contains_key(peer)));
            let (least, most) = (senders.values().min().unwrap(), senders.values().max().unwrap());
            prop_assert!(most - least <= 1, "dealt evenly");
            let mirrored = Flows::draw(Shape::ManyToOne { receivers: hubs }, peers, seed);
            prop_assert_eq!(counts(&mirrored, |flow| flow.receiver), senders);
        }

        /// Whatever the shape, what the workers send and receive is everything, once.
        #[test]
        fn workers_share_the_flows(peers in 2_u32..300, hubs in 1_u32..10, workers in 1_u32..5, which in 0..3) {
            let hubs = hubs.min(peers - 1);
            let shape = match which {
                0 => Shape::Pairs,
                1 => Shape::OneToMany { senders: hubs },
                _ => Shape::ManyToOne { receivers: hubs },
            };
            let flows = Flows::draw(shape, peers, 5);
            let (mut sent, mut received) = (0, 0);
            for worker in 0..workers.min(peers) {
                let peers = crate::peers::share(peers, worker, workers.min(peers));
                let (numbers, ranks) = (flows.sent_by(&peers), flows.received_by(&peers));
                prop_assert_eq!((numbers.start, ranks.start), (sent, received));
                (sent, received) = (numbers.end, ranks.end);
                for flow in &flows.0 {
                    prop_assert_eq!(ranks.contains(&flow.rank), peers.contains(&flow.receiver));
                }
                prop_assert!(numbers.clone().all(|number| peers.contains(&flows.get(number).unwrap().sender)));
            }
            prop_assert_eq!((sent as usize, received as usize), (flows.0.len(), flows.0.len()));
            let mut ranks: Vec<_> = flows.0.iter().map(|flow| flow.rank).collect();
            ranks.sort_unstable();
            prop_assert!(ranks.into_iter().eq(0..sent));
        }
    }
}
