//! The mock's own words: a small grammar of sentences, expanded by dice. Templates name lists as `{list}`.

use crate::dice::Dice;

const SCENES: &[&str] = &[
    "{Air} drifts through {place}, and {thing} {stirs} {where}.",
    "You step into {place}; the floor is {adj}, and somewhere {where} {thing} {stirs}.",
    "{Beyond} {place}, the light turns {colour}.",
    "Nothing moves in {place} — nothing but {thing}, which {stirs} as though it had been waiting.",
    "The {adj} silence holds for a moment… then {thing} {stirs} {where}.",
    "A {colour} glow lies over {place}, too steady for fire and too warm for the moon.",
    "{Time}, {place} looks smaller than the stories made it.",
    "Your hand finds {thing}; it is {adj}, and it hums faintly under your fingers.",
    "Dust hangs in the {adj} air of {place}, and each step leaves a {colour} print behind.",
    "{Beyond} the old café by the gate, {thing} {stirs} {where}.",
    "It smells of {smell} here, and of {smell} beneath that.",
    "Whoever kept {place} left in haste: {thing} still {stirs} {where}.",
    "{Time}, the wind turns, bringing {smell} and the sound of {sound}.",
    "You hear {sound}, faint at first, then near — far nearer than the walls should allow.",
    "The façade of {place} has cracked from step to gable, and {colour} light leaks through.",
    "Something has changed: {thing} is gone, and in its place lies {thing}.",
    "There is a way on, {where}, though it is {adj} and narrow.",
    "{Sound} answers from {where}, and {place} seems to hold its breath.",
    "The map said nothing of {thing}, nor of the {adj} stair beside it.",
    "For the length of a heartbeat {place} is {colour}, and then it is only dark again…",
];
const SPEECHES: &[&str] = &[
    "I have seen {thing} before, and it did not end well for anyone in {place}.",
    "Keep your voice down — {sound} carries further than you think.",
    "If you mean to cross {place}, you will want to do it before dark.",
    "My fiancée used to say that {thing} brings luck… she was wrong.",
    "You came a long way for something so {adj}.",
    "I can show you the way {where}, but I will not go with you.",
    "Take {thing}; I would rather it were yours than theirs.",
    "Naïve, perhaps, but I still believe {place} can be saved.",
    "Do you smell that? {Smell}, and only ever {time}.",
    "Ask me again when {thing} has stopped staring at us.",
];
const CHOICES: &[&str] = &[
    "Follow {sound}",
    "Search {place}",
    "Pick up {thing}",
    "Wait {where} and listen",
    "Look closer at {thing}",
    "Turn back towards {place}",
    "Light the lamp and go on",
    "Call out into the dark",
];
const INTENTS: &[&str] = &[
    "warn of {thing}",
    "ask what brought the traveller to {place}",
    "offer help, for a price",
    "hide what they know about {thing}",
    "wonder at {sound}",
];
const AIR: &[&str] = &["cold air", "thin smoke", "a thread of mist", "the evening"];
const TIME: &[&str] = &[
    "by nightfall",
    "before the bell",
    "at this hour",
    "after the rain",
    "as the tide turns",
];
const BEYOND: &[&str] = &["beyond", "behind", "above", "just past"];
const PLACES: &[&str] = &[
    "the drowned chapel",
    "the clockmaker's yard",
    "the salt stair",
    "the lantern market",
    "the winter garden",
    "the lower gate",
    "the abandoned observatory",
    "the hall of mirrors",
    "the ferryman's house",
];
const THINGS: &[&str] = &[
    "a brass key",
    "the rusted sword",
    "a folded letter",
    "an unlit lantern",
    "a crow with one white feather",
    "the broken compass",
    "a silver bell",
    "a ring of wet footprints",
    "the oldest of the doors",
];
const STIRS: &[&str] = &[
    "stirs", "waits", "trembles", "gleams", "turns", "fades", "glimmers",
];
const WHERES: &[&str] = &[
    "under the arch",
    "to the north",
    "beside the well",
    "at the foot of the stair",
    "behind the curtain",
    "a little out of reach",
    "between the stones",
];
const ADJECTIVES: &[&str] = &[
    "cold", "patient", "uneven", "damp", "worn", "brittle", "hollow", "quiet", "strange",
];
const COLOURS: &[&str] = &["amber", "grey", "silver", "green", "copper", "pale"];
const SMELLS: &[&str] = &[
    "wet stone",
    "crème and burnt sugar",
    "pine smoke",
    "old paper",
    "the sea",
    "iron",
];
const SOUNDS: &[&str] = &[
    "a slow knocking",
    "running water",
    "someone humming",
    "the creak of a rope",
    "bells under water",
];

/// Whole sentences of narration, `words` words or a little more; nobody speaks in it.
pub(crate) fn narration(dice: &mut Dice, words: usize) -> String {
    let mut text = String::with_capacity(words * 7);
    let (mut said, mut last) = (0, SCENES.len());
    while said < words {
        let mut at = dice.between(0, SCENES.len() - 1);
        if at == last {
            at = (at + 1) % SCENES.len();
        }
        last = at;
        if said > 0 {
            text.push_str(if dice.between(0, 3) == 0 { "\n\n" } else { " " });
        }
        let start = text.len();
        expand(SCENES[at], dice, &mut text);
        said += text[start..].split_whitespace().count();
    }
    text
}

/// One or two sentences that a character says.
pub(crate) fn speech(dice: &mut Dice) -> String {
    let mut text = String::with_capacity(160);
    let first = dice.between(0, SPEECHES.len() - 1);
    expand(SPEECHES[first], dice, &mut text);
    if dice.between(0, 1) == 1 {
        let second = (first + dice.between(1, SPEECHES.len() - 1)) % SPEECHES.len();
        text.push(' ');
        expand(SPEECHES[second], dice, &mut text);
    }
    text
}

/// `n` different things that a player may do, at most as many as there are.
pub(crate) fn choices(dice: &mut Dice, n: usize) -> Vec<String> {
    let start = dice.between(0, CHOICES.len() - 1);
    let picked = (0..n.min(CHOICES.len())).map(|i| CHOICES[(start + i * 3) % CHOICES.len()]);
    picked.map(|choice| line(choice, dice)).collect()
}

/// What a character is about to say, in a few words.
pub(crate) fn intent(dice: &mut Dice) -> String {
    let intent = dice.pick(INTENTS);
    line(intent, dice)
}

fn line(template: &str, dice: &mut Dice) -> String {
    let mut text = String::with_capacity(64);
    expand(template, dice, &mut text);
    text
}

/// A list's name with a capital gives its word a capital.
fn expand(template: &str, dice: &mut Dice, out: &mut String) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        out.push_str(before);
        let start = out.len();
        let word: &&str = dice.pick(list(name));
        out.push_str(word);
        if name.starts_with(char::is_uppercase) {
            out[start..=start].make_ascii_uppercase();
        }
        rest = after;
    }
    out.push_str(rest);
}

fn list(name: &str) -> &'static [&'static str] {
    match name {
        "Air" => AIR,
        "time" | "Time" => TIME,
        "Beyond" => BEYOND,
        "place" => PLACES,
        "thing" => THINGS,
        "stirs" => STIRS,
        "where" => WHERES,
        "adj" => ADJECTIVES,
        "colour" => COLOURS,
        "smell" | "Smell" => SMELLS,
        "sound" | "Sound" => SOUNDS,
        _ => unreachable!("a template names `{name}`, which is no list"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_expands_wholly() {
        for template in [SCENES, SPEECHES, CHOICES, INTENTS].concat() {
            for seed in 0..20 {
                let text = line(template, &mut Dice::new(seed));
                assert!(!text.contains(['{', '}', '"']), "{text}");
                assert!(text.starts_with(char::is_uppercase) || INTENTS.contains(&template));
            }
        }
    }

    #[test]
    fn narration_has_its_length_and_varies() {
        let texts: Vec<_> = (0..50)
            .map(|seed| narration(&mut Dice::new(seed), 60))
            .collect();
        for text in &texts {
            let words = text.split_whitespace().count();
            assert!((60..90).contains(&words), "{words}: {text}");
        }
        let distinct: std::collections::BTreeSet<_> = texts.iter().collect();
        assert_eq!(distinct.len(), texts.len());
    }

    #[test]
    fn choices_differ_from_each_other() {
        for seed in 0..50 {
            let choices = choices(&mut Dice::new(seed), 3);
            let distinct: std::collections::BTreeSet<_> = choices.iter().collect();
            assert_eq!(distinct.len(), 3, "{choices:?}");
        }
    }
}
