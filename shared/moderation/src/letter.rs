//! What a character of a text is taken for: the letter that it is made of or looks like, or nothing.

use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_properties::props::{EnumeratedProperty, Script};
use regex_syntax::is_word_character;

const NFKD: DecomposingNormalizerBorrowed<'static> = DecomposingNormalizerBorrowed::new_nfkd();

/// The most characters that one is taken apart into: a few ligatures are whole sentences.
const PARTS: usize = 4;

/// What is seen of a character, in small letters. A capital among them stands for each letter that looks like it: see
/// [`seen_through`].
pub(crate) fn letters(c: char) -> impl Iterator<Item = char> {
    // Nearly all text is that.
    let plain = c.is_ascii().then(|| c.to_ascii_lowercase());
    // What a letter becomes may have marks too.
    let made = (plain.is_none()).then(|| parts(c).flat_map(small).flat_map(parts).map(look));
    let seen = plain.into_iter().chain(made.into_iter().flatten());
    seen.filter(|c| !dropped(*c))
}

/// `pattern`, with each letter in it as all that may stand for it in a form. A letter behind a backslash is none.
pub(crate) fn seen_through(pattern: &str) -> String {
    let mut seen = String::with_capacity(2 * pattern.len());
    let mut is_escaped = false;
    for c in pattern.chars() {
        match capital(c) {
            Some(capital) if !is_escaped => seen.extend(['[', c, capital, ']']),
            _ => seen.push(c),
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    seen
}

/// What stands for a letter and for another one: a capital that looks like those of two letters, or a sign that looks like both.
fn capital(letter: char) -> Option<char> {
    Some(match letter {
        'b' | 'β' | 'в' => 'B',
        'h' | 'η' | 'н' => 'H',
        'i' | 'l' => EITHER,
        'm' | 'μ' => 'M',
        'n' | 'v' => 'N',
        'u' | 'y' => 'Y',
        'z' | 'ζ' => 'Z',
        _ => return None,
    })
}

/// What a 1 is, and what looks like it: an i or an l.
pub(crate) const EITHER: char = 'I';

/// The small letters of a letter, or the capital that it looks like where the small ones look otherwise.
fn small(c: char) -> impl Iterator<Item = char> {
    let capital = match c {
        'Β' | 'В' => Some('B'),
        'Η' | 'Н' => Some('H'),
        'Μ' => Some('M'),
        'Ν' => Some('N'),
        'Υ' => Some('Y'),
        'Ζ' => Some('Z'),
        _ => None,
    };
    let small = capital.is_none().then(|| c.to_lowercase());
    capital.into_iter().chain(small.into_iter().flatten())
}

/// What a character is made of: a letter and its accents, the letters of a syllable or a ligature, the plain one of a bold or
/// circled one.
fn parts(c: char) -> impl Iterator<Item = char> {
    // Nearly all text is that.
    let is_made = !c.is_ascii() && c.is_alphabetic();
    let is_whole = !is_made && !matches!(c, '！'..='～' | '\u{1d7ce}'..='\u{1d7ff}');
    let apart = (!is_whole).then(|| NFKD.normalize_iter(std::iter::once(c)).take(PARTS));
    is_whole
        .then_some(c)
        .into_iter()
        .chain(apart.into_iter().flatten())
}

/// The Latin letter that a sign shows; another character is itself.
pub(crate) fn of_sign(c: char) -> char {
    match c {
        '🅐'..='🅩' => latin(c, '🅐'),
        '🅰'..='🆉' => latin(c, '🅰'),
        '🇦'..='🇿' => latin(c, '🇦'),
        '⒜'..='⒵' => latin(c, '⒜'),
        '🄐'..='🄩' => latin(c, '🄐'),
        c => c,
    }
}

/// The small letter of the alphabet's place that `c` has in a row that begins with `a`.
fn latin(c: char, a: char) -> char {
    let place = u32::from(c) - u32::from(a);
    char::from_u32(u32::from('a') + place).unwrap_or(c)
}

/// What cannot be seen, marks of Markdown, which a page may show as the look of letters, and what draws an Arabic word out.
fn dropped(c: char) -> bool {
    if c.is_ascii_alphanumeric() {
        return false;
    }
    matches!(c, '*' | '~' | '`' | '\u{640}') || story::unseen(c) || story::is_format(c)
}

/// Whether it only changes how the one before it looks: an accent, what encloses it, the vowels of Hebrew and Arabic, which most
/// texts leave out. What other scripts write their words with is of the word.
pub(crate) fn is_looked_past(c: char, before: Option<char>) -> bool {
    if c.is_ascii() || !story::is_mark(c) {
        return false;
    }
    let spells = |letter| match Script::for_char(c) {
        Script::Inherited => is_voicing(c) && is_kana(letter),
        Script::Arabic | Script::Hebrew => false,
        script => script == Script::for_char(letter),
    };
    !before.is_some_and(|letter| {
        is_word_character(letter) && !is_of_alphabet(letter) && spells(letter)
    })
}

/// Whether a letter is of another word than the one right behind it, or of another syllable of Hangul or kana: half a syllable
/// is no word's end.
pub(crate) fn ends_word(letter: char, behind: char) -> bool {
    // Nearly all text is that.
    if letter.is_ascii() && behind.is_ascii() {
        return false;
    }
    let one_is = |of: fn(char) -> bool| of(letter) != of(behind);
    is_word_character(letter)
        && is_word_character(behind)
        && (begins_syllable(behind)
            || one_is(is_of_hangul)
            || one_is(is_of_kana)
            || one_is(is_of_alphabet))
}

/// The letters that syllables of Hangul are made of.
fn is_of_hangul(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{11ff}')
}

/// What syllables of kana are made of: か and what makes が of it.
fn is_of_kana(c: char) -> bool {
    is_kana(c) || is_voicing(c)
}

fn begins_syllable(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{115e}') || is_kana(c)
}

fn is_kana(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{3096}' | '\u{309d}'..='\u{30fa}' | '\u{30fc}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}'
        | '\u{1aff0}'..='\u{1afff}' | '\u{1b000}'..='\u{1b16f}')
}

fn is_voicing(c: char) -> bool {
    matches!(c, '\u{3099}' | '\u{309a}')
}

/// Letters of Latin, Greek and Cyrillic, of which a word may have any, since they look alike, and those of Armenian, Cherokee and
/// Lisu, of which some do; digits, which stand for some.
pub(crate) fn is_of_alphabet(c: char) -> bool {
    c.is_numeric()
        || matches!(c, 'a'..='z' | 'A'..='Z' | 'ª' | 'µ' | 'º' | 'ß'..='\u{2af}' | '\u{370}'..='\u{58f}' | '\u{1c80}'..='\u{1c8f}'
            | '\u{1d00}'..='\u{1dbf}' | '\u{1e00}'..='\u{1fff}' | '\u{214e}' | '\u{2184}' | '\u{2c60}'..='\u{2c7f}'
            | '\u{a640}'..='\u{a69f}' | '\u{a720}'..='\u{a7ff}' | '\u{ab30}'..='\u{ab6f}' | '\u{10780}'..='\u{107bf}' | '\u{1df00}'..='\u{1dfff}')
        || matches!(c, '\u{13a0}'..='\u{13ff}' | '\u{a4d0}'..='\u{a4ff}' | '\u{ab70}'..='\u{abbf}' | '\u{11fb0}')
}

/// The Latin letter that another one looks like, the sigma of a word's middle for that of its end, and of quotation marks and
/// dashes the plain one.
fn look(c: char) -> char {
    match c {
        'а' | 'α' | 'ᴀ' | 'ɑ' | 'ꭺ' | 'ꓮ' => 'a',
        'ʙ' | 'ƀ' | 'ꮟ' | 'ᏼ' | 'ꓐ' => 'b',
        'с' | 'ᴄ' | 'ꮯ' | 'ꓚ' => 'c',
        'ԁ' | 'ᴅ' | 'đ' | 'ꭰ' | 'ꮷ' | 'ꓓ' => 'd',
        'е' | 'ε' | 'ᴇ' | 'ɛ' | 'ꭼ' | 'ꓰ' => 'e',
        'ꜰ' | 'ƒ' | 'ꓝ' => 'f',
        'ɢ' | 'ɡ' | 'ց' | 'ꮐ' | 'ᏻ' | 'ꓖ' => 'g',
        'һ' | 'ʜ' | 'ħ' | 'հ' | 'ꮋ' | 'ꓧ' => 'h',
        'і' | 'ι' | 'ı' | 'ɪ' | 'ɩ' | 'ɨ' | 'ꭵ' | 'ꓲ' => 'i',
        'ј' | 'ᴊ' | 'ȷ' | 'յ' | 'ꭻ' | 'ꓙ' => 'j',
        'к' | 'κ' | 'ᴋ' | 'ꮶ' | 'ꓗ' => 'k',
        'ӏ' | 'ł' | 'ʟ' | 'ꮮ' | 'ꓡ' => 'l',
        'м' | 'ᴍ' | 'ꮇ' | 'ꓟ' => 'm',
        'ɴ' | 'ո' | 'ꓠ' => 'n',
        'о' | 'ο' | 'ø' | 'ᴏ' | 'օ' | 'ꓳ' => 'o',
        'р' | 'ρ' | 'ᴘ' | 'ꮲ' | 'ꓑ' => 'p',
        'ԛ' | 'ꞯ' | 'զ' => 'q',
        'ʀ' | 'ꭱ' | 'ꮢ' | 'ꓣ' => 'r',
        'ѕ' | 'ꜱ' | 'ꮥ' | 'ꮪ' | 'ꓢ' => 's',
        'т' | 'τ' | 'ᴛ' | 'ŧ' | 'ꭲ' | 'ꓔ' => 't',
        'υ' | 'ᴜ' | 'ս' | 'ꓴ' => 'u',
        'ν' | 'ᴠ' | 'ѵ' | 'ꮩ' | 'ꓦ' => 'v',
        'ԝ' | 'ᴡ' | 'ꮃ' | 'ꓪ' => 'w',
        'х' | 'χ' | 'ꓫ' => 'x',
        'у' | 'ʏ' | 'ү' | 'ꭹ' | 'ꮍ' | 'ꓬ' => 'y',
        'ᴢ' | 'ꮓ' | 'ꓜ' => 'z',
        'ς' => 'σ',
        '‘' | '’' | '‚' | '′' => '\'',
        '“' | '”' | '„' | '«' | '»' | '″' => '"',
        '‐'..='―' | '−' | '\u{5be}' => '-',
        '…' => '.',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> String {
        text.chars().flat_map(letters).collect()
    }

    #[test]
    fn all_letters_of_alphabets_that_look_alike_are_of_one_word() {
        let scripts =
            r"^(?:[\p{Latin}\p{Greek}\p{Cyrillic}\p{Armenian}\p{Cherokee}\p{Lisu}&&\p{L}]|\p{Nd})$";
        let scripts = regex::Regex::new(scripts).unwrap();
        let of_others = regex::Regex::new(
            r"[\p{Han}\p{Hiragana}\p{Thai}\p{Hangul}\p{Arabic}\p{Hebrew}&&\p{L}]",
        )
        .unwrap();
        for c in '\0'..'\u{20000}' {
            for seen in letters(c) {
                let written = seen.to_string();
                let is_of = is_of_alphabet(seen);
                assert!(is_of || !scripts.is_match(&written), "{c:?} {written:?}");
                assert!(!is_of || !of_others.is_match(&written), "{c:?} {written:?}");
            }
        }
    }

    #[test]
    fn every_kana_has_borders() {
        let kana = regex::Regex::new(r"^[[\p{Hiragana}\p{Katakana}ー]&&\w]$").unwrap();
        for c in ('\0'..=char::MAX).flat_map(letters) {
            assert!(is_of_kana(c) || !kana.is_match(&c.to_string()), "{c:?}");
        }
    }

    #[test]
    fn a_capital_is_of_no_text_but_for_what_looks_like_it() {
        for c in '\0'..=char::MAX {
            for seen in letters(c).filter(char::is_ascii_uppercase) {
                assert!(
                    !c.is_ascii() && ('a'..='z').any(|letter| capital(letter) == Some(seen)),
                    "{c:?}"
                );
            }
        }
    }

    #[test]
    fn letters_that_look_the_same_are_one() {
        for text in ["ꓓꓣꓮꓖꓳꓠ", "ᎠᎡᎪᏀoɴ", "dr\u{251}\u{261}on", "🄳🅁🄰🄶🄾🄽"]
        {
            assert_eq!(seen(text), "dragon", "{text}");
        }
        for (text, same) in [("fսck", "fuck"), ("օր", "oր"), ("Ոո", "nn"), ("ħŧ", "ht")] {
            assert_eq!(seen(text), same);
        }
    }

    #[test]
    fn a_pattern_has_all_that_stands_for_its_letters() {
        let pattern = seen_through(r"\b(?:sin|\d\\b)[sz]н\W");
        assert_eq!(pattern, r"\b(?:s[iI][nN]|\d\\[bB])[s[zZ]][нH]\W");
        let [small, capitals] = [('a'..='я'), ('A'..='Z')].map(|row| row.collect::<String>());
        let letters = small.chars().filter(|c| c.is_alphabetic());
        for letter in letters.filter(|c| capital(*c).is_some()) {
            let pattern = regex::Regex::new(&seen_through(&letter.to_string())).unwrap();
            let found = pattern.find_iter(&capitals).map(|found| found.as_str());
            assert_eq!(
                found.map(str::to_owned).collect::<String>(),
                capital(letter).unwrap().to_string()
            );
        }
    }
}
