//! Which slots of a slab are taken. Counts only; the memory is another's.
#![forbid(unsafe_code)]

/// Slots by number, each free or taken.
#[derive(Debug)]
pub struct Slots {
    /// A bit a slot, set while it is free.
    free: Vec<u64>,
    taken: usize,
    total: usize,
}

impl Slots {
    /// `total` slots, all free.
    pub fn new(total: usize) -> Self {
        let mut free = vec![u64::MAX; total.div_ceil(64)];
        if let Some(last) = free.last_mut()
            && !total.is_multiple_of(64)
        {
            *last = (1 << (total % 64)) - 1;
        }
        Self { free, taken: 0, total }
    }

    /// The first free one, taken now.
    pub fn take(&mut self) -> Option<usize> {
        let (index, word) = self.free.iter_mut().enumerate().find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros();
        *word &= !(1 << bit);
        self.taken += 1;
        Some(index * 64 + bit as usize)
    }

    /// Frees one; whether it was taken.
    #[must_use]
    pub fn give(&mut self, slot: usize) -> bool {
        let bit = 1 << (slot % 64);
        let Some(word) = self.free.get_mut(slot / 64).filter(|word| slot < self.total && **word & bit == 0) else {
            return false;
        };
        *word |= bit;
        self.taken -= 1;
        true
    }

    /// Whether none is free.
    pub const fn is_full(&self) -> bool {
        self.taken == self.total
    }

    /// Whether all are free.
    pub const fn is_empty(&self) -> bool {
        self.taken == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_is_had_once_until_it_is_given_back() {
        for total in [1, 63, 64, 65, 130] {
            let mut slots = Slots::new(total);
            let taken: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
            assert_eq!(taken, (0..total).collect::<Vec<_>>());
            assert!(slots.is_full() && !slots.is_empty());
            let last = total - 1;
            assert!(slots.give(last) && !slots.give(last), "given back once");
            assert_eq!((slots.take(), slots.take()), (Some(last), None));
            assert!(taken.iter().all(|slot| slots.give(*slot)));
            assert!(slots.is_empty() && !slots.give(total), "there is none after the last");
        }
    }
}
