//! A story as text for people: whole events, and the one response that is being written, character by character.

use std::collections::HashMap;
use std::fmt::Write;

use bus::Seen;
use story::{Agent, Decision, Event, EventId, Payload};

use crate::output::{Output, Style, plain};

/// Turns what a watcher sees into text to write. Of responses written at the same time, one is shown as it grows; the
/// others when they are whole.
#[derive(Debug)]
pub(crate) struct Renderer {
    out: Output,
    growing: Option<Growing>,
    /// Who is going to speak, by the id that their response will have.
    speakers: HashMap<EventId, String>,
}

#[derive(Debug)]
struct Growing {
    response: EventId,
    shown: String,
}

impl Renderer {
    pub(crate) fn new(out: Output) -> Self {
        Self {
            out,
            growing: None,
            speakers: HashMap::new(),
        }
    }

    pub(crate) fn render(&mut self, seen: &Seen) -> String {
        match seen {
            Seen::Event(entry) => self.whole(&entry.event),
            Seen::Delta { re, text, .. } => self.grow(re, text),
            Seen::Snapshot { re, text, .. } => {
                let again = self.restart(re);
                again + &self.grow(re, text)
            }
            Seen::Reset { re, .. } => self.restart(re),
            Seen::Gap => {
                self.growing = None;
                let says = "\n… the story's log is not the one read so far: from its beginning\n";
                self.out.styled(Style::Dim, says)
            }
        }
    }

    fn grow(&mut self, re: &EventId, text: &str) -> String {
        let text = plain(text);
        match &mut self.growing {
            Some(growing) if growing.response == *re => {
                growing.shown.push_str(&text);
                text
            }
            Some(_) => String::new(),
            None => {
                let speaker = self.speakers.get(re);
                let label = speaker.map_or_else(String::new, |name| label(name, self.out));
                let begun = format!("{label}{text}");
                self.growing = Some(Growing {
                    response: re.clone(),
                    shown: text,
                });
                begun
            }
        }
    }

    fn restart(&mut self, re: &EventId) -> String {
        match self.growing.take_if(|growing| growing.response == *re) {
            Some(growing) if !growing.shown.is_empty() => self.out.styled(Style::Dim, "\n(anew)\n"),
            _ => String::new(),
        }
    }

    fn whole(&mut self, seen: &Event) -> String {
        self.expect_speakers(seen);
        let Some(growing) = self.growing.take() else {
            return event(seen, self.out);
        };
        if growing.response != seen.id {
            // Another event in the middle of it: say that, then go on with a copy of what stood there.
            let text = format!("\n{}{}", event(seen, self.out), growing.shown);
            self.growing = Some(growing);
            return text;
        }
        let text = plain(seen.payload().text().unwrap_or_default());
        match text.strip_prefix(&growing.shown) {
            Some(rest) => format!("{rest}\n{}", after(seen, self.out)),
            None => format!("\n{}", event(seen, self.out)),
        }
    }

    fn expect_speakers(&mut self, seen: &Event) {
        self.speakers.remove(&seen.id);
        let mut expect = |part, character: &str| {
            let response = seen
                .id
                .derive(&seen.story, Agent::Dialogue.as_str(), part, seen.at);
            self.speakers.insert(response, character.to_owned());
        };
        match seen.payload() {
            Payload::Action(action) => {
                if let Some(to) = &action.to {
                    expect(0, to);
                }
            }
            Payload::Narration(narration) => {
                for (part, speak) in (0..).zip(&narration.speak) {
                    expect(part, &speak.character);
                }
            }
            _ => {}
        }
    }
}

/// A whole event, ending with its line.
pub(crate) fn event(event: &Event, out: Output) -> String {
    match event.payload() {
        Payload::Action(action) => {
            let name = plain(if event.author.name.is_empty() {
                &event.author.id
            } else {
                &event.author.name
            });
            let to = action
                .to
                .as_ref()
                .map_or_else(String::new, |to| format!(" to {}", plain(to)));
            format!(
                "{}{}\n",
                out.styled(Style::Bold, &format!("> {name}{to}: ")),
                plain(&action.text)
            )
        }
        Payload::Narration(narration) => {
            format!("{}\n{}", plain(&narration.text), after(event, out))
        }
        Payload::Dialogue(dialogue) => format!(
            "{}{}\n",
            label(&dialogue.character, out),
            plain(&dialogue.text)
        ),
        Payload::Verdict(verdict) if verdict.decision == Decision::Block => {
            warning(&format!("(blocked: {})", plain(&verdict.reason)), out)
        }
        Payload::Retracted(retracted) => {
            warning(&format!("(taken back: {})", plain(&retracted.reason)), out)
        }
        Payload::Failed(failed) => warning(&format!("({})", plain(&failed.notice)), out),
        Payload::Verdict(_) | Payload::Unknown(_) => String::new(),
    }
}

/// What follows the text of a narration: its choices.
fn after(event: &Event, out: Output) -> String {
    let Payload::Narration(narration) = event.payload() else {
        return String::new();
    };
    let mut text = String::new();
    for choice in &narration.choices {
        let line = format!("  · {}", plain(&choice.label));
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}", out.styled(Style::Dim, &line));
    }
    text
}

fn label(name: &str, out: Output) -> String {
    out.styled(Style::Bold, &format!("{}: ", plain(name)))
}

fn warning(text: &str, out: Output) -> String {
    out.styled(Style::Warning, text) + "\n"
}
