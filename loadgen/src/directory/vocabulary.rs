//! Made-up words with the frequencies of real ones: the few most frequent are in nearly every text, most are rare
//! (Zipf's law). Some are written in other scripts than ours.

use crate::plan::{below, mix};

/// Words in all.
pub const WORDS: usize = 4_000;
/// The most frequent words say little, as articles do: titles, tags and most words of a query are not among them.
pub const COMMON: usize = 64;
/// Every so many words one is written in letters beyond ASCII.
const FOREIGN_EVERY: usize = 16;
/// Of so many words of a query one may be any word.
const ANY_WORD_EVERY: u32 = 8;

const ONSETS: [&str; 20] =
    ["b", "br", "c", "d", "dr", "f", "g", "h", "l", "m", "n", "p", "pl", "r", "s", "st", "t", "tr", "v", "z"];
const VOWELS: [&str; 8] = ["a", "e", "i", "o", "u", "ai", "ea", "ou"];
const CODAS: [&str; 8] = ["", "", "", "n", "r", "s", "l", "x"];
/// Beginnings of foreign words: Latin with marks, Greek, Cyrillic, Arabic, Devanagari, Japanese, Chinese.
const FOREIGN: [&str; 14] =
    ["über", "façon", "señal", "żół", "λόγος", "νερό", "поиск", "карта", "بحث", "खोज", "検索", "翻訳", "学术", "引用"];

/// Chance that repeats: the same seed gives the same draws.
#[derive(Clone, Copy, Debug)]
pub struct Dice {
    seed: u64,
    throws: u64,
}

impl Dice {
    /// Dice of their own for each pair of `seed` and `stream`.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { seed: mix(seed ^ mix(stream)), throws: 0 }
    }

    /// 64 even bits.
    pub fn draw(&mut self) -> u64 {
        self.throws += 1;
        mix(self.seed ^ mix(self.throws))
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        below(self.draw(), bound)
    }

    /// A number from `least` to `most`.
    pub fn between(&mut self, least: u32, most: u32) -> u32 {
        least + self.below(most - least + 1)
    }
}

/// Words by falling frequency.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    words: Vec<String>,
    /// Sums of the frequencies 1, 1/2, 1/3 …, up to each word's own.
    sums: Vec<f64>,
}

impl Vocabulary {
    /// The words of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let words = (0..WORDS).map(|rank| word(seed, rank)).collect();
        let mut sum = 0.0;
        let sums = (1..=WORDS).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Self { words, sums: sums.collect() }
    }

    /// Any word, the frequent ones more often.
    pub fn any(&self, dice: &mut Dice) -> &str {
        self.from(dice, 0)
    }

    /// A word that says something.
    pub fn telling(&self, dice: &mut Dice) -> &str {
        self.from(dice, COMMON)
    }

    /// A word of lower-case letters from a to z that says something.
    pub fn plain(&self, dice: &mut Dice) -> &str {
        loop {
            let word = self.telling(dice);
            if word.is_ascii() {
                return word;
            }
        }
    }

    /// One to three words as somebody looks for them.
    pub fn wanted(&self, dice: &mut Dice) -> String {
        let count = dice.between(1, 3);
        let words = (0..count).map(|_| match dice.below(ANY_WORD_EVERY) {
            0 => self.any(dice),
            _ => self.telling(dice),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn from(&self, dice: &mut Dice, rank_min: usize) -> &str {
        let below = if rank_min == 0 { 0.0 } else { self.sums[rank_min - 1] };
        // 53 bits are what a float holds exactly.
        let even = (dice.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        let at = below + even * (self.sums[WORDS - 1] - below);
        let rank = self.sums.partition_point(|sum| *sum <= at);
        &self.words[rank.clamp(rank_min, WORDS - 1)]
    }
}

fn word(seed: u64, rank: usize) -> String {
    let mut dice = Dice::new(seed, rank as u64);
    let syllables = if rank < COMMON { 1 } else { dice.between(2, 3) };
    let mut text = String::new();
    if rank >= COMMON && rank.is_multiple_of(FOREIGN_EVERY) {
        text.push_str(FOREIGN[dice.below(FOREIGN.len() as u32) as usize]);
    }
    for _ in 0..syllables {
        text.push_str(ONSETS[dice.below(ONSETS.len() as u32) as usize]);
        text.push_str(VOWELS[dice.below(VOWELS.len() as u32) as usize]);
        text.push_str(CODAS[dice.below(CODAS.len() as u32) as usize]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_repeat_with_the_seed_and_are_as_frequent_as_their_rank_says() {
        let vocabulary = Vocabulary::new(1);
        assert_eq!(vocabulary.words, Vocabulary::new(1).words);
        assert_ne!(vocabulary.words, Vocabulary::new(2).words);
        let mut dice = Dice::new(1, 0);
        let draws = 100_000;
        let first = (0..draws).filter(|_| std::ptr::eq(vocabulary.any(&mut dice), &raw const *vocabulary.words[0]));
        // 1 / (1 + 1/2 + … + 1/4000) = 11.3 %; six deviations are 0.6 %.
        let share = first.count() as f64 / f64::from(draws);
        assert!((share - 0.113).abs() < 0.006, "{share}");
    }

    #[test]
    fn telling_words_are_not_common_and_plain_ones_fit_a_hostname() {
        let vocabulary = Vocabulary::new(3);
        let mut dice = Dice::new(3, 0);
        for _ in 0..2_000 {
            let word = vocabulary.plain(&mut dice);
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase()) && word.len() <= 32, "{word}");
            let telling: *const str = vocabulary.telling(&mut dice);
            assert!(vocabulary.words[..COMMON].iter().all(|word| !std::ptr::eq(&raw const **word, telling)));
        }
        assert!(vocabulary.words.iter().any(|word| !word.is_ascii()));
    }
}
