//! What waits for a verdict, and what is taken back after one, replays exactly, whoever looks a second time.

use anyhow::Context;
use futures::future::try_join_all;
use serde_json::json;
use story::{Agent, Event, EventId, InputPolicy, OutputPolicy, Policies, StoryId};
use system_tests::{Options, Stack, action};

use super::{JSON, end, exactly, how, replay};

const SCENARIO: &str = r#"rules:
- when: { agent: moderator, regex: 'meth, late\.' }
  reply: { fault: no_headers }
- when: { agent: moderator, regex: 'is broken\.' }
  reply: { fault: error_503 }
- when: { agent: moderator, regex: 'at the limit\.' }
  reply: { text: "{\"decision\":\"allow\",\"reason\":\"WORDS\"}" }
- when: { agent: narrator, regex: 'I ask for a number' }
  reply: { text: "A voice reads: 4111 1111 1111 1111.\n@@@\n{\"choices\":[\"Go on\"]}" }
- when: { agent: narrator, regex: 'I ask for a recipe' }
  reply: { text: "It tells how to cook meth, forbiddenword, and is broken.\n@@@\n{\"choices\":[\"Go on\"]}" }
"#;

/// Stories in which everything is held: what Mira does, and how that ends where the model looks again.
#[rustfmt::skip]
const CASES: [(&str, &str, &str); 8] = [
    ("quiet", "I open the door.", "narration complete"),
    ("card", "My card is 4111 1111 1111 1111.", "verdict rules"),
    ("flagged", "I ask how to cook meth.", "narration complete"),
    ("forbidden", "I ask how to cook meth, forbiddenword.", "verdict llm"),
    ("late", "I ask how to cook meth, late.", "narration complete"),
    ("limit", "I ask how to cook meth, at the limit.", "narration complete"),
    ("number", "I ask for a number.", "verdict rules"),
    ("recipe", "I ask for a recipe.", "verdict llm"),
];

#[tokio::test]
async fn what_a_model_judged_goes_again_as_it_went() -> anyhow::Result<()> {
    judged("llm").await
}

#[tokio::test]
async fn what_the_moderation_endpoint_judged_goes_again_as_it_went() -> anyhow::Result<()> {
    judged("endpoint").await
}

async fn judged(tier2: &str) -> anyhow::Result<()> {
    let stack = Stack::start(Options {
        scenario: SCENARIO.replace("WORDS", &"Nothing in it. ".repeat(60)),
        ..Options::default()
    })
    .await?;
    let moderator = stack.worker_with(Agent::Moderator, &["--tier2", tier2])?.0;
    let others = [
        stack.worker(Agent::Narrator)?,
        stack.worker(Agent::Dialogue)?,
    ];
    let ends = try_join_all(CASES.iter().map(|case| ask(&stack, case))).await?;
    end(others.into_iter().chain([moderator])).await?;
    for (end, (id, _, expected)) in ends.iter().zip(CASES) {
        // The endpoint finds only what fiction may be full of.
        let expected = match (tier2, id) {
            ("endpoint", "forbidden") => "narration complete".to_owned(),
            _ => expected.replace("llm", tier2),
        };
        assert_eq!(how(end), expected, "{id}: {end:?}");
    }
    let stories = CASES.iter().map(|(id, ..)| id.parse());
    let stories = stories.collect::<Result<Vec<StoryId>, _>>()?;
    let turns = try_join_all(stories.iter().map(|story| exactly(&stack, story))).await?;
    let judged = turns
        .iter()
        .flatten()
        .filter(|turn| turn.agent == Agent::Moderator);
    let looked = judged.filter(|turn| !turn.calls.is_empty()).count();
    assert!(looked >= 5, "the second tier looked at {looked} turns");
    stack.end().await;
    Ok(())
}

/// Gives the end of what is done.
async fn ask(stack: &Stack, (id, text, _): &(&str, &str, &str)) -> anyhow::Result<Event> {
    let story = stack.story(id, held(OutputPolicy::Hold)).await?;
    let mut reader = stack.hear(&story).await?;
    let action = action(&story, "a1", text, None)?;
    stack.bus.publish(&action).await?;
    reader.end_of(&action.id).await
}

fn held(output: OutputPolicy) -> Policies {
    Policies {
        input: InputPolicy::Hold,
        output,
        ..Policies::default()
    }
}

#[tokio::test]
async fn an_answer_that_was_taken_back_goes_again_as_it_went() -> anyhow::Result<()> {
    let stack = Stack::start(Options::playing(SCENARIO)).await?;
    let story = stack.story("castle", held(OutputPolicy::Retract)).await?;
    let mut reader = stack.hear(&story).await?;
    let fleet = stack.fleet()?;
    let asked = stack.act(&story, "a1", "I ask for a number.").await?;
    reader.until_kind("retracted").await?;
    // What comes after is told without it.
    let after = stack.act(&story, "a2", "I wait.").await?;
    reader.end_of(&after).await?;
    end(fleet).await?;
    let turns = exactly(&stack, &story).await?;
    let retracts = turns
        .iter()
        .filter_map(|turn| turn.effects.as_ref()?.retract.as_ref());
    assert_eq!(retracts.count(), 1, "{asked}");

    // Where how that went is not kept, it is named.
    let log = stack.bus.log(&story, story::Seq(0), 100).await?;
    let gone = log.iter().find(|entry| entry.event.kind() == "retracted");
    let gone = gone.context("it is in the log")?;
    let (seq, id) = (gone.seq.to_string(), &gone.event.id);
    stack.redis(&["DEL", "sf:{0}:rec:castle"]).await?;
    let only = ["--story", "castle", "--from", &seq, "--to", &seq];
    let lost = replay(&stack, Agent::Moderator, &only).await?;
    assert_eq!(lost.code, Some(3), "{lost:#?}");
    let named = format!("seq {seq}  {id}  not recorded");
    assert!(lost.out.contains(&named), "{lost:#?}");
    stack.end().await;
    Ok(())
}

/// The story learns of an answer's place when it passes: the turn that wrote it ended before.
#[tokio::test]
async fn a_held_answer_is_found_by_its_place_in_the_log() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", held(OutputPolicy::Hold)).await?;
    let mut reader = stack.hear(&story).await?;
    let fleet = stack.fleet()?;
    let first = stack.act(&story, "a1", "I open the door.").await?;
    reader.end_of(&first).await?;
    let second = stack.act(&story, "a2", "I wait.").await?;
    let answer = reader.end_of(&second).await?.id;
    end(fleet).await?;
    let seq = place(&stack, &story, &answer).await?;
    let only = [
        ["--story", "castle"],
        ["--from", &seq],
        ["--to", &seq],
        JSON,
    ]
    .concat();
    let found = replay(&stack, Agent::Narrator, &only).await?;
    assert_eq!(found.code, Some(0), "{found:#?}");
    let lines = found.lines()?;
    assert_eq!(lines.len(), 2, "{found:#?}");
    assert_eq!(
        (&lines[0]["event"], &lines[0]["outcome"]),
        (&json!("a2"), &json!("same"))
    );
    assert_eq!(lines[0]["seq"].to_string(), seq);
    stack.end().await;
    Ok(())
}

/// Two steps of one event.
#[tokio::test]
async fn each_of_two_lines_that_were_held_is_found_by_its_place_in_the_log() -> anyhow::Result<()> {
    let speak = ["Sibyl", "Joe"].map(|who| json!({"character": who, "intent": "to warn"}));
    let told = json!({"choices": ["Go in"], "speak": speak});
    let text = json!(format!("The door gives way.\n@@@\n{told}"));
    let scenario = format!("rules:\n- when: {{ agent: narrator }}\n  reply: {{ text: {text} }}\n");
    let stack = Stack::start(Options {
        scenario,
        ..Options::default()
    })
    .await?;
    let story = stack.story("castle", held(OutputPolicy::Hold)).await?;
    let joe = story::Character {
        description: "A fisher.".to_owned(),
        voice: String::new(),
    };
    let patch = bus::StoryPatch {
        characters: [("Joe".to_owned(), Some(joe))].into(),
        ..bus::StoryPatch::default()
    };
    stack.bus.patch_story(&story, &patch).await?;
    let mut reader = stack.hear(&story).await?;
    let fleet = stack.fleet()?;
    stack.act(&story, "a1", "I open the door.").await?;
    for _ in 0..2 {
        reader.until_kind("dialogue").await?;
    }
    end(fleet).await?;
    let log = stack.bus.log(&story, story::Seq(0), 100).await?;
    let lines = log.iter().filter(|entry| entry.event.kind() == "dialogue");
    let mut parts = Vec::new();
    for line in lines {
        let seq = line.seq.to_string();
        let only = ["--story", "castle", "--from", &seq, "--to", &seq];
        let found = replay(&stack, Agent::Dialogue, &[&only[..], &JSON].concat()).await?;
        assert_eq!(found.code, Some(0), "{found:#?}");
        let turns = found.lines()?;
        assert_eq!(turns.len(), 2, "{found:#?}");
        parts.push(line.event.id.clone());
    }
    assert_eq!(parts.len(), 2, "{log:#?}");
    assert_ne!(parts[0], parts[1]);
    stack.end().await;
    Ok(())
}

async fn place(stack: &Stack, story: &StoryId, id: &EventId) -> anyhow::Result<String> {
    let log = stack.bus.log(story, story::Seq(0), 100).await?;
    let entry = log.into_iter().find(|entry| entry.event.id == *id);
    Ok(entry.context("it is in the log")?.seq.to_string())
}
