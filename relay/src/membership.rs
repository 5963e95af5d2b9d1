//! Which nodes exist, which addresses are proven theirs and where they were last: told by the directory, read by every
//! shard.
//!
//! A paged array indexed by node id, since the directory hands ids out densely. One record a node, published through a
//! [`SeqCell`], so that a shard sees an id and its proofs as one set and never waits for the directory. What
//! [`Membership::publish`] has returned from, every shard sees.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use wire::NodeId;

use crate::endpoint::{Endpoint, mapped};
use crate::seqlock::SeqCell;

/// Proven addresses a node may have.
pub const PROVEN_MAX: usize = 4;
/// Where the last endpoint's address and port lie behind the proven addresses; port 0 is none.
const LAST_IP: usize = PROVEN_MAX * 2;
const LAST_PORT: usize = LAST_IP + 2;
const WORDS: usize = LAST_PORT + 1;
const PAGE_LEN: usize = 1 << 10;
const PAGES_PER_CHAPTER: usize = 1 << 11;
const CHAPTERS: usize = 1 << 11;
const KNOWN: u32 = 1;
/// Who says which nodes exist.
const NOBODY: u8 = 0;
const AWAITED: u8 = 1;
const PRESENT: u8 = 2;

type Record = SeqCell<WORDS>;
type Page = OnceLock<Box<[Record]>>;

/// The directory's facts about nodes, as far as the relay needs them.
#[derive(Debug)]
pub struct Membership {
    chapters: Box<[OnceLock<Box<[Page]>>]>,
    /// Whether a directory feeds this; without one every id is possible.
    authority: AtomicU8,
    known: AtomicUsize,
    /// Where nodes were before a restart.
    remembered: OnceLock<HashMap<NodeId, Endpoint>>,
    /// Whether that was long ago.
    forgotten: AtomicBool,
    writing: Mutex<()>,
}

impl Default for Membership {
    fn default() -> Self {
        Self {
            chapters: lazy_slots(CHAPTERS),
            authority: AtomicU8::new(NOBODY),
            known: AtomicUsize::new(0),
            remembered: OnceLock::new(),
            forgotten: AtomicBool::new(false),
            writing: Mutex::new(()),
        }
    }
}

impl Membership {
    /// Says whether a directory feeds this table: from then on an id that is not here does not exist.
    pub fn set_authority(&self, present: bool) {
        self.authority.store(if present { PRESENT } else { NOBODY }, Ordering::Release);
    }

    /// A directory will feed this table, and has not begun. Until then an id that is not here may neither begin a session
    /// nor lose the one it has: nobody who was banned comes in meanwhile, and nobody who belongs is sent away.
    pub fn await_authority(&self) {
        self.authority.store(AWAITED, Ordering::Release);
    }

    /// Whether a directory feeds this table.
    #[must_use]
    pub fn has_authority(&self) -> bool {
        self.authority.load(Ordering::Acquire) == PRESENT
    }

    /// Whether an id that is not here may be somebody's, since no directory could say.
    #[must_use]
    pub fn admits_unknown(&self) -> bool {
        self.authority.load(Ordering::Acquire) == NOBODY
    }

    /// How many nodes are known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.known.load(Ordering::Relaxed)
    }

    /// Records that `node` exists, that `proven` are its own addresses (those beyond [`PROVEN_MAX`] are left out), and
    /// where its latest signed registration says it is.
    pub fn publish(&self, node: NodeId, proven: &[IpAddr], last: Option<SocketAddr>) {
        let mut words = [0; WORDS];
        for (pair, ip) in words[..LAST_IP].chunks_exact_mut(2).zip(proven) {
            pair.copy_from_slice(&split(mapped(*ip)));
        }
        if let Some(last) = last {
            words[LAST_IP..LAST_PORT].copy_from_slice(&split(mapped(last.ip())));
            words[LAST_PORT] = u64::from(last.port());
        }
        self.write(node, KNOWN, words);
    }

    /// Forgets `node`.
    pub fn withdraw(&self, node: NodeId) {
        self.write(node, 0, [0; WORDS]);
    }

    /// Whether the directory knows `node`.
    #[must_use]
    pub fn knows(&self, node: NodeId) -> bool {
        self.record(node).is_some_and(|record| record.tag() == KNOWN)
    }

    /// Whether `ip` is a proven address of `node`.
    #[must_use]
    pub fn proves(&self, node: NodeId, ip: Ipv6Addr) -> bool {
        let wanted = split(ip);
        self.record(node)
            .and_then(|record| record.read(KNOWN))
            .is_some_and(|words| wanted != [0, 0] && words[..LAST_IP].chunks_exact(2).any(|pair| pair == wanted))
    }

    /// Takes over where nodes were before a restart. Only the first call counts.
    pub fn remember(&self, endpoints: HashMap<NodeId, Endpoint>) {
        let _ = self.remembered.set(endpoints);
    }

    /// Ends what [`Self::remember`] began: where nodes were before the restart no longer says where they are.
    pub fn forget(&self) {
        self.forgotten.store(true, Ordering::Relaxed);
    }

    /// Where `node` was before a restart, else when it last registered with a signature. Behind some NATs, and with
    /// daemons that register a start-up socket, only the first is right.
    #[must_use]
    pub fn last_endpoint(&self, node: NodeId) -> Option<Endpoint> {
        if !self.forgotten.load(Ordering::Relaxed)
            && let Some(endpoint) = self.remembered.get().and_then(|remembered| remembered.get(&node))
        {
            return Some(*endpoint);
        }
        let words = self.record(node)?.read(KNOWN)?;
        let ip = Ipv6Addr::from(u128::from(words[LAST_IP]) << 64 | u128::from(words[LAST_IP + 1]));
        let port = u16::try_from(words[LAST_PORT]).ok().filter(|port| *port != 0)?;
        Some(Endpoint { ip, port })
    }

    fn write(&self, node: NodeId, tag: u32, words: [u64; WORDS]) {
        let _one_writer = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (chapter, page, slot) = position(node);
        let page = &self.chapters[chapter].get_or_init(|| lazy_slots(PAGES_PER_CHAPTER))[page];
        let record = &page.get_or_init(|| (0..PAGE_LEN).map(|_| Record::default()).collect())[slot];
        match (record.tag(), tag) {
            (0, KNOWN) => self.known.fetch_add(1, Ordering::Relaxed),
            (KNOWN, 0) => self.known.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        record.write(tag, words);
    }

    fn record(&self, node: NodeId) -> Option<&Record> {
        let (chapter, page, slot) = position(node);
        self.chapters[chapter].get()?[page].get().map(|page| &page[slot])
    }
}

fn lazy_slots<T>(count: usize) -> Box<[OnceLock<T>]> {
    (0..count).map(|_| OnceLock::new()).collect()
}

const fn position(NodeId(node): NodeId) -> (usize, usize, usize) {
    let node = node as usize;
    (node / (PAGE_LEN * PAGES_PER_CHAPTER), node / PAGE_LEN % PAGES_PER_CHAPTER, node % PAGE_LEN)
}

fn split(ip: Ipv6Addr) -> [u64; 2] {
    let bits = u128::from(ip);
    [(bits >> 64) as u64, bits as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_node_is_known_with_its_addresses_until_withdrawn() {
        let membership = Membership::default();
        let ips: [IpAddr; 2] = ["198.18.0.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        for node in [NodeId(1), NodeId(1024), NodeId(3_000_000_000), NodeId(u32::MAX - 1)] {
            assert!(!membership.knows(node));
            membership.publish(node, &ips, None);
            assert!(membership.knows(node));
            assert!(ips.iter().all(|ip| membership.proves(node, mapped(*ip))));
            assert!(!membership.proves(node, mapped("198.18.0.8".parse().unwrap())));
            assert!(!membership.proves(node, Ipv6Addr::UNSPECIFIED));
            assert_eq!(membership.last_endpoint(node), None);
        }
        assert_eq!(membership.known(), 4);
        membership.publish(NodeId(1), &ips[..1], Some("198.18.0.9:4001".parse().unwrap()));
        let last = membership.last_endpoint(NodeId(1)).map(|endpoint| endpoint.to_string());
        assert_eq!(last.as_deref(), Some("198.18.0.9:4001"));
        assert!(!membership.proves(NodeId(1), mapped("198.18.0.9".parse().unwrap())), "where it was proves nothing");
        assert!(!membership.proves(NodeId(1), mapped(ips[1])));
        membership.withdraw(NodeId(1));
        assert!(!membership.knows(NodeId(1)));
        assert!(!membership.proves(NodeId(1), mapped(ips[0])));
        assert_eq!(membership.known(), 3);
    }
}
