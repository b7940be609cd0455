//! Stories: made, read, changed.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use bus::{NewStory, Story, StoryPatch};
use serde::{Deserialize, Serialize};
use story::{Character, Policies, Seq, StoryId};

use crate::api::Caller;
use crate::api::caller::Body;
use crate::app::App;
use crate::auth::Role;
use crate::problem::Problem;

/// A story to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Create {
    id: StoryId,
    #[serde(default)]
    title: String,
    #[serde(default)]
    premise: String,
    #[serde(default)]
    style: String,
    #[serde(default)]
    policies: Policies,
    #[serde(default)]
    characters: BTreeMap<String, Character>,
    #[serde(default)]
    lore: BTreeMap<String, String>,
}

/// What to change; what is left out stays, and `null` removes a character or a fact.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    premise: Option<String>,
    #[serde(default)]
    style: Option<String>,
    #[serde(default)]
    policies: Option<Policies>,
    #[serde(default)]
    characters: BTreeMap<String, Option<Character>>,
    #[serde(default)]
    lore: BTreeMap<String, Option<String>>,
}

/// What is known of a story.
#[derive(Debug, Serialize)]
pub(crate) struct Known {
    id: StoryId,
    title: String,
    premise: String,
    style: String,
    summary: String,
    policies: Policies,
    characters: BTreeMap<String, Character>,
    lore: BTreeMap<String, String>,
    /// The place of its last event; 0 = none yet.
    seq: Seq,
    created: jiff::Timestamp,
}

pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(create): Body<Create>,
) -> Result<impl IntoResponse, Problem> {
    let id = caller.story(create.id.as_str(), Role::Owner)?;
    let new = NewStory {
        id: create.id,
        title: create.title,
        style: create.style,
        premise: create.premise,
        policies: create.policies,
        characters: create.characters,
        lore: create.lore,
    };
    app.bus.create_story(&new).await?;
    let place = [(header::LOCATION, format!("/v1/stories/{id}"))];
    Ok((StatusCode::CREATED, place, Json(known(&app, &id).await?)))
}

pub(crate) async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Known>, Problem> {
    let id = caller.story(&id, Role::Reader)?;
    Ok(Json(known(&app, &id).await?))
}

pub(crate) async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(change): Body<Change>,
) -> Result<Json<Known>, Problem> {
    let id = caller.story(&id, Role::Owner)?;
    let patch = StoryPatch {
        title: change.title,
        style: change.style,
        premise: change.premise,
        policies: change.policies,
        characters: change.characters,
        lore: change.lore,
    };
    app.bus.patch_story(&id, &patch).await?;
    Ok(Json(known(&app, &id).await?))
}

async fn known(app: &App, id: &StoryId) -> Result<Known, Problem> {
    let Story {
        id,
        title,
        premise,
        style,
        summary,
        policies,
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
        characters,
        lore,
        seq,
        created,
    })
}
