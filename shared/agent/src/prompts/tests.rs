//! What is a prompt, and what is none.

use super::*;

const FILE: &str = "---\nname: n-turn\nversion: 3\nparams:\n  temperature: 0.5\n---\nHello {{ who.name }}.\n{% if angry %}{{ reason }}{% endif %}\n";

#[derive(Serialize)]
struct Who {
    name: &'static str,
}

fn load(text: &str, sample: serde_json::Value) -> Result<Prompts, Error> {
    Prompts::load(story::Agent::Narrator, &[("turn.md", text)], None, sample)
}

fn sample() -> serde_json::Value {
    serde_json::json!({"who": {"name": "Mira"}, "angry": false, "reason": "rain"})
}

#[test]
fn a_prompt_has_a_reference_that_changes_with_its_bytes() {
    let prompts = load(FILE, sample()).unwrap();
    let prompt = prompts.get("n-turn").unwrap();
    let (name, sha) = prompt.reference().split_once('#').unwrap();
    assert_eq!((name, sha.len()), ("n-turn@3", 12));
    assert_eq!(prompt.params().temperature, Some(0.5));
    let other = load(&FILE.replace("Hello", "Hail"), sample()).unwrap();
    let (other_name, other_sha) = other
        .get("n-turn")
        .unwrap()
        .reference
        .split_once('#')
        .unwrap();
    assert_eq!(other_name, name);
    assert_ne!(other_sha, sha);
    let values =
        minijinja::context! { who => Value::from(Serde(Who { name: "<Mira>" })), angry => false };
    assert_eq!(prompt.render(values).unwrap(), "Hello <Mira>.\n");
}

#[test]
fn a_wrong_prompt_names_file_line_and_variable() {
    for (text, says) in [
        (
            FILE.replace("who.name", "who.nam"),
            "embedded narrator/turn.md, line 7: there is no variable `who.nam`",
        ),
        (
            FILE.replace("{{ reason", "{{ reson"),
            "embedded narrator/turn.md, line 8: there is no variable `reson`",
        ),
        (
            FILE.replace("endif", "endfi"),
            "embedded narrator/turn.md, line 8: syntax error",
        ),
        (
            FILE.replace("version: 3", "version: three"),
            "front matter is wrong",
        ),
        (FILE.replace("temperature", "temprature"), "temprature"),
        (FILE.replace("---\n", ""), "must begin with a line `---`"),
    ] {
        let error = load(&text, sample()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_folder_replaces_all_prompts_and_a_missing_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let agent = story::Agent::Narrator;
    let error =
        Prompts::load(agent, &[("turn.md", FILE)], Some(folder.path()), sample()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("narrator/turn.md cannot be read"),
        "{error}"
    );
    std::fs::create_dir(folder.path().join("narrator")).unwrap();
    std::fs::write(
        folder.path().join("narrator/turn.md"),
        FILE.replace("Hello", "Hail"),
    )
    .unwrap();
    let prompts =
        Prompts::load(agent, &[("turn.md", FILE)], Some(folder.path()), sample()).unwrap();
    assert_eq!(
        prompts.get("n-turn").unwrap().render(sample()).unwrap(),
        "Hail Mira.\n"
    );
}

/// A folder with this file in it.
fn folder(turn: impl AsRef<[u8]>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("narrator")).unwrap();
    std::fs::write(folder.path().join("narrator/turn.md"), turn).unwrap();
    folder
}

fn load_from(folder: &Path) -> Result<Prompts, String> {
    let agent = story::Agent::Narrator;
    let loaded = Prompts::load(agent, &[("turn.md", FILE)], Some(folder), sample());
    loaded.map_err(|error| crate::exit::line(&error.into()))
}

#[test]
fn a_file_has_at_most_256_kib() {
    let limit = 256 * 1024;
    let fits = FILE.to_owned() + &"x".repeat(limit - FILE.len());
    assert!(load_from(folder(&fits).path()).is_ok());
    // Cut at the limit it would end within a letter.
    let over = FILE.to_owned() + &"x".repeat(limit - FILE.len()) + "é";
    let error = load_from(folder(&over).path()).unwrap_err();
    assert!(
        error.ends_with("narrator/turn.md has more than 256 KiB: make it shorter"),
        "{error}"
    );
}

#[test]
fn a_prompt_of_another_name_does_not_take_the_place_of_one_that_is_asked_for() {
    let renamed = folder(FILE.replace("n-turn", "m-turn"));
    let error = load_from(renamed.path()).unwrap_err();
    assert!(
        error.contains("turn.md: its name must be 'n-turn'"),
        "{error}"
    );
}

#[test]
fn what_is_no_text_in_a_file_is_not_waited_for() {
    let error = load_from(folder(b"---\xff").path()).unwrap_err();
    assert!(error.ends_with("it is not UTF-8"), "{error}");
    let piped = folder(FILE);
    let file = piped.path().join("narrator/turn.md");
    std::fs::remove_file(&file).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&file).status();
    assert!(made.unwrap().success());
    let error = load_from(piped.path()).unwrap_err();
    assert!(error.ends_with("it is no file"), "{error}");
}
