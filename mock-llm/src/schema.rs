//! JSON that is valid under a JSON Schema: the subset that OpenAI's structured output takes
//! (not `pattern` and `format`). Properties keep the schema's order, as a model's answers do.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::dice::Dice;
use crate::prose;

/// Below this depth only what is required is filled, so that a schema that holds itself comes to an end.
const DEPTH: usize = 6;
/// Where even that does not end: deeper than anything sensible.
const BOTTOM: usize = 40;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Schema {
    #[serde(rename = "type")]
    kind: Option<Types>,
    #[serde(rename = "enum")]
    options: Option<Vec<Value>>,
    #[serde(rename = "const")]
    constant: Option<Value>,
    properties: Ordered<Schema>,
    required: Vec<String>,
    items: Option<Box<Schema>>,
    min_items: usize,
    max_items: Option<usize>,
    min_length: usize,
    max_length: Option<usize>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    any_of: Vec<Schema>,
    #[serde(rename = "$ref")]
    reference: Option<String>,
    #[serde(rename = "$defs", alias = "definitions")]
    definitions: Ordered<Schema>,
}

/// What to answer for a property of this name, wherever its schema allows it.
pub(crate) type Wishes = [(&'static str, Value)];

/// A generated value: its objects keep their order.
#[derive(Debug)]
pub(crate) enum Json {
    Value(Value),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Types {
    One(String),
    Many(Vec<String>),
}

/// A JSON object in the order it was written.
#[derive(Debug)]
struct Ordered<T>(Vec<(String, T)>);

impl Schema {
    pub(crate) fn fill(&self, dice: &mut Dice, wishes: &Wishes) -> Json {
        let mut filler = Filler {
            root: self,
            dice,
            wishes,
        };
        filler.value(self, "", 0)
    }

    fn kind(&self) -> &str {
        match &self.kind {
            Some(Types::One(kind)) => kind,
            Some(Types::Many(kinds)) => kinds.first().map_or("null", String::as_str),
            None if !self.properties.0.is_empty() => "object",
            None if self.items.is_some() => "array",
            None => "string",
        }
    }

    /// Whether a wish may stand here; exact for what wishes are: texts and arrays of texts.
    fn allows(&self, value: &Value) -> bool {
        if let Some(options) = &self.options {
            return options.contains(value);
        }
        let kind = self.kind();
        self.constant.is_none()
            && match value {
                Value::String(text) => {
                    let length = text.chars().count();
                    kind == "string" && within(length, self.min_length, self.max_length)
                }
                Value::Array(values) => {
                    let fits = |value| self.items.as_ref().is_none_or(|items| items.allows(value));
                    kind == "array"
                        && within(values.len(), self.min_items, self.max_items)
                        && values.iter().all(fits)
                }
                _ => false,
            }
    }
}

fn within(n: usize, low: usize, high: Option<usize>) -> bool {
    low <= n && high.is_none_or(|high| n <= high)
}

struct Filler<'a> {
    root: &'a Schema,
    dice: &'a mut Dice,
    wishes: &'a Wishes,
}

impl<'a> Filler<'a> {
    /// A value for the property `name`, or for an item of it.
    fn value(&mut self, schema: &'a Schema, name: &str, depth: usize) -> Json {
        let schema = self.resolved(schema);
        let mut wishes = self.wishes.iter().filter(|(wished, _)| *wished == name);
        if let Some((_, wish)) = wishes.find(|(_, wish)| schema.allows(wish)) {
            return Json::Value(wish.clone());
        }
        if let Some(constant) = &schema.constant {
            return Json::Value(constant.clone());
        }
        if let Some(options) = schema.options.as_ref().filter(|all| !all.is_empty()) {
            return Json::Value(self.dice.pick(options).clone());
        }
        if !schema.any_of.is_empty() {
            return self.any_of(&schema.any_of, name, depth);
        }
        match schema.kind() {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, name, depth),
            "string" => Json::Value(self.string(schema, name).into()),
            "integer" => Json::Value(self.integer(schema)),
            "number" => Json::Value(self.number(schema).into()),
            "boolean" => Json::Value((self.dice.between(0, 1) == 1).into()),
            _ => Json::Value(Value::Null),
        }
    }

    /// Follows `#/$defs/Name`, and `#`, which is the root.
    fn resolved(&self, mut schema: &'a Schema) -> &'a Schema {
        // A reference to itself resolves to nothing: stop where no sensible chain goes.
        for _ in 0..DEPTH {
            let Some(reference) = &schema.reference else {
                break;
            };
            let name = reference.rsplit('/').next().unwrap_or_default();
            let mut definitions = self.root.definitions.0.iter();
            let found = definitions.find(|(key, _)| key == name);
            schema = found.map_or(self.root, |(_, schema)| schema);
        }
        schema
    }

    fn any_of(&mut self, options: &'a [Schema], name: &str, depth: usize) -> Json {
        let nullable = options.iter().any(|option| option.kind() == "null");
        if nullable && depth >= DEPTH {
            return Json::Value(Value::Null);
        }
        let option = self.dice.pick(options);
        self.value(option, name, depth + 1)
    }

    fn object(&mut self, schema: &'a Schema, depth: usize) -> Json {
        let wanted =
            |name: &String| depth < DEPTH || (depth < BOTTOM && schema.required.contains(name));
        let properties = schema.properties.0.iter().filter(|(name, _)| wanted(name));
        let filled = properties.map(|(name, schema)| {
            let value = self.value(schema, name, depth + 1);
            (name.clone(), value)
        });
        Json::Object(filled.collect())
    }

    fn array(&mut self, schema: &'a Schema, name: &str, depth: usize) -> Json {
        let low = schema.min_items;
        let usual = if depth < DEPTH { low.max(1) + 1 } else { low };
        let high = schema.max_items.map_or(usual, |max| usual.min(max));
        let length = self.dice.between(low, high.max(low));
        if let Some(items) = &schema.items {
            let filled = (0..length).map(|_| self.value(items, name, depth + 1));
            return Json::Array(filled.collect());
        }
        let words = (0..length).map(|_| Json::Value(prose::intent(self.dice).into()));
        Json::Array(words.collect())
    }

    fn string(&mut self, schema: &Schema, name: &str) -> String {
        let mut text = match name {
            "text" | "narration" | "prose" | "summary" => prose::narration(self.dice, 40),
            "intent" => prose::intent(self.dice),
            _ => prose::choices(self.dice, 1).concat(),
        };
        while text.chars().count() < schema.min_length {
            text.push(' ');
            text.push_str(&prose::narration(self.dice, 20));
        }
        match schema.max_length {
            Some(max) => text.chars().take(max).collect(),
            None => text,
        }
    }

    fn integer(&mut self, schema: &Schema) -> Value {
        let (low, high) = range(schema);
        let number = low + (high - low) * self.dice.chance();
        (number.round().max(low.ceil()).min(high.floor()) as i64).into()
    }

    fn number(&mut self, schema: &Schema) -> f64 {
        let (low, high) = range(schema);
        let number = low + (high - low) * self.dice.chance();
        ((number * 100.0).round() / 100.0).max(low).min(high)
    }
}

/// Ten wide where the schema leaves an end open.
fn range(schema: &Schema) -> (f64, f64) {
    match (schema.minimum, schema.maximum) {
        (Some(low), Some(high)) => (low, high),
        (Some(low), None) => (low, low + 10.0),
        (None, Some(high)) => (high.min(10.0) - 10.0, high),
        (None, None) => (0.0, 10.0),
    }
}

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Array(items) => items.serialize(serializer),
            Self::Object(entries) => serializer.collect_map(entries.iter().map(|(k, v)| (k, v))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(schema: &str, seed: u64, wishes: &Wishes) -> String {
        let schema: Schema = serde_json::from_str(schema).unwrap();
        serde_json::to_string(&schema.fill(&mut Dice::new(seed), wishes)).unwrap()
    }

    const BEAT: &str = r#"{"type":"object","required":["text","choices","speak"],"properties":{
        "text":{"type":"string","maxLength":30},
        "choices":{"type":"array","minItems":2,"maxItems":3,"items":{"type":"string"}},
        "speak":{"type":"array","maxItems":1,"items":{"type":"object","required":["character"],
            "properties":{"character":{"enum":["Edda","Tom"]},"loud":{"type":"boolean"}}}},
        "turn":{"type":"integer","minimum":3,"maximum":5},
        "mood":{"type":["string","null"],"minLength":200}}}"#;

    #[test]
    fn a_beat_is_valid_and_in_the_order_of_its_schema() {
        for seed in 0..100 {
            let text = fill(BEAT, seed, &[]);
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(value["text"].as_str().unwrap().chars().count() <= 30);
            assert!((2..=3).contains(&value["choices"].as_array().unwrap().len()));
            for speaker in value["speak"].as_array().unwrap() {
                assert!(["Edda", "Tom"].contains(&speaker["character"].as_str().unwrap()));
                assert!(speaker["loud"].is_boolean());
            }
            assert!((3..=5).contains(&value["turn"].as_i64().unwrap()));
            assert!(value["mood"].as_str().unwrap().chars().count() >= 200);
            let at = |key: &str| text.find(&format!("\"{key}\":")).unwrap();
            assert!(at("text") < at("choices") && at("choices") < at("speak"));
        }
    }

    #[test]
    fn a_wish_is_granted_only_where_the_schema_allows_it() {
        let wishes = [("decision", Value::from("allow"))];
        let asked = r#"{"properties":{"decision":{"enum":["block","allow"]}}}"#;
        assert_eq!(fill(asked, 3, &wishes), r#"{"decision":"allow"}"#);
        let refused = r#"{"properties":{"decision":{"enum":["block"]}}}"#;
        assert_eq!(fill(refused, 3, &wishes), r#"{"decision":"block"}"#);
    }

    #[test]
    fn references_resolve_and_a_schema_that_holds_itself_ends() {
        let tree = r##"{"$ref":"#/$defs/Node","$defs":{"Node":{"type":"object","required":["name"],
            "properties":{"name":{"const":"leaf"},"next":{"anyOf":[{"$ref":"#/$defs/Node"},{"type":"null"}]},
            "all":{"type":"array","items":{"$ref":"#/$defs/Node"}}}}}}"##;
        for seed in 0..50 {
            let value: Value = serde_json::from_str(&fill(tree, seed, &[])).unwrap();
            assert_eq!(value["name"], "leaf");
        }
        let endless = r##"{"required":["me"],"properties":{"me":{"$ref":"#"}}}"##;
        let text = fill(endless, 0, &[]);
        assert_eq!(text.matches("me").count(), BOTTOM, "{text}");
    }
}
