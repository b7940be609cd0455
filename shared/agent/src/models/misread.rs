//! What is wrong with a file of models that cannot be read, for who wrote it: where, and what to write there.

use anyhow::anyhow;
use serde_saphyr::Error;

/// Where nothing more can be said than that it is no YAML.
const NO_YAML: &str = "from here on it cannot be read as YAML: see that the fields of one model begin in one column, that a space \
    follows each colon, and that quotes and brackets are closed";

/// Most characters of a field's name that is quoted.
const QUOTED: usize = 64;

/// `yaml`: what was read. Of its lines only a field is told, and never its value: a key may be there by mistake, and what is
/// told goes to logs.
pub(super) fn misread(error: &Error, yaml: &str) -> anyhow::Error {
    let what = words(error.without_snippet());
    let number = |place| usize::try_from(place).ok()?.checked_sub(1);
    let Some((line, column)) = error
        .location()
        .and_then(|at| Some((number(at.line())?, number(at.column())?)))
    else {
        return anyhow!(what);
    };
    let field = yaml.lines().nth(line).and_then(|it| field(it, column));
    let field = field.map_or_else(String::new, |field| format!(", `{field}`"));
    anyhow!("line {}{field}: {what}", line + 1)
}

/// The field whose value is at this column, else the first of the line.
fn field(line: &str, column: usize) -> Option<&str> {
    let before = line
        .char_indices()
        .nth(column)
        .map_or(line.len(), |it| it.0);
    let before = line[..before].rsplit_once(':').and_then(|it| name(it.0));
    before.or_else(|| name(line.split_once(':')?.0))
}

/// The word at the end, if it can be a field's name.
fn name(text: &str) -> Option<&str> {
    let letters = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    let ends = |letter: char| letter.is_whitespace() || "{[,".contains(letter);
    let word = text.rsplit(ends).next()?;
    (1..=QUOTED)
        .contains(&word.len())
        .then_some(word)
        .filter(|it| it.chars().all(letters))
}

fn words(error: &Error) -> String {
    match error {
        Error::SerdeUnknownField { field, .. } if field.to_lowercase().contains("key") => {
            format!(
                "there is no field `{field}` here: a key is never in this file. Write it into one of its own, and name that in `key_file`"
            )
        }
        Error::SerdeUnknownField {
            field, expected, ..
        } => format!(
            "there is no field `{field}` here: write one of {}, or take it out",
            expected.join(", ")
        ),
        Error::SerdeMissingField { field, .. } => {
            format!("`{field}` is missing here: write it too")
        }
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => format!(
            "there is no `{variant}`: write one of {}",
            expected.join(", ")
        ),
        Error::DuplicateMappingKey { key, .. } => format!(
            "{} is here for the second time: take one of them out",
            key.as_ref()
                .map_or("a field".to_owned(), |key| format!("`{key}`"))
        ),
        Error::MultipleDocuments { .. } => {
            "a second document begins: write all into one, without a line of `---` between"
                .to_owned()
        }
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            wanted(expected).to_owned()
        }
        Error::Unexpected { expected, .. } => wanted(expected).to_owned(),
        Error::InvalidScalar { ty, .. } => wanted(ty).to_owned(),
        // What a field's own reader says.
        Error::Message { msg, .. } => msg.clone(),
        _ => NO_YAML.to_owned(),
    }
}

/// What to write where the library wants this.
fn wanted(expected: &str) -> &'static str {
    match expected {
        "u64" => "write a whole number, 1 or more, as in 5000",
        "u32" => "write a whole number from 1 to 4294967295, as in 300",
        "f64" | "f32" | "floating point" => "write a number, as in 0.5",
        "sequence start" => "write a list, as in [small, other]",
        "mapping start" => {
            "write fields with their values, a space behind each colon, as in `calls_at_once: 50`"
        }
        "string scalar" | "scalar" => "write one value, no fields and no list",
        _ => NO_YAML,
    }
}

#[cfg(test)]
mod tests {
    use crate::Models;

    #[test]
    fn what_cannot_be_read_is_told_with_its_line_and_what_to_write() {
        let told = [
            "models:\n  m:\n    token_per_minute: 5",
            "models:\n  m:\n    tokens_per_minute: many",
            "models:\n  m:\n    max_tokens: 5000000000",
            "models:\n  m:\n    temperature: warm",
            "models:\n  m:\n    then: small",
            "models:\n  m:\n    at: [http://a]",
            "models:\n  m:\n    tokenizer: mine",
            "models:\n  m:\n    price: {input: 1}",
            "models:\n  m:\n    calls_at_once:5",
            "models:\n  m: {}\n  m: {}",
            "models: [m]",
            "wait: 5",
            "models:\n  m: {}\n---\nmodels: {}",
            "models:\n  m:\n    then: [a",
            "models:\n\tm: {}",
            "models: *m",
        ];
        let told = told.map(|yaml| Models::parse(yaml).unwrap_err().to_string());
        insta::assert_snapshot!(told.join("\n"), @r"
        line 3, `token_per_minute`: there is no field `token_per_minute` here: write one of price, then, at, key_file, name, temperature, max_tokens, requests_per_minute, tokens_per_minute, calls_at_once, answer, window, tokenizer, per_day, or take it out
        line 3, `tokens_per_minute`: write a whole number, 1 or more, as in 5000
        line 3, `max_tokens`: write a whole number from 1 to 4294967295, as in 300
        line 3, `temperature`: write a number, as in 0.5
        line 3, `then`: write a list, as in [small, other]
        line 3, `at`: write one value, no fields and no list
        line 3, `tokenizer`: there is no `mine`: write one of o200k_base, cl100k_base
        line 3, `price`: `output` is missing here: write it too
        line 3, `calls_at_once`: write fields with their values, a space behind each colon, as in `calls_at_once: 50`
        line 3, `m`: `m` is here for the second time: take one of them out
        line 1, `models`: write fields with their values, a space behind each colon, as in `calls_at_once: 50`
        line 1, `wait`: wait `5`: write it like 500ms, 10s or 1m
        line 4, `models`: a second document begins: write all into one, without a line of `---` between
        line 3, `then`: from here on it cannot be read as YAML: see that the fields of one model begin in one column, that a space follows each colon, and that quotes and brackets are closed
        line 2, `m`: from here on it cannot be read as YAML: see that the fields of one model begin in one column, that a space follows each colon, and that quotes and brackets are closed
        line 1, `models`: from here on it cannot be read as YAML: see that the fields of one model begin in one column, that a space follows each colon, and that quotes and brackets are closed
        ");
    }

    #[test]
    fn no_key_that_is_there_by_mistake_is_told() {
        for yaml in [
            "models: {m: {api_key: sk-live-1}}",
            "models: {m: {at: 'http://me:sk-live-1@a/v1', api_key: k}}",
            "models:\n  m:\n    apiKey: sk-live-1",
            "models:\n  m:\n    key_file: [sk-live-1]",
            "models:\n  m:\n    at: [http://me:sk-live-1@a/v1]",
            "models:\n  m:\n    - sk-live-1",
            "models:\n  m: sk-live-1",
        ] {
            let told = Models::parse(yaml).unwrap_err().to_string();
            assert!(!told.contains("sk-live"), "{told}");
        }
        let told = Models::parse("models: {m: {api_key: k}}").unwrap_err();
        let says = "line 1, `m`: there is no field `api_key` here: a key is never in this file. Write it into one of its own, and name that in `key_file`";
        assert_eq!(told.to_string(), says);
    }

    #[test]
    fn the_file_is_told_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("models.yaml");
        std::fs::write(&file, format!("models: {}\n", "[".repeat(200))).unwrap();
        let told = format!("{:#}", Models::read(&file).unwrap_err());
        let begins = format!(
            "the file of models {} does not do: line 1, `models`: ",
            file.display()
        );
        assert!(told.starts_with(&begins), "{told}");
        assert!(told.len() < begins.len() + 400, "{told}");
    }
}
