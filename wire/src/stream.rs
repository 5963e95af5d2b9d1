//! What a stream segment says beyond its header (section 8): numbers that wrap, and selective acknowledgements.
//!
//! ```text
//!  0  "SACK"   4  count   5  left   9  right   …      at most four blocks, right exclusive
//! ```
//!
//! The blocks are the payload of an acknowledgement. Nothing else tells them from data, so data of that shape is lost
//! on the way (section 8.4): a sender must not put [`SackBlocks::decode`]'s magic at the start of a segment.

use std::ops::Range;

use crate::codec::{DecodeError, Reader, Writer};

/// Blocks in one acknowledgement.
pub const SACK_BLOCKS_MAX: usize = 4;
/// The most bytes [`SackBlocks::encode`] writes.
pub const SACK_LEN_MAX: usize = MAGIC.len() + 1 + SACK_BLOCKS_MAX * BLOCK_LEN;

const MAGIC: [u8; 4] = *b"SACK";
const BLOCK_LEN: usize = 8;

/// A sequence or acknowledgement number: the low 32 bits of an offset in the stream (RFC 9293, 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sequence(pub u32);

impl Sequence {
    /// The number that stands for `offset`.
    #[must_use]
    pub const fn of(offset: u64) -> Self {
        Self((offset & u32::MAX as u64) as u32)
    }

    /// The offset nearest to `reference` that this number stands for, or none if it would lie before the stream.
    #[must_use]
    pub const fn nearest(self, reference: u64) -> Option<u64> {
        let distance = self.0.wrapping_sub(Self::of(reference).0).cast_signed();
        reference.checked_add_signed(distance as i64)
    }
}

/// Up to four runs of bytes that arrived beyond a hole, each as first and one past the last number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(Sequence, Sequence); SACK_BLOCKS_MAX],
    count: usize,
}

impl SackBlocks {
    /// Decodes the blocks at the start of the payload of an acknowledgement; what follows them is ignored.
    ///
    /// # Errors
    /// Whenever the payload is data: another magic, a count other than 1 to 4, fewer bytes than the count needs.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let magic = *reader.array()?;
        if magic != MAGIC {
            return Err(DecodeError::UnknownType(u32::from_be_bytes(magic)));
        }
        let count = usize::from(reader.u8()?);
        if !(1..=SACK_BLOCKS_MAX).contains(&count) {
            return Err(DecodeError::Invalid("number of SACK blocks"));
        }
        let mut sack = Self { count, ..Self::default() };
        for block in &mut sack.blocks[..count] {
            *block = (Sequence(reader.u32()?), Sequence(reader.u32()?));
        }
        Ok(sack)
    }

    /// Appends the blocks to `out`, which must have room for [`SackBlocks::encoded_len`] bytes.
    pub fn encode(&self, out: &mut Writer<'_>) {
        if self.count == 0 {
            return;
        }
        out.bytes(&MAGIC).bytes(&[self.count as u8]);
        for (left, right) in self.iter() {
            out.u32(left.0).u32(right.0);
        }
    }

    /// Bytes that [`SackBlocks::encode`] writes: none when there are no blocks.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        if self.count == 0 { 0 } else { MAGIC.len() + 1 + self.count * BLOCK_LEN }
    }

    /// The blocks in the order they were written.
    pub fn iter(&self) -> impl Iterator<Item = (Sequence, Sequence)> {
        self.blocks[..self.count].iter().copied()
    }

    /// The blocks as offsets near `reference`; those that are empty or lie before the stream are left out.
    pub fn offsets(&self, reference: u64) -> impl Iterator<Item = Range<u64>> {
        self.iter()
            .filter_map(move |(left, right)| Some(left.nearest(reference)?..right.nearest(reference)?))
            .filter(|block| !block.is_empty())
    }
}

/// The first four blocks; there is no room for more.
impl FromIterator<(Sequence, Sequence)> for SackBlocks {
    fn from_iter<T: IntoIterator<Item = (Sequence, Sequence)>>(blocks: T) -> Self {
        let mut sack = Self::default();
        for (slot, block) in sack.blocks.iter_mut().zip(blocks) {
            *slot = block;
            sack.count += 1;
        }
        sack
    }
}
