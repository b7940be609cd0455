//! Stories: made, read, changed.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use bus::{Made, NewStory, Story, StoryPatch};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use story::{Character, ContentChange, ContentPolicy, Policies, PoliciesChange, Seq, StoryId};
use utoipa::ToSchema;

use crate::api::Caller;
use crate::api::caller::Body;
use crate::api::document::schema;
use crate::api::events::key;
use crate::app::App;
use crate::auth::Role;
use crate::problem::Problem;
use crate::said::own;

/// A story to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Create {
    #[schema(schema_with = schema::story_id)]
    id: StoryId,
    #[serde(default)]
    title: String,
    #[serde(default)]
    premise: String,
    #[serde(default)]
    style: String,
    #[serde(default, deserialize_with = "object")]
    #[schema(schema_with = schema::policies)]
    policies: PoliciesChange,
    #[serde(default, deserialize_with = "object")]
    #[schema(schema_with = schema::content)]
    content: ContentPolicy,
    #[serde(default)]
    #[schema(schema_with = schema::characters)]
    characters: BTreeMap<String, Character>,
    #[serde(default)]
    #[schema(schema_with = schema::lore)]
    lore: BTreeMap<String, String>,
}

/// Fields by their names alone: a list would be taken for them in their order.
fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<T, D::Error> {
    let fields = Map::<String, Value>::deserialize(from)?;
    T::deserialize(Value::Object(fields)).map_err(D::Error::custom)
}

/// What to change; what is left out stays, and `null` removes a character or a fact.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    premise: Option<String>,
    #[serde(default)]
    style: Option<String>,
    /// Of its three parts those that are told.
    #[serde(default, deserialize_with = "object")]
    #[schema(schema_with = schema::policies_change, required = false)]
    policies: PoliciesChange,
    /// Of its three parts those that are told.
    #[serde(default, deserialize_with = "object")]
    #[schema(schema_with = schema::content_change, required = false)]
    content: ContentChange,
    #[serde(default)]
    #[schema(schema_with = schema::character_changes)]
    characters: BTreeMap<String, Option<Character>>,
    #[serde(default)]
    #[schema(schema_with = schema::lore_changes)]
    lore: BTreeMap<String, Option<String>>,
}

/// What is known of a story.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Known {
    #[schema(schema_with = schema::story_id)]
    id: StoryId,
    title: String,
    premise: String,
    style: String,
    summary: String,
    #[schema(schema_with = schema::policies)]
    policies: Policies,
    /// Its lists are told to owners alone, and are empty for others.
    #[schema(schema_with = schema::content)]
    content: ContentPolicy,
    #[schema(schema_with = schema::characters)]
    characters: BTreeMap<String, Character>,
    #[schema(schema_with = schema::lore)]
    lore: BTreeMap<String, String>,
    /// The place of its last event; 0 = none yet.
    #[schema(schema_with = schema::seq)]
    seq: Seq,
    #[schema(value_type = String, format = DateTime)]
    created: jiff::Timestamp,
}

impl Known {
    fn new(made: NewStory, created: jiff::Timestamp) -> Self {
        Self {
            id: made.id,
            title: made.title,
            premise: made.premise,
            style: made.style,
            summary: String::new(),
            policies: made.policies,
            content: made.content,
            characters: made.characters,
            lore: made.lore,
            seq: Seq(0),
            created,
        }
    }
}

/// Make a story
///
/// Sent twice under the same `Idempotency-Key`, it is made once, and told as it is by then. The same key with
/// another body for the same story is 409.
#[utoipa::path(post, path = "/v1/stories", operation_id = "createStory", tag = "stories", request_body = Create,
    params(("idempotency-key" = Option<String>, Header, description = "What you call this request", pattern = "^[ -~]{1,64}$")),
    responses((status = 201, description = "Made", body = Known, headers(("location" = String, description = "Its address")))))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Body(create): Body<Create>,
) -> Result<impl IntoResponse, Problem> {
    let id = caller.story(create.id.as_str(), Role::Owner)?;
    nameable(create.characters.keys())?;
    let key = key(&headers)?.map(|key| own(&key, &caller.0).to_string());
    let request = key.clone();
    let request = request.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let new = NewStory {
        id: create.id,
        title: create.title,
        style: create.style,
        premise: create.premise,
        policies: create.policies.of(Policies::default()),
        content: create.content,
        characters: create.characters,
        lore: create.lore,
    };
    let made = match app.bus.make_story(&new, &request).await? {
        Made::Before(_) if key.is_some() => known(&app, &id).await?,
        // It is not read anew: that could fail, and the story would be there all the same.
        Made::Now(created) | Made::Before(created) => Known::new(new, created),
    };
    let place = [(header::LOCATION, format!("/v1/stories/{id}"))];
    Ok((StatusCode::CREATED, place, Json(made)))
}

/// Read what is known of a story
#[utoipa::path(get, path = "/v1/stories/{id}", operation_id = "readStory", tag = "stories",
    params(("id" = String, Path, description = "The story", pattern = "^[a-z0-9][a-z0-9-]{0,63}$")),
    responses((status = 200, description = "The story", body = Known)))]
pub(crate) async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Known>, Problem> {
    let id = caller.story(&id, Role::Reader)?;
    let mut known = known(&app, &id).await?;
    if caller.story(id.as_str(), Role::Owner).is_err() {
        // They say what is looked for, and may name people.
        known.content = ContentPolicy {
            rating: known.content.rating,
            ..ContentPolicy::default()
        };
    }
    Ok(Json(known))
}

/// Change a story
#[utoipa::path(patch, path = "/v1/stories/{id}", operation_id = "changeStory", tag = "stories", request_body = Change,
    params(("id" = String, Path, description = "The story", pattern = "^[a-z0-9][a-z0-9-]{0,63}$")),
    responses((status = 200, description = "The story as it is now", body = Known)))]
pub(crate) async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(change): Body<Change>,
) -> Result<Json<Known>, Problem> {
    let id = caller.story(&id, Role::Owner)?;
    let set = change.characters.iter().filter(|(_, to)| to.is_some());
    nameable(set.map(|(name, _)| name))?;
    let patch = StoryPatch {
        title: change.title,
        style: change.style,
        premise: change.premise,
        policies: change.policies,
        content: change.content,
        characters: change.characters,
        lore: change.lore,
    };
    app.bus.patch_story(&id, &patch).await?;
    Ok(Json(known(&app, &id).await?))
}

fn nameable<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), Problem> {
    match names.find(|name| !story::is_name(name)) {
        None => Ok(()),
        Some(_) => Err(Problem::bad(format!(
            "a character's name has 1 to {} characters, none of them a control character, and something that shows",
            story::MAX_NAME
        ))),
    }
}

async fn known(app: &App, id: &StoryId) -> Result<Known, Problem> {
    let Story {
        id,
        title,
        premise,
        style,
        summary,
        policies,
        content,
        characters,
        lore,
        seq,
        created,
        ..
    } = app.bus.story(id).await?;
    Ok(Known {
        id,
        title,
        premise,
        style,
        summary,
        policies,
        content,
        characters,
        lore,
        seq,
        created,
    })
}
