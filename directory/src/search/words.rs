//! Text to tokens. The index splits at blanks and punctuation, folds case and diacritics and takes endings off; this
//! file does what it does not: characters of scripts without blanks between words become tokens of their own, and a
//! run of them in a question has to be found in a row. A question is data: every word leaves here in quotes.

use std::collections::HashSet;

/// Terms of one question that are looked at.
pub const TERMS_MAX: usize = 32;
/// Characters of a script without blanks that have to be found in a row.
const RUN_MAX: usize = 16;

/// English words that say nothing of what is wanted, while there are others that do. Of other languages the index
/// itself shows which words everybody uses.
const FILLERS: [&str; 44] = [
    "a", "about", "agent", "an", "and", "any", "are", "as", "at", "be", "by", "can", "could", "do", "does", "find",
    "for", "from", "has", "have", "how", "i", "in", "is", "it", "me", "my", "need", "of", "on", "or", "peer", "please",
    "someone", "that", "the", "to", "want", "we", "what", "which", "who", "with", "you",
];

/// The words of a question, as terms of the index's query language.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Each says something that is wanted.
    pub all: Vec<String>,
    /// The same in smaller pieces, where a part of a run may be enough.
    pub any: Vec<String>,
}

impl Terms {
    /// The terms of `text`; none where it has no letters, digits or pictures.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let pieces = pieces(text);
        let fills = |piece: &Piece| matches!(piece, Piece::Word(word) if FILLERS.contains(&word.as_str()));
        let only_fillers = pieces.iter().all(fills);
        let (mut all, mut any) = (Vec::new(), Vec::new());
        for piece in pieces.into_iter().filter(|piece| only_fillers || !fills(piece)) {
            match piece {
                Piece::Word(word) => {
                    all.push(quoted(&word));
                    any.push(quoted(&word));
                }
                Piece::Run(run) => {
                    all.extend(run.chunks(RUN_MAX).map(row));
                    any.extend(run.windows(run.len().min(2)).map(row));
                }
            }
        }
        Self { all: distinct(all), any: distinct(any) }
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// `text` as the index is to be given it.
#[must_use]
pub fn indexed(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    for character in text.chars() {
        match character {
            _ if is_dropped(character) => {}
            'ß' | 'ẞ' => out.push_str("ss"),
            _ if stands_alone(character) => out.extend([' ', character, ' ']),
            // As in a question, so that both have the same words.
            _ if !is_in_word(character) => {
                out.push(if character.is_ascii() && character != '\0' { character } else { ' ' })
            }
            _ => out.push(character),
        }
    }
    out
}

/// `word` as a term; it must hold no quotes.
#[must_use]
pub fn quoted(word: &str) -> String {
    format!("\"{word}\"")
}

enum Piece {
    Word(String),
    Run(Vec<char>),
}

fn pieces(text: &str) -> Vec<Piece> {
    let (mut pieces, mut word, mut run) = (Vec::new(), String::new(), Vec::new());
    // The blank ends what the text leaves open.
    for character in text.chars().filter(|character| !is_dropped(*character)).chain([' ']) {
        let alone = stands_alone(character);
        if !alone && !run.is_empty() {
            pieces.push(Piece::Run(std::mem::take(&mut run)));
        }
        if alone {
            run.push(character);
        } else if is_in_word(character) {
            match character {
                'ß' | 'ẞ' => word.push_str("ss"),
                _ => word.extend(character.to_lowercase()),
            }
            continue;
        }
        if word.chars().any(char::is_alphanumeric) {
            pieces.push(Piece::Word(std::mem::take(&mut word)));
        }
        word.clear();
    }
    pieces
}

/// A row of characters that are tokens of their own.
fn row(run: &[char]) -> String {
    let tokens: Vec<String> = run.iter().map(char::to_string).collect();
    quoted(&tokens.join(" "))
}

fn distinct(terms: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    terms.into_iter().filter(|term| seen.insert(term.clone())).take(TERMS_MAX).collect()
}

/// Whether `character` belongs to a word. What the index splits at must not be in one: the word would become a row of
/// words that have to stand side by side.
fn is_in_word(character: char) -> bool {
    character.is_alphanumeric() || is_mark(character)
}

/// Marks that change the letter before them, of which the standard library knows those alone that count as letters. By
/// blocks, so with a few signs among them that are none.
const fn is_mark(character: char) -> bool {
    matches!(character,
        '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}'..='\u{5c2}' | '\u{5c4}'..='\u{5c5}'
        | '\u{5c7}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{6d6}'..='\u{6ed}' | '\u{711}'
        | '\u{730}'..='\u{74a}' | '\u{7a6}'..='\u{7f3}' | '\u{816}'..='\u{82d}' | '\u{859}'..='\u{85b}'
        | '\u{898}'..='\u{963}' | '\u{966}'..='\u{96f}' | '\u{971}'..='\u{df3}' // Arabic, Indian scripts
        | '\u{f18}'..='\u{f19}' | '\u{f35}'..='\u{f39}' | '\u{f3e}'..='\u{f84}' | '\u{f86}'..='\u{fbc}'
        | '\u{135d}'..='\u{135f}' | '\u{1712}'..='\u{1734}' | '\u{1752}'..='\u{1773}' | '\u{180b}'..='\u{180d}'
        | '\u{18a9}' | '\u{1920}'..='\u{193b}' | '\u{1a17}'..='\u{1a1b}' | '\u{1a55}'..='\u{1a7f}'
        | '\u{1ab0}'..='\u{1b44}' | '\u{1b6b}'..='\u{1b73}' | '\u{1b80}'..='\u{1bf3}' | '\u{1c24}'..='\u{1c37}'
        | '\u{1cd0}'..='\u{1cff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{2cef}'..='\u{2cf1}'
        | '\u{2d7f}' | '\u{2de0}'..='\u{2dff}' | '\u{302a}'..='\u{302f}' | '\u{3099}'..='\u{309a}'
        | '\u{a66f}'..='\u{a672}' | '\u{a674}'..='\u{a67d}' | '\u{a69e}'..='\u{a69f}' | '\u{a6f0}'..='\u{a6f1}'
        | '\u{a802}'..='\u{a827}' | '\u{a880}'..='\u{a8c5}' | '\u{a8e0}'..='\u{a8f1}' | '\u{a926}'..='\u{a953}'
        | '\u{a980}'..='\u{a9c0}' | '\u{aa29}'..='\u{aa4d}' | '\u{aa7b}'..='\u{aac1}' | '\u{aaeb}'..='\u{aaf6}'
        | '\u{abe3}'..='\u{abed}' | '\u{fb1e}' | '\u{fe20}'..='\u{fe2f}' | '\u{11000}'..='\u{11fff}')
}

/// Combining diacritics, as the index folds composed ones; selectors between variants of one picture; joiners.
const fn is_dropped(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}' | '\u{200b}'..='\u{200f}')
}

/// Scripts that put no blanks between words, Hangul with its endings, and pictures.
const fn stands_alone(character: char) -> bool {
    matches!(character,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' // Thai, Lao, Burmese, Khmer
        | '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30ff}'
        | '\u{3105}'..='\u{312f}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9d}' // kana, bopomofo
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{2600}'..='\u{27bf}' | '\u{1f300}'..='\u{1f3fa}' | '\u{1f400}'..='\u{1faff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        Terms::of(text).all
    }

    #[test]
    fn words_are_quoted_and_fillers_left_out_where_anything_else_is_said() {
        assert_eq!(
            all("I need a peer that can resolve academic citations"),
            ["\"resolve\"", "\"academic\"", "\"citations\""]
        );
        assert_eq!(all("who can"), ["\"who\"", "\"can\""]);
        assert_eq!(all("Straße, STRASSE; strasse"), ["\"strasse\""]);
        assert_eq!(all("u\u{308}ber"), ["\"uber\""]);
    }

    #[test]
    fn operators_and_quotes_are_data() {
        let terms = all("x\" OR NEAR(b*, 2) ^c -d title:e");
        assert_eq!(terms, ["\"x\"", "\"near\"", "\"b\"", "\"2\"", "\"c\"", "\"d\"", "\"title\"", "\"e\""]);
        for nothing in ["", " \0\t\n", "\"'*^:(){}+-", "—…«»", "\u{202e}\u{1b}["] {
            assert!(Terms::of(nothing).is_empty(), "{nothing:?}");
        }
    }

    #[test]
    fn punctuation_of_any_script_ends_a_word_and_marks_do_not() {
        for text in ["the—of", "the…of", "the«of»", "the„of“", "the·of", "the،of", "the\u{2028}of", "the©of", "the×of"]
        {
            let words = all(text);
            assert_eq!(words, ["\"the\"", "\"of\""], "{text:?}");
        }
        assert_eq!(all("हिन्दी বাংলা עִבְרִית"), ["\"हिन्दी\"", "\"বাংলা\"", "\"עִבְרִית\""]);
        assert_eq!(all("क।ख"), ["\"क\"", "\"ख\""]);
        assert_eq!(all("🚀fast"), ["\"🚀\"", "\"fast\""]);
    }

    #[test]
    fn runs_without_blanks_are_found_in_a_row_or_in_pairs() {
        let terms = Terms::of("查学术AI引用");
        assert_eq!(terms.all, ["\"查 学 术\"", "\"ai\"", "\"引 用\""]);
        assert_eq!(terms.any, ["\"查 学\"", "\"学 术\"", "\"ai\"", "\"引 用\""]);
        assert_eq!(all("❤\u{fe0f}x"), ["\"❤\"", "\"x\""]);
        assert_eq!(indexed("AI引用ß"), "AI 引  用 ss");
    }

    #[test]
    fn a_question_has_so_many_terms_and_no_more() {
        let words: Vec<String> = (0..500).map(|number| format!("w{number}")).collect();
        assert_eq!(all(&words.join(" ")).len(), TERMS_MAX);
        assert_eq!(Terms::of(&"学术引用论文".repeat(50)).any.len(), 6);
    }
}
