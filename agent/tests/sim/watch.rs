//! What must never be seen on a wire, and what is seen.

use crate::chance::mix;

/// Application bytes come in units of this: a mark that no sealed frame holds, then what follows from the position.
const UNIT_BYTES: u64 = 16;
const MARK: u8 = 0xA7;
const MARK_BYTES: usize = 8;
/// So many marks in a row are in any 20 application bytes, and in ciphertext once in 2^48.
const RUN_MIN: usize = 6;

/// Writes the application's bytes at `position` of the content `tag`.
pub fn fill(tag: u64, position: u64, out: &mut [u8]) {
    for (byte, position) in out.iter_mut().zip(position..) {
        *byte = byte_at(tag, position);
    }
}

/// Whether `bytes` are those at `position` of the content `tag`.
pub fn fits(tag: u64, position: u64, bytes: &[u8]) -> bool {
    bytes.iter().zip(position..).all(|(byte, position)| *byte == byte_at(tag, position))
}

fn byte_at(tag: u64, position: u64) -> u8 {
    match (position % UNIT_BYTES) as usize {
        offset if offset < MARK_BYTES => MARK,
        offset => mix(tag ^ mix(position / UNIT_BYTES)).to_be_bytes()[offset - MARK_BYTES],
    }
}

/// Watches everything that hosts and relays send.
#[derive(Debug, Default)]
pub struct Watch {
    pub datagrams: u64,
    pub bytes: u64,
    trace: u64,
}

impl Watch {
    /// A datagram leaves its sender.
    ///
    /// # Panics
    /// If it is one that must not be.
    pub fn see(&mut self, now: u64, datagram: &[u8]) {
        self.datagrams += 1;
        self.bytes += datagram.len() as u64;
        self.note(now);
        for chunk in datagram.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.note(u64::from_le_bytes(word));
        }
        for inner in [Some(datagram), datagram.get(5..), datagram.get(9..)].into_iter().flatten() {
            assert!(!inner.starts_with(b"PILT"), "a plain packet is on the wire");
        }
        assert!(!shows_content(datagram), "application bytes are on the wire in clear");
    }

    /// Something else that a replay has to repeat.
    pub const fn note(&mut self, word: u64) {
        self.trace = mix(self.trace.rotate_left(5) ^ word);
    }

    /// All that was seen, in order.
    pub const fn trace(&self) -> u64 {
        self.trace
    }
}

fn shows_content(datagram: &[u8]) -> bool {
    (RUN_MIN - 1..datagram.len()).step_by(RUN_MIN).any(|at| {
        datagram[at] == MARK && {
            let before = datagram[..at].iter().rev().take_while(|byte| **byte == MARK).count();
            let behind = datagram[at..].iter().take_while(|byte| **byte == MARK).count();
            before + behind >= RUN_MIN
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_twenty_application_bytes_are_recognised_wherever_they_stand() {
        for position in 0..40 {
            for offset in 0..20 {
                let mut datagram = vec![0x55; offset + 20 + 3];
                fill(9, position, &mut datagram[offset..offset + 20]);
                assert!(shows_content(&datagram), "{position} {offset}");
                assert!(fits(9, position, &datagram[offset..offset + 20]));
                assert!(!fits(9, position + 16, &datagram[offset..offset + 20]));
                assert!(!fits(8, position, &datagram[offset..offset + 20]));
            }
        }
    }

    #[test]
    #[should_panic(expected = "in clear")]
    fn content_in_clear_is_a_violation() {
        let mut datagram = [0; 64];
        fill(1, 0, &mut datagram[9..]);
        Watch::default().see(0, &datagram);
    }

    #[test]
    #[should_panic(expected = "plain packet")]
    fn a_relayed_plain_packet_is_a_violation() {
        Watch::default().see(0, b"\x05\0\0\0\x01\0\0\0\x02PILT");
    }
}
