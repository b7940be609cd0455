//! A story's rating and its owner's lists of words: agents write for it, it is judged by it, and copies have it.

use std::time::Duration;

use serde_json::{Value, json};
use story::{Agent, Outcome, Seq, StoryId};
use system_tests::{Options, Stack};
use tempfile::TempDir;

use crate::command::{run, says};

/// A model that tells which readers it was told to write for.
const SCENARIO: &str = r#"rules:
- when: { agent: narrator, regex: "children too", within: prompt }
  reply: { text: "Lord Vex comes to the town of Gory.\n@@@\n{\"choices\":[\"Go in\"],\"speak\":[]}" }
- when: { agent: narrator, regex: "from 13 on", within: prompt }
  reply: { text: "Nobody knows L0rd Vex.\n@@@\n{\"choices\":[\"Go in\"],\"speak\":[]}" }
- when: { agent: narrator }
  reply: { text: "A night for adults.\n@@@\n{\"choices\":[\"Go in\"],\"speak\":[]}" }
"#;

async fn stack() -> anyhow::Result<(Stack, TempDir)> {
    let options = Options {
        scenario: SCENARIO.to_owned(),
        between_tokens: Duration::from_millis(5),
        ..Options::default()
    };
    Ok((Stack::start(options).await?, tempfile::tempdir()?))
}

/// The story of this id, judged before anybody sees of it, with what else is said of it.
async fn create(
    (stack, folder): &(Stack, TempDir),
    id: &str,
    said: &[&str],
) -> anyhow::Result<StoryId> {
    let url = stack.redis_url();
    let create = ["--redis", &url, "story", "create", id];
    let held = ["--input", "hold", "--output", "hold"];
    says(folder.path(), &[&create[..], &held, said].concat()).await?;
    Ok(id.parse()?)
}

const LISTS: [&str; 6] = [
    "--rating", "general", "--block", "Lord Vex", "--allow", "Gory",
];

#[tokio::test]
async fn the_same_words_end_differently_in_stories_for_others() -> anyhow::Result<()> {
    let of = stack().await?;
    let stack = &of.0;
    let _fleet = stack.fleet()?;
    for (number, (said, text, end)) in [
        (&LISTS[..], "What the fuck!", Outcome::Blocked),
        (&LISTS[..], "I ask for L0rd-Vex.", Outcome::Blocked),
        // Its answer names who is blocked.
        (&LISTS[..], "I walk to Gory.", Outcome::Blocked),
        (
            &["--rating", "general", "--allow", "Gory"],
            "I walk to Gory.",
            Outcome::Answered,
        ),
        (&[], "What the fuck!", Outcome::Answered),
        (&[], "A film of pornography.", Outcome::Blocked),
        (
            &["--rating", "mature"],
            "A film of pornography.",
            Outcome::Answered,
        ),
        (
            &["--rating", "mature", "--block", "a night"],
            "I wait.",
            Outcome::Blocked,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let story = create(&of, &format!("story-{number}"), said).await?;
        let mut reader = stack.hear(&story).await?;
        let asked = stack.act(&story, "a1", text).await?;
        assert_eq!(reader.outcome_of(&asked).await?, end, "{said:?}: {text}");
        if end == Outcome::Blocked {
            let seen = format!("{:?} {}", reader.seen, reader.drafted());
            let is_told = ["Vex", "adults", "film", "fuck"]
                .iter()
                .any(|word| seen.contains(word));
            assert!(!is_told, "{seen}");
        }
    }
    stack.audit(3).await?;
    of.0.end().await;
    Ok(())
}

#[tokio::test]
async fn what_an_owner_blocks_is_taken_back_and_no_letter_of_it_was_shown() -> anyhow::Result<()> {
    let of = stack().await?;
    let stack = &of.0;
    let _fleet = stack.fleet()?;
    let said = ["--output", "retract", "--block", "Lord Vex"];
    let url = stack.redis_url();
    // Judged by nobody, they are of no use.
    let idle = ["--redis", &url, "story", "create", "idle", "--block", "Vex"];
    let idle = run(of.1.path(), &idle).await?;
    let told = String::from_utf8(idle.stderr)?;
    assert!(
        idle.status.success() && told.contains("nothing of this story is judged"),
        "{told}"
    );
    let create = ["--redis", &url, "story", "create", "castle"];
    says(of.1.path(), &[&create[..], &said].concat()).await?;
    let story: StoryId = "castle".parse()?;
    let mut reader = stack.hear(&story).await?;
    stack.act(&story, "a1", "I look around.").await?;
    reader.until_kind("retracted").await?;
    let log = stack.bus.log(&story, Seq(0), 10).await?;
    assert!(!format!("{log:?}").contains("L0rd Vex"), "{log:?}");
    let shown = reader.drafted();
    assert!(
        shown.contains("Nobody") && !shown.contains("Vex"),
        "{shown}"
    );
    of.0.end().await;
    Ok(())
}

#[tokio::test]
async fn copies_of_a_story_are_judged_as_it_is() -> anyhow::Result<()> {
    let of = stack().await?;
    let (stack, folder) = &of;
    let story = create(&of, "castle", &LISTS).await?;
    let url = stack.redis_url();
    let told = async |words: &[&str]| {
        let words = [&["--redis", &url], words].concat();
        says(folder.path(), &words).await
    };
    // So that there is something to copy.
    let _moderator = stack.worker(Agent::Moderator)?;
    let mut reader = stack.hear(&story).await?;
    let asked = stack.act(&story, "a1", "What the fuck!").await?;
    assert_eq!(reader.outcome_of(&asked).await?, Outcome::Blocked);
    let file = folder.path().join("castle.ndjson");
    std::fs::write(&file, told(&["export", "--story", "castle"]).await?)?;
    let file = file.display().to_string();
    told(&["import", &file, "imported"]).await?;
    told(&["fork", "castle", "forked", "--at", "1"]).await?;
    for copy in ["castle", "imported", "forked"] {
        let shown = told(&["--json", "story", "show", copy]).await?;
        let shown: Value = serde_json::from_str(&shown)?;
        let content = json!({"rating": "general", "blocked": ["Lord Vex"], "allowed": ["Gory"]});
        assert_eq!(shown["content"], content, "{copy}");
    }
    let shown = told(&["story", "show", "castle"]).await?;
    let lists = "rating: general\nblocked: Lord Vex\nallowed: Gory\n";
    assert!(shown.contains(lists), "{shown}");
    of.0.end().await;
    Ok(())
}

#[tokio::test]
async fn what_is_no_rating_or_list_makes_no_story() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let long = "ø".repeat(65);
    let many: Vec<String> = (0..65).map(|n| format!("--block=word {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (said, words) in [
        (
            &["--rating", "adult"][..],
            "unknown rating 'adult': use one of general, teen, mature",
        ),
        (
            &["--block", ""],
            "--block: a word of a list has 1 to 64 characters",
        ),
        (
            &["--allow", &long],
            "--allow: a word of a list has 1 to 64 characters",
        ),
        (&many, "--block: a list has 65 words: at most 64 fit"),
    ] {
        // Said before anybody is asked anything.
        let create = [
            "--redis",
            "redis://127.0.0.1:1",
            "story",
            "create",
            "castle",
        ];
        let refused = run(folder.path(), &[&create[..], said].concat()).await?;
        let errors = String::from_utf8(refused.stderr)?;
        assert_eq!(refused.status.code(), Some(2), "{errors}");
        assert!(errors.contains(words), "{errors}");
    }
    Ok(())
}
