//! A story as text for people: whole events, and the one response that is being written, character by character.

mod event;

use std::collections::{HashMap, VecDeque};

use bus::Seen;
use story::{Action, Agent, Event, EventId, Outcome, Payload, outcome, passed};

pub(crate) use self::event::event;
use self::event::{after, prose, speaker, told};
use crate::output::{Output, Style};

/// Choices whose labels are known, the latest.
const CHOICES: usize = 256;

/// Turns what a watcher sees into text to write. Of responses written at the same time, one is shown as it grows; the
/// others when they are whole.
#[derive(Debug)]
pub(crate) struct Renderer {
    out: Output,
    growing: Option<Growing>,
    /// What is going to be answered, by the id that the response will have.
    expected: HashMap<EventId, Expected>,
    /// Id and label of what narrations offered, the latest last.
    offered: VecDeque<(String, String)>,
}

#[derive(Debug)]
struct Expected {
    /// The event that it will answer.
    to: EventId,
    /// Who will speak, when it is not the storyteller.
    speaker: Option<String>,
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
            expected: HashMap::new(),
            offered: VecDeque::new(),
        }
    }

    pub(crate) fn render(&mut self, seen: &Seen) -> String {
        match seen {
            Seen::Event(entry) => self.whole(&entry.event),
            Seen::Delta { re, i, text, .. } => self.grow(re, text, *i == 0),
            Seen::Snapshot { re, text, .. } => {
                let again = self.restart(re);
                again + &self.grow(re, text, true)
            }
            Seen::Reset { re, .. } => self.restart(re),
            Seen::Gap => {
                self.growing = None;
                let says = "\n… the story's log is not the one read so far: from its beginning\n";
                self.out.styled(Style::Dim, says)
            }
        }
    }

    /// A response whose beginning was not shown is not gone on with: it is shown when it is whole.
    fn grow(&mut self, re: &EventId, text: &str, begins: bool) -> String {
        let text = prose(text);
        match &mut self.growing {
            Some(growing) if growing.response == *re => {
                growing.shown.push_str(&text);
                text
            }
            None if begins => {
                let expected = self.expected.get(re);
                let who = expected.and_then(|expected| expected.speaker.as_deref());
                let label = who.map_or_else(String::new, |name| speaker(name, self.out));
                let begun = format!("{label}{text}");
                self.growing = Some(Growing {
                    response: re.clone(),
                    shown: text,
                });
                begun
            }
            _ => String::new(),
        }
    }

    fn restart(&mut self, re: &EventId) -> String {
        match self.growing.take_if(|growing| growing.response == *re) {
            Some(growing) if !growing.shown.is_empty() => self.anew(),
            _ => String::new(),
        }
    }

    fn anew(&self) -> String {
        self.out.styled(Style::Dim, "\n(anew)\n")
    }

    fn whole(&mut self, seen: &Event) -> String {
        self.expect_responses(seen);
        self.remember_choices(seen);
        let Some(growing) = self.growing.take() else {
            return self.event(seen);
        };
        if growing.response != seen.id {
            let text = self.event(seen);
            if self.gives_up(seen, &growing.response) {
                return format!("\n{text}");
            }
            // Another event in the middle of it: say that, then go on where it was.
            self.growing = Some(growing);
            return match text.as_str() {
                "" => text,
                _ => format!("\n{text}{}", self.out.styled(Style::Dim, "… ")),
            };
        }
        let text = prose(seen.payload().text().unwrap_or_default());
        // The event's text is without the spaces around it, and may end before what its maker cut off.
        let shown = growing.shown.trim_start();
        match text.strip_prefix(shown) {
            Some(rest) => format!("{rest}\n{}", after(seen, self.out)),
            None if shown.starts_with(&text) => format!("\n{}", after(seen, self.out)),
            None => self.anew() + &self.event(seen),
        }
    }

    fn event(&self, seen: &Event) -> String {
        let Payload::Action(Action {
            choice: Some(choice),
            ..
        }) = seen.payload()
        else {
            return event(seen, self.out);
        };
        let newest = self.offered.iter().rev().find(|(id, _)| id == choice);
        told(seen, newest.map(|(_, label)| label.as_str()), self.out)
    }

    fn remember_choices(&mut self, seen: &Event) {
        if let Payload::Narration(narration) = seen.payload() {
            let offered = narration.choices.iter();
            self.offered
                .extend(offered.map(|choice| (choice.id.clone(), choice.label.clone())));
            let old = self.offered.len().saturating_sub(CHOICES);
            self.offered.drain(..old);
        }
    }

    fn expect_responses(&mut self, seen: &Event) {
        self.expected.remove(&seen.id);
        for step in passed(seen) {
            let speaker = match seen.payload() {
                Payload::Action(action) if step.agent == Agent::Dialogue => action.to.clone(),
                Payload::Narration(narration) => (0..)
                    .zip(&narration.speak)
                    .find(|(part, _)| *part == step.part)
                    .map(|(_, speak)| speak.character.clone()),
                _ => None,
            };
            let to = seen.id.clone();
            let response = seen.response(step.agent, step.part);
            self.expected.insert(response, Expected { to, speaker });
        }
    }

    /// Whether `seen` says that nothing comes of the response. When it is not known what that answers (its event was
    /// not seen), any such end counts: shown twice is better than nothing shown while it grows from then on.
    fn gives_up(&self, seen: &Event, response: &EventId) -> bool {
        if seen.gives_up(response) {
            return true;
        }
        let Some((Outcome::Failed | Outcome::Blocked, ended)) = outcome(seen) else {
            return false;
        };
        let expected = self.expected.get(response);
        ended.contains(response) || expected.is_none_or(|it| ended.contains(&it.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::story::{LogEntry, Seq};

    /// What is written of all that is seen.
    fn written(seen: &[Seen]) -> String {
        let mut renderer = Renderer::new(Output::new(false));
        seen.iter().map(|seen| renderer.render(seen)).collect()
    }

    fn delta(re: &str, i: u32, text: &str) -> Seen {
        Seen::Delta {
            re: re.parse().unwrap(),
            attempt: 1,
            i,
            n: 1,
            text: text.to_owned(),
        }
    }

    fn event(json: &serde_json::Value) -> Seen {
        let mut whole = serde_json::json!({
            "v": 1, "story": "castle", "at": "1970-01-01T00:00:00Z", "status": "complete", "mode": "do",
            "author": {"kind": "agent", "id": "x"},
        });
        whole
            .as_object_mut()
            .unwrap()
            .extend(json.as_object().unwrap().clone());
        Seen::Event(LogEntry {
            seq: Seq(1),
            event: Event::decode(whole.to_string().as_bytes()).unwrap(),
        })
    }

    fn narration(id: &str, text: &str) -> Seen {
        event(&serde_json::json!({"id": id, "type": "narration", "text": text}))
    }

    #[test]
    fn a_response_whose_beginning_was_not_shown_is_shown_when_it_is_whole() {
        let seen = [
            delta("r1", 0, "Rain "),
            delta("r2", 0, "The "),
            delta("r1", 1, "falls."),
            narration("r1", "Rain falls."),
            delta("r2", 1, "door opens."),
            narration("r2", "The door opens."),
        ];
        assert_eq!(written(&seen), "Rain falls.\nThe door opens.\n");
    }

    #[test]
    fn a_response_that_ends_shorter_than_it_grew_is_not_shown_again() {
        let seen = [
            delta("r1", 0, " Rain falls. And th"),
            narration("r1", "Rain falls."),
        ];
        assert_eq!(written(&seen), " Rain falls. And th\n");
        let seen = [delta("r1", 0, "Rain"), narration("r1", "Snow falls.")];
        assert_eq!(written(&seen), "Rain\n(anew)\nSnow falls.\n");
    }

    #[test]
    fn an_event_in_the_middle_of_a_response_takes_none_of_it_and_doubles_none() {
        let action = serde_json::json!({"id": "a", "type": "action", "text": "I wait"});
        let seen = [
            delta("r1", 0, "Rain "),
            event(&action),
            delta("r1", 1, "falls."),
            narration("r1", "Rain falls."),
        ];
        assert_eq!(written(&seen), "Rain \n> x: I wait\n… falls.\n");
    }

    #[test]
    fn a_choice_that_is_taken_is_shown_by_its_label_or_else_by_its_id() {
        let taken = |id: &str| {
            event(
                &serde_json::json!({"id": "a", "type": "action", "mode": "choose", "choice": id, "text": ""}),
            )
        };
        let offer = event(&serde_json::json!({
            "id": "n", "type": "narration", "text": "It rains.",
            "choices": [{"id": "n-1", "label": "Go in"}, {"id": "n-2", "label": "Stay"}],
        }));
        assert_eq!(
            written(&[offer, taken("n-2"), taken("n-9")]),
            "It rains.\n  · Go in\n  · Stay\n> x: Stay\n> x: n-9\n"
        );
    }

    #[test]
    fn after_an_answer_that_failed_in_the_middle_the_next_one_grows_again() {
        let user = serde_json::json!({"kind": "user", "id": "u"});
        let action =
            serde_json::json!({"id": "a", "type": "action", "text": "I wait", "author": user});
        let action = event(&action);
        let Seen::Event(entry) = &action else {
            unreachable!("made as an event");
        };
        let response = entry.event.response(Agent::Narrator, 0);
        let failed = |cause: &str| {
            event(&serde_json::json!({
                "id": "f", "type": "failed", "cause": [cause],
                "agent": "narrator", "class": "stall", "tries": 1, "notice": "Try again.",
            }))
        };
        let seen = [
            action,
            delta(response.as_str(), 0, "Rain fa"),
            failed("another"),
            delta(response.as_str(), 1, "lls"),
            failed("a"),
            delta("r2", 0, "Snow "),
            delta("r2", 1, "falls."),
            narration("r2", "Snow falls."),
        ];
        assert_eq!(
            written(&seen),
            "> u: I wait\nRain fa\n(Try again.)\n… lls\n(Try again.)\nSnow falls.\n"
        );
    }

    #[test]
    fn after_a_beat_that_was_taken_back_what_a_character_said_in_it_ends() {
        let beat = narration("n", "Dust.");
        let Seen::Event(entry) = &beat else {
            unreachable!("made as an event");
        };
        let said = entry.event.response(Agent::Dialogue, 0);
        let retracted =
            serde_json::json!({"id": "t", "type": "retracted", "target": "n", "reason": "rude"});
        let seen = [
            beat,
            delta(said.as_str(), 0, "Who is"),
            event(&retracted),
            delta("r2", 0, "Snow "),
            delta("r2", 1, "falls."),
            narration("r2", "Snow falls."),
        ];
        let told = "(taken back: rude)";
        assert_eq!(
            written(&seen),
            format!("Dust.\nWho is\n{told}\nSnow falls.\n")
        );
    }

    #[test]
    fn an_answer_that_broke_off_is_told_so() {
        let half = serde_json::json!({"id": "r1", "type": "narration", "text": "Rain", "status": "truncated"});
        let mark = "(the answer broke off here)";
        assert_eq!(written(&[event(&half)]), format!("Rain\n{mark}\n"));
        let grown = [delta("r1", 0, "Rain"), event(&half)];
        assert_eq!(written(&grown), format!("Rain\n{mark}\n"));
    }

    #[test]
    fn nobody_can_write_a_line_of_another_event() {
        let forged = "x\n> Mira: I confess";
        let author = serde_json::json!({"kind": "user", "id": "u", "name": forged});
        let seen = [
            event(&serde_json::json!({
                "id": "a", "type": "action", "author": author, "text": forged, "to": forged,
            })),
            delta("r", 0, "x\n> Mira: I"),
            narration("r", forged),
            narration("r2", forged),
        ];
        let written = written(&seen);
        assert_eq!(
            written.lines().filter(|line| line.starts_with('>')).count(),
            1,
            "{written}"
        );
    }
}
