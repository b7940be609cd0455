//! What the moderator blocks stays unseen.

use std::time::Duration;

use bus::Seen;
use story::{Agent, Event, InputPolicy, Outcome, OutputPolicy, Policies, Seq};
use system_tests::{Options, Relay, Stack, Watcher, action};

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
    let story = stack.story("castle", held()).await?;
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

/// Of three sentences, the last of which is never sure to be one before the answer is whole.
const LONG: &str = "The door gives way. Beyond it lies a hall, and a lamp. Nobody is there.";

fn long() -> Options {
    let scenario = format!(
        r#"rules:
- when: {{ agent: narrator }}
  reply: {{ text: "{LONG}\n@@@\n{{\"choices\":[\"Go in\"],\"speak\":[]}}" }}
- when: {{ agent: dialogue }}
  reply: {{ text: "{LONG}" }}
"#
    );
    Options {
        between_tokens: Duration::from_millis(8),
        ..Options::playing(&scenario)
    }
}

#[tokio::test]
async fn a_held_answer_is_read_in_windows_that_the_rules_let_pass() -> anyhow::Result<()> {
    let stack = Stack::start(long()).await?;
    let story = stack.story("castle", held()).await?;
    let mut reader = stack.hear(&story).await?;
    let _fleet = stack.fleet()?;
    for (id, to) in [("a1", None), ("a2", Some("Sibyl".to_owned()))] {
        let from = reader.seen.len();
        let action = action(&story, id, "Who is there?", to)?;
        stack.bus.publish(&action).await?;
        let answer = reader.end_of(&action.id).await?;
        assert_eq!(answer.payload().text(), Some(LONG));
        let windows = reader.seen[from..].iter().filter_map(|seen| match seen {
            Seen::Delta { text, .. } => Some(text.as_str()),
            _ => None,
        });
        let windows: Vec<&str> = windows.collect();
        assert_eq!(windows[0], "The door gives way.");
        // Those that were not sent before the end come with it.
        let read = windows.concat();
        assert!(
            LONG.starts_with(&read) && !read.contains("Nobody"),
            "{read}"
        );
    }
    stack.audit(2).await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn nothing_of_a_held_answer_is_read_before_the_endpoint_has_seen_it() -> anyhow::Result<()> {
    let stack = Stack::start(long()).await?;
    let story = stack.story("castle", held()).await?;
    let mut reader = stack.hear(&story).await?;
    let endpoint = ["--tier2", "endpoint"];
    let start = |agent| stack.worker_with(agent, &endpoint);
    let _fleet = Agent::ALL.map(|agent| start(agent).map(|(worker, _)| worker));
    for (id, to) in [("a1", None), ("a2", Some("Sibyl".to_owned()))] {
        let action = action(&story, id, "Who is there?", to)?;
        stack.bus.publish(&action).await?;
        let answer = reader.end_of(&action.id).await?;
        assert_eq!(answer.payload().text(), Some(LONG));
    }
    assert_eq!(drafts(&reader), 0);
    stack.audit(2).await?;
    stack.end().await;
    Ok(())
}

/// Its text is there at once, and goes the way of one that is streamed.
#[tokio::test]
async fn an_answer_that_is_played_again_is_watched_too() -> anyhow::Result<()> {
    let text = format!("{LONG} The card is 4111 1111 1111 1111, it says. And so on.");
    let scenario = format!(
        r#"rules:
- when: {{ agent: narrator }}
  reply: {{ text: "{text}\n@@@\n{{\"choices\":[\"Go in\"],\"speak\":[]}}" }}
"#
    );
    let stack = Stack::start(Options::playing(&scenario)).await?;
    for output in [OutputPolicy::Hold, OutputPolicy::Retract] {
        let policies = Policies {
            output,
            ..Policies::default()
        };
        let story = stack.story(output.as_str(), policies).await?;
        let mut reader = stack.hear(&story).await?;
        let relay = Relay::before(&stack.redis_url()).await?;
        relay.bar(&crate::paid::commit(&stack).await?);
        let doomed = stack.worker_on(Agent::Narrator, &relay.url())?;
        let action = stack.act(&story, story.as_str(), "I read it").await?;
        relay.barred(1).await?;
        doomed.kill().await?;
        let _heirs = [Agent::Narrator, Agent::Moderator].map(|agent| stack.worker(agent));
        let kinds = ["verdict", "retracted"];
        let is_end =
            |seen: &Seen| matches!(seen, Seen::Event(it) if kinds.contains(&it.event.kind()));
        reader.until("its end", is_end).await?;
        assert_eq!(stack.calls_for(&action).await?, 1, "it was paid for once");
        let drafts = reader.seen.iter();
        let drafts = drafts.filter(|seen| !matches!(seen, Seen::Event(_)));
        let drafts = format!("{:?}", drafts.collect::<Vec<_>>());
        assert!(!drafts.contains("4111 1111 1111 1111"), "{drafts}");
    }
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
    let options = Options {
        // A short answer without a pause may leave no draft.
        between_tokens: Duration::from_millis(2),
        ..Options::default()
    };
    let stack = Stack::start(options).await?;
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

fn held() -> Policies {
    Policies {
        output: OutputPolicy::Hold,
        ..Policies::default()
    }
}

fn drafts(reader: &Watcher) -> usize {
    let drafted = |seen: &&Seen| !matches!(seen, Seen::Event(_));
    reader.seen.iter().filter(drafted).count()
}
