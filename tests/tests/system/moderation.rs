//! What the moderator blocks stays unseen.

use bus::Seen;
use story::{InputPolicy, Outcome, OutputPolicy, Policies, outcome};
use system_tests::{Options, Stack, Watcher, action};

#[tokio::test]
async fn a_blocked_line_never_reaches_a_reader() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let policies = Policies {
        input: InputPolicy::Hold,
        output: OutputPolicy::Off,
    };
    let story = stack.story("castle", policies).await?;
    let mut reader = stack.hear(&story).await?;
    let _fleet = stack.fleet()?;
    let blocked = stack
        .act(&story, "a1", "The card is 4111 1111 1111 1111")
        .await?;
    let allowed = stack.act(&story, "a2", "I wait").await?;

    let verdict = reader.end_of(&blocked).await?;
    assert_eq!(
        outcome(&verdict).map(|(end, _)| end),
        Some(Outcome::Blocked)
    );
    let answer = reader.end_of(&allowed).await?;
    assert_eq!(
        outcome(&answer).map(|(end, _)| end),
        Some(Outcome::Answered)
    );
    let seen = format!("{:?}", reader.seen);
    assert!(!seen.contains("4111"), "{seen}");
    stack.audit(1).await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_held_answer_is_read_whole_and_only_after_its_verdict() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let policies = Policies {
        input: InputPolicy::Off,
        output: OutputPolicy::Hold,
    };
    let story = stack.story("castle", policies).await?;
    let mut reader = stack.hear(&story).await?;
    let _fleet = stack.fleet()?;
    for action in [
        stack.act(&story, "a1", "I open the door").await?,
        stack.say(&story, "a2", "Who are you?").await?,
    ] {
        let answer = reader.end_of(&action).await?;
        assert_eq!(
            outcome(&answer).map(|(end, _)| end),
            Some(Outcome::Answered)
        );
    }
    assert_eq!(drafts(&reader), 0);
    stack.audit(2).await?;
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
