//! A replay as a story of its own: nobody is told what was taken back, and nothing in it waits for an answer.

use story::{Agent, EventId, OutputPolicy, Payload, Policies, Seq, StoryId};
use system_tests::{Options, Stack};

use super::workbench::{changed, golden, replay};
use super::{castle, end, replay_at};
use crate::command::says;

#[tokio::test]
async fn a_replay_is_told_as_a_story_of_its_own_and_never_into_another() -> anyhow::Result<()> {
    let (stack, _) = castle(Options::default(), &["a1", "a2"]).await?;
    let folder = tempfile::tempdir()?;
    let (_prompts, prompts) = changed()?;
    let url = stack.redis_url();
    let publish = ["--story", "castle", "--publish-to", "new"];
    let other = ["--llm", "mock", "--prompts", &prompts];
    let again = replay(&url, &[&publish[..], &other].concat()).await?;
    assert_eq!(again.code, Some(1), "{again:#?}");
    assert!(again.out.contains("made new: 4 events\n"), "{again:#?}");
    let told = async |story| {
        let export = ["--redis", &url, "export", "--story", story];
        says(folder.path(), &export).await
    };
    let new = told("new").await?;
    let of = |kind: &str| new.matches(&format!("\"type\":\"{kind}\"")).count();
    assert_eq!((of("action"), of("narration")), (2, 2), "{new}");
    let reference = |text: &str| {
        let from = text.find("narrator-system@").unwrap_or_default();
        text[from..].split('+').next().map(str::to_owned)
    };
    assert_ne!(reference(&new), reference(&told("castle").await?));
    let second = replay(&url, &publish).await?;
    assert_eq!(second.code, Some(2), "{second:#?}");
    let refused = second.err.contains("there is already a story 'new'");
    assert!(refused, "{second:#?}");
    assert_eq!(told("new").await?, new);
    stack.end().await;
    Ok(())
}

/// An action whose answer comes behind the turns that are told is in nobody's hands there.
#[tokio::test]
async fn a_story_of_a_replay_has_no_action_without_an_end() -> anyhow::Result<()> {
    let silent = r#"rules:
- when: { agent: narrator }
  reply: { text: "The door gives way.\n@@@\n{\"choices\":[\"Go in\"],\"speak\":[]}" }
"#;
    let stack = Stack::start(Options::playing(silent)).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let narrator = stack.worker(Agent::Narrator)?;
    let first = stack.act(&story, "a1", "I open the door.").await?;
    reader.end_of(&first).await?;
    let spoken = stack.say(&story, "a2", "Who are you?").await?;
    let third = stack.act(&story, "a3", "I wait.").await?;
    reader.end_of(&third).await?;
    let dialogue = stack.worker(Agent::Dialogue)?;
    reader.end_of(&spoken).await?;
    end([narrator, dialogue]).await?;
    let url = stack.redis_url();
    let publish = ["--story", "castle", "--from", "5", "--publish-to", "new"];
    let told = replay(&url, &publish).await?;
    assert_eq!(told.code, Some(0), "{told:#?}");
    assert!(told.out.contains("made new: 4 events\n"), "{told:#?}");
    // Three here, and two there.
    stack.audit(5).await?;

    // The line answers an action that the narrator has nothing of: it is told with what came before it.
    let line = ["--story", "castle", "--from", "6", "--publish-to", "line"];
    let told = replay_at(&url, Agent::Dialogue, &line).await?;
    assert_eq!(told.code, Some(0), "{told:#?}");
    assert!(told.out.contains("made line: 6 events\n"), "{told:#?}");
    stack.audit(8).await?;
    stack.end().await;
    Ok(())
}

/// A line answers a narration, and that an action.
#[tokio::test]
async fn the_lines_of_a_replay_are_told_with_all_that_they_answer() -> anyhow::Result<()> {
    let speaks = r#"rules:
- when: { agent: narrator }
  reply: { text: "The door gives way.\n@@@\n{\"choices\":[\"Go in\"],\"speak\":[{\"character\":\"Sibyl\",\"intent\":\"to warn\"},{\"character\":\"Joe\",\"intent\":\"to ask\"}]}" }
"#;
    let stack = Stack::start(Options::playing(speaks)).await?;
    let story = stack.story("castle", Policies::default()).await?;
    stack.bus.patch_story(&story, &joe()).await?;
    let mut reader = stack.hear(&story).await?;
    let fleet = stack.fleet()?;
    for id in ["a1", "a2", "a3"] {
        stack.act(&story, id, "I open the door.").await?;
        // One speaks, then the other.
        reader.until_kind("dialogue").await?;
        reader.until_kind("dialogue").await?;
    }
    end(fleet).await?;
    let url = stack.redis_url();
    for (from, id) in [("1", "all"), ("8", "middle"), ("12", "last")] {
        let publish = ["--story", "castle", "--from", from, "--publish-to", id];
        let told = replay_at(&url, Agent::Dialogue, &publish).await?;
        assert_eq!(told.code, Some(0), "{told:#?}");
        let log = stack.bus.log(&id.parse()?, Seq(0), 100).await?;
        let kinds: Vec<&str> = log.iter().map(|entry| entry.event.kind()).collect();
        let beat = ["action", "narration", "dialogue", "dialogue"];
        assert_eq!(kinds, beat.repeat(3), "{id}");
        for (place, entry) in (1..).zip(&log) {
            assert_eq!(entry.seq, Seq(place));
            let known = |cause: &EventId| log.iter().any(|entry| entry.event.id == *cause);
            assert!(entry.event.cause.iter().all(known), "{entry:?}");
        }
    }
    let moderator = ["--story", "castle", "--publish-to", "third"];
    let refused = replay_at(&url, Agent::Moderator, &moderator).await?;
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    stack.audit(12).await?;
    stack.end().await;
    Ok(())
}

/// Who may speak too.
fn joe() -> bus::StoryPatch {
    let joe = story::Character {
        description: "A fisher.".to_owned(),
        voice: String::new(),
    };
    bus::StoryPatch {
        characters: [("Joe".to_owned(), Some(joe))].into(),
        ..bus::StoryPatch::default()
    }
}

/// It failed alone, and was answered with others when it was sent again: as the first of them, or behind one.
#[tokio::test]
async fn of_an_event_that_was_sent_again_the_last_answer_is_told() -> anyhow::Result<()> {
    for is_first in [true, false] {
        sent_again(is_first).await?;
    }
    Ok(())
}

async fn sent_again(is_first: bool) -> anyhow::Result<()> {
    let scenario =
        "rules:\n- when: { agent: narrator, nth: [1] }\n  reply: { fault: unauthorized }\n";
    let stack = Stack::start(Options::playing(scenario)).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let narrator = stack.worker(Agent::Narrator)?;
    let first = stack.act(&story, "a1", "I wait.").await?;
    reader.outcome_of(&first).await?;
    end([narrator]).await?;
    if !is_first {
        stack.act(&story, "a2", "I wait.").await?;
    }
    stack.redrive_all(Agent::Narrator).await?;
    if is_first {
        stack.act(&story, "a2", "I wait.").await?;
    }
    let narrator = stack.worker(Agent::Narrator)?;
    let answer = reader.end_of(&"a2".parse()?).await?;
    let causes = if is_first { ["a1", "a2"] } else { ["a2", "a1"] };
    assert_eq!(
        answer.cause.iter().map(EventId::as_str).collect::<Vec<_>>(),
        causes
    );
    end([narrator]).await?;
    let url = stack.redis_url();
    for (llm, id) in [("recorded", "same"), ("mock", "new")] {
        let publish = ["--story", "castle", "--llm", llm, "--publish-to", id];
        let told = replay(&url, &publish).await?;
        assert!(matches!(told.code, Some(0 | 1)), "{told:#?}");
        let log = stack.bus.log(&id.parse()?, Seq(0), 100).await?;
        let narrations = log
            .iter()
            .filter(|entry| entry.event.kind() == "narration")
            .map(|entry| entry.event.cause.len());
        assert_eq!(narrations.collect::<Vec<_>>(), [2], "{id}: {log:#?}");
    }
    stack.audit(6).await?;
    stack.end().await;
    Ok(())
}

/// Somebody wants no verdicts in it any more.
async fn judge_no_more(stack: &Stack, story: &StoryId) -> anyhow::Result<()> {
    let patch = bus::StoryPatch {
        policies: Policies::default().into(),
        ..bus::StoryPatch::default()
    };
    Ok(stack.bus.patch_story(story, &patch).await?)
}

#[tokio::test]
async fn what_nobody_has_judged_yet_is_not_told_by_a_replay() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let held = Policies {
        output: OutputPolicy::Hold,
        ..Policies::default()
    };
    let story = stack.story("unjudged", held).await?;
    let narrator = stack.worker(Agent::Narrator)?;
    stack.act(&story, "a1", "I wait.").await?;
    stack.backlog(Agent::Moderator, 1).await?;
    end([narrator]).await?;
    judge_no_more(&stack, &story).await?;
    let told = replay(
        &stack.redis_url(),
        &["--story", "unjudged", "--publish-to", "none"],
    )
    .await?;
    assert!(told.out.contains("none is not made"), "{told:#?}");
    stack.end().await;
    Ok(())
}

/// The beat that failed joined what another turn answered then: a model that answers it now answers that again.
#[tokio::test]
async fn no_action_is_ended_twice_in_a_story_of_a_replay() -> anyhow::Result<()> {
    let scenario =
        "rules:\n- when: { agent: narrator, nth: [1] }\n  reply: { fault: unauthorized }\n";
    let stack = Stack::start(Options::playing(scenario)).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    for id in ["a1", "a2", "a3"] {
        stack.act(&story, id, "I wait.").await?;
    }
    let narrator = stack.worker(Agent::Narrator)?;
    let answer = reader.end_of(&"a3".parse()?).await?;
    assert_eq!(answer.cause.len(), 2, "{answer:?}");
    end([narrator]).await?;
    let url = stack.redis_url();
    let publish = ["--story", "castle", "--llm", "mock", "--publish-to", "new"];
    let told = replay(&url, &publish).await?;
    assert_eq!(told.code, Some(1), "{told:#?}");
    let log = stack.bus.log(&"new".parse()?, Seq(0), 100).await?;
    let kinds: Vec<&str> = log.iter().map(|entry| entry.event.kind()).collect();
    assert_eq!(kinds, ["action", "action", "action", "narration"]);
    let audit = stack.bus.audit().await?;
    assert!(audit.is_clean() && audit.answered == 5, "{audit:?}");
    stack.end().await;
    Ok(())
}

const CARD: &str = "4111 1111 1111 1111";
const TELLS_A_CARD: &str = r#"rules:
- when: { agent: narrator, regex: '# Now\n<<<[^>]*number' }
  reply: { text: "A voice reads: 4111 1111 1111 1111.\n@@@\n{\"choices\":[\"Go on\"]}" }
"#;

#[tokio::test]
async fn what_was_taken_back_is_not_told_again_by_a_replay() -> anyhow::Result<()> {
    let stack = Stack::start(Options::playing(TELLS_A_CARD)).await?;
    let (url, folder) = (stack.redis_url(), tempfile::tempdir()?);
    for (id, output) in [
        ("taken", OutputPolicy::Retract),
        ("held", OutputPolicy::Hold),
    ] {
        let judged = Policies {
            output,
            ..Policies::default()
        };
        let story = stack.story(id, judged).await?;
        let mut reader = stack.hear(&story).await?;
        let fleet = stack.fleet()?;
        stack.act(&story, "a1", "I ask for a number.").await?;
        let gone = |seen: &bus::Seen| match seen {
            bus::Seen::Event(entry) => matches!(
                entry.event.payload(),
                Payload::Retracted(_) | Payload::Verdict(_)
            ),
            _ => false,
        };
        reader.until("it is gone", gone).await?;
        let after = stack.act(&story, "a2", "I wait.").await?;
        reader.end_of(&after).await?;
        end(fleet).await?;
        judge_no_more(&stack, &story).await?;
        let new = format!("{id}-new");
        for agent in [Agent::Narrator, Agent::Dialogue] {
            let publish = ["--story", id, "--publish-to", &new];
            let told = replay_at(&url, agent, &publish).await?;
            let made = agent == Agent::Narrator;
            assert_eq!(told.code == Some(0), made, "{told:#?}");
            let export = ["--redis", &url, "export", "--story", &new];
            let new = says(folder.path(), &export).await?;
            assert!(!new.contains(CARD) && new.contains("I wait."), "{new}");
        }
        // All that there is before it is gone.
        let first = ["--story", id, "--to", "3", "--publish-to", "none"];
        let told = replay(&url, &first).await?;
        assert!(told.out.contains("none is not made"), "{told:#?}");
    }
    stack.audit(6).await?;
    // As retention does: the log forgets that it was taken back, and its recording stays.
    let log = "sf:{0}:log:taken";
    stack.redis(&["XTRIM", log, "MINID", "4-0"]).await?;
    stack.redis(&["DEL", "sf:{0}:gone:taken"]).await?;
    let told = replay(
        &url,
        &["--story", "taken", "--to", "3", "--publish-to", "none"],
    )
    .await?;
    assert!(told.out.contains("none is not made"), "{told:#?}");
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn answers_that_a_moderator_would_judge_are_not_told_by_a_replay() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let folder = tempfile::tempdir()?;
    let (file, url) = (golden(folder.path())?, stack.redis_url());
    let again = replay(&url, &["--from-file", &file, "--publish-to", "new"]).await?;
    assert_eq!(again.code, Some(2), "{again:#?}");
    let list = says(folder.path(), &["--redis", &url, "story", "list"]).await?;
    assert_eq!(list, "");
    stack.end().await;
    Ok(())
}

/// The line that was spoken last answers what came first.
#[tokio::test]
async fn what_is_answered_stays_in_its_order_though_its_answers_do_not() -> anyhow::Result<()> {
    let scenario = r#"rules:
- when: { agent: narrator }
  reply: { text: "The door gives way.\n@@@\n{\"choices\":[\"Go in\"],\"speak\":[{\"character\":\"Sibyl\",\"intent\":\"to warn\"}]}" }
- when: { agent: dialogue, nth: [1] }
  reply: { fault: unauthorized }
"#;
    let stack = Stack::start(Options::playing(scenario)).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let fleet = stack.fleet()?;
    for id in ["a1", "a2"] {
        let action = stack.act(&story, id, "I open the door.").await?;
        let narration = reader.end_of(&action).await?.id;
        reader.end_of(&narration).await?;
    }
    stack.redrive_all(Agent::Dialogue).await?;
    reader.until_kind("dialogue").await?;
    end(fleet).await?;
    let url = stack.redis_url();
    let publish = ["--story", "castle", "--publish-to", "new"];
    let told = replay_at(&url, Agent::Dialogue, &publish).await?;
    assert_eq!(told.code, Some(0), "{told:#?}");
    let log = stack.bus.log(&"new".parse()?, Seq(0), 100).await?;
    let actions = log.iter().filter(|entry| entry.event.kind() == "action");
    let actions: Vec<&str> = actions.map(|entry| entry.event.id.as_str()).collect();
    assert_eq!(actions, ["a1", "a2"]);
    let lines = log.iter().filter(|entry| entry.event.kind() == "dialogue");
    assert_eq!(lines.count(), 2);
    stack.audit(4).await?;
    stack.end().await;
    Ok(())
}
