//! Hostile datagrams: truncated, mutated, random, oversized.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use lab::{Chance, Host, RELAY_V4};
use serde_json::Value;

const BEACON_VECTORS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/tests/vectors/beacon.json"));
const MUTATIONS_PER_VECTOR: usize = 50;
/// The largest UDP payload over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;
/// Datagrams go out in bursts that a receive buffer holds, with a pause in between: this shows how the relay deals with
/// what it receives, not how many a kernel drops.
const BURST_BYTES: usize = 64 * 1024;
const BURST_PAUSE: Duration = Duration::from_millis(5);

/// A host that sends nothing good.
pub struct Attacker(UdpSocket);

impl Attacker {
    /// Aims at one of the relay's ports.
    pub fn on(host: &Host, port: u16) -> Self {
        let socket = host.namespace().enter(|| UdpSocket::bind("0.0.0.0:0")).expect("a host has free UDP ports");
        socket.connect((RELAY_V4, port)).expect("the relay's address is reachable");
        Self(socket)
    }

    /// Sends them all; how many left.
    pub fn send_all(&self, datagrams: impl IntoIterator<Item = Vec<u8>>) -> u64 {
        let (mut sent, mut burst_bytes) = (0, 0);
        for datagram in datagrams {
            sent += u64::from(self.0.send(&datagram).is_ok());
            burst_bytes += datagram.len();
            if burst_bytes >= BURST_BYTES {
                burst_bytes = 0;
                thread::park_timeout(BURST_PAUSE);
            }
        }
        sent
    }
}

fn vectors() -> Vec<Vec<u8>> {
    let vectors: Value = serde_json::from_str(BEACON_VECTORS).expect("the vector file is JSON");
    let entries = vectors["vectors"].as_array().expect("the vector file lists vectors");
    entries.iter().map(|entry| from_hex(entry["hex"].as_str().expect("every vector has its bytes"))).collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// Every prefix of every vector, the empty one and the whole included.
pub fn vector_prefixes() -> impl Iterator<Item = Vec<u8>> {
    vectors().into_iter().flat_map(|vector| (0..=vector.len()).map(move |length| vector[..length].to_vec()))
}

/// The formats that carry a length, each one too short and too long: endpoints (02, 04), sync (07), STUN.
pub fn lengths_off_by_one() -> Vec<Vec<u8>> {
    let endpoint = |kind: u8, length: u8| [&[kind, length][..], &[198, 18, 0, 9, 0x0f, 0xa0]].concat();
    let sync = |count: u16| [&[7][..], &9_u32.to_be_bytes(), &count.to_be_bytes(), &[0, 0, 0, 1, 0, 0, 0, 2]].concat();
    let stun = |length: u16| {
        [b"\0\x01", &length.to_be_bytes()[..], b"\x21\x12\xa4\x42twelve-bytes\0\x03\0\x04\0\0\0\0"].concat()
    };
    let stun_attribute = |length: u16| {
        [b"\0\x01\0\x08\x21\x12\xa4\x42twelve-bytes\0\x03", &length.to_be_bytes()[..], b"\0\0\0\0"].concat()
    };
    let mut all = Vec::new();
    all.extend([2, 4].into_iter().flat_map(|kind| [0, 3, 5, 15, 17, 255].map(|length| endpoint(kind, length))));
    all.extend([0, 1, 3, u16::MAX].map(sync));
    all.extend([0, 4, 7, 9, 12, u16::MAX].map(stun));
    all.extend([0, 3, 5, 8, u16::MAX].map(stun_attribute));
    all
}

/// Every vector many times, with one bit turned.
pub fn mutated_vectors(chance: &mut Chance) -> Vec<Vec<u8>> {
    let vectors = vectors().into_iter().filter(|vector| !vector.is_empty());
    let copies = vectors.flat_map(|vector| vec![vector; MUTATIONS_PER_VECTOR]);
    copies.map(|vector| turn_one_bit(vector, chance)).collect()
}

fn turn_one_bit(mut datagram: Vec<u8>, chance: &mut Chance) -> Vec<u8> {
    let position = chance.below(datagram.len());
    datagram[position] ^= 1 << chance.below(8);
    datagram
}

/// Of any size an interface carries in one piece, half of them with a type the beacon knows.
pub fn random_datagram(chance: &mut Chance) -> Vec<u8> {
    let length = chance.below(1400);
    let mut datagram = chance.bytes(length);
    if let [kind, ..] = datagram.as_mut_slice()
        && chance.below(2) == 0
    {
        *kind = chance.below(0x10) as u8;
    }
    datagram
}

/// Random bytes behind each of the beacon's types in turn.
pub fn oversized_datagram(chance: &mut Chance, number: usize) -> Vec<u8> {
    let mut datagram = chance.bytes(DATAGRAM_BYTES_MAX);
    datagram[0] = (number % 0x10) as u8;
    datagram
}
