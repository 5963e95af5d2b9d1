//! What the simulated peers say to each other: a stamp, then filler that proves the content arrived intact.
//!
//! ```text
//! run=8 flow=4 sequence=8 due=8 filler…
//! ```
//!
//! All integers are big-endian. The filler is a window into one fixed pattern, chosen by the sequence number, so that
//! neighbouring datagrams differ and checking costs one comparison. How long it is follows from the stamp.

use crate::plan::mix;
use crate::sizes::Sizes;

/// Bytes of the stamp; the smallest payload.
pub const STAMP_LEN: usize = 8 + 4 + 8 + 8;

/// The sequence number of the probe a peer sends to itself to prove that the relay knows its session.
const PROBE_SEQUENCE: u64 = u64::MAX;

/// Different windows into the pattern.
const WINDOWS: usize = 256;

/// What a payload says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the flow; of a probe, the peer.
    pub flow: u32,
    /// Number of the datagram within its flow, from 0.
    pub sequence: u64,
    /// When it was due, in nanoseconds after the start of the load.
    pub due_ns: u64,
}

impl Stamp {
    /// The stamp of the probe that peer `peer` sends to itself.
    #[must_use]
    pub const fn probe(peer: u32) -> Self {
        Self { flow: peer, sequence: PROBE_SEQUENCE, due_ns: 0 }
    }

    /// Whether this is a probe.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.sequence == PROBE_SEQUENCE
    }
}

/// Why a payload is not one of ours, or no longer what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It belongs to no run, or to another one.
    Foreign,
    /// It is of this run, but its length or content changed on the way.
    Corrupt,
}

/// Writes and checks the payloads of one run.
#[derive(Clone, Debug)]
pub struct Payloads {
    run: u64,
    sizes: Sizes,
    duration_ns: u64,
    pattern: Vec<u8>,
}

impl Payloads {
    /// Payloads of `sizes`, at least [`STAMP_LEN`], for the run with the number `run`, which lasts `duration_ns`.
    #[must_use]
    pub fn new(run: u64, sizes: Sizes, duration_ns: u64) -> Self {
        assert!(sizes.least() >= STAMP_LEN);
        let pattern = (0..(sizes.most() + WINDOWS) as u64).map(|at| mix(at) as u8).collect();
        Self { run, sizes, duration_ns, pattern }
    }

    /// Bytes of the payload with this stamp; a probe is nothing but its stamp.
    #[must_use]
    pub fn len(&self, stamp: &Stamp) -> usize {
        if stamp.is_probe() {
            return STAMP_LEN;
        }
        self.sizes.of(stamp.flow, stamp.sequence, stamp.due_ns, self.duration_ns)
    }

    /// Fills `out`, which is [`Self::len`] bytes long.
    pub fn write(&self, stamp: &Stamp, out: &mut [u8]) {
        let (head, filler) = out.split_at_mut(STAMP_LEN);
        head[..8].copy_from_slice(&self.run.to_be_bytes());
        head[8..12].copy_from_slice(&stamp.flow.to_be_bytes());
        head[12..20].copy_from_slice(&stamp.sequence.to_be_bytes());
        head[20..].copy_from_slice(&stamp.due_ns.to_be_bytes());
        filler.copy_from_slice(self.filler(stamp.sequence, filler.len()));
    }

    /// Reads a payload back and checks all of it.
    ///
    /// # Errors
    /// [`Flaw`] says whether it is somebody else's or damaged.
    pub fn read(&self, payload: &[u8]) -> Result<Stamp, Flaw> {
        if payload.first_chunk() != Some(&self.run.to_be_bytes()) {
            return Err(Flaw::Foreign);
        }
        let Some((head, filler)) = payload.split_first_chunk::<STAMP_LEN>() else { return Err(Flaw::Corrupt) };
        let stamp = Stamp {
            flow: u32::from_be_bytes(*head[8..].first_chunk().expect("within the stamp")),
            sequence: u64::from_be_bytes(*head[12..].first_chunk().expect("within the stamp")),
            due_ns: u64::from_be_bytes(*head[20..].first_chunk().expect("within the stamp")),
        };
        if payload.len() != self.len(&stamp) || filler != self.filler(stamp.sequence, filler.len()) {
            return Err(Flaw::Corrupt);
        }
        Ok(stamp)
    }

    fn filler(&self, sequence: u64, len: usize) -> &[u8] {
        let start = (sequence % WINDOWS as u64) as usize;
        &self.pattern[start..start + len]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ramp::Ramp;

    /// Payloads that are all of the same size.
    fn fixed(run: u64, size: usize) -> Payloads {
        Payloads::new(run, Sizes::Ramp(Ramp::constant(size as u64)), 1_000_000_000)
    }

    fn payload(payloads: &Payloads, stamp: &Stamp) -> Vec<u8> {
        let mut out = vec![0; payloads.len(stamp)];
        payloads.write(stamp, &mut out);
        out
    }

    const STAMP: Stamp = Stamp { flow: 3, sequence: 1_000_000, due_ns: 5 };

    #[test]
    fn another_run_is_foreign() {
        let bytes = payload(&fixed(1, 64), &STAMP);
        assert_eq!(fixed(2, 64).read(&bytes), Err(Flaw::Foreign));
        assert_eq!(fixed(2, 64).read(&bytes[..7]), Err(Flaw::Foreign));
    }

    #[test]
    fn a_probe_is_recognised() {
        let payloads = fixed(9, 512);
        let probe = Stamp::probe(77);
        assert_eq!(payloads.read(&payload(&payloads, &probe)), Ok(probe));
        assert!(probe.is_probe() && !STAMP.is_probe());
    }

    proptest! {
        #[test]
        fn payloads_round_trip(flow: u32, sequence in 0..u64::MAX, due_ns: u64, which in 0_usize..4) {
            let text = ["64", "64..1200", "64-1200", "imix"][which];
            let sizes = Sizes::parse(text, STAMP_LEN, 20).unwrap();
            let payloads = Payloads::new(4, sizes, 1_000_000_000);
            let stamp = Stamp { flow, sequence, due_ns };
            prop_assert_eq!(payloads.read(&payload(&payloads, &stamp)), Ok(stamp));
        }

        #[test]
        fn a_changed_filler_byte_is_noticed(at in STAMP_LEN..300, flip in 1_u8..) {
            let payloads = fixed(4, 300);
            let mut bytes = payload(&payloads, &STAMP);
            bytes[at] ^= flip;
            prop_assert_eq!(payloads.read(&bytes), Err(Flaw::Corrupt));
        }

        #[test]
        fn a_cut_or_grown_payload_is_noticed(len in 8_usize..400) {
            let payloads = fixed(4, 300);
            let mut bytes = payload(&payloads, &STAMP);
            bytes.resize(len, 0);
            prop_assert_eq!(payloads.read(&bytes).is_ok(), len == 300);
        }

        #[test]
        fn reading_never_panics(bytes: Vec<u8>) {
            let _ = fixed(0, 64).read(&bytes);
            let mut ours = 0_u64.to_be_bytes().to_vec();
            ours.extend(bytes);
            let _ = fixed(0, 64).read(&ours);
        }
    }
}
