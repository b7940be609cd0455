//! `once --explain`: what a turn would ask, and why that and not more of its story. Nothing is asked.

use std::fmt::Write as _;

use llm::{Counting, Request};
use serde_json::{Value, json};

use crate::manifest::{Fate, Item, Manifest, Section, Tokens};
use crate::{Bounds, exit};

/// The request as JSON.
pub(super) fn as_json(request: &Request, manifest: &Manifest, bounds: Bounds) -> Value {
    let messages = request.messages.iter();
    let messages: Vec<Value> = messages
        .map(|message| json!({"role": message.role(), "content": message.text()}))
        .collect();
    json!({
        "model": request.model,
        "window": bounds,
        "messages": messages,
        "manifest": manifest,
    })
}

/// The same for people: the messages, then a table of the sections, then what is not told, and why.
pub(super) fn as_text(request: &Request, manifest: &Manifest, bounds: Bounds) -> String {
    let mut text = String::new();
    for message in &request.messages {
        let _ = writeln!(text, "--- {}", message.role());
        for line in message.text().lines() {
            let _ = writeln!(text, "{}", line.replace(story::steers, " "));
        }
    }
    let _ = writeln!(text, "---\n");
    if let Some(tokens) = &manifest.tokens {
        table(&mut text, tokens, bounds.counting, &request.model);
        for section in &tokens.sections {
            left_out(&mut text, section);
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn table(text: &mut String, tokens: &Tokens, counting: Counting, model: &str) {
    let how = match counting {
        Counting::Exact(_) => "counted as its provider does".to_owned(),
        Counting::Estimate(ratio) => format!("estimated at {ratio} for 1000 bytes"),
    };
    let _ = writeln!(
        text,
        "{} tokens of {} that the prompt may have in the window of {}, {}; {how}\n",
        tokens.used,
        tokens.room,
        exit::one_line(model),
        tokens.window,
    );
    let mut row = |cells: [&str; 5]| {
        let [name, told, left, tokens, share] = cells;
        let _ = writeln!(text, "{name:<12}{told:>8}{left:>10}{tokens:>9}{share:>9}");
    };
    row(["section", "items", "left out", "tokens", "at most"]);
    for section in &tokens.sections {
        let share = section
            .share
            .map_or("all".to_owned(), |most| most.to_string());
        row([
            &section.name,
            &section.told.to_string(),
            &section.left.to_string(),
            &section.tokens.to_string(),
            &share,
        ]);
    }
}

fn left_out(text: &mut String, section: &Section) {
    let of_interest = |item: &&Item| item.fate != Fate::Told;
    let listed: Vec<&Item> = section.items.iter().filter(of_interest).collect();
    if section.left == 0 && listed.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}:", section.name);
    for item in &listed {
        let name = exit::one_line(&item.item);
        // What comes after a section was full is not counted.
        let size = match item.tokens {
            0 => String::new(),
            tokens => format!(", {tokens} tokens"),
        };
        let _ = writeln!(text, "  {name}{size}: {}", why(item.fate));
    }
    let unlisted = section.left - listed.iter().filter(|item| !item.fate.is_told()).count();
    if unlisted > 0 {
        let _ = writeln!(text, "  and {unlisted} more that were left out");
    }
}

fn why(fate: Fate) -> &'static str {
    match fate {
        Fate::Told => "told",
        Fate::Cut => "cut to its end, which fits",
        Fate::Share => "left out, what its section may have was full",
        Fate::Characters => "left out, more characters than the agent's options allow",
        Fate::Window => "left out, the whole was more than the window",
    }
}
