//! An answer that is data: one Rust type says what the model is asked for, and is what its answer is read as.
//!
//! Models wrap JSON in fences and words, and stop in the middle of it. So an answer is searched for its first whole object,
//! from the outside in: what stands inside of another object, or of a string, is never taken for the answer.

mod object;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde::de::DeserializeOwned;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use self::object::objects;
use crate::{Client, Schema};

/// What became of an answer that was to be data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Structured {
    /// The first one could be used.
    Valid,
    /// A later one could.
    Repaired,
    /// None could.
    Failed,
}

/// Why an answer is not what was asked for. As it is shown it quotes nothing of the answer, so that logs do not.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("it holds no JSON object")]
    Missing,
    #[error("its JSON object has no end")]
    Open,
    #[error("its JSON cannot be used ({:?} error at line {} column {})", .0.classify(), .0.line(), .0.column())]
    Wrong(serde_json::Error),
}

/// Text of at most `MOST` characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Short<const MOST: usize>(String);

#[derive(Debug, thiserror::Error)]
#[error("a text is longer than {0} characters")]
pub struct TooLong(usize);

/// Reads the first object in `text` that is a `T`. Fences, and words before and after it, are no part of it.
///
/// # Errors
/// What is wrong with the first object, when none is a `T`.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Unreadable> {
    let mut first = None;
    for object in objects(text) {
        let wrong = match object.map(serde_json::from_str) {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) => Unreadable::Wrong(error),
            None => Unreadable::Open,
        };
        first.get_or_insert(wrong);
    }
    Err(first.unwrap_or(Unreadable::Missing))
}

impl Unreadable {
    /// In words that may quote the answer: for the model that wrote it.
    #[must_use]
    pub fn explained(&self) -> String {
        match self {
            Self::Wrong(error) => error.to_string(),
            Self::Missing | Self::Open => self.to_string(),
        }
    }
}

impl<const MOST: usize> TryFrom<String> for Short<MOST> {
    type Error = TooLong;

    fn try_from(text: String) -> Result<Self, TooLong> {
        match text.chars().nth(MOST) {
            Some(_) => Err(TooLong(MOST)),
            None => Ok(Self(text)),
        }
    }
}

impl<const MOST: usize> From<Short<MOST>> for String {
    fn from(text: Short<MOST>) -> Self {
        text.0
    }
}

impl Schema {
    /// The schema of `T` as strict structured output takes it: every field is required, also one that [`read`] can do
    /// without, in the order of the type, and there are no others. What the code says of fields is not told: what models
    /// are told stands in prompts.
    #[must_use]
    pub fn of<T: JsonSchema>(name: &str) -> Self {
        Self::narrowed::<T>(name, |_| {})
    }

    /// The same, of which `narrow` leaves only what there is now: the names of a story's characters.
    #[must_use]
    pub fn narrowed<T: JsonSchema>(name: &str, narrow: impl FnOnce(&mut Value)) -> Self {
        let mut settings = SchemaSettings::draft2020_12().for_serialize();
        settings.meta_schema = None;
        settings.inline_subschemas = true;
        let strict = RecursiveTransform(|schema: &mut schemars::Schema| strict(schema));
        let generator = settings.with_transform(strict).into_generator();
        let mut schema = generator.into_root_schema_for::<T>().to_value();
        narrow(&mut schema);
        let text = serde_json::to_string(&InOrder(&schema)).expect("a schema is JSON");
        Self::new(name, &text).expect("what was serialised is JSON")
    }
}

impl Client {
    /// Tells the observer what became of an answer.
    pub fn told(&self, structured: Structured) {
        self.settings().observer.tell_structured(structured);
    }
}

fn strict(schema: &mut schemars::Schema) {
    for said in ["title", "description", "default", "format"] {
        schema.remove(said);
    }
    if schema.get("properties").is_some() {
        schema.insert("additionalProperties".to_owned(), false.into());
    }
}

/// A schema whose properties come in the order of `required`, which is that of the type: a `Value` keeps none.
struct InOrder<'a>(&'a Value);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => object(fields, to),
            Value::Array(items) => {
                let mut list = to.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&InOrder(item))?;
                }
                list.end()
            }
            other => other.serialize(to),
        }
    }
}

fn object<S: Serializer>(fields: &Map<String, Value>, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(None)?;
    let required = required(fields);
    for (key, value) in fields {
        match (key.as_str(), &required) {
            ("properties", Some(required)) => map.serialize_entry(key, &Properties(required))?,
            ("required", Some(required)) => {
                let names: Vec<&str> = required.iter().map(|(name, _)| *name).collect();
                map.serialize_entry(key, &names)?;
            }
            _ => map.serialize_entry(key, &InOrder(value))?,
        }
    }
    map.end()
}

/// The properties that are required, and are there still.
fn required(fields: &Map<String, Value>) -> Option<Vec<(&str, &Value)>> {
    let properties = fields.get("properties")?.as_object()?;
    let names = fields.get("required")?.as_array()?.iter();
    let names = names.filter_map(Value::as_str);
    Some(
        names
            .filter_map(|name| Some((name, properties.get(name)?)))
            .collect(),
    )
}

struct Properties<'a>(&'a [(&'a str, &'a Value)]);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, InOrder(value))))
    }
}

#[cfg(test)]
mod tests;
