//! How large each payload is: constant, a ramp over the run, drawn evenly, or drawn from the Internet's simple mix.
//!
//! A pure function of what the stamp of a datagram says, so that its receiver knows which size to expect.

use crate::plan::{below, mix};
use crate::ramp::Ramp;

/// Bytes of the headers around a payload, but IP's: UDP's and the relay message's.
const INNER_HEADERS_LEN: usize = 8 + wire::beacon::RELAY_HEADER_LEN;
/// The simple Internet mix: of every 12 IP packets how many have which length.
const IMIX: [(u32, usize); 3] = [(7, 40), (4, 576), (1, 1500)];

/// A law of payload sizes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// The same for all, or changing evenly over the run.
    Ramp(Ramp),
    /// Every size between the two, both included, equally often.
    Uniform {
        /// The smallest.
        least: usize,
        /// The largest.
        most: usize,
    },
    /// Small, medium and large payloads in the proportion 7 : 4 : 1.
    Imix([usize; 3]),
}

impl Sizes {
    /// Reads `256`, `64..1200`, `64-1200` or `imix`, for payloads of at least `least` bytes within IP headers of
    /// `ip_header_len` bytes.
    ///
    /// # Errors
    /// Says what may be written.
    pub fn parse(text: &str, least: usize, ip_header_len: usize) -> Result<Self, String> {
        if text == "imix" {
            return Ok(Self::imix(least, ip_header_len));
        }
        let expected =
            || format!("'{text}' is no size; write 256, a ramp 64..1200, a range to draw from 64-1200, or imix");
        match text.split_once('-') {
            Some((from, to)) => {
                let number = |text: &str| text.parse::<usize>().map_err(|_| expected());
                let (least, most) = (number(from)?, number(to)?);
                if least > most {
                    return Err(format!(
                        "'{text}' is an empty range; write {most}-{least}, or {text} with .. for a ramp"
                    ));
                }
                Ok(Self::Uniform { least, most })
            }
            None => text.parse().map(Self::Ramp).map_err(|_| expected()),
        }
    }

    /// The simple Internet mix of IP packets of 40, 576 and 1500 bytes, less their headers. Nothing of ours fits into
    /// 40 bytes; the small ones are as small as they can be.
    #[must_use]
    pub fn imix(least: usize, ip_header_len: usize) -> Self {
        Self::Imix(IMIX.map(|(_, packet)| packet.saturating_sub(ip_header_len + INNER_HEADERS_LEN).max(least)))
    }

    /// The size of datagram `sequence` of `flow`, due after `due_ns` of `duration_ns`.
    #[must_use]
    pub fn of(&self, flow: u32, sequence: u64, due_ns: u64, duration_ns: u64) -> usize {
        let draw = |bound: u32| below(mix(sequence ^ mix(u64::from(flow))), bound);
        match *self {
            Self::Ramp(ramp) if ramp.is_constant() => ramp.from as usize,
            Self::Ramp(ramp) => ramp.at(due_ns, duration_ns) as usize,
            Self::Uniform { least, most } => {
                least + draw(u32::try_from(most - least).map_or(u32::MAX, |span| span.saturating_add(1))) as usize
            }
            Self::Imix(sizes) => {
                let mut left = draw(IMIX.iter().map(|(weight, _)| weight).sum());
                for ((weight, _), size) in IMIX.into_iter().zip(sizes) {
                    if left < weight {
                        return size;
                    }
                    left -= weight;
                }
                sizes[2]
            }
        }
    }

    /// The smallest size.
    #[must_use]
    pub fn least(&self) -> usize {
        match *self {
            Self::Ramp(ramp) => ramp.lowest() as usize,
            Self::Uniform { least, .. } => least,
            Self::Imix(sizes) => sizes[0],
        }
    }

    /// The largest size.
    #[must_use]
    pub fn most(&self) -> usize {
        match *self {
            Self::Ramp(ramp) => ramp.highest() as usize,
            Self::Uniform { most, .. } => most,
            Self::Imix(sizes) => sizes[2],
        }
    }

    /// The mean size.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match *self {
            Self::Ramp(ramp) => ramp.mean(),
            Self::Uniform { least, most } => (least + most) as f64 / 2.0,
            Self::Imix(sizes) => {
                let (weights, sum) = IMIX.iter().zip(sizes).fold((0, 0), |(weights, sum), ((weight, _), size)| {
                    (weights + weight, sum + *weight as usize * size)
                });
                sum as f64 / f64::from(weights)
            }
        }
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ramp(ramp) => write!(out, "{ramp}"),
            Self::Uniform { least, most } => write!(out, "{least}-{most}"),
            Self::Imix([small, medium, large]) => write!(out, "imix {small}/{medium}/{large}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Sizes, String> {
        Sizes::parse(text, 28, 20)
    }

    #[test]
    fn every_law_can_be_written() {
        assert_eq!(parse("256"), Ok(Sizes::Ramp(Ramp::constant(256))));
        assert_eq!(parse("64..1200"), Ok(Sizes::Ramp(Ramp { from: 64, to: 1200 })));
        assert_eq!(parse("64-1200"), Ok(Sizes::Uniform { least: 64, most: 1200 }));
        assert_eq!(parse("imix"), Ok(Sizes::Imix([28, 539, 1463])));
        for wrong in ["", "x", "64-", "-5", "64-1200-7", "IMIX", "1..x", "9-5"] {
            assert!(parse(wrong).unwrap_err().contains("write"), "{wrong}");
        }
    }

    #[test]
    fn the_mix_fills_its_packets_in_either_family() {
        assert_eq!(Sizes::imix(28, 40), Sizes::Imix([28, 519, 1443]));
    }

    #[test]
    fn the_mix_has_its_proportions() {
        let mix = parse("imix").unwrap();
        let mut counts = [0_u32; 3];
        for sequence in 0..120_000 {
            let size = mix.of(3, sequence, 0, 1);
            counts[[28, 539, 1463].iter().position(|one| *one == size).expect("one of the three")] += 1;
        }
        // Six deviations of a binomial around 70 000, 40 000 and 10 000.
        for (count, expected) in counts.into_iter().zip([70_000_u32, 40_000, 10_000]) {
            assert!(count.abs_diff(expected) < 1100, "{counts:?}");
        }
    }

    #[test]
    fn a_range_is_drawn_evenly_and_whole() {
        let range = parse("100-104").unwrap();
        let mut counts = [0_u32; 5];
        for sequence in 0..50_000 {
            counts[range.of(7, sequence, 0, 1) - 100] += 1;
        }
        assert!(counts.iter().all(|count| (9_400..10_600).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn sizes_stay_within_their_bounds(
            law in prop_oneof![
                (28_u64..65_498, 28_u64..65_498).prop_map(|(from, to)| Sizes::Ramp(Ramp { from, to })),
                (28_usize..65_498, 0_usize..9_000).prop_map(|(least, span)| Sizes::Uniform { least, most: least + span }),
                Just(Sizes::imix(28, 20)),
            ],
            flow: u32,
            sequence: u64,
            due_ns: u64,
            duration_ns: u64,
        ) {
            let size = law.of(flow, sequence, due_ns, duration_ns);
            prop_assert!((law.least()..=law.most()).contains(&size));
            prop_assert!(law.mean() >= law.least() as f64 && law.mean() <= law.most() as f64);
            prop_assert_eq!(size, law.of(flow, sequence, due_ns, duration_ns));
        }
    }
}
