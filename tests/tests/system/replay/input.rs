//! What `replay` cannot use: it says so in words and in its exit code, and changes nothing.

use std::path::{Path, PathBuf};

use agent::recording::VERSION;
use story::{Agent, StoryId};
use system_tests::{Options, Stack};
use tempfile::TempDir;

use super::{JSON, NOWHERE, answered, castle, export, keys, replay, replay_at};
use crate::command::run;

/// A story with one turn of the narrator, and its file.
struct Told {
    stack: Stack,
    story: StoryId,
    folder: TempDir,
    file: PathBuf,
}

impl Told {
    async fn start() -> anyhow::Result<Self> {
        let (stack, story) = answered(Options::default()).await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("castle.ndjson");
        export(&stack, &story, &file).await?;
        Ok(Self {
            stack,
            story,
            folder,
            file,
        })
    }

    /// Another file, made of it.
    fn changed(&self, change: impl Fn(&str) -> String) -> anyhow::Result<PathBuf> {
        let file = self.folder.path().join("changed.ndjson");
        std::fs::write(&file, change(&std::fs::read_to_string(&self.file)?))?;
        Ok(file)
    }
}

/// What happens to a file's text.
type Change<'a> = &'a dyn Fn(&str) -> String;

async fn read(agent: Agent, file: &Path, more: &[&str]) -> anyhow::Result<super::Replayed> {
    let file = file.display().to_string();
    replay_at(NOWHERE, agent, &[&["--from-file", &file], more].concat()).await
}

#[tokio::test]
async fn a_story_in_a_file_is_gone_through_without_redis() -> anyhow::Result<()> {
    let told = Told::start().await?;
    let (file, folder) = (told.file.clone(), told.folder);
    told.stack.end().await;
    let again = read(Agent::Narrator, &file, &JSON).await?;
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert_eq!(again.lines()?.len(), 2);
    let part = read(Agent::Narrator, &file, &["--from", "2", "--to", "2"]).await?;
    assert_eq!(part.code, Some(0), "{part:#?}");
    let other = read(Agent::Dialogue, &file, &[]).await?;
    assert_eq!(other.code, Some(3), "{other:#?}");
    assert!(
        other.out.contains("there are 1 of the narrator"),
        "{other:#?}"
    );
    drop(folder);
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_refused_with_what_is_wrong() -> anyhow::Result<()> {
    let told = Told::start().await?;
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let last = |text: &str| {
        text.lines()
            .last()
            .map(|last| text.replace(last, ""))
            .unwrap_or_default()
    };
    let line = |text: &str| text.lines().skip(1).collect::<Vec<_>>().join("\n");
    let changes: [(&str, Change<'_>); 6] = [
        ("is cut off", &half),
        ("is cut off", &last),
        ("is no export", &line),
        ("is no export", &|_| String::new()),
        ("is of version 9", &|text| {
            text.replacen("\"v\":1", "\"v\":9", 1)
        }),
        ("line 4: ", &|text| {
            text.replace("\"turn\":{", "\"turn\":[{")
        }),
    ];
    for (words, change) in changes {
        let file = told.changed(change)?;
        let refused = read(Agent::Narrator, &file, &[]).await?;
        assert_eq!(refused.code, Some(2), "{words}: {refused:#?}");
        assert!(refused.err.contains(words), "{words}: {refused:#?}");
        assert_eq!(refused.err.lines().count(), 1, "{refused:#?}");
    }
    let nothing = read(Agent::Narrator, Path::new("nothing.ndjson"), &[]).await?;
    assert_eq!(nothing.code, Some(2), "{nothing:#?}");
    assert!(
        nothing.err.contains("nothing.ndjson cannot be read"),
        "{nothing:#?}"
    );
    told.stack.end().await;
    Ok(())
}

/// By hand, as a fault of a disk or of a program would.
async fn spoil(stack: &Stack, id: &str) -> anyhow::Result<()> {
    const SCRIPT: &str = "
local key = KEYS[1]
for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do
  local fields = entry[2]
  for at = 1, #fields, 2 do
    if fields[at] == 'id' and fields[at + 1] == ARGV[1] then
      redis.call('XDEL', key, entry[1])
      fields[#fields] = 'spoilt'
      return redis.call('XADD', key, '*', unpack(fields))
    end
  end
end";
    stack
        .redis(&["EVAL", SCRIPT, "1", "sf:{0}:rec:castle", id])
        .await
        .map(drop)
}

#[tokio::test]
async fn a_recording_that_cannot_be_used_keeps_no_other_from_being_gone_through()
-> anyhow::Result<()> {
    let (stack, story) = castle(Options::default(), &["a1", "a2"]).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("castle.ndjson");
    export(&stack, &story, &file).await?;
    // The first of the two is of a later version.
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(
        &file,
        text.replacen(
            &format!("\"turn\":{{\"v\":{VERSION}"),
            "\"turn\":{\"v\":9",
            1,
        ),
    )?;
    spoil(&stack, "a1").await?;
    let live = replay(&stack, Agent::Narrator, &["--story", "castle"]).await?;
    for (told, words) in [
        (read(Agent::Narrator, &file, &[]).await?, "is of version 9"),
        (live, "cannot be unpacked"),
    ] {
        assert_eq!(told.code, Some(2), "{told:#?}");
        assert!(told.out.contains(words), "{told:#?}");
        let sum = "2 turns: 1 same, 1 cannot be gone through";
        assert!(told.out.contains(sum), "{told:#?}");
    }

    let url = stack.redis_url();
    let export = ["--redis", &url, "export", "--story", "castle"];
    let exported = run(folder.path(), &export).await?;
    let errors = String::from_utf8(exported.stderr)?;
    assert_eq!(exported.status.code(), Some(1), "{errors}");
    let named = "left out: the recording at seq 2: the recording cannot be unpacked";
    assert!(errors.contains(named), "{errors}");
    std::fs::write(&file, exported.stdout)?;
    let rest = read(Agent::Narrator, &file, &[]).await?;
    assert_eq!(rest.code, Some(0), "{rest:#?}");
    assert!(rest.out.contains("1 turns: 1 same"), "{rest:#?}");
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn whoever_asks_in_vain_is_told_why_and_changes_nothing() -> anyhow::Result<()> {
    let told = Told::start().await?;
    let before = keys(&told.stack).await?;
    let url = told.stack.llm();
    for (arguments, code, words) in [
        (
            &["--story", "castle", "--prompts", "/nowhere"][..],
            2,
            "/nowhere/narrator/",
        ),
        (&["--story", "castle", "--llm", "live"], 2, "set LLM_URL"),
        (
            &["--story", "castle", "--llm", "gpt"],
            2,
            "recorded, mock, live",
        ),
        (
            &["--story", "castle", "--llm", url, "--budget", "1"],
            5,
            "--budget allows 1",
        ),
        (
            &["--story", "castle", "--from-file", "x"],
            2,
            "cannot be used with",
        ),
        (&["--story", "tower"], 2, "there is no story 'tower'"),
        (&["--story", "castle", "--from", "3"], 3, "no recording"),
        (
            &["--story", "castle", "--from", "3", "--to", "4"],
            3,
            "no recording",
        ),
        (
            &["--story", "castle", "--from", "2", "--to", "1"],
            2,
            "--from 2 is behind --to 1",
        ),
        (&[], 2, "--story"),
    ] {
        let refused = replay(&told.stack, Agent::Narrator, arguments).await?;
        assert_eq!(refused.code, Some(code), "{arguments:?}: {refused:#?}");
        let all = format!("{}{}", refused.out, refused.err);
        assert!(all.contains(words), "{arguments:?}: {refused:#?}");
    }
    let other = replay(&told.stack, Agent::Moderator, &["--story", "castle"]).await?;
    assert_eq!(other.code, Some(3), "{other:#?}");
    assert!(
        other.out.contains("there are 1 of the narrator"),
        "{other:#?}"
    );
    assert_eq!(keys(&told.stack).await?, before);
    assert_eq!(told.stack.calls_for(&"a1".parse()?).await?, 1);
    told.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_budget_is_enough_for_what_turns_cost_and_a_token_less_is_not() -> anyhow::Result<()> {
    let told = Told::start().await?;
    let url = told.stack.llm();
    let with = async |budget: &str| {
        let live = ["--story", "castle", "--llm", url, "--budget", budget];
        replay(&told.stack, Agent::Narrator, &live).await
    };
    let refused = with("1").await?.err;
    let cost = refused.split(" cost ").nth(1);
    let cost = cost
        .and_then(|rest| rest.split(' ').next())
        .unwrap_or_default();
    let cost: u64 = cost.parse()?;
    assert_eq!(with(&(cost - 1).to_string()).await?.code, Some(5));
    assert_eq!(told.stack.calls_for(&"a1".parse()?).await?, 1);
    let enough = with(&cost.to_string()).await?;
    assert!(matches!(enough.code, Some(0 | 1)), "{enough:#?}");
    assert_eq!(told.stack.calls_for(&"a1".parse()?).await?, 2);
    told.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn recordings_of_another_life_of_the_log_are_not_taken_for_those_of_this_one()
-> anyhow::Result<()> {
    let told = Told::start().await?;
    let ctx = format!("sf:{{0}}:ctx:{}", told.story);
    told.stack
        .redis(&["HSET", &ctx, "epoch", "another"])
        .await?;
    let life = "there are 1 of the narrator of an earlier life of the log";
    let before = keys(&told.stack).await?;
    let live = replay(&told.stack, Agent::Narrator, &["--story", "castle"]).await?;
    assert_eq!(live.code, Some(3), "{live:#?}");
    assert!(live.out.contains(life), "{live:#?}");
    assert_eq!(keys(&told.stack).await?, before);
    export(&told.stack, &told.story, &told.file).await?;
    let file = read(Agent::Narrator, &told.file, &[]).await?;
    assert_eq!(file.code, Some(3), "{file:#?}");
    assert!(file.out.contains(life), "{file:#?}");
    let programs = read(Agent::Narrator, &told.file, &JSON).await?.lines()?;
    assert_eq!(
        programs[0]["no_recording"],
        life.to_owned() + ", whose places mean other events"
    );
    told.stack.end().await;
    Ok(())
}
