//! Over every boundary: what left is no text that the rules forbid, and what is harmless leaves.

use proptest::prelude::*;
use story::OutputPolicy::{Hold, Off, Retract};

use story::{ContentPolicy, Phrases, Rating};

use super::*;
use crate::form;

/// What holds for all stories.
fn rules() -> Rules {
    Rules::of(&ContentPolicy {
        rating: Rating::Mature,
        ..ContentPolicy::default()
    })
}

const BEFORE: &str = "“Of course!” he says.\nOnly 3.50, ";
const AFTER: &str = " and so on. A door opens.";

/// What no reader may be given whole, in every disguise that the rules know.
fn forbidden() -> Vec<String> {
    let words = [
        "pay with 4111 1111 1111 1111 now",
        "pay with 4111-1111-1111-1111",
        "４１１１１１１１１１１１１１１１",
        "٤١١١ ١١١١ ١١١١ ١١١١",
        "UNDERAGE  PORN",
        "und3rag3 p0rn",
        "under\u{200b}age po\u{ad}rn",
        "undеrage pоrn",
        "ｕｎｄ３ｒａｇｅ ｐ０ｒｎ",
        "undérage porn",
        "undera\u{301}ge. porn",
        "kys",
        "kill yourself\nnow",
        "h0w to bu!ld a pipe bomb",
        "ki11 y0urse|f now",
        "🅺🅨Ѕ",
        "🇰🇾🇸",
        "ΚΥS",
        "k\u{200a}y\u{600}s",
        "uΝder\u{93f}age p\u{202f}orn",
    ];
    let flooded = [
        format!("underage{}porn", " \n".repeat(400)),
        format!("under{}age porn", "\u{200b}".repeat(1500)),
        format!("how to make {} a pipe bomb", "! ".repeat(700)),
    ];
    words
        .map(str::to_owned)
        .into_iter()
        .chain(flooded)
        .collect()
}

/// What left after each of the pieces.
fn given<'a>(policy: OutputPolicy, pieces: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    given_by(&rules(), policy, pieces)
}

fn given_by<'a>(
    rules: &Rules,
    policy: OutputPolicy,
    pieces: impl IntoIterator<Item = &'a str>,
) -> Vec<String> {
    let mut watch = Watch::new(policy, rules.clone());
    let mut left = String::new();
    let pieces = pieces.into_iter().map(|piece| {
        left.push_str(&watch.push(piece));
        left.clone()
    });
    pieces.collect()
}

fn whole(policy: OutputPolicy, text: &str) -> String {
    given(policy, [text]).concat()
}

fn letters(policy: OutputPolicy, text: &str) -> Vec<String> {
    given(policy, text.split("").filter(|letter| !letter.is_empty()))
}

fn may_be_shown(rules: &Rules, policy: OutputPolicy, text: &str) -> bool {
    match policy {
        Hold => rules.judge(text).decision == Decision::Allow,
        _ => rules.judge(text).decision != Decision::Block,
    }
}

#[test]
fn a_forbidden_sentence_split_at_any_boundary_never_leaves() {
    for sentence in forbidden() {
        assert_eq!(
            rules().judge(&sentence).decision,
            Decision::Block,
            "{sentence}"
        );
        let text = format!("{BEFORE}{sentence}{AFTER}");
        let borders: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        for policy in [Hold, Retract] {
            let all = whole(policy, &text);
            // A window's beginning is not held for its end, nor a letter for the word.
            let most = BEFORE.len() + sentence.len() - 1;
            assert!(all.len() <= most && text.starts_with(&all), "{all}");
            assert!(may_be_shown(&rules(), policy, &all), "{all}");
            // Within a flood one is like the other.
            let every = if text.len() > 500 { 97 } else { 1 };
            for at in borders.iter().step_by(every) {
                let (head, tail) = text.split_at(*at);
                let left = given(policy, [head, tail]);
                assert!(
                    may_be_shown(&rules(), policy, &left[0]),
                    "{policy:?} {}",
                    left[0]
                );
                assert_eq!(left[1], all, "{policy:?} at {at}");
            }
        }
    }
}

#[test]
fn every_letter_alone_is_the_same_as_all_at_once() {
    for sentence in forbidden() {
        let text = format!("{BEFORE}{sentence}{AFTER}");
        for policy in [Hold, Retract] {
            let left = letters(policy, &text);
            let last = left.last().cloned().unwrap_or_default();
            assert_eq!(last, whole(policy, &text), "{policy:?} {sentence}");
        }
    }
}

#[test]
fn what_is_held_leaves_sentence_by_sentence() {
    let left = given(Hold, ["The do", "or opens", ". “Go!”", " he", " says. Now"]);
    let ends = ["", "", "The door opens.", "The door opens. “Go!”"];
    assert_eq!(left[..4], ends);
    assert_eq!(left[4], "The door opens. “Go!” he says.");
    assert_eq!(whole(Hold, "One\nTwo"), "One");
    assert_eq!(
        whole(Hold, "門が開く。「行け！」と彼"),
        "門が開く。「行け！」"
    );
    // Without an end in sight it leaves at the end of a word, and where there is none at any letter.
    let long = "word ".repeat(200);
    assert_eq!(whole(Hold, &long), "word ".repeat(102).trim_end());
    assert_eq!(whole(Hold, &"ö".repeat(600)), "ö".repeat(WINDOW));
}

#[test]
fn what_the_rules_flag_leaves_only_where_nothing_is_held() {
    let text = "Dust falls. I want to end my life, she says. Rain falls. ";
    assert_eq!(whole(Hold, text), "Dust falls.");
    assert_eq!(whole(Retract, text), text);
    let blocked = "Dust falls. kys now. Rain falls. ";
    assert_eq!(whole(Hold, blocked), "Dust falls.");
    assert_eq!(whole(Retract, blocked), "Dust falls. ky");
    assert_eq!(whole(Off, blocked), blocked);
}

#[test]
fn a_word_that_goes_on_is_another_word() {
    let text = "Kysela waits, and the child draws nudes, or nudest. ";
    assert_eq!(
        letters(Retract, text)[..5],
        ["K", "Ky", "Ky", "Kyse", "Kysel"]
    );
    assert_eq!(whole(Retract, text), text);
    // At the end of a window that cannot wait for it.
    let text = format!("{}-kysela", "ö".repeat(WINDOW - 4));
    assert_eq!(whole(Hold, &text), format!("{}-ky", "ö".repeat(WINDOW - 4)));
    let text = format!("{text}{}", "ö".repeat(WINDOW));
    assert!(whole(Hold, &text).contains("-kysela"));
}

#[test]
fn what_is_split_between_windows_is_found() {
    for gap in 0..40 {
        // The window ends behind each letter of it once.
        let text = format!(
            "{}underage-porn{}",
            "ö".repeat(WINDOW - 30 + gap),
            "ö".repeat(900)
        );
        let text = text
            .replacen("öunderage", "-underage", 1)
            .replacen("pornö", "porn-", 1);
        let left = whole(Hold, &text);
        assert!(!left.contains("porn") && text.starts_with(&left), "{left}");
    }
}

#[test]
fn a_new_attempt_begins_anew() {
    for policy in [Hold, Retract] {
        let mut watch = Watch::new(policy, rules());
        assert_eq!(
            watch.push("underage porn. And more. "),
            match policy {
                Hold => "",
                _ => "underage por",
            }
        );
        assert_eq!(watch.push("Dust falls. "), "");
        watch.restart();
        // Nor does it join to what was void.
        assert!(watch.push("porn falls. ").starts_with("porn falls."));
    }
}

#[test]
fn an_answer_without_an_end_is_kept_in_bounds() {
    for (policy, piece) in [
        (Hold, "ö".repeat(99)),
        (Hold, "Dust falls. ".repeat(9)),
        (Retract, "no end, ".repeat(9)),
        (Retract, "kys ".to_owned()),
        (Hold, "\u{200b}! ".repeat(99)),
    ] {
        let mut watch = Watch::new(policy, rules());
        for _ in 0..40 {
            let _ = watch.push(&piece);
            assert!(watch.held.chars().count() <= WINDOW, "{}", watch.held.len());
            let kept = watch.left.each().map(|form| form.text().chars().count());
            assert!(
                kept.into_iter().all(|kept| kept <= 512 + form::BEFORE),
                "{kept:?}"
            );
        }
    }
}

/// Those of a story whose owner has words in mind.
fn listed() -> Rules {
    let list = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Phrases::try_from(words).unwrap()
    };
    Rules::of(&ContentPolicy {
        rating: Rating::General,
        blocked: list(&["Lord Vex", "t ö", "end my life porn"]),
        allowed: list(&[
            "fucking hell",
            "what the fuck",
            "ha ha",
            "ha fuck",
            "porn nudes",
            "nudest",
            "end my life",
            "child",
        ]),
    })
}

#[test]
fn words_of_the_story_leave_as_its_owner_says() {
    let rules = listed();
    let text = "Rain. “Fucking hell!” Then L0rd V\u{200b}ex comes. Rain. ";
    for (policy, most) in [
        (Hold, "Rain. “Fucking hell!”"),
        (Retract, "Rain. “Fucking hell!” Then L0rd V\u{200b}e"),
    ] {
        for at in text.char_indices().map(|(at, _)| at) {
            let (head, tail) = text.split_at(at);
            let mut watch = Watch::new(policy, rules.clone());
            let left = watch.push(head);
            assert_ne!(rules.judge(&left).decision, Decision::Block, "{left}");
            assert_eq!(left + &watch.push(tail), most, "{policy:?} at {at}");
            // They are the story's, and not of one attempt.
            watch.restart();
            assert!(!watch.push("Lord Vex. Rain. ").contains("Vex"));
        }
    }
}

#[test]
fn an_allowed_phrase_is_one_however_much_follows() {
    let rules = listed();
    for phrase in ["what the fuck", "porn nudes", "ha ha ha fuck"] {
        let text = format!("Rain, {phrase}, {}. Rain. ", "and so on ".repeat(120));
        assert_eq!(rules.judge(&text).decision, Decision::Allow, "{phrase}");
        let letters = text.split("").filter(|letter| !letter.is_empty());
        assert_eq!(given_by(&rules, Retract, letters).last(), Some(&text));
        let held = given_by(&rules, Hold, [text.as_str()]).concat();
        assert_eq!(held, text.trim_end(), "{phrase}");
    }
}

/// A few words of each kind, so that what is forbidden comes about at borders of all kinds.
fn pieces() -> impl Strategy<Value = Vec<String>> {
    let words = "fuck|what the fuck|(ha ){1,200}|underage|und3rage| |\\. |porn|nudes|nudest|t|\u{200b}| kys|4111 |1111 |1111|child|end my life|[a-zöгはがНक\u{3099}\u{93f}\u{200a}1|🇰벡ᄇ!?\n。]{0,6}|k1ll |yourse1f|\u{2009}now|(ö){500,520}";
    prop::collection::vec(words, 0..30)
}

/// A phrase that is allowed is none yet where a sentence ends within it.
fn each_window_is_allowed(rules: &Rules, text: &str) -> bool {
    let mut end = 0;
    while let Some(Window::Words(length) | Window::Letters(length)) = window(&text[end..]) {
        end += length;
        if !may_be_shown(rules, Hold, &text[..end]) {
            return false;
        }
    }
    true
}

proptest! {
    #[test]
    fn nothing_forbidden_leaves_whatever_the_pieces(pieces in pieces(), held: bool, of_owner: bool) {
        let rules = if of_owner { listed() } else { rules() };
        let policy = if held { Hold } else { Retract };
        let text = pieces.concat();
        let left = given_by(&rules, policy, pieces.iter().map(String::as_str));
        for left in &left {
            prop_assert!(may_be_shown(&rules, policy, left), "{left:?}");
            prop_assert!(text.starts_with(left));
        }
        let whole = given_by(&rules, policy, [text.as_str()]).concat();
        prop_assert_eq!(left.last().map_or("", String::as_str), whole);
    }

    #[test]
    fn what_the_rules_let_pass_leaves_whole(pieces in pieces(), of_owner: bool) {
        let rules = if of_owner { listed() } else { rules() };
        let text = pieces.concat() + ". ";
        let decision = rules.judge(&text).decision;
        let given = |policy| {
            let left = given_by(&rules, policy, pieces.iter().map(String::as_str).chain([". "]));
            left.last().cloned().unwrap_or_default()
        };
        if decision != Decision::Block {
            prop_assert_eq!(given(Retract), text.as_str());
        }
        if decision == Decision::Allow && (!of_owner || each_window_is_allowed(&rules, &text)) {
            prop_assert_eq!(given(Hold), text[..text.len() - 1].to_owned());
        }
    }
}
