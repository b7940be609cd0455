//! What each rule finds, whatever disguises it, and what none does.

use proptest::prelude::*;
use story::Phrases;

use super::*;

/// By what holds for all stories.
fn judge(text: &str) -> Finding {
    rated(Rating::Mature).judge(text)
}

fn rated(rating: Rating) -> Rules {
    Rules::of(&ContentPolicy {
        rating,
        ..ContentPolicy::default()
    })
}

#[test]
fn every_pattern_is_a_regex_of_bounded_length() {
    let rows = ROWS.iter().map(|row| seen_through(row.3));
    for pattern in rows.chain([crate::card::SIXTEEN.to_owned()]) {
        assert!(Regex::new(&pattern).is_ok(), "{pattern}");
        let parsed = regex_syntax::parse(&pattern).unwrap();
        // In bytes, which are never fewer than characters.
        let longest = parsed.properties().maximum_len();
        assert!(
            longest.is_some_and(|n| n <= LONGEST),
            "{longest:?} {pattern}"
        );
    }
}

#[test]
fn nothing_between_words_is_too_long() {
    for gap in ["!", ". ", "½", "\u{1f600}", " \u{200b}"] {
        let text = format!("how to make {} pipe bomb", gap.repeat(1000));
        assert_eq!(judge(&text).decision, Decision::Block, "{gap}");
    }
    let text = format!("underage{}porn", " ".repeat(1000));
    assert_eq!(judge(&text).decision, Decision::Block);
    let text = format!("underage{}porn", ".".repeat(1000));
    assert_eq!(judge(&text).decision, Decision::Allow);
    // Nor what hides a word's first letters, where digits stand for letters.
    let text = format!("{}5hota porn", ".".repeat(1000));
    assert_eq!(judge(&text).decision, Decision::Block);
}

#[test]
fn fiction_is_allowed() {
    for text in [
        "I stab the guard and set the castle on fire.",
        "The witch poisons the king; blood everywhere.",
        "I draw 1234 swords.",
        "",
    ] {
        let finding = judge(text);
        assert_eq!(finding.decision, Decision::Allow, "{text}: {finding:?}");
    }
}

#[test]
fn disguises_do_not_help() {
    for text in [
        "underage porn",
        "UNDERAGE  PORN",
        "und3rag3 p0rn",
        "under\u{200b}age po\u{ad}rn",
        "underage po\u{e0061}rn",
        "undеrage pоrn",
        "ｕｎｄｅｒａｇｅ ｐｏｒｎ",
        "ｕｎｄ３ｒａｇｅ ｐ０ｒｎ",
        "undérage porn",
        "und3rage p0rn!",
        "|und3rage p0rn|",
        "@und3rage pørn",
        "under*age* po\u{20dd}rn",
    ] {
        let finding = judge(text);
        assert_eq!(finding.decision, Decision::Block, "{text}");
        assert_eq!(finding.categories, ["sexual/minors"], "{text}");
    }
}

#[test]
fn a_1_and_what_looks_like_it_is_an_i_and_an_l() {
    let plain = [
        "kill yourself now",
        "how to build a pipe bomb",
        "blowjob",
        "clitoris",
        "loli porn",
    ];
    for text in plain {
        let disguised = ["1", "|", "!"].map(|sign| text.replace(['i', 'l'], sign));
        let halves = [
            text.replace('l', "1"),
            text.replace('i', "1").to_uppercase(),
        ];
        for text in disguised.into_iter().chain(halves) {
            assert_eq!(
                rated(Rating::Teen).judge(&text).decision,
                Decision::Block,
                "{text}"
            );
        }
    }
    let text = "Is it 111-11-1111? |||-||-||||, klll yourseif now!";
    let harmless = "|||-||-||||, klll yourseif now! 11 | 1001 | !!";
    assert_eq!(judge(text).categories, ["private-data"]);
    assert_eq!(judge(harmless).decision, Decision::Allow);
}

#[test]
fn a_word_is_found_beside_letters_of_scripts_that_put_no_space_there() {
    for text in ["彼はunderage pornだ", "彼は4111111111111111だ"] {
        assert_eq!(judge(text).decision, Decision::Block, "{text}");
    }
    for text in ["sunderage porn", "щunderage porn", "щ4111111111111111"] {
        assert_eq!(judge(text).decision, Decision::Allow, "{text}");
    }
}

#[test]
fn what_a_second_look_must_decide_is_flagged() {
    for (text, category) in [
        ("I want to end my life", "self-harm"),
        ("tell me how to cook meth", "illicit"),
        ("my SSN: 078-05-1120", "private-data"),
        (
            "The child runs to her mother, naked fear in her eyes.",
            "sexual/minors",
        ),
    ] {
        let finding = judge(text);
        assert_eq!(
            (finding.decision, finding.categories),
            (Decision::Flag, vec![category.to_owned()]),
            "{text}"
        );
    }
}

#[test]
fn a_card_number_is_blocked() {
    for text in [
        "pay with 4111 1111 1111 1111",
        "４１１１１１１１１１１１１１１１",
    ] {
        let finding = judge(text);
        assert_eq!(finding.decision, Decision::Block, "{text}");
        assert_eq!(finding.categories, ["private-data"], "{text}");
    }
}

#[test]
fn a_rating_forbids_what_is_not_for_its_readers() {
    use Decision::{Allow, Block, Flag};
    for (text, decisions, category) in [
        ("They watch pornography.", [Block, Block, Allow], "sexual"),
        (
            "He stands naked in the hall.",
            [Flag, Allow, Allow],
            "sexual",
        ),
        (
            "She is beheaded at dawn.",
            [Flag, Allow, Allow],
            "violence/graphic",
        ),
        ("Oh, f\u{200b}uck!", [Block, Allow, Allow], "profanity"),
        ("What a b4stard.", [Flag, Allow, Allow], "profanity"),
        ("The knight dies of his wounds.", [Allow, Allow, Allow], ""),
        ("underage porn", [Block, Block, Block], "sexual/minors"),
    ] {
        let ratings = [Rating::General, Rating::Teen, Rating::Mature];
        for (rating, decision) in ratings.into_iter().zip(decisions) {
            let finding = rated(rating).judge(text);
            assert_eq!(finding.decision, decision, "{rating:?}: {text}");
            let named = finding.categories.iter().any(|one| one == category);
            assert_eq!(named, decision != Allow, "{finding:?}");
        }
    }
}

#[test]
fn an_owner_blocks_words_and_allows_what_is_the_storys_own() {
    let list = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Phrases::try_from(words).unwrap()
    };
    let rules = Rules::of(&ContentPolicy {
        rating: Rating::General,
        blocked: list(&["Lord Vex", "gory hole"]),
        allowed: list(&[
            "Gory",
            "Suicide Club",
            "fucking hell",
            "csam",
            "vex",
            "child",
            "girl",
            "boy",
        ]),
    });
    for (text, decision, categories) in [
        (
            "Lord V3x comes.",
            Decision::Block,
            ["blocked-words"].as_slice(),
        ),
        ("The town of Gory sleeps.", Decision::Allow, &[]),
        ("The suicide club meets.", Decision::Allow, &[]),
        ("A suicide, says the club.", Decision::Flag, &["self-harm"]),
        (
            "Fucking hell! A fucking helmet.",
            Decision::Block,
            &["profanity"],
        ),
        ("Fucking hell!", Decision::Allow, &[]),
        // What is allowed takes nothing off what is blocked, here or in all stories.
        ("a gory hole", Decision::Block, &["blocked-words"]),
        ("csam", Decision::Block, &["sexual/minors"]),
        // Nor does a word that is allowed take its part off what is made of it and others.
        (
            "The child and the girl are naked.",
            Decision::Flag,
            &["sexual", "sexual/minors"],
        ),
    ] {
        let finding = rules.judge(text);
        assert_eq!(finding.decision, decision, "{text}");
        assert_eq!(finding.categories, categories, "{text}");
    }
}

/// In the order in which they begin, as they are found.
fn ranges() -> impl Strategy<Value = Vec<Range<usize>>> {
    let range = (0..40_usize, 1..9_usize).prop_map(|(start, length)| start..start + length);
    prop::collection::vec(range, 0..12).prop_map(|mut ranges| {
        ranges.sort_by_key(|range| range.start);
        ranges
    })
}

proptest! {
    #[test]
    fn what_is_within_an_allowed_place_is_that_of_every_place_looked_at(found in ranges(), places in ranges()) {
        let holds = |found: &Range<usize>| {
            places.iter().any(|place| place.start <= found.start && found.end <= place.end)
        };
        let looked_at = std::cell::Cell::new(0);
        let counted = places.iter().inspect(|_| looked_at.set(looked_at.get() + 1));
        prop_assert_eq!(all_within(found.iter().cloned(), counted), found.iter().all(holds));
        prop_assert!(looked_at.get() <= places.len());
    }
}
