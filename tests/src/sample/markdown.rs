//! A sample as Markdown. What people and the model wrote is shown as it is: nothing in it is markup.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use story::{Action, Event, LogEntry, Mode, Payload, Status};

use super::Sample;

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# {}: a sample\n", literal(&self.story.title))?;
        writeln!(
            f,
            "Played by `make sample`: `storyfleet up` with the model `{}`, a real Redis, all three agents, and everything held \
             until the moderator had looked at it. Nothing of it was chosen or edited.\n",
            self.model
        )?;
        if !self.note.is_empty() {
            writeln!(f, "{}\n", literal(&self.note))?;
        }
        writeln!(f, "| what | how many |\n|---|---|")?;
        for (what, count) in self.rows() {
            writeln!(f, "| {what} | {count} |")?;
        }
        writeln!(f, "\n## Premise\n\n{}\n", quoted(&self.story.premise))?;
        writeln!(f, "## The story")?;
        for entry in &self.log {
            if let Some(told) = told(&entry.event, &self.log) {
                write!(f, "\n{told}")?;
            }
        }
        Ok(())
    }
}

impl Sample {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let counts = &self.counts;
        let texts =
            |of: &super::counts::Texts| format!("{} whole, {} cut", of.complete, of.truncated);
        let blocks = &counts.blocks;
        vec![
            ("storyfleet", env!("CARGO_PKG_VERSION").to_owned()),
            ("seconds", self.took.as_secs().to_string()),
            (
                "actions",
                format!(
                    "{}: {} answered, {} failed, {} blocked",
                    counts.actions, counts.answered, counts.failed, counts.blocked
                ),
            ),
            ("beats of the narrator", texts(&counts.narrations)),
            (
                "their choices and speakers (JSON behind the prose)",
                format!(
                    "{} valid, {} repaired by a second call, {} beats without",
                    blocks.valid, blocks.repaired, blocks.failed
                ),
            ),
            ("lines of characters", texts(&counts.lines)),
            (
                "verdicts of the moderator that are shown",
                pairs(&counts.verdicts),
            ),
            ("failures by class", pairs(&counts.classes)),
            ("calls of the model", counts.calls.to_string()),
            (
                "tokens",
                format!("{} in, {} out", counts.tokens_in, counts.tokens_out),
            ),
            (
                "events that show the mark of the fences",
                counts.marks.to_string(),
            ),
        ]
    }
}

fn pairs(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let pairs = counts.iter().map(|(name, count)| format!("{count} {name}"));
    pairs.collect::<Vec<_>>().join(", ")
}

fn told(event: &Event, log: &[LogEntry]) -> Option<String> {
    Some(match event.payload() {
        Payload::Action(action) => {
            let said = label(action, log).unwrap_or(&action.text);
            let how = match (action.mode, &action.to) {
                (Mode::Say, Some(to)) => format!("to {}", literal(to)),
                (Mode::Choose, _) => "chooses".to_owned(),
                _ => "does".to_owned(),
            };
            format!(
                "**{}** {how}:\n{}\n",
                literal(&event.author.name),
                quoted(said)
            )
        }
        Payload::Narration(narration) => {
            let mut told = format!(
                "*Narrator{}*\n\n{}\n",
                cut(narration.status),
                paragraphs(&narration.text)
            );
            for choice in &narration.choices {
                // A text takes all.
                let _ = write!(told, "\n- {}", literal(&choice.label));
            }
            if !narration.choices.is_empty() {
                told.push('\n');
            }
            told
        }
        Payload::Dialogue(said) => {
            let (who, how) = (literal(&said.character), cut(said.status));
            format!("**{who}**{how}:\n{}\n", quoted(&said.text))
        }
        Payload::Verdict(verdict) => {
            let decision = format!("{:?}", verdict.decision).to_lowercase();
            format!("*Moderator: {decision}. {}*\n", literal(&verdict.reason))
        }
        Payload::Failed(failed) => {
            format!(
                "*{} ({})*\n",
                literal(&failed.notice),
                literal(&failed.class)
            )
        }
        _ => return None,
    })
}

fn cut(status: Status) -> &'static str {
    match status {
        Status::Complete => "",
        Status::Truncated => " (cut)",
    }
}

/// What the choice taken was called.
fn label<'a>(action: &Action, log: &'a [LogEntry]) -> Option<&'a str> {
    let id = action.choice.as_ref()?;
    let mut choices = log.iter().flat_map(|entry| match entry.event.payload() {
        Payload::Narration(narration) => narration.choices.as_slice(),
        _ => &[],
    });
    let taken = choices.find(|choice| choice.id == *id)?;
    Some(&taken.label)
}

/// Each line of it in a quotation.
fn quoted(text: &str) -> String {
    let lines = text.lines().map(|line| format!("> {}", literal(line)));
    lines.collect::<Vec<_>>().join("\n")
}

fn paragraphs(text: &str) -> String {
    let lines = text.lines().map(literal);
    lines.collect::<Vec<_>>().join("\n")
}

/// One line that Markdown shows as it is.
fn literal(line: &str) -> String {
    let line = line.trim();
    let mut shown = String::with_capacity(line.len() + 8);
    for (at, c) in line.char_indices() {
        let opens_list = matches!(c, '+' | '-' | '=') && at == 0;
        let opens_numbers =
            matches!(c, '.' | ')') && line[..at].bytes().all(|b| b.is_ascii_digit());
        if "\\`*_[]<>#|~&!{}".contains(c) || opens_list || opens_numbers {
            shown.push('\\');
        }
        shown.push(c);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_somebody_wrote_is_markup() {
        for (written, shown) in [
            ("# a *b* [c](d) <e>", "\\# a \\*b\\* \\[c\\](d) \\<e\\>"),
            ("- a - b", "\\- a - b"),
            ("1. One. 2. Two", "1\\. One. 2. Two"),
            ("    code | ![x](y)", "code \\| \\!\\[x\\](y)"),
            ("&lt; `x` ~~y~~ {z}", "\\&lt; \\`x\\` \\~\\~y\\~\\~ \\{z\\}"),
        ] {
            assert_eq!(literal(written), shown);
        }
        assert_eq!(quoted("a\n> b"), "> a\n> \\> b");
    }
}
