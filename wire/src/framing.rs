//! Frames on a byte stream (sections 6.1 and 10): `length=4`, then that many bytes.
//!
//! Cuts the stream into frames under a limit. What a frame holds is left to its format.

use crate::codec::DecodeError;

const PREFIX_LEN: usize = 4;
/// Room an idle decoder keeps, so that one large frame does not cost memory for the rest of a connection.
const IDLE_CAPACITY_MAX: usize = 4096;

/// Collects one frame at a time from bytes that come in pieces of any size.
///
/// Holds at most the limit and the prefix, and never more than has come in: an announced length reserves nothing.
#[derive(Clone, Debug)]
pub struct FrameDecoder {
    length_max: usize,
    collected: Vec<u8>,
    complete: bool,
}

impl FrameDecoder {
    /// A decoder at the start of a stream, for frames of at most `length_max` bytes.
    #[must_use]
    pub const fn new(length_max: usize) -> Self {
        Self { length_max, collected: Vec::new(), complete: false }
    }

    /// Takes bytes from the front of `input` up to the end of the next frame, and returns that frame once it is
    /// complete. Call it until it returns `None`: then `input` is used up.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] for a length over the limit. The stream cannot be followed any further; close it.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<&[u8]>, DecodeError> {
        if self.complete {
            self.collected.clear();
            self.collected.shrink_to(IDLE_CAPACITY_MAX);
            self.complete = false;
        }
        self.collect(PREFIX_LEN, input);
        let Some(prefix) = self.collected.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > self.length_max {
            return Err(DecodeError::TooLong { length, limit: self.length_max });
        }
        self.collect(PREFIX_LEN + length, input);
        self.complete = self.collected.len() == PREFIX_LEN + length;
        Ok(self.complete.then(|| &self.collected[PREFIX_LEN..]))
    }

    /// Whether the stream stands inside a frame, so that its end now would cut one.
    #[must_use]
    pub const fn is_mid_frame(&self) -> bool {
        !self.complete && !self.collected.is_empty()
    }

    fn collect(&mut self, target: usize, input: &mut &[u8]) {
        let missing = target.saturating_sub(self.collected.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.collected.extend_from_slice(taken);
        *input = rest;
    }
}

/// Appends a frame to `out`; `write` appends what it holds, which must be shorter than 4 GiB.
pub fn write_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_LEN]);
    write(out);
    let length = u32::try_from(out.len() - start - PREFIX_LEN).expect("a frame is shorter than 4 GiB");
    out[start..start + PREFIX_LEN].copy_from_slice(&length.to_be_bytes());
}
