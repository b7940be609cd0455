//! What the moderator blocks stays unseen.

use story::{InputPolicy, Outcome, OutputPolicy, Policies, outcome};
use system_tests::{Options, Stack};

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
