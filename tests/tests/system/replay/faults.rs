//! Whatever the model does to a turn, the turn replays exactly.

use std::fmt::Write;

use futures::future::try_join_all;
use story::{Agent, Event, Policies};
use system_tests::{Options, Stack, action};

use super::{end, exactly, how};

struct Case {
    /// What somebody meets.
    what: &'static str,
    /// Who answers.
    agent: Agent,
    /// What the model does at the first call and at each other one; as it is asked to where it is empty.
    replies: &'static [&'static str],
    /// How that ends.
    end: &'static str,
    /// In all tries of all calls.
    requests: usize,
}

const BREAKS_OFF: &str =
    "{ text: 'Dust falls on the stairs. It fell for years and years', fault: 'cut(9)' }";
const WITHOUT_WORDS: &str = "{ text: '' }";
const ENDLESS: &str = "{ fault: repeats }";
const TOO_LONG: &str = "{ fault: context_length_exceeded }";

#[rustfmt::skip]
const CASES: [Case; 31] = [
    case("a cut", Agent::Narrator, &[BREAKS_OFF], "narration truncated", 3),
    case("an early end", Agent::Narrator, &["{ fault: 'eof(30)' }"], "narration truncated", 3),
    case("half a letter", Agent::Narrator, &["{ text: 'Dust falls. Où est-il, là-bas? Où est-il, là-bas?', fault: 'cut_utf8(6)' }"], "narration truncated", 3),
    case("no letters", Agent::Narrator, &["{ text: 'Dust falls. It fell.', fault: 'bad_utf8(4)' }"], "narration truncated", 3),
    case("the limit", Agent::Narrator, &["{ text: 'LONG' }"], "narration truncated", 2),
    case("a fallen line", Agent::Narrator, &["{ fault: error_500 }", ""], "narration complete", 2),
    case("a crowd", Agent::Narrator, &["{ fault: 'rate_limit_ms(50)' }", ""], "narration complete", 2),
    case("a proxy", Agent::Narrator, &["{ fault: html_answer }", ""], "narration complete", 2),
    case("a torn page", Agent::Narrator, &[BREAKS_OFF, ""], "narration complete", 2),
    case("a silence", Agent::Narrator, &["{ fault: 'stall(5)' }", ""], "narration complete", 2),
    case("a long silence", Agent::Narrator, &["{ fault: 'stall(5)' }"], "failed stall", 3),
    case("deafness", Agent::Narrator, &["{ fault: no_headers }", ""], "narration complete", 2),
    case("no end", Agent::Narrator, &["{ fault: no_trailer }", ""], "narration complete", 2),
    case("a bad end", Agent::Narrator, &["{ fault: bad_trailer }", ""], "narration complete", 2),
    case("two bad ends", Agent::Narrator, &["{ text: 'Nothing ends here.' }"], "narration complete", 2),
    case("a slow end", Agent::Narrator, &["{ text: 'Nobody ends this.' }"], "narration complete", 3),
    case("a mended end", Agent::Narrator, &["{ text: 'Somebody mends this.' }"], "narration complete", 3),
    case("a short end", Agent::Narrator, &["{ text: 'This needs more words.' }"], "narration complete", 4),
    case("nothing once", Agent::Narrator, &[WITHOUT_WORDS, ""], "narration complete", 2),
    case("nothing", Agent::Narrator, &[WITHOUT_WORDS], "failed empty", 2),
    case("a window", Agent::Narrator, &[TOO_LONG], "failed context", 1),
    case("a censor", Agent::Narrator, &["{ fault: content_filter }"], "failed blocked", 1),
    case("a broken frame", Agent::Narrator, &["{ fault: broken_json }"], "failed provider", 3),
    case("a cut", Agent::Dialogue, &[BREAKS_OFF], "dialogue truncated", 3),
    case("the limit", Agent::Dialogue, &[ENDLESS], "dialogue truncated", 1),
    case("a fallen line", Agent::Dialogue, &["{ fault: error_503 }", ""], "dialogue complete", 2),
    case("a crowd", Agent::Dialogue, &["{ fault: 'rate_limit_ms(50)' }", ""], "dialogue complete", 2),
    case("a puppet", Agent::Dialogue, &["{ text: 'Mira: I am nobody.' }", ""], "dialogue complete", 2),
    case("nothing", Agent::Dialogue, &[WITHOUT_WORDS], "failed empty", 2),
    case("a window", Agent::Dialogue, &[TOO_LONG], "failed context", 1),
    case("no key", Agent::Dialogue, &["{ fault: unauthorized }"], "failed auth", 1),
];

const fn case(
    what: &'static str,
    agent: Agent,
    replies: &'static [&'static str],
    end: &'static str,
    requests: usize,
) -> Case {
    Case {
        what,
        agent,
        replies,
        end,
        requests,
    }
}

#[tokio::test]
async fn a_turn_that_met_a_fault_of_the_model_goes_again_as_it_went() -> anyhow::Result<()> {
    let stack = Stack::start(Options {
        scenario: scenario(),
        ..Options::default()
    })
    .await?;
    // The second of these ends a try for the choices of a beat, and that they are waited for no longer the next.
    let limits = [
        ["--llm-stall-timeout", "1s"],
        ["--llm-first-token-timeout", "3s"],
        // All of them at once would be a model that is left alone.
        ["--breaker", "false"],
    ];
    let limits = limits.as_flattened();
    let narrator = stack.worker_with(Agent::Narrator, limits)?;
    let dialogue = stack.worker_with(Agent::Dialogue, limits)?;
    let ends = try_join_all(CASES.iter().map(|case| case.play(&stack))).await?;
    end([narrator.0, dialogue.0]).await?;
    for (case, end) in CASES.iter().zip(ends) {
        assert_eq!(how(&end), case.end, "{}: {end:?}", case.story());
    }
    try_join_all(CASES.iter().map(|case| case.check(&stack))).await?;
    stack.end().await;
    Ok(())
}

impl Case {
    fn story(&self) -> String {
        format!("{}-{}", self.agent, self.what.replace(' ', "-"))
    }

    fn rules(&self) -> String {
        let Self {
            what,
            agent,
            replies,
            ..
        } = self;
        let mut rules = String::new();
        for (n, reply) in replies
            .iter()
            .enumerate()
            .filter(|(_, reply)| !reply.is_empty())
        {
            let nth = if replies.len() > 1 {
                format!(", nth: {}", n + 1)
            } else {
                String::new()
            };
            let when = format!("agent: {agent}, regex: 'I meet {what}\\.'{nth}");
            writeln!(rules, "- when: {{ {when} }}\n  reply: {reply}").expect("a text takes all");
        }
        rules
    }

    async fn play(&self, stack: &Stack) -> anyhow::Result<Event> {
        let story = stack.story(&self.story(), Policies::default()).await?;
        let mut reader = stack.hear(&story).await?;
        let to = (self.agent == Agent::Dialogue).then(|| "Sibyl".to_owned());
        let action = action(&story, "a1", &format!("I meet {}.", self.what), to)?;
        stack.bus.publish(&action).await?;
        reader.end_of(&action.id).await
    }

    async fn check(&self, stack: &Stack) -> anyhow::Result<()> {
        let story = self.story().parse()?;
        let turns = exactly(stack, &story).await?;
        let turn = turns.iter().find(|turn| turn.event.id.as_str() == "a1");
        let calls = &turn.expect("it is recorded").calls;
        let tries: usize = calls.iter().map(|call| call.tries.len()).sum();
        assert_eq!(tries, self.requests, "{story}: {calls:?}");
        Ok(())
    }
}

/// The beats of four cases have no choices: those are asked for in vain, or more than once.
fn scenario() -> String {
    let mut rules = "rules:\n".to_owned();
    for (beat, fault) in [
        ("Nothing ends here", "unauthorized"),
        ("Nobody ends this", "no_first_token"),
    ] {
        let when = format!("agent: narrator, regex: '<<<\\w+ {beat}'");
        writeln!(rules, "- when: {{ {when} }}\n  reply: {{ fault: {fault} }}")
            .expect("a text takes all");
    }
    // Once each: a rule counts what the rules before it leave.
    for (beat, answer) in [
        ("Somebody mends this", "Well: {\"choices\": 3}"),
        ("This needs more words", "{\"choices\": [\"LONG"),
        ("This needs more words", "None."),
    ] {
        let when = format!("agent: narrator, regex: '<<<\\w+ {beat}', nth: 1");
        writeln!(
            rules,
            "- when: {{ {when} }}\n  reply: {{ text: '{answer}' }}"
        )
        .expect("a text takes all");
    }
    let cases = CASES.iter().map(Case::rules);
    rules += &cases.collect::<String>();
    rules.replace("LONG", &"Dust falls. ".repeat(300))
}
