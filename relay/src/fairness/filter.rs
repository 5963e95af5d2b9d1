//! Penalties as a classic BPF program for a UDP socket. It runs before a datagram is queued, whatever the socket's
//! buffer holds, and needs no privilege.
//!
//! The program sees the UDP header at offset 0, the source port first; the IP header by `SKF_NET_OFF`; a random number by
//! `SKF_AD_RANDOM`. For each penalty it compares the source, then lets the share pass. What the kernel has merged is
//! judged as one.

use std::net::{IpAddr, Ipv6Addr};

use libc::sock_filter;

use super::{Penalty, Source};
use crate::admission::PREFIX_BITS_V6;
use crate::endpoint::Endpoint;

const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP_EQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const ALL: u32 = u32::MAX;
const NONE: u32 = 0;
const SOURCE_PORT: u32 = 0;
const SOURCE_V4: u32 = libc::SKF_NET_OFF as u32 + 12;
const SOURCE_V6: u32 = libc::SKF_NET_OFF as u32 + 8;
const RANDOM: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;

/// The address family of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6 alone.
    V6,
}

/// The program for a socket of `family`; empty where none of the penalties concerns it.
#[must_use]
pub fn program(penalties: &[Penalty], family: Family) -> Vec<sock_filter> {
    let mut program: Vec<sock_filter> = Vec::new();
    for penalty in penalties {
        let tests = match (penalty.source, IpAddr::V6(penalty.source.ip()).to_canonical(), family) {
            (source, IpAddr::V4(ip), Family::V4) => {
                let mut tests = vec![Test { load: LOAD_WORD, at: SOURCE_V4, mask: ALL, value: u32::from(ip) }];
                tests.extend(port_of(source));
                tests
            }
            (source, IpAddr::V6(ip), Family::V6) => {
                let mut tests = words_of(ip, if matches!(source, Source::Prefix(_)) { PREFIX_BITS_V6 } else { 128 });
                tests.extend(port_of(source));
                tests
            }
            _ => continue,
        };
        push(&mut program, &tests, penalty.share);
    }
    if !program.is_empty() {
        program.push(step(RETURN, 0, 0, ALL));
    }
    program
}

/// One comparison.
struct Test {
    load: u16,
    at: u32,
    mask: u32,
    value: u32,
}

impl Test {
    const fn len(&self) -> usize {
        if self.mask == ALL { 2 } else { 3 }
    }
}

fn port_of(source: Source) -> Option<Test> {
    let Source::Sender(Endpoint { port, .. }) = source else { return None };
    Some(Test { load: LOAD_HALF, at: SOURCE_PORT, mask: ALL, value: u32::from(port) })
}

fn words_of(ip: Ipv6Addr, bits: u32) -> Vec<Test> {
    let mask = u128::MAX << (128 - bits);
    let word = |value: u128, index: u32| (value >> (96 - 32 * index)) as u32;
    let words = (0..4).map(|index| Test {
        load: LOAD_WORD,
        at: SOURCE_V6 + 4 * index,
        mask: word(mask, index),
        value: word(u128::from(ip) & mask, index),
    });
    words.filter(|test| test.mask != 0).collect()
}

/// All tests must hold for the share to apply; the first that fails leads to what follows.
fn push(program: &mut Vec<sock_filter>, tests: &[Test], share: f64) {
    const VERDICT: usize = 4;
    let mut rest = tests.iter().map(Test::len).sum::<usize>() + VERDICT;
    for test in tests {
        rest -= test.len();
        program.push(step(test.load, 0, 0, test.at));
        if test.mask != ALL {
            program.push(step(AND, 0, 0, test.mask));
        }
        program.push(step(JUMP_EQ, 0, rest as u8, test.value));
    }
    program.push(step(LOAD_WORD, 0, 0, RANDOM));
    program.push(step(JUMP_GE, 1, 0, (share * f64::from(u32::MAX)) as u32));
    program.push(step(RETURN, 0, 0, ALL));
    program.push(step(RETURN, 0, 0, NONE));
}

const fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
