//! Stories themselves: made, listed, read, changed.

use std::collections::BTreeMap;

use redis::Value;
use serde::{Deserialize, Serialize};
use serde_json::json;
use story::{Character, ContentChange, ContentPolicy, Policies, PoliciesChange, Seq, StoryId};

use crate::digest::sha256;
use crate::fields::{character_json, content_fields, known, policy_fields};
use crate::letters::{fence, letters};
use crate::replicas::Replicated;
use crate::reply::{next, read, verdict};
use crate::script::{Call, STORY};
use crate::{Bus, Error};

/// The most that may be known of a story, names and values together: each prompt is made of it.
pub const MAX_STORY_BYTES: usize = 256 * 1_024;
/// The longest title.
pub const MAX_TITLE_BYTES: usize = 1_024;

/// A story to be made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewStory {
    pub id: StoryId,
    pub title: String,
    pub style: String,
    pub premise: String,
    pub policies: Policies,
    #[serde(skip_serializing_if = "ContentPolicy::is_default")]
    pub content: ContentPolicy,
    pub characters: BTreeMap<String, Character>,
    pub lore: BTreeMap<String, String>,
}

/// What became of a story that was to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// As it was asked for, at this time.
    Now(jiff::Timestamp),
    /// By the same request before, which may be a try of this call that was not heard of: it may have changed since.
    Before(jiff::Timestamp),
}

/// What is known of a story, without its events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Story {
    pub id: StoryId,
    /// The log's life: changes if the log was ever lost.
    pub epoch: String,
    /// What cursors have in its place since [`Bus::renew_story`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed: Option<String>,
    /// The place of the last event; 0 = none yet.
    pub seq: Seq,
    pub created: jiff::Timestamp,
    pub title: String,
    pub style: String,
    pub premise: String,
    pub summary: String,
    pub policies: Policies,
    #[serde(default, skip_serializing_if = "ContentPolicy::is_default")]
    pub content: ContentPolicy,
    pub characters: BTreeMap<String, Character>,
    pub lore: BTreeMap<String, String>,
    /// What its texts are fenced with in prompts. It is this story's alone: in no export, and a copy has one of its own.
    #[serde(skip)]
    pub fence: String,
}

impl Story {
    /// What cursors into its log begin with.
    #[must_use]
    pub fn cursor_epoch(&self) -> &str {
        self.renewed.as_ref().unwrap_or(&self.epoch)
    }
}

/// What to change of a story; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoryPatch {
    pub title: Option<String>,
    pub style: Option<String>,
    pub premise: Option<String>,
    pub policies: PoliciesChange,
    pub content: ContentChange,
    /// `None` removes one.
    pub characters: BTreeMap<String, Option<Character>>,
    /// `None` removes one.
    pub lore: BTreeMap<String, Option<String>>,
}

impl NewStory {
    /// A story that nothing is known of yet.
    #[must_use]
    pub fn new(id: StoryId) -> Self {
        Self {
            id,
            title: String::new(),
            style: String::new(),
            premise: String::new(),
            policies: Policies::default(),
            content: ContentPolicy::default(),
            characters: BTreeMap::new(),
            lore: BTreeMap::new(),
        }
    }
}

impl Bus {
    /// Makes a story.
    ///
    /// # Errors
    /// [`Error::StoryExists`]; it is larger than [`MAX_STORY_BYTES`]; or Redis was not reached.
    pub async fn create_story(&self, new: &NewStory) -> Result<(), Error> {
        self.make_story(new, &letters()).await.map(drop)
    }

    /// The same; tells also whether replicas have it.
    ///
    /// # Errors
    /// Those of [`Bus::create_story`].
    pub async fn create_story_replicated(&self, new: &NewStory) -> Result<Replicated, Error> {
        let (_, replicated) = self.make(new, &letters()).await?;
        Ok(replicated)
    }

    /// The same for whoever may not hear that it was done, and asks again for the same under the same name of the request.
    ///
    /// # Errors
    /// Those of [`Bus::create_story`], also where another story was made under this name.
    pub async fn make_story(&self, new: &NewStory, request: &str) -> Result<Made, Error> {
        self.make(new, request).await.map(|(made, _)| made)
    }

    async fn make(&self, new: &NewStory, request: &str) -> Result<(Made, Replicated), Error> {
        Error::check_size("the title", new.title.len(), MAX_TITLE_BYTES)?;
        let mut call = self.story_call("create", &new.id);
        call.arg(sha256(json!([request, new]).to_string().as_bytes()));
        call.keys([
            self.keys.log(&new.id),
            self.keys.gone(&new.id),
            self.keys.seen(&new.id),
            self.keys.redriven(&new.id),
            self.keys.drafts(&new.id),
            self.keys.recordings(&new.id),
        ]);
        let (epoch, fence) = (letters(), fence());
        let mut ctx = vec![
            ("epoch", epoch.as_str()),
            ("fence", &fence),
            ("title", &new.title),
            ("style", &new.style),
            ("premise", &new.premise),
        ];
        ctx.extend(policy_fields(new.policies.into()));
        let content = content_fields(&ContentChange::from(&new.content));
        ctx.extend(content.iter().map(|(name, value)| (*name, value.as_str())));
        set_and_remove(&mut call, &ctx, &[]);
        let characters = new.characters.iter();
        let characters = characters.map(|(name, c)| (name, character_json(c)));
        set_and_remove(&mut call, &characters.collect::<Vec<_>>(), &[]);
        let lore: Vec<_> = new.lore.iter().collect();
        set_and_remove(&mut call, &lore, &[]);
        let mut keys = self.keys.of_story(&new.id);
        keys.push((self.keys.stories(self.keys.shard(&new.id)), "set"));
        let (reply, replicated) = match call.run_until_replicated(&self.writing).await {
            Ok((reply, replicated)) => (Ok(reply), replicated),
            Err(error) => (Err(error), Replicated::Unasked),
        };
        let (is_new, more) = done(self.naming(reply, keys).await?, &new.id)?;
        let created = jiff::Timestamp::from_millisecond(next(&mut more.into_iter())?);
        let created = created.map_err(|e| Error::data(e.to_string()))?;
        let made = if is_new { Made::Now } else { Made::Before };
        Ok((made(created), replicated))
    }

    /// Changes what is known of a story.
    ///
    /// # Errors
    /// [`Error::NoStory`]; it would be larger than [`MAX_STORY_BYTES`]; or Redis was not reached, and the same call can be
    /// made again without harm.
    pub async fn patch_story(&self, id: &StoryId, patch: &StoryPatch) -> Result<(), Error> {
        let title = patch.title.as_deref().unwrap_or_default();
        Error::check_size("the title", title.len(), MAX_TITLE_BYTES)?;
        let mut call = self.story_call("patch", id);
        call.arg("");
        let texts = [
            ("title", &patch.title),
            ("style", &patch.style),
            ("premise", &patch.premise),
        ];
        let texts = texts.into_iter();
        let mut ctx: Vec<(&str, &str)> = texts
            .filter_map(|(name, text)| Some((name, text.as_deref()?)))
            .collect();
        ctx.extend(policy_fields(patch.policies));
        let content = content_fields(&patch.content);
        ctx.extend(content.iter().map(|(name, value)| (*name, value.as_str())));
        set_and_remove(&mut call, &ctx, &[]);
        let (set, removed) = split(&patch.characters, character_json);
        set_and_remove(&mut call, &set, &removed);
        let (set, removed) = split(&patch.lore, Clone::clone);
        set_and_remove(&mut call, &set, &removed);
        done(call.run_until_answered(&self.writing).await?, id).map(drop)
    }

    /// Has every reader begin anew, whatever cursor they come with. For a log that was put back to what it was before: what
    /// was told since may be told otherwise, under the same names. The log's own life goes on, and so its recordings are
    /// still of what is in it. Tells whether replicas have it.
    ///
    /// # Errors
    /// Those of [`Bus::patch_story`].
    pub async fn renew_story(&self, id: &StoryId) -> Result<Replicated, Error> {
        let mut call = self.story_call("patch", id);
        call.arg("");
        set_and_remove(&mut call, &[("renewed", letters())], &[]);
        for _ in ["characters", "lore"] {
            set_and_remove::<&str, &str>(&mut call, &[], &[]);
        }
        let (reply, replicated) = call.run_until_replicated(&self.writing).await?;
        done(reply, id)?;
        Ok(replicated)
    }

    /// All stories, in the order of their names.
    ///
    /// # Errors
    /// When Redis was not reached.
    pub async fn stories(&self) -> Result<Vec<StoryId>, Error> {
        let mut stories = Vec::new();
        for shard in self.keys.shards() {
            stories.extend(self.named_stories(shard).await?.0);
        }
        stories.sort();
        Ok(stories)
    }

    /// The stories of a shard, and what else stands among their names: no story can be called that.
    pub(crate) async fn named_stories(
        &self,
        shard: u16,
    ) -> Result<(Vec<StoryId>, Vec<String>), Error> {
        let (mut stories, mut strange) = (Vec::new(), Vec::new());
        let key = self.keys.stories(shard);
        let mut cmd = redis::cmd("SMEMBERS");
        cmd.arg(&key);
        let names = self.link.query(&cmd).await;
        let names = self.naming(names, vec![(key, "set")]).await?;
        for name in read::<Vec<Vec<u8>>>(names)? {
            let name = String::from_utf8_lossy(&name);
            match name.parse() {
                Ok(id) => stories.push(id),
                Err(_) => strange.push(name.into_owned()),
            }
        }
        stories.sort();
        Ok((stories, strange))
    }

    /// What is known of a story.
    ///
    /// # Errors
    /// [`Error::NoStory`]; or Redis was not reached.
    pub async fn story(&self, id: &StoryId) -> Result<Story, Error> {
        let mut pipe = redis::pipe();
        for key in [self.keys.ctx(id), self.keys.chars(id), self.keys.lore(id)] {
            pipe.cmd("HGETALL").arg(key);
        }
        known(id, &mut self.link.pipe(&pipe).await?.into_iter())
    }

    fn story_call(&self, mode: &str, id: &StoryId) -> Call {
        let mut call = STORY.call();
        call.key(self.keys.ctx(id))
            .key(self.keys.chars(id))
            .key(self.keys.lore(id))
            .key(self.keys.stories(self.keys.shard(id)))
            .arg(mode)
            .arg(id.as_str())
            .arg(MAX_STORY_BYTES.to_string());
        call
    }
}

/// Whether the script made or changed a story, or that was done before, and what more it says.
fn done(reply: Value, id: &StoryId) -> Result<(bool, Vec<Value>), Error> {
    let (word, more) = verdict(reply)?;
    match word.as_str() {
        "OK" | "AGAIN" => Ok((word == "OK", more)),
        "EXISTS" => Err(Error::StoryExists(id.clone())),
        "NOSTORY" => Err(Error::NoStory(id.clone())),
        "LARGE" => {
            let bytes = next(&mut more.into_iter())?;
            Error::check_size("what is known of the story", bytes, MAX_STORY_BYTES)?;
            Err(Error::data("story replied LARGE to what is not"))
        }
        word => Err(Error::data(format!("story replied {word}"))),
    }
}

fn set_and_remove<N: AsRef<str>, V: AsRef<str>>(
    call: &mut Call,
    set: &[(N, V)],
    removed: &[&String],
) {
    call.count(set);
    for (name, value) in set {
        call.arg(name.as_ref()).arg(value.as_ref());
    }
    call.count(removed);
    for name in removed {
        call.arg(name.as_str());
    }
}

/// What is set, as text, and what is removed.
fn split<T>(
    changes: &BTreeMap<String, Option<T>>,
    text: impl Fn(&T) -> String,
) -> (Vec<(&String, String)>, Vec<&String>) {
    let set = changes.iter();
    let set = set.filter_map(|(name, value)| Some((name, text(value.as_ref()?))));
    let removed = changes.iter().filter(|(_, value)| value.is_none());
    (set.collect(), removed.map(|(name, _)| name).collect())
}
