//! The sample of docs/sample.md can be made again.

use anyhow::ensure;
use system_tests::{Model, program};
use tokio::process::Command;

#[tokio::test]
async fn a_sample_tells_what_was_played_and_how_it_went() -> anyhow::Result<()> {
    let model = Model::start("", &[]).await?;
    let mut sample = Command::new(program("sample")?);
    sample.args(["--llm", model.url(), "--model", "mock", "--turns", "4"]);
    let told = sample.output().await?;
    ensure!(told.status.success(), "{told:?}");
    let text = String::from_utf8(told.stdout)?;
    for part in [
        "# The lamp at Hallow Point: a sample\n",
        "\n| actions | 4: 4 answered, 0 failed, 0 blocked |\n",
        "\n| beats of the narrator | 3 whole, 0 cut |\n",
        "| 3 valid, 0 repaired by a second call, 0 beats without |\n",
        "\n| events that show the mark of the fences | 0 |\n",
        "\n**Mira** to Sibyl:\n> Why did the lamp go out?\n",
        "\n**Mira** chooses:\n> ",
    ] {
        ensure!(text.contains(part), "no {part:?} in\n{text}");
    }
    model.end().await
}
