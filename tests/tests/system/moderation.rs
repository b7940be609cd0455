//! What the moderator blocks stays unseen.

use bus::Seen;
use story::{Agent, Event, InputPolicy, Outcome, OutputPolicy, Policies, Seq};
use system_tests::{Options, Stack, Watcher, action};

#[tokio::test]
async fn a_blocked_line_never_reaches_a_reader() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let policies = Policies {
        input: InputPolicy::Hold,
        output: OutputPolicy::Off,
        ..Policies::default()
    };
    let story = stack.story("castle", policies).await?;
    let mut reader = stack.hear(&story).await?;
    let _fleet = stack.fleet()?;
    let blocked = stack
        .act(&story, "a1", "The card is 4111 1111 1111 1111")
        .await?;
    let allowed = stack.act(&story, "a2", "I wait").await?;

    assert_eq!(reader.outcome_of(&blocked).await?, Outcome::Blocked);
    assert_eq!(reader.outcome_of(&allowed).await?, Outcome::Answered);
    let seen = format!("{:?}", reader.seen);
    assert!(!seen.contains("4111"), "{seen}");
    stack.audit(1).await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_held_answer_is_read_whole_and_only_after_its_verdict() -> anyhow::Result<()> {
    const ANSWER: &str = "The door gives way.";
    let scenario = format!(
        r#"rules:
- when: {{ endpoint: chat }}
  reply: {{ text: "{ANSWER}\n@@@\n{{\"choices\":[\"Go in\"],\"speak\":[]}}" }}
"#
    );
    let options = Options {
        scenario,
        ..Options::default()
    };
    let stack = Stack::start(options).await?;
    let policies = Policies {
        input: InputPolicy::Off,
        output: OutputPolicy::Hold,
        ..Policies::default()
    };
    let story = stack.story("castle", policies).await?;
    let mut reader = stack.hear(&story).await?;
    let _answerers = [Agent::Narrator, Agent::Dialogue].map(|agent| stack.worker(agent));
    for (id, to) in [("a1", None), ("a2", Some("Sibyl".to_owned()))] {
        let action = action(&story, id, "Who is there?", to)?;
        stack.bus.publish(&action).await?;
        stack.backlog(Agent::Moderator, 1).await?;
        // The answer is there, and nobody judges it yet.
        let log = stack.bus.log(&story, Seq(0), 10).await?;
        assert_eq!(log.last().map(|entry| &entry.event.id), Some(&action.id));

        let moderator = stack.worker(Agent::Moderator)?;
        let answer = reader.end_of(&action.id).await?;
        assert_eq!(answer.payload().text(), Some(ANSWER));
        assert!(moderator.end().await?.success());
    }
    let kinds: Vec<&str> = reader.events().map(Event::kind).collect();
    assert_eq!(kinds, ["action", "narration", "action", "dialogue"]);
    assert_eq!(drafts(&reader), 0);
    stack.audit(2).await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn nobody_speaks_up_in_a_beat_that_was_taken_back() -> anyhow::Result<()> {
    let scenario = r#"rules:
- when: { agent: narrator }
  reply: { text: "Sibyl looks up.\n@@@\n{\"choices\":[\"Go in\"],\"speak\":[{\"character\":\"Sibyl\",\"intent\":\"to say 4111 1111 1111 1111\"}]}" }
"#;
    let stack = Stack::start(Options::playing(scenario)).await?;
    let policies = Policies {
        output: OutputPolicy::Retract,
        ..Policies::default()
    };
    let story = stack.story("castle", policies).await?;
    let mut reader = stack.hear(&story).await?;
    let _judged = [Agent::Narrator, Agent::Moderator].map(|agent| stack.worker(agent));
    let action = action(&story, "a1", "Who is there?", None)?;
    stack.bus.publish(&action).await?;
    reader.until_kind("retracted").await?;
    stack.backlog(Agent::Dialogue, 1).await?;
    let _dialogue = stack.worker(Agent::Dialogue)?;
    stack.audit(1).await?;
    let beat = action.response(Agent::Narrator, 0);
    assert_eq!(stack.calls_for(&beat).await?, 0, "no model was asked");
    let log = stack.bus.log(&story, Seq(0), 10).await?;
    let kinds: Vec<&str> = log.iter().map(|entry| entry.event.kind()).collect();
    assert_eq!(kinds, ["action", "narration", "retracted"]);
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn an_answer_for_some_people_only_is_not_streamed_to_all() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let _fleet = stack.fleet()?;
    let mut whisper = action(&story, "a1", "I look into the letter", None)?;
    whisper.audience = Some(vec!["mira".to_owned()]);
    stack.bus.publish(&whisper).await?;
    let answer = reader.end_of(&whisper.id).await?;
    assert_eq!(answer.audience, whisper.audience);
    assert_eq!(drafts(&reader), 0);

    let aloud = stack.act(&story, "a2", "I read it out").await?;
    reader.end_of(&aloud).await?;
    assert_ne!(drafts(&reader), 0);
    stack.end().await;
    Ok(())
}

fn drafts(reader: &Watcher) -> usize {
    let drafted = |seen: &&Seen| !matches!(seen, Seen::Event(_));
    reader.seen.iter().filter(drafted).count()
}
