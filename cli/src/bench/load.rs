//! The stories of a measurement and what people say in them.

use bus::{Bare, Bus, NewStory};
use futures::{StreamExt, TryStreamExt, stream};
use story::{Action, Author, AuthorKind, Character, Event, EventId, Mode, Payload, StoryId};

use super::stage::Side;

pub(super) const CHARACTER: &str = "Sibyl";

/// Before an event's number, in its id.
const EVENT: char = 'e';

/// Requests to Redis under way at once while a measurement is prepared.
const AT_ONCE: usize = 256;

/// A fleet's stories, under a prefix of their own.
pub(super) struct Load {
    pub(super) bus: Bus,
    pub(super) bare: Bare,
    pub(super) stories: Vec<StoryId>,
    side: Side,
}

impl Load {
    pub(super) async fn new(bus: Bus, side: Side, stories: usize) -> anyhow::Result<Self> {
        let stories = (0..stories).map(|number| format!("s{number}").parse());
        let stories = stories.collect::<Result<Vec<StoryId>, _>>()?;
        let made = stream::iter(&stories).map(|id| async { bus.create_story(&story(id)).await });
        made.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let bare = bus.bare(super::bare::AGENT);
        Ok(Self {
            bus,
            bare,
            stories,
            side,
        })
    }

    /// What `number` is said, in turn in each story: to the character, so that one call answers it.
    pub(super) fn event(&self, number: usize) -> anyhow::Result<Event> {
        let story = &self.stories[number % self.stories.len()];
        let author = Author {
            kind: AuthorKind::User,
            id: "mira".to_owned(),
            name: "Mira".to_owned(),
        };
        let said = Payload::Action(Action {
            mode: Mode::Say,
            text: format!("Who lit the lamp before you, and why did it go out on night {number}?"),
            to: Some(CHARACTER.to_owned()),
            choice: None,
            target: None,
        });
        let now = jiff::Timestamp::now();
        let id = format!("{EVENT}{number}").parse()?;
        Ok(Event::new(id, story.clone(), author, said, now))
    }

    /// Gives an event to whoever answers: with all guarantees of a publish, or bare.
    pub(super) async fn send(&self, event: &Event) -> Result<(), bus::Error> {
        match self.side {
            Side::Floor => self.bare.give(event).await,
            Side::Fleet => self.bus.publish(event).await.map(|_| ()),
        }
    }

    /// Sends events 0 … `events`, as fast as it goes.
    pub(super) async fn fill(&self, events: usize) -> anyhow::Result<()> {
        let sent = stream::iter(0..events).map(async |number| {
            let event = self.event(number)?;
            anyhow::Ok(self.send(&event).await?)
        });
        sent.buffered(AT_ONCE).try_collect().await
    }
}

/// The number of the event of that id.
pub(super) fn number(id: &EventId) -> Option<usize> {
    id.as_str().strip_prefix(EVENT)?.parse().ok()
}

fn story(id: &StoryId) -> NewStory {
    let sibyl = Character {
        description: "The keeper, past seventy, who has not left the rock in thirty years."
            .to_owned(),
        voice: "Dry and patient. Answers a question with a smaller question.".to_owned(),
    };
    NewStory {
        title: "The lighthouse".to_owned(),
        style: "Second person, present tense.".to_owned(),
        premise: "On the rock of Hallow Point the lamp went out and the tide does not turn."
            .to_owned(),
        characters: [(CHARACTER.to_owned(), sibyl)].into(),
        ..NewStory::new(id.clone())
    }
}
