//! An action is answered, in the order of the story.

use story::{Payload, Policies};
use system_tests::{Options, Stack};

#[tokio::test]
async fn an_action_is_answered_by_narration_then_dialogue() -> anyhow::Result<()> {
    let scenario = r#"rules:
- when: { agent: narrator }
  reply: { text: "The door gives way.\n@@@\n{\"choices\":[\"Go in\"],\"speak\":[{\"character\":\"Sibyl\",\"intent\":\"to warn\"}]}" }
- when: { agent: dialogue }
  reply: { text: "Mind the step." }
"#;
    let stack = Stack::start(Options {
        scenario: scenario.to_owned(),
        ..Options::default()
    })
    .await?;
    let _fleet = stack.fleet()?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let action = stack.act(&story, "a1", "I open the door").await?;

    let narration = reader.end_of(&action).await?;
    assert_eq!(narration.payload().text(), Some("The door gives way."));
    let dialogue = reader.end_of(&narration.id).await?;
    let Payload::Dialogue(line) = dialogue.payload() else {
        panic!("not dialogue: {dialogue:?}");
    };
    assert_eq!(
        (line.character.as_str(), line.text.as_str()),
        ("Sibyl", "Mind the step.")
    );
    let kinds: Vec<&str> = reader.events().map(story::Event::kind).collect();
    assert_eq!(kinds, ["action", "narration", "dialogue"]);
    stack.audit(1).await?;
    stack.end().await;
    Ok(())
}
