//! What the moderator blocks stays unseen.

use std::time::Duration;

use anyhow::Context;
use bus::{Commit, Emit, Seen};
use story::{
    Agent, Event, EventId, InputPolicy, Outcome, OutputPolicy, Payload, Policies, Retracted, Route,
    Seq,
};
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
    let seen = format!("{:?} {}", reader.seen, reader.drafted());
    // Times have four digits alone.
    let is_told = ["The card", "4111 ", "1111 "]
        .iter()
        .any(|part| seen.contains(part));
    assert!(!is_told, "{seen}");
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
        let drafts = reader.drafted();
        assert!(!drafts.contains("1111 1111"), "{drafts}");
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
async fn readers_are_told_of_what_the_log_lost_before_they_were() -> anyhow::Result<()> {
    let scenario = r#"rules:
- when: { agent: narrator }
  reply: { text: "You read 4111 1111 1111 1111.\n@@@\n{\"choices\":[\"Go in\"],\"speak\":[]}" }
"#;
    let stack = Stack::start(Options::playing(scenario)).await?;
    let policies = Policies {
        output: OutputPolicy::Retract,
        ..Policies::default()
    };
    let story = stack.story("castle", policies).await?;
    let mut reader = stack.hear(&story).await?;
    let _narrator = stack.worker(Agent::Narrator)?;
    stack.act(&story, "a1", "I read it").await?;
    reader.until_kind("narration").await?;
    // As where a commit's first write was done and its next one refused.
    stack.redis(&["XDEL", "sf:{0}:log:castle", "2-0"]).await?;
    let _moderator = stack.worker(Agent::Moderator)?;
    reader.until_kind("retracted").await?;
    stack.end().await;
    Ok(())
}

/// Takes the beat back, as the moderator whose turn it is.
async fn take_back(stack: &Stack, beat: &EventId) -> anyhow::Result<()> {
    let mut reader = stack.bus.reader(Agent::Moderator, "hand");
    let delivery = reader.next(1).await?.pop().context("a beat to judge")?;
    let work = delivery.work.as_ref().ok().context("a readable entry")?;
    let (id, now) = (work.response(Agent::Moderator), jiff::Timestamp::now());
    let retracted = Payload::Retracted(Retracted {
        target: beat.clone(),
        reason: String::new(),
    });
    let author = work.event.author.clone();
    let mut event = Event::new(id, work.story.clone(), author, retracted, now);
    event.cause = vec![beat.clone()];
    let effects = Commit {
        retract: Some(beat.clone()),
        emit: vec![Emit {
            event,
            route: Route::Logged(Vec::new()),
        }],
        ..Commit::default()
    };
    stack.bus.commit(&delivery, &effects).await?;
    Ok(())
}

#[tokio::test]
async fn who_speaks_while_the_beat_is_taken_back_is_not_heard() -> anyhow::Result<()> {
    let words = "You are late, and the lamp has burnt low, so sit down and listen. ".repeat(3);
    let scenario = format!(
        r#"rules:
- when: {{ agent: narrator }}
  reply: {{ text: "Sibyl looks up.\n@@@\n{{\"choices\":[\"Go in\"],\"speak\":[{{\"character\":\"Sibyl\",\"intent\":\"to greet\"}}]}}" }}
- when: {{ agent: dialogue }}
  reply: {{ text: "{words}" }}
"#
    );
    let stack = Stack::start(Options {
        between_tokens: Duration::from_millis(50),
        ..Options::playing(&scenario)
    })
    .await?;
    let policies = Policies {
        output: OutputPolicy::Retract,
        ..Policies::default()
    };
    let story = stack.story("castle", policies).await?;
    let mut reader = stack.hear(&story).await?;
    let _answerers = [Agent::Narrator, Agent::Dialogue].map(|agent| stack.worker(agent));
    let action = action(&story, "a1", "Who is there?", None)?;
    stack.bus.publish(&action).await?;
    let beat = reader.until_kind("narration").await?;
    let said = beat.response(Agent::Dialogue, 0);
    let is_of = |seen: &Seen| matches!(seen, Seen::Delta { re, .. } | Seen::Snapshot { re, .. } if *re == said);
    reader.until("her first words", is_of).await?;
    take_back(&stack, &beat.id).await?;
    reader.until_kind("retracted").await?;
    let heard = reader.seen.len();
    let mut late = stack.hear(&story).await?;
    late.until_kind("retracted").await?;
    stack.backlog(Agent::Dialogue, 0).await?;

    let after = stack.act(&story, "a2", "I wait").await?;
    for reader in [&mut reader, &mut late] {
        reader.end_of(&after).await?;
    }
    assert!(!reader.seen[heard..].iter().any(is_of), "no word more");
    assert!(!late.seen.iter().any(is_of), "no word of it");
    let log = stack.bus.log(&story, Seq(0), 4).await?;
    let kinds: Vec<&str> = log.iter().map(|entry| entry.event.kind()).collect();
    assert_eq!(kinds, ["action", "narration", "retracted", "action"]);
    assert_eq!(stack.calls_for(&beat.id).await?, 1, "it was written");
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
