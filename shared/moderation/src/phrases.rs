//! A story's own lists of words, as they are looked for in the forms of a text.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use regex_syntax::is_word_character;
use story::Phrases;

use crate::form::{Form, Forms, READINGS, Reading};
use crate::letter::seen_through;

/// What may stand where a phrase has white space.
const GAP: &str = r"[ -/:-@\[-`{-~]{1,4}";

/// What exclamation marks behind a word are in the form where signs are letters.
const CALLED: &str = "I{0,8}";

/// Letters of scripts that put no space between words. That is not all: the syllables of Hangul and kana have a border each.
static UNSPACED: LazyLock<Regex> = LazyLock::new(|| {
    let scripts = r"[\p{Han}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]";
    Regex::new(scripts).unwrap_or_else(|error| unreachable!("a test compiles it: {error}"))
});

/// What is not shown, in whichever form it is written.
#[derive(Debug, Clone)]
pub(crate) struct Blocked(Regex);

/// What is not looked for, in each form as it is in that form.
#[derive(Debug, Clone)]
pub(crate) struct Allowed([Option<Regex>; READINGS]);

impl Blocked {
    pub(crate) fn new(phrases: &Phrases) -> Option<Self> {
        let phrases: Vec<Forms> = phrases.iter().map(Forms::of_phrase).collect();
        let plain = phrases.iter().map(|phrase| phrase.each()[0]);
        any_of(plain, "").map(|any| Self(compiled(&any)))
    }

    pub(crate) fn finds(&self, forms: &Forms) -> bool {
        let mut forms = forms.searched();
        forms.any(|form| self.0.is_match_at(form.text(), form.start()))
    }
}

impl Allowed {
    pub(crate) fn new(phrases: &Phrases) -> Option<Self> {
        let phrases: Vec<Forms> = phrases.iter().map(Forms::of_phrase).collect();
        let of = |number: usize| {
            let forms = phrases.iter().map(|phrase| phrase.each()[number]);
            let is_called = number == Reading::Signs as usize;
            any_of(forms, if is_called { CALLED } else { "" })
        };
        let patterns: [_; READINGS] = std::array::from_fn(of);
        // Where no phrase has a digit most are the same.
        let mut made = HashMap::new();
        let mut make = |pattern: String| {
            let made = made.entry(pattern);
            made.or_insert_with_key(|pattern| compiled(pattern)).clone()
        };
        let patterns = patterns.map(|pattern| pattern.map(&mut make));
        (!phrases.is_empty()).then_some(Self(patterns))
    }

    /// Where the phrases stand in a form, also where one begins within another.
    pub(crate) fn places(&self, form: &Form) -> Vec<Range<usize>> {
        let (mut places, mut from) = (Vec::new(), 0);
        let Some(phrases) = &self.0[form.reading() as usize] else {
            return places;
        };
        while let Some(found) = phrases.find_at(form.text(), from) {
            places.push(found.range());
            from = found.start() + first(found.as_str());
        }
        places
    }
}

/// The length of the first letter.
pub(crate) fn first(text: &str) -> usize {
    text.chars().next().map_or(1, char::len_utf8)
}

/// Any of the phrases, as words of their own with what may be `behind` them. Of two that begin alike, the longer one.
fn any_of<'a>(phrases: impl Iterator<Item = &'a Form>, behind: &str) -> Option<String> {
    let phrases = phrases.map(|form| form.text().trim());
    let mut phrases: Vec<&str> = phrases.filter(|phrase| !phrase.is_empty()).collect();
    phrases.sort_unstable_by_key(|phrase| std::cmp::Reverse(phrase.len()));
    if phrases.is_empty() {
        return None;
    }
    let patterns = phrases.into_iter().map(|phrase| pattern(phrase, behind));
    let patterns: Vec<String> = patterns.collect();
    Some(patterns.join("|"))
}

fn compiled(pattern: &str) -> Regex {
    // Its length has a bound, and a test compiles the longest.
    Regex::new(pattern).unwrap_or_else(|error| unreachable!("phrases are escaped: {error}"))
}

fn pattern(phrase: &str, behind: &str) -> String {
    let edge = |letter: Option<char>| letter.map_or("", border);
    let mut pattern = edge(phrase.chars().next()).to_owned();
    for (number, word) in phrase.split(' ').enumerate() {
        let gap = if number == 0 { "" } else { GAP };
        let _ = write!(pattern, "{gap}{}", regex::escape(word));
    }
    seen_through(&(pattern + behind + edge(phrase.chars().next_back())))
}

/// What must be beside a phrase that begins or ends with this: no letter of the same word.
fn border(letter: char) -> &'static str {
    let unspaced = || UNSPACED.is_match(letter.encode_utf8(&mut [0; 4]));
    match is_word_character(letter) && !unspaced() {
        true => r"\b",
        false => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn phrases(list: &[&str]) -> Phrases {
        let list: Vec<String> = list.iter().map(|&phrase| phrase.to_owned()).collect();
        list.try_into().unwrap()
    }

    #[test]
    fn a_phrase_is_found_as_words_of_its_own_whatever_disguises_it() {
        let blocked = Blocked::new(&phrases(&[
            "Lord Vex", "4chan", "a.b", "邪神", ":)", "벡스", "don't", "сыр",
        ]))
        .unwrap();
        for (text, found) in [
            ("lord vex!", true),
            ("LORD-VEX", true),
            ("l0rd  v\u{200b}ex", true),
            ("Lord, Vex", true),
            ("Lord—Vex", true),
            ("Lord “Vex”", true),
            ("Lord… Vex", true),
            ("L0rd V3x!", true),
            ("||l0rd vex||", true),
            ("@l0rd vex", true),
            ("彼はLord Vexだ", true),
            ("벡스가", true),
            ("I don’t", true),
            ("где сыр?", true),
            ("сырок", false),
            ("overlord vexed", false),
            ("lordvex", false),
            ("on 4chan", true),
            ("achan", false),
            ("a.b", true),
            ("acb", false),
            ("彼は邪神だ", true),
            ("so :).", true),
            ("", false),
        ] {
            assert_eq!(blocked.finds(&Forms::of(text)), found, "{text}");
        }
        assert!(Blocked::new(&Phrases::default()).is_none());
    }

    #[test]
    fn a_word_is_not_found_within_one_whose_letters_only_look_otherwise() {
        for (word, other, same) in [
            ("ром", "Гремит гром.", "Гром, ром."),
            ("ром", "Ромб.", "Ромб и РОМ!"),
            ("рак", "брак", "рак"),
            ("рот", "грот", "грот, рот, грот"),
            ("ας", "μας", "ας"),
            ("Wei", "weiß", "Weiß, wei"),
            ("Spa", "Spaß", "Spaß im Spa"),
            ("Vex", "Vexы", "Vex҉"),
            ("Vex", "3Vex", "彼は3人、Vexだ"),
            ("мы", "мыс", "彼はмыだ"),
            ("Spaß", "Spaßes", "彼はSpaßだ"),
            ("Tシャツ", "xTシャツ", "彼のTシャツが"),
            ("Vex", "Vexed", "สวัสดีvex"),
        ] {
            let blocked = Blocked::new(&phrases(&[word])).unwrap();
            for (text, found) in [(other, false), (same, true)] {
                assert_eq!(blocked.finds(&Forms::of(text)), found, "{word}: {text}");
            }
        }
        let allowed = Allowed::new(&phrases(&["ром"])).unwrap();
        let forms = Forms::of("Гром, ром");
        let places = forms.each().map(|form| allowed.places(form).len());
        assert_eq!(places, [1; READINGS]);
    }

    #[test]
    fn a_letter_is_found_by_what_looks_like_it_in_its_case() {
        for (word, other, same) in [
            ("dragon", "Dragou", "DRAGOΝ"),
            ("harbor", "Barbor", "НARBOR ΗARBOR"),
            ("harbor", "нarbor", "HАRВOR"),
            ("harbor", "harвor", "HARΒ0R"),
            ("Νίκος", "Νίκο", "νίκος"),
            ("νίκος", "κος", "ΝΊΚΟΣ"),
            ("Вера", "Веры", "вера, ВЕРА"),
            ("нора", "Норы", "Нора"),
            ("MΜN", "mm", "mμn"),
            ("mall", "mail", "ma11 MA|L"),
            ("mail", "mall", "ma1l MAI!"),
            ("mail", "maal", "maǀ∣"),
            ("l", "i", "l"),
            ("Level 1", "Level I, Level !, Level |, Level l", "Level 1"),
        ] {
            let blocked = Blocked::new(&phrases(&[word])).unwrap();
            for (text, found) in [(other, false), (same, true)] {
                assert_eq!(blocked.finds(&Forms::of(text)), found, "{word}: {text}");
            }
        }
    }

    #[test]
    fn letters_of_other_styles_and_what_is_hardly_seen_hide_no_word() {
        let blocked = Blocked::new(&phrases(&["dragon", "four km"])).unwrap();
        for (text, found) in [
            ("🅓🅡🅐🅖🅞🅝", true),
            ("🅳🆁🅰🅶🅾🅽", true),
            ("🄳🅁🄰🄶🄾🄽", true),
            ("🇩🇷🇦🇬🇴🇳", true),
            ("⒟⒭⒜⒢⒪⒩", true),
            ("🄓🄡🄐🄖🄞🄝", true),
            ("ꓓꓣꓮꓖꓳꓠ", true),
            ("dr\u{200a}ag\u{2009}o\u{2006}\u{202f}n", true),
            ("dr\u{200a}ag0n!", true),
            ("dr\u{600}ag\u{605}o\u{6dd}n", true),
            ("four\u{2009}km", true),
            ("four\u{202f}km!", true),
            // A flag or a list's letter beside a word is none of it.
            ("dragon🇩🇪", true),
            ("dr4gon🅱!", true),
            ("🇩🇷🇦🇬🇴🇳!", true),
            ("🅓🅡4🅖🅞🅝!", true),
            ("⒜dragon", true),
            ("\u{941}dragon", true),
            ("the\u{2009}dragon\u{2009}is", true),
            ("🇩🇷", false),
            ("drag on", false),
        ] {
            assert_eq!(blocked.finds(&Forms::of(text)), found, "{text}");
        }
    }

    #[test]
    fn a_word_of_any_script_is_found_however_it_is_written() {
        for (word, other, same) in [
            ("벡스", "벡슨", "\u{1107}\u{1166}\u{11a8}\u{1109}\u{1173}가"),
            (
                "\u{1107}\u{1166}\u{11a8}\u{1109}\u{1173}",
                "베스",
                "神벡스神",
            ),
            ("시", "\u{1109}\u{1175}\u{11ab}", "vex시vex"),
            ("바보", "바봉", "ㅂㅏㅂㅗ"),
            ("Οδός", "Οδόσα", "ΟΔΟΣ"),
            ("ΟΔΟΣ", "ΣΟΔΟΣ", "οδός"),
            ("سارة", "سارتان", "سَارَة"),
            ("سَارَة", "سار", "ســـارة"),
            ("שלום", "שלומי", "שָׁלוֹם"),
            ("אדם", "אדמה", "בֶּן־אָדָם"),
            ("か", "が", "彼か、か"),
            ("か", "か\u{3099}", "ｶ、かか"),
            ("が", "かは", "彼か\u{3099}は"),
            ("ガス", "カス", "ｶﾞｽ"),
            ("カ", "ガ", "カー"),
            ("メール", "メー", "メールが"),
            ("食べ", "食へ", "食べ物"),
            ("कल", "कुल", "आज कल"),
            ("dragon", "dragons", "dr\u{93f}ag\u{e38}o\u{20e3}n\u{1d167}"),
            ("竜", "龍", "竜\u{301}が"),
        ] {
            let blocked = Blocked::new(&phrases(&[word])).unwrap();
            for (text, found) in [(other, false), (same, true)] {
                assert_eq!(blocked.finds(&Forms::of(text)), found, "{word}: {text}");
            }
        }
    }

    #[test]
    fn every_letter_that_may_be_a_phrase_stays_in_its_form() {
        let unassigned = Regex::new(r"\p{Cn}").unwrap();
        for c in ('\0'..=char::MAX).map(String::from) {
            let is_phrase = Phrases::try_from(vec![c.clone()]).is_ok();
            let forms = Forms::of(&c);
            let stays = forms
                .each()
                .iter()
                .all(|form| !form.text().trim().is_empty());
            assert!(!is_phrase || stays || unassigned.is_match(&c), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn every_phrase_of_a_list_has_a_form_that_is_found_in_it(text in "[*~`_ـ \u{301}\u{64e}\u{5b8}\u{20dd}\u{fe0f}\u{200d}\u{600}\u{93f}\u{3099}ﾞかकНΝ1Ie:ب]{1,4}|.{1,4}") {
            if let Ok(list) = Phrases::try_from(vec![text.clone()]) {
                let blocked = Blocked::new(&list);
                prop_assert!(blocked.is_some_and(|blocked| blocked.finds(&Forms::of(&text))));
            }
        }
    }

    #[test]
    fn no_phrase_outgrows_what_is_kept_of_what_went_before() {
        // What has the most letters in its form, and the most borders.
        for letters in [
            "각", "a각", "a字", "ﷴ", "ﷴa", "ﬃ字", "각 ", "ﷴ ", "が", "がa", "ﾊﾟ",
        ] {
            let longest: String = letters.chars().cycle().take(story::MAX_NAME).collect();
            let forms = Forms::of(&longest);
            for form in forms.each() {
                let gaps = 3 * form.text().matches(' ').count();
                let behind = "iiiiiiii".len();
                let most = form.text().chars().count() + gaps + behind;
                assert!(most <= crate::form::BEFORE, "{most} {letters}");
            }
        }
    }

    #[test]
    fn what_is_before_the_start_is_beside_a_word() {
        let blocked = Blocked::new(&phrases(&["ром"])).unwrap();
        for (before, found) in [("г", false), ("я ", true), ("彼", true)] {
            let mut forms = Forms::of(before);
            forms.push("ром ");
            forms.push(&"ö ".repeat(crate::rules::LONGEST / 2 - 2));
            forms.forget();
            assert_eq!(blocked.finds(&forms), found, "{before}");
        }
    }

    #[test]
    fn what_is_allowed_has_its_places_in_each_form() {
        let allowed = Allowed::new(&phrases(&["bomb", "bomb cyclone", "4ss", "ha ha"])).unwrap();
        let places = |text: &str| {
            let forms = Forms::of(text);
            forms.each().map(|form| {
                let places = allowed.places(form).into_iter();
                places
                    .map(|place| form.text()[place].to_owned())
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(
            places("a b0mb, bomber"),
            [vec![], vec!["bomb"], vec!["bomb"], vec!["bomb"]]
        );
        assert_eq!(places("bomb cyclone"), [["bomb cyclone"]; READINGS]);
        assert_eq!(places("4ss!"), [["4ss"], ["ass"], ["assI"], ["ass"]]);
        assert_eq!(places("ha ha ha"), [["ha ha", "ha ha"]; READINGS]);
    }

    #[test]
    fn the_longest_lists_compile_and_nothing_that_a_pattern_is_made_of_is_special() {
        for letters in [
            "a ", "é.", "(?", "\\[", "字 ", "😀 ", "a字", "각 ", "il", "hν", "が ",
        ] {
            let numbered = |n: usize| format!("{n:02}{}", letters.repeat(31));
            let list: Vec<String> = (0..story::MAX_PHRASES).map(numbered).collect();
            let list = Phrases::try_from(list).unwrap();
            let blocked = Blocked::new(&list).unwrap();
            assert!(blocked.finds(&Forms::of(&numbered(63))), "{letters}");
            let allowed = Allowed::new(&list).unwrap();
            let longest = allowed.0.iter().flatten().map(|any| {
                let parsed = regex_syntax::parse(any.as_str()).unwrap();
                parsed.properties().maximum_len().unwrap()
            });
            // In bytes, which are at most four a character.
            let four = if letters.is_ascii() { 1 } else { 4 };
            assert!(longest.max().unwrap() <= crate::form::BEFORE * four);
            let longest = regex_syntax::parse(blocked.0.as_str()).unwrap();
            let longest = longest.properties().maximum_len();
            assert!(
                longest.is_some_and(|n| n <= crate::rules::LONGEST),
                "{longest:?}"
            );
        }
    }
}
