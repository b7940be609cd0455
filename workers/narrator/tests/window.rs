//! What the narrator asks of models with small and large windows: it fits, whatever the story, and its beginning stays.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use agent::manifest::{Fate, Section};
use agent::{Agent, Bounds, HandleError, Manifest, Turn, Window};
use llm::{Counter, Counting, Encoding, Request};
use narrator::Narrator;
use proptest::prelude::*;
use rehearsal::{event, narration};
use scene::Budget;
use story::{Character, Event, LogEntry, Mode, Payload, Seq};

const ESTIMATE: Counting = Counting::Estimate(333);

fn bounds(tokens: u64, counting: Counting) -> Bounds {
    Bounds {
        tokens,
        answer: 1_000,
        is_assumed: false,
        counting,
    }
}

fn act(id: &str, text: &str) -> Event {
    event(id, Payload::Action(rehearsal::action(Mode::Do, text)))
}

fn told(seq: u64, text: &str) -> LogEntry {
    let payload = Payload::Narration(narration(text));
    LogEntry {
        seq: Seq(seq),
        event: event(&format!("n{seq}"), payload),
    }
}

fn turn(bounds: Bounds, text: &str) -> Turn {
    let narrator = Narrator::new(Budget::default());
    Turn {
        window: Some(Window::fixed(bounds)),
        prompts: narrator.prompts(None).unwrap(),
        ..rehearsal::turn(story::Agent::Narrator, act("a1", text))
    }
}

fn asks(turn: &Turn) -> Result<(Request, Manifest), HandleError> {
    let narrator = Narrator::new(Budget::default());
    Ok(narrator.request(turn)?.unwrap())
}

fn texts(request: &Request) -> [&str; 2] {
    let texts: Vec<&str> = request.texts().collect();
    texts.try_into().unwrap()
}

fn section<'a>(manifest: &'a Manifest, name: &str) -> &'a Section {
    let tokens = manifest.tokens.as_ref().unwrap();
    let found = tokens.sections.iter().find(|section| section.name == name);
    found.unwrap_or_else(|| panic!("no {name}: {tokens:?}"))
}

/// A story that is larger than any small window.
fn rich(turn: &mut Turn) {
    let prose =
        "The old harbour sleeps under snow, and nobody remembers who lit the lamp. ".repeat(6);
    turn.context.fence = "k482915".to_owned();
    turn.context.premise = "A lamp burns in the harbour.".to_owned();
    turn.context.summary = prose.clone();
    for number in 0..20 {
        let description = format!("{number} {prose}");
        let character = Character {
            description,
            ..Character::default()
        };
        turn.context
            .characters
            .insert(format!("Person {number:02}"), character);
        turn.context
            .lore
            .insert(format!("place {number:02}"), prose.clone());
    }
    turn.context.history = (1..=40)
        .map(|seq| told(seq, &format!("{seq} {prose}")))
        .collect();
}

#[test]
fn the_first_message_stays_whatever_happens() {
    let mut first = None;
    for (counting, round) in [333, 300, 222, 150]
        .into_iter()
        .zip(0..)
        .map(|(ratio, round)| (Counting::Estimate(ratio), round))
    {
        let mut turn = turn(
            bounds(8_192, counting),
            &"I look at place 19 and wait. ".repeat(round * 20 + 1),
        );
        rich(&mut turn);
        turn.context.history.truncate(4 + 10 * round);
        let (request, manifest) = asks(&turn).unwrap();
        let [system, last] = texts(&request);
        assert!(last.contains("I look at place 19") && last.contains("# What happened last"));
        assert!(section(&manifest, "lore").told > 0);
        assert_eq!(
            first.get_or_insert_with(|| system.to_owned()),
            system,
            "{round}"
        );
    }
}

#[test]
fn a_window_that_is_full_is_full_of_the_newest() {
    for counting in [ESTIMATE, Counting::Exact(Encoding::O200k)] {
        let mut turn = turn(bounds(8_192, counting), "I wait.");
        rich(&mut turn);
        let (request, manifest) = asks(&turn).unwrap();
        let tokens = manifest.tokens.clone().unwrap();
        assert_eq!(
            tokens.used,
            turn.window.clone().unwrap().counter.request(&request)
        );
        assert!(tokens.used <= tokens.room, "{tokens:?}");
        assert!(
            tokens.used + tokens.room / 20 > tokens.room,
            "much is free: {tokens:?}"
        );
        let sum: usize = tokens.sections.iter().map(|section| section.tokens).sum();
        assert_eq!(sum, tokens.used, "{tokens:?}");
        let history = section(&manifest, "history");
        assert_eq!(history.told + history.left, 40, "{history:?}");
        assert_eq!(history.items[0].item, "40");
        assert_eq!(
            history.items[history.told - 1].fate,
            Fate::Cut,
            "{history:?}"
        );
        assert_eq!(manifest.history.len(), history.told);
        assert_eq!(manifest.history.last(), Some(&Seq(40)));
    }
}

#[test]
fn lore_that_the_first_message_has_no_room_for_is_told_when_it_is_named() {
    let mut turn = turn(bounds(8_192, ESTIMATE), "I go to PLACE 19, slowly.");
    rich(&mut turn);
    let (request, manifest) = asks(&turn).unwrap();
    let [system, last] = texts(&request);
    assert!(!system.contains("place 19"));
    assert!(
        last.contains("# What is known of it\n* <<<k482915 place 19: The old harbour"),
        "{last}"
    );
    let recalled = section(&manifest, "recalled");
    assert_eq!(
        (recalled.told, recalled.items[0].item.as_str()),
        (1, "place 19")
    );
    assert!(manifest.lore.contains(&"place 19".to_owned()));
    turn.event = act("a1", "I go to replace 190, slowly.");
    let (request, _) = asks(&turn).unwrap();
    assert!(!texts(&request)[1].contains("# What is known of it"));
}

#[test]
fn what_is_too_much_goes_in_the_declared_order() {
    const ORDER: [&str; 4] = ["recalled", "lore", "characters", "summary"];
    let mut seen = Vec::new();
    for words in 1..1_000 {
        let mut turn = turn(bounds(4_000, ESTIMATE), &"I name place 19. ".repeat(words));
        rich(&mut turn);
        let Ok((_, manifest)) = asks(&turn) else {
            break;
        };
        let sections = manifest.tokens.unwrap().sections;
        let told = |name: &str| sections.iter().any(|one| one.name == name && one.told > 0);
        let dropped = |section: &&Section| {
            let mut items = section.items.iter();
            items.any(|item| item.fate == Fate::Window)
        };
        for section in sections.iter().filter(dropped) {
            let before = ORDER.iter().take_while(|name| **name != section.name);
            let before: Vec<&&str> = before.chain([&"history"]).collect();
            if section.name != "history" {
                assert!(
                    !before.iter().any(|name| told(name)),
                    "{words}: {sections:?}"
                );
            }
            if !seen.contains(&section.name) {
                seen.push(section.name.clone());
            }
        }
    }
    for name in &ORDER[1..] {
        assert!(seen.iter().any(|one| one == name), "never too much: {name}");
    }
}

#[test]
fn a_window_that_the_rules_fill_is_a_failure_that_says_so() {
    let error = asks(&turn(bounds(600, ESTIMATE), "I wait.")).unwrap_err();
    assert_eq!(error.class, "context");
    assert_eq!(
        error.notice,
        "The story has grown too long for the storyteller."
    );
    let says = error.to_string();
    assert!(
        says.contains("a window of 600 leaves 162 for both"),
        "{says}"
    );
    assert!(says.contains("models.NAME.window"), "{says}");
    let long = turn(bounds(8_192, ESTIMATE), &"I wait. ".repeat(4_000));
    assert_eq!(asks(&long).unwrap_err().class, "context");
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ,.]{0,400}",
        ".{0,60}",
        "(漢字|é|👩‍👩‍👧‍👦|<<<|>>>|\n# |/|\t){0,80}",
        "[ \n/]{0,40}",
    ]
}

fn counting() -> impl Strategy<Value = Counting> {
    prop_oneof![
        (100_u32..=1_000).prop_map(Counting::Estimate),
        Just(Counting::Exact(Encoding::O200k)),
        Just(Counting::Exact(Encoding::Cl100k)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_window_that_nobody_told_refuses_no_turn(
        (tokens, counting) in (0_u64..6_000, counting()),
        (is_rich, words) in (any::<bool>(), 0_usize..2_000),
    ) {
        let bounds = Bounds { is_assumed: true, ..bounds(tokens, counting) };
        let mut turn = turn(bounds, &"I wait on. ".repeat(words + 1));
        if is_rich {
            rich(&mut turn);
        }
        let (request, manifest) = asks(&turn).unwrap();
        let tokens = manifest.tokens.unwrap();
        let said = scene::plain(&"I wait on. ".repeat(words + 1));
        prop_assert!(texts(&request)[1].contains(said.trim_end()));
        // What is more than it had nothing left that could be left out.
        let can_go = |section: &&Section| {
            let is_fixed = ["rules", "turn", "title", "style", "premise"].contains(&section.name.as_str());
            !is_fixed && section.told > 0
        };
        prop_assert!(tokens.used <= tokens.room || !tokens.sections.iter().any(|one| can_go(&one)), "{tokens:?}");
    }

    #[test]
    fn no_story_is_more_than_the_window(
        (tokens, counting) in (0_u64..6_000, counting()),
        settings in prop::array::uniform4(text()),
        people in prop::collection::btree_map("[a-z]{1,8}", text(), 0..8),
        lore in prop::collection::btree_map("[a-z]{1,3}", text(), 0..12),
        history in prop::collection::vec(text(), 0..30),
        said in text(),
    ) {
        let mut turn = turn(bounds(tokens, counting), &format!("I say: {said}"));
        let context = &mut turn.context;
        [context.title, context.style, context.premise, context.summary] = settings;
        context.characters = people.into_iter().map(|(name, description)| {
            (name, Character { description, ..Character::default() })
        }).collect();
        context.lore = lore;
        context.history = (1..).zip(&history).map(|(seq, text)| told(seq, text)).collect();
        let bare = {
            let mut bare = turn.context.clone();
            (bare.summary, bare.characters, bare.lore, bare.history) = Default::default();
            bare
        };
        match asks(&turn) {
            Ok((request, manifest)) => {
                // Counted anew, and each text as a whole.
                let counter = Counter::new(counting);
                let used = counter.request(&request);
                prop_assert!(used as u64 + 400 <= tokens, "{used} of {tokens}");
                prop_assert_eq!(manifest.tokens.unwrap().used, used);
                let said = scene::plain(&format!("I say: {said}"));
                prop_assert!(texts(&request)[1].contains(&said));
                prop_assert_eq!(asks(&turn).unwrap().0, request);
            }
            Err(error) => {
                prop_assert_eq!(error.class, "context");
                // Not even the least of it would fit.
                let context = bare;
                let window = Some(Window::fixed(bounds(1_000_000, counting)));
                let turn = Turn { context, window, ..turn };
                let least = asks(&turn).unwrap().1.tokens.unwrap().used;
                let room = Window::fixed(bounds(tokens, counting)).room(Some(400));
                prop_assert!(least > room, "{least} would fit into {room}");
            }
        }
    }
}
