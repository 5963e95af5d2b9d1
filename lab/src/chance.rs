//! Chance that can be repeated: the same seed gives the same story.

/// A small generator (xorshift64) that is no one's secret.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A generator from any seed but zero.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        assert_ne!(seed, 0, "from zero nothing but zeros would follow");
        Self(seed)
    }

    /// A number below `bound`.
    #[must_use]
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("the bound is a usize")
    }

    /// So many bytes.
    #[must_use]
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
