//! `storyfleet` as it is first met: what was written in passing, and what it makes of it.

use crate::command::run;

#[tokio::test]
async fn up_does_not_listen_where_its_model_is_to_be() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    for option in ["--listen", "--internal-listen"] {
        let llm = ["--llm", "http://localhost:8089/v1", "--model", "m"];
        let up = [&["up", option, "127.0.0.1:8089"], &llm[..]].concat();
        let output = run(data.path(), &up).await?;
        let told = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.contains(&format!("{option} is where --llm is")),
            "{told}"
        );
    }
    Ok(())
}
