//! CRC-32 as in IEEE 802.3 (reflected, polynomial EDB88320, initial value and final xor FFFFFFFF): the checksum of
//! packets (section 2) and of STUN's FINGERPRINT (RFC 8489, 14.7). The tables are computed at compile time.

/// Bytes taken per step, one table each ("slicing by 8").
const STRIDE: usize = 8;

static TABLES: [[u32; 256]; STRIDE] = tables();

/// A checksum over bytes that come in pieces.
#[derive(Clone, Copy, Debug)]
pub struct Crc32 {
    state: u32,
}

impl Default for Crc32 {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc32 {
    /// The checksum of no bytes yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: u32::MAX }
    }

    /// Takes in `bytes`.
    #[must_use]
    pub fn update(self, bytes: &[u8]) -> Self {
        let (chunks, rest) = bytes.as_chunks::<STRIDE>();
        let state = chunks.iter().fold(self.state, |state, chunk| step_chunk(state, *chunk));
        Self { state: rest.iter().fold(state, |state, byte| step(state, *byte)) }
    }

    /// The checksum of all that was taken in.
    #[must_use]
    pub const fn finish(self) -> u32 {
        !self.state
    }
}

/// The checksum of `bytes`.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    Crc32::new().update(bytes).finish()
}

fn step(state: u32, byte: u8) -> u32 {
    state >> 8 ^ TABLES[0][usize::from(state.to_le_bytes()[0] ^ byte)]
}

fn step_chunk(state: u32, mut chunk: [u8; STRIDE]) -> u32 {
    for (byte, mix) in chunk.iter_mut().zip(state.to_le_bytes()) {
        *byte ^= mix;
    }
    chunk.iter().zip(TABLES.iter().rev()).fold(0, |state, (byte, table)| state ^ table[usize::from(*byte)])
}

/// `TABLES[n][byte]` is what `byte` contributes when `n` more bytes follow it in the chunk.
const fn tables() -> [[u32; 256]; STRIDE] {
    let mut tables = [[0_u32; 256]; STRIDE];
    let mut byte = 0;
    while byte < 256 {
        let mut state = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            state = if state & 1 == 1 { state >> 1 ^ 0xEDB8_8320 } else { state >> 1 };
            bit += 1;
        }
        tables[0][byte] = state;
        byte += 1;
    }
    let mut following = 1;
    while following < STRIDE {
        let mut byte = 0;
        while byte < 256 {
            let state = tables[following - 1][byte];
            tables[following][byte] = state >> 8 ^ tables[0][(state & 0xFF) as usize];
            byte += 1;
        }
        following += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_of_the_catalogue() {
        assert_eq!(checksum(b"123456789"), 0xCBF4_3926);
        assert_eq!(checksum(b""), 0);
    }

    #[test]
    fn pieces_and_chunks_agree_with_single_steps() {
        let bytes: Vec<u8> = (0..100_u8).map(|n| n.wrapping_mul(37)).collect();
        for len in 0..bytes.len() {
            let bytewise = !bytes[..len].iter().fold(u32::MAX, |state, byte| step(state, *byte));
            assert_eq!(checksum(&bytes[..len]), bytewise, "{len} bytes");
            let (head, tail) = bytes[..len].split_at(len / 3);
            assert_eq!(Crc32::new().update(head).update(tail).finish(), bytewise, "{len} bytes in two pieces");
        }
    }
}
