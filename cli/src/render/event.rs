//! A whole event as text for people.

use std::fmt::Write;

use story::{Action, Decision, Event, Mode, Payload, Status};

use crate::output::{Output, Style, one_line, plain};

/// A whole event, ending with its line.
pub(crate) fn event(event: &Event, out: Output) -> String {
    told(event, None, out)
}

/// `label`: of the choice that an action takes, where it is known.
pub(super) fn told(event: &Event, label: Option<&str>, out: Output) -> String {
    match event.payload() {
        _ if event.extra.get("retracted") == Some(&true.into()) => warning("(taken back)", out),
        Payload::Action(action) => {
            let name = one_line(if event.author.name.is_empty() {
                &event.author.id
            } else {
                &event.author.name
            });
            let to = action
                .to
                .as_ref()
                .map_or_else(String::new, |to| format!(" to {}", one_line(to)));
            format!(
                "{}{}\n",
                out.styled(Style::Bold, &format!("> {name}{to}: ")),
                prose(said(action, label))
            )
        }
        Payload::Narration(narration) => {
            format!("{}\n{}", prose(&narration.text), after(event, out))
        }
        Payload::Dialogue(dialogue) => format!(
            "{}{}\n{}",
            speaker(&dialogue.character, out),
            prose(&dialogue.text),
            after(event, out)
        ),
        Payload::Verdict(verdict) if verdict.decision == Decision::Block => {
            warning(&format!("(blocked: {})", one_line(&verdict.reason)), out)
        }
        Payload::Retracted(retracted) => warning(
            &format!("(taken back: {})", one_line(&retracted.reason)),
            out,
        ),
        Payload::Failed(failed) => warning(&format!("({})", one_line(&failed.notice)), out),
        Payload::Verdict(_) | Payload::Unknown(_) => String::new(),
    }
}

/// What an action says: of a choice its label, else the words that came with it, else its id.
fn said<'a>(action: &'a Action, label: Option<&'a str>) -> &'a str {
    let text = Some(action.text.as_str()).filter(|text| text.contains(story::shows));
    match &action.choice {
        Some(choice) if action.mode == Mode::Choose => label.or(text).unwrap_or(choice),
        _ => &action.text,
    }
}

/// Somebody's words: further lines stand back, so that none of them passes for an event.
pub(super) fn prose(text: &str) -> String {
    plain(text).replace('\n', "\n  ")
}

/// What follows the text of a response: that it is not whole, and the choices of a narration.
pub(super) fn after(event: &Event, out: Output) -> String {
    let (status, choices) = match event.payload() {
        Payload::Narration(narration) => (narration.status, narration.choices.as_slice()),
        Payload::Dialogue(dialogue) => (dialogue.status, [].as_slice()),
        _ => return String::new(),
    };
    let mut text = match status {
        Status::Complete => String::new(),
        Status::Truncated => warning("(the answer broke off here)", out),
    };
    for choice in choices {
        let line = format!("  · {}", one_line(&choice.label));
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}", out.styled(Style::Dim, &line));
    }
    text
}

pub(super) fn speaker(name: &str, out: Output) -> String {
    out.styled(Style::Bold, &format!("{}: ", one_line(name)))
}

fn warning(text: &str, out: Output) -> String {
    out.styled(Style::Warning, text) + "\n"
}
