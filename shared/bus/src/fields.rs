//! What is known of a story, as the fields of its hashes: written, and read.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use redis::Value;
use serde_json::json;
use story::{
    Character, ContentChange, ContentPolicy, InputPolicy, OutputPolicy, Phrases, Policies,
    PoliciesChange, RecordingPolicy, Seq, StoryId,
};

use crate::letters::fence_of;
use crate::reply::next;
use crate::{Error, Story};

/// Reads the replies for the hashes ctx, chars and lore.
pub(crate) fn known(
    id: &StoryId,
    replies: &mut impl Iterator<Item = Value>,
) -> Result<Story, Error> {
    let mut ctx: HashMap<String, String> = next(replies)?;
    let characters: BTreeMap<String, String> = next(replies)?;
    let lore = next(replies)?;
    if ctx.is_empty() {
        return Err(Error::NoStory(id.clone()));
    }
    let policies = Policies {
        input: parsed(&ctx, "input")?,
        output: parsed(&ctx, "output")?,
        recording: parsed(&ctx, "recording")?,
    };
    let content = ContentPolicy {
        rating: parsed(&ctx, "rating")?,
        blocked: phrases(&ctx, "blocked")?,
        allowed: phrases(&ctx, "allowed")?,
    };
    let created = jiff::Timestamp::from_millisecond(parsed(&ctx, "created")?)
        .map_err(|e| Error::data(e.to_string()))?;
    let seq = Seq(parsed(&ctx, "seq")?);
    let characters = characters
        .into_iter()
        .map(|(name, json)| match serde_json::from_str(&json) {
            Ok(character) => Ok((name, character)),
            Err(e) => Err(Error::data(format!("the character {name}: {e}"))),
        })
        .collect::<Result<_, _>>()?;
    let renewed = ctx.remove("renewed");
    let fence = ctx.remove("fence");
    let secret = ctx.get("mark").or(ctx.get("epoch"));
    let fence = fence.unwrap_or_else(|| fence_of(secret.map_or("", String::as_str)));
    let mut text = |name: &str| ctx.remove(name).unwrap_or_default();
    Ok(Story {
        id: id.clone(),
        renewed,
        epoch: text("epoch"),
        seq,
        created,
        title: text("title"),
        style: text("style"),
        premise: text("premise"),
        summary: text("summary"),
        policies,
        content,
        characters,
        lore,
        fence,
    })
}

/// A field that has a form of its own; its default when it is absent.
fn parsed<T: FromStr + Default>(ctx: &HashMap<String, String>, name: &str) -> Result<T, Error> {
    match ctx.get(name) {
        Some(text) => text
            .parse()
            .map_err(|_| Error::data(format!("the field {name} is '{text}'"))),
        None => Ok(T::default()),
    }
}

/// A list of words; empty when the field is absent.
fn phrases(ctx: &HashMap<String, String>, name: &str) -> Result<Phrases, Error> {
    match ctx.get(name) {
        Some(json) => serde_json::from_str(json)
            .map_err(|e| Error::data(format!("the field {name} is no list of words: {e}"))),
        None => Ok(Phrases::default()),
    }
}

pub(crate) fn content_fields(content: &ContentChange) -> Vec<(&'static str, String)> {
    let rating = content.rating.map(|rating| rating.as_str().to_owned());
    let list = |phrases: &Option<Phrases>| phrases.as_ref().map(|list| json!(list).to_string());
    let fields = [
        ("rating", rating),
        ("blocked", list(&content.blocked)),
        ("allowed", list(&content.allowed)),
    ];
    let told = fields.into_iter();
    told.filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

pub(crate) fn policy_fields(policies: PoliciesChange) -> Vec<(&'static str, &'static str)> {
    let fields = [
        ("input", policies.input.map(InputPolicy::as_str)),
        ("output", policies.output.map(OutputPolicy::as_str)),
        ("recording", policies.recording.map(RecordingPolicy::as_str)),
    ];
    let told = fields.into_iter();
    told.filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

pub(crate) fn character_json(character: &Character) -> String {
    json!(character).to_string()
}
