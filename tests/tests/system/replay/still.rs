//! `replay` reads.

use anyhow::Context;
use story::{Agent, InputPolicy, OutputPolicy, Policies};
use system_tests::{Options, Stack};

use super::{answered, end, keys, replay, turns};

#[tokio::test]
async fn no_replay_changes_a_byte_of_what_redis_has() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let policies = Policies {
        input: InputPolicy::Hold,
        output: OutputPolicy::Hold,
        ..Policies::default()
    };
    let story = stack.story("castle", policies).await?;
    let mut reader = stack.hear(&story).await?;
    let fleet = stack.fleet()?;
    let first = stack.act(&story, "a1", "I open the door.").await?;
    reader.end_of(&first).await?;
    let second = stack.say(&story, "a2", "Who are you?").await?;
    reader.end_of(&second).await?;
    end(fleet).await?;
    let recorded = turns(&stack, &story).await?;

    let before = keys(&stack).await?;
    let rec = before.iter().find(|key| key.contains(":rec:castle "));
    let rec = rec.context("recordings have a key")?;
    assert!(rec.ends_with(" ends"), "{rec}");
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out").display().to_string();
    for agent in Agent::ALL {
        for kind in [
            &[][..],
            &["--diff", "json"],
            &["--llm", "mock"],
            &["--llm", stack.llm(), "--model", "other"],
            &["--speed", "100", "--out", &out],
            &["--from", "1", "--to", "100"],
        ] {
            let again = replay(&stack, agent, &[&["--story", "castle"], kind].concat()).await?;
            assert!(
                matches!(again.code, Some(0 | 1 | 3)),
                "{kind:?}: {again:#?}"
            );
            assert!(again.out.contains("seq"), "{kind:?}: {again:#?}");
            assert_eq!(keys(&stack).await?, before, "{agent} {kind:?}");
        }
    }
    let files = std::fs::read_dir(&out)?.collect::<Result<Vec<_>, _>>()?;
    assert_eq!(files.len(), recorded.len(), "{files:?}");
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_came_of_a_turn_can_be_kept_and_is_what_came_of_it_before() -> anyhow::Result<()> {
    let (stack, story) = answered(Options::default()).await?;
    let folder = tempfile::tempdir()?;
    let out = folder.path().display().to_string();
    let again = replay(
        &stack,
        Agent::Narrator,
        &["--story", "castle", "--out", &out],
    )
    .await?;
    assert_eq!(again.code, Some(0), "{again:#?}");
    let written = std::fs::read(folder.path().join("00000002-narrator-a1-0.json"))?;
    let written = agent::Recording::read(&written)?;
    let recorded = turns(&stack, &story).await?;
    assert_eq!(recorded.len(), 1);
    assert_eq!(written.effects, recorded[0].effects);
    assert_eq!(written.context, recorded[0].context);
    stack.end().await;
    Ok(())
}
