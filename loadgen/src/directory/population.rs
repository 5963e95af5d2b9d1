//! The nodes that a directory is filled with, each derived from the seed and its index: key, name, address, and what it
//! says it can do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ed25519_dalek::{Signer, SigningKey};
use wire::NodeId;
use wire::registry::capability::{FORMAT, Record, signed_text};
use wire::registry::request::Register;
use wire::registry::{Base64, Operation, Request};

use super::vocabulary::{Dice, Vocabulary};
use crate::register::identity;

/// Nodes announce addresses from 127.64.0.0 on, as simulated peers have them. Nothing is sent there.
const ADDRESS_FIRST: u32 = 0x7F40_0000;
/// Addresses up to 127.127.255.255.
const ADDRESSES: u32 = 1 << 22;
const PORT: u16 = 29_001;
/// Keeps the draws for a node's record apart from others.
const RECORD_STREAM: u64 = 1 << 40;
/// Keeps the draws for a node's name apart from others.
const NAME_STREAM: u64 = 2 << 40;

/// All nodes of a seed.
#[derive(Clone, Debug)]
pub struct Population {
    /// Chooses everything.
    pub seed: u64,
    /// What texts are written in.
    pub vocabulary: Vocabulary,
}

impl Population {
    /// The nodes of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, vocabulary: Vocabulary::new(seed) }
    }

    /// The node's key.
    #[must_use]
    pub fn key(&self, index: u32) -> SigningKey {
        identity(self.seed, index)
    }

    /// A name that no other node of any seed has.
    #[must_use]
    pub fn hostname(&self, index: u32) -> String {
        let mut dice = Dice::new(self.seed, NAME_STREAM + u64::from(index));
        format!("{}-{:x}-{index}", self.vocabulary.plain(&mut dice), self.seed)
    }

    /// Its signed registration.
    #[must_use]
    pub fn register(&self, index: u32) -> Request {
        let key = self.key(index);
        let address = Ipv4Addr::from_bits(ADDRESS_FIRST + index % ADDRESSES);
        let operation = Operation::Register(Register {
            listen_addr: SocketAddr::new(IpAddr::V4(address), PORT).to_string(),
            public_key: Base64(key.verifying_key().to_bytes()),
            owner: String::new(),
            hostname: self.hostname(index),
            version: "1.18.0".to_owned(),
            lan_addrs: Vec::new(),
            relay_only: false,
        });
        signed(&key, operation)
    }

    /// Its signed capability record, as the node `id`. A greater `serial` replaces a smaller one.
    #[must_use]
    pub fn publish(&self, index: u32, id: NodeId, serial: u64) -> Request {
        let key = self.key(index);
        let mut dice = Dice::new(self.seed, RECORD_STREAM + u64::from(index));
        let record = self.record(&mut dice, id, Base64(key.verifying_key().to_bytes()), serial);
        let record = record.encode().expect("the words are few and short enough for a record");
        let signature = Base64(key.sign(signed_text(id, &record).as_bytes()).to_bytes());
        Request { signature: Some(signature), ..Operation::PublishCapability { node_id: id, record }.into() }
    }

    /// Three to five words of title, twenty to sixty of text, one to three tags, and hints as a tool has them.
    fn record(&self, dice: &mut Dice, node: NodeId, public_key: wire::registry::PublicKey, serial: u64) -> Record {
        let words = &self.vocabulary;
        let title: Vec<_> = (0..dice.between(3, 5)).map(|_| words.telling(dice)).collect();
        let text: Vec<_> = (0..dice.between(20, 60)).map(|_| words.any(dice)).collect();
        let tags = (0..dice.between(1, 3)).map(|_| words.plain(dice).to_owned()).collect();
        let field = words.plain(dice);
        Record {
            format: FORMAT,
            node,
            public_key,
            serial,
            withdrawn: false,
            title: title.join(" "),
            text: text.join(" ") + ".",
            tags,
            input: Some(serde_json::json!({"type": "object", "properties": {field: {"type": "string"}}})),
            output: Some(serde_json::json!({"type": "array", "items": {"type": "string"}})),
            price: None,
            limits: Some(serde_json::json!({"per_minute": dice.between(10, 600)})),
            version: "1.0".to_owned(),
        }
    }
}

/// `operation` with the signature of `key`.
///
/// # Panics
/// The operation is one that nobody signs.
#[must_use]
pub fn signed(key: &SigningKey, operation: Operation) -> Request {
    let text = operation.signed_text().expect("this operation has a signed text");
    let signature = Base64(key.sign(text.as_bytes()).to_bytes());
    Request { signature: Some(signature), ..operation.into() }
}

#[cfg(test)]
mod tests {
    use wire::registry::names::check_hostname;

    use super::*;

    #[test]
    fn a_node_is_the_same_each_time_and_no_other() {
        let population = Population::new(7);
        assert_eq!(population.register(3), population.register(3));
        assert_eq!(population.publish(3, NodeId(9), 5), population.publish(3, NodeId(9), 5));
        assert_ne!(population.hostname(3), population.hostname(4));
        assert_ne!(population.hostname(3), Population::new(8).hostname(3));
        for index in 0..1_000 {
            check_hostname(&population.hostname(index)).unwrap();
        }
    }

    #[test]
    fn a_record_is_valid_signed_and_of_a_likely_size() {
        let population = Population::new(1);
        let mut bytes = 0;
        for index in 0..200 {
            let Request { operation, signature, .. } = population.publish(index, NodeId(index + 1), 5);
            let text = operation.signed_text().unwrap();
            let Operation::PublishCapability { record, .. } = operation else { panic!("{operation:?}") };
            let decoded = Record::decode(&record).unwrap();
            assert!((3..=5).contains(&decoded.title.split(' ').count()), "{}", decoded.title);
            assert!((20..=60).contains(&decoded.text.split(' ').count()), "{}", decoded.text);
            let signature = signature.unwrap().0.into();
            population.key(index).verifying_key().verify_strict(text.as_bytes(), &signature).unwrap();
            bytes += record.len();
        }
        assert!((400..1200).contains(&(bytes / 200)), "{} bytes on average", bytes / 200);
    }
}
