//! The context builder: what of a story the two messages of a turn hold, so that they fit into the model's window.
//!
//! A pure function of the turn. The first message is what stays from turn to turn: rules, setting, characters, summary and
//! constant lore, whose shares depend neither on the turn nor on how an estimate moves, so that a provider finds it in its
//! cache. The second is the rest: history, the lore that the turn names, the turn itself. A share that is not used goes to
//! the next section. What is too much all the same is left out in this order: history from its oldest line on, recalled
//! lore, constant lore, characters, the summary. Rules, setting and turn are told, or the turn fails as `context`.

use agent::manifest::{self, Tokens};
use agent::{HandleError, Manifest, Prompt, Turn, Window};
use llm::{Message, Request};
use serde::Serialize;

use crate::section::{self, Section};
use crate::{Budget, Fact, Fence, Line, Person, Setting, recall, tell, view};

/// Of what the first message leaves free beside the rules, in percent.
const CHARACTERS: usize = 25;
const SUMMARY: usize = 10;
const LORE: usize = 20;
/// Of what the turn leaves free.
const RECALLED: usize = 20;

/// Tokens for the headings of sections that are not empty.
const HEADINGS: usize = 32;

/// The newest lines of history that can bring lore to mind.
const FRESH: usize = 4;

/// What is to be told.
pub struct Ask<'a> {
    pub turn: &'a Turn,
    pub within: Budget,
    /// Of the two messages. The parameters are those of the second.
    pub prompts: [&'a Prompt; 2],
    /// Who may be told of.
    pub characters: Vec<Person>,
    /// What the turn says.
    pub words: Vec<&'a str>,
}

/// What of the story is told, beside the turn.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The mark around each text.
    pub fence: String,
    /// With what there is room for of the summary.
    pub story: Setting,
    pub characters: Vec<Person>,
    pub lore: Vec<Fact>,
    /// Lore that is not in `lore`, and that the turn names.
    pub recalled: Vec<Fact>,
    pub history: Vec<Line>,
}

/// A request that fits, made of the view `V`.
#[derive(Debug)]
pub struct Built<V> {
    pub view: V,
    pub request: Request,
    pub manifest: Manifest,
}

/// The request of `ask`; `view` makes what the prompts are given.
///
/// # Errors
/// When a prompt cannot be rendered, or what must be told is more than the window.
pub fn build<V: Serialize>(
    ask: &Ask<'_>,
    view: impl Fn(Parts) -> V,
) -> Result<Built<V>, HandleError> {
    let mut plan = Plan::new(ask);
    let Some(window) = &ask.turn.window else {
        plan.tell_all();
        return plan.rendered(&view);
    };
    plan.prefix(window, &view)?;
    plan.rest(window, &view)?;
    plan.fit(window, &view)
}

/// The same check for a request that holds nothing that could be left out. Gives its tokens, where they were counted.
///
/// # Errors
/// When it does not fit.
pub fn fits(turn: &Turn, request: &Request) -> Result<Option<u64>, HandleError> {
    let Some(window) = &turn.window else {
        return Ok(None);
    };
    let room = window.room(request.max_tokens);
    // No tokeniser makes more of a text than its bytes: where those fit, none need be loaded.
    let bytes = request.texts().map(|text| text.len() + AROUND);
    if !window.counter.is_ready() && bytes.sum::<usize>() <= room {
        return Ok(None);
    }
    let used = window.counter.request(request);
    if used <= room || window.is_assumed {
        return Ok(Some(window.at_most(used)));
    }
    Err(TooLong::new(window, room, [used, 0]).into())
}

/// More than is around any text.
const AROUND: usize = 16;

#[derive(Debug, thiserror::Error)]
#[error(
    "the rules and the story's setting have {rules} tokens and the turn {turn}: a window of {window} leaves {room} for both beside the answer. Use a model with a larger window (models.NAME.window in the file of models), a shorter premise, or a smaller max_tokens in the prompt"
)]
struct TooLong {
    rules: usize,
    turn: usize,
    window: u64,
    room: usize,
}

impl TooLong {
    fn new(window: &Window, room: usize, [rules, turn]: [usize; 2]) -> Self {
        Self {
            rules,
            turn,
            window: window.tokens,
            room,
        }
    }
}

impl From<TooLong> for HandleError {
    fn from(error: TooLong) -> Self {
        Self::permanent(llm::Class::Context.as_str(), error)
    }
}

/// What is told, as far as it is decided.
struct Plan<'a> {
    ask: &'a Ask<'a>,
    setting: Setting,
    characters: Section<Person>,
    summary: Section<String>,
    lore: Section<Fact>,
    recalled: Section<Fact>,
    /// The newest first.
    history: Section<Line>,
}

impl<'a> Plan<'a> {
    fn new(ask: &'a Ask<'a>) -> Self {
        let (context, within) = (&ask.turn.context, ask.within);
        let fence = Fence::of(context);
        let mut setting = view::setting(context);
        let summary = std::mem::take(&mut setting.summary);
        let mut plan = Self {
            ask,
            characters: Section::new(section::CHARACTERS, fence),
            summary: Section::new(section::SUMMARY, fence),
            lore: Section::new(section::LORE, fence),
            recalled: Section::new(section::RECALLED, fence),
            history: Section::new(section::HISTORY, fence),
            setting,
        };
        plan.characters.add(ask.characters.iter().cloned());
        plan.summary.add((!summary.is_empty()).then_some(summary));
        let facts = view::facts(context, within);
        plan.lore.add(facts.0);
        plan.lore.leave(facts.1);
        let history = view::newest(context, &ask.turn.event, within);
        plan.history.add(history.told);
        plan.history.leave_more(history.left);
        if history.cut {
            plan.history.cut_last();
        }
        plan
    }

    /// Without a window characters alone count.
    fn tell_all(&mut self) {
        self.characters.all();
        self.summary.all();
        self.lore.all();
        self.history.all();
    }

    /// Chooses what the first message holds. Whatever the turn is, the same.
    fn prefix<V: Serialize>(
        &mut self,
        window: &Window,
        view: &impl Fn(Parts) -> V,
    ) -> Result<(), HandleError> {
        let steady = window.counter.steady();
        let rules = self.render(0, &view(self.parts()))?;
        let free = self.room(window).saturating_sub(steady.count(&rules));
        let share = |percent: usize| free / 100 * percent;
        let left = self.characters.each(share(CHARACTERS), &steady);
        let left = self.summary.run(left + share(SUMMARY), &steady);
        self.lore.each(left + share(LORE), &steady);
        Ok(())
    }

    /// Chooses what the second message holds besides the turn.
    fn rest<V: Serialize>(
        &mut self,
        window: &Window,
        view: &impl Fn(Parts) -> V,
    ) -> Result<(), HandleError> {
        let values = view(self.without_history());
        let used = window.counter.count(&self.render(0, &values)?)
            + window.counter.count(&self.render(1, &values)?);
        let free = self.room(window).saturating_sub(used + HEADINGS);
        let recalled: Vec<Fact> = self.brought_to_mind().into_iter().cloned().collect();
        self.recalled.add(recalled);
        let share = free / 100 * RECALLED;
        let left = self.recalled.each(share, &window.counter);
        self.history.run(free - (share - left), &window.counter);
        Ok(())
    }

    fn brought_to_mind(&self) -> Vec<&Fact> {
        let fresh = self.history.first(FRESH).map(|line| line.text.as_str());
        let texts: Vec<&str> = self.ask.words.iter().copied().chain(fresh).collect();
        recall::named(self.lore.left(), |fact| &fact.key, &texts)
    }

    /// Leaves out what is too much after all.
    fn fit<V: Serialize>(
        mut self,
        window: &Window,
        view: &impl Fn(Parts) -> V,
    ) -> Result<Built<V>, HandleError> {
        let mut is_bare = false;
        loop {
            let mut built = self.rendered(view)?;
            let room = window.room(built.request.max_tokens);
            let used = window.counter.request(&built.request);
            // Where nothing is left to leave out, only a window that somebody told forbids it.
            if used <= room || is_bare && window.is_assumed {
                built.manifest.tokens = Some(self.tokens(window, &built.request));
                built.request.tokens = Some(window.at_most(used));
                return Ok(built);
            }
            let mut over = used - room;
            while over > 0 {
                let Some(tokens) = self.drop_one() else {
                    if window.is_assumed {
                        is_bare = true;
                        break;
                    }
                    let each = built.request.texts().map(|text| window.counter.count(text));
                    let each: Vec<usize> = each.collect();
                    return Err(TooLong::new(window, room, [each[0], each[1]]).into());
                };
                over = over.saturating_sub(tokens.max(1));
            }
        }
    }

    fn drop_one(&mut self) -> Option<usize> {
        let prefix = |plan: &mut Self| {
            let lore = plan.lore.drop_last();
            lore.or_else(|| plan.characters.drop_last())
        };
        let turn = self.history.drop_last();
        turn.or_else(|| self.recalled.drop_last())
            .or_else(|| prefix(self))
            .or_else(|| self.summary.drop_last())
    }

    fn parts(&self) -> Parts {
        let told: String = self.summary.told().cloned().collect();
        Parts {
            fence: Fence::of(&self.ask.turn.context).mark(),
            story: Setting {
                summary: told,
                ..self.setting.clone()
            },
            characters: self.characters.told().cloned().collect(),
            lore: self.lore.told().cloned().collect(),
            recalled: self.recalled.told().cloned().collect(),
            history: self.history.told().rev().cloned().collect(),
        }
    }

    fn without_history(&self) -> Parts {
        Parts {
            recalled: Vec::new(),
            history: Vec::new(),
            ..self.parts()
        }
    }

    fn render(&self, prompt: usize, values: &impl Serialize) -> Result<String, HandleError> {
        Ok(self.ask.prompts[prompt].render(values)?)
    }

    fn rendered<V: Serialize>(&self, view: &impl Fn(Parts) -> V) -> Result<Built<V>, HandleError> {
        let parts = self.parts();
        let manifest = view::manifest(&parts);
        let values = view(parts);
        let messages = vec![
            Message::system(self.render(0, &values)?),
            Message::user(self.render(1, &values)?),
        ];
        let request = tell::unchecked(self.ask.turn, self.ask.prompts[1], messages);
        Ok(Built {
            view: values,
            request,
            manifest,
        })
    }

    /// The tokens that the texts of both messages may have.
    fn room(&self, window: &Window) -> usize {
        let answer = self.ask.prompts[1].params().max_tokens;
        let empty = [Message::system(""), Message::user("")];
        let around = window.counter.request(&Request {
            messages: empty.into(),
            ..Request::default()
        });
        window.room(answer).saturating_sub(around)
    }

    /// What each section has of `request`.
    fn tokens(&self, window: &Window, request: &Request) -> Tokens {
        let must = |name: &str, tokens: usize| manifest::Section {
            name: name.to_owned(),
            tokens,
            share: None,
            told: 1,
            left: 0,
            items: Vec::new(),
        };
        let used = window.counter.request(request);
        let system = request.texts().next().unwrap_or_default();
        let system = window.counter.count(system);
        let prefix = self.characters.tokens() + self.summary.tokens() + self.lore.tokens();
        let rest = self.history.tokens() + self.recalled.tokens();
        let told = [
            Some(must("rules", system.saturating_sub(prefix))),
            self.characters.account(),
            self.lore.account(),
            self.summary.account(),
            self.history.account(),
            self.recalled.account(),
            Some(must("turn", used.saturating_sub(system + rest))),
        ];
        Tokens {
            window: window.tokens,
            room: window.room(request.max_tokens),
            used,
            sections: told.into_iter().flatten().collect(),
        }
    }
}
