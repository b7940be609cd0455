//! A section of the prompts: what could be told, in the order in which it is chosen, and what becomes of each.

use agent::manifest::{self, Fate, Item};
use llm::Counter;

use crate::{Fact, Fence, Line, Person};

/// Most items of a section that the manifest lists, and most characters of what it calls one.
const LISTED: usize = 64;
const NAME: usize = 64;
/// An end of fewer characters tells nothing.
const LEAST: usize = 16;

/// How the things of a section are told.
pub(crate) struct Form<T> {
    name: &'static str,
    item: fn(&T) -> String,
    /// Its part of a prompt, about, with this mark of the fence.
    told: fn(&T, &str) -> String,
    /// What of it may be cut to its end.
    text: fn(&mut T) -> &mut String,
}

pub(crate) const CHARACTERS: Form<Person> = Form {
    name: "characters",
    item: |person| person.name.clone(),
    told: |person, mark| {
        format!(
            "- <<<{mark} {}: {} {mark}>>>\n",
            person.name, person.description
        )
    },
    text: |person| &mut person.description,
};

pub(crate) const SUMMARY: Form<String> = Form {
    name: "summary",
    item: |_| "summary".to_owned(),
    told: |summary, mark| format!("<<<{mark} {summary} {mark}>>>\n"),
    text: |summary| summary,
};

pub(crate) const LORE: Form<Fact> = Form {
    name: "lore",
    item: |fact| fact.key.clone(),
    told: |fact, mark| format!("* <<<{mark} {}: {} {mark}>>>\n", fact.key, fact.text),
    text: |fact| &mut fact.text,
};

pub(crate) const RECALLED: Form<Fact> = Form {
    name: "recalled",
    ..LORE
};

pub(crate) const HISTORY: Form<Line> = Form {
    name: "history",
    item: |line| line.seq.map(|seq| seq.0.to_string()).unwrap_or_default(),
    told: |line, mark| format!("<<<{mark} {}: {} {mark}>>>\n", line.who, line.text),
    text: |line| &mut line.text,
};

pub(crate) struct Section<T> {
    form: Form<T>,
    mark: String,
    share: usize,
    pieces: Vec<Piece<T>>,
    /// What could be told too, and is not looked at.
    more: usize,
}

struct Piece<T> {
    value: T,
    tokens: usize,
    fate: Fate,
    was_cut: bool,
}

impl<T: Clone> Section<T> {
    pub(crate) fn new(form: Form<T>, fence: Fence<'_>) -> Self {
        Self {
            form,
            mark: fence.mark(),
            share: 0,
            pieces: Vec::new(),
            more: 0,
        }
    }

    /// Further things that can be told.
    pub(crate) fn add(&mut self, values: impl IntoIterator<Item = T>) {
        self.extend(values, Fate::Share);
    }

    /// Those that have more characters than may be.
    pub(crate) fn leave(&mut self, values: impl IntoIterator<Item = T>) {
        self.extend(values, Fate::Characters);
    }

    /// So many more that are not even looked at.
    pub(crate) fn leave_more(&mut self, more: usize) {
        self.more += more;
    }

    /// Of the last one an end is there alone.
    pub(crate) fn cut_last(&mut self) {
        if let Some(last) = self.pieces.last_mut() {
            last.was_cut = true;
        }
    }

    fn extend(&mut self, values: impl IntoIterator<Item = T>, fate: Fate) {
        let pieces = values.into_iter().map(|value| Piece {
            value,
            tokens: 0,
            fate,
            was_cut: false,
        });
        self.pieces.extend(pieces);
    }

    /// Tells all.
    pub(crate) fn all(&mut self) {
        for piece in &mut self.pieces {
            if piece.fate == Fate::Share {
                piece.fate = piece.whole();
            }
        }
    }

    /// Tells each that fits whole into what is left of `share`. Gives back what is left then.
    pub(crate) fn each(&mut self, share: usize, counter: &Counter) -> usize {
        self.share = share;
        let mut left = share;
        for piece in &mut self.pieces {
            piece.tokens = counter.count(&(self.form.told)(&piece.value, &self.mark));
            if piece.fate == Fate::Share && piece.tokens <= left {
                piece.fate = piece.whole();
                left -= piece.tokens;
            }
        }
        left
    }

    /// Tells all up to the first that does not fit, and the end of that one. Gives back what is left of `share` then.
    pub(crate) fn run(&mut self, share: usize, counter: &Counter) -> usize {
        self.share = share;
        let mut left = share;
        for piece in self
            .pieces
            .iter_mut()
            .filter(|piece| piece.fate == Fate::Share)
        {
            piece.tokens = counter.count(&(self.form.told)(&piece.value, &self.mark));
            if piece.tokens > left && !piece.cut((&self.form, &self.mark), left, counter) {
                break;
            }
            left -= piece.tokens;
            if piece.fate == Fate::Cut {
                break;
            }
            piece.fate = piece.whole();
        }
        left
    }

    /// Leaves the last one out that is told, and gives its tokens.
    pub(crate) fn drop_last(&mut self) -> Option<usize> {
        let mut told = self.pieces.iter_mut().rev();
        let last = told.find(|piece| piece.fate.is_told())?;
        last.fate = Fate::Window;
        Some(last.tokens)
    }

    pub(crate) fn told(&self) -> impl DoubleEndedIterator<Item = &T> {
        let told = self.pieces.iter().filter(|piece| piece.fate.is_told());
        told.map(|piece| &piece.value)
    }

    /// The first, told or not.
    pub(crate) fn first(&self, most: usize) -> impl Iterator<Item = &T> {
        self.pieces.iter().take(most).map(|piece| &piece.value)
    }

    pub(crate) fn left(&self) -> impl Iterator<Item = &T> {
        let left = self.pieces.iter().filter(|piece| !piece.fate.is_told());
        left.map(|piece| &piece.value)
    }

    pub(crate) fn tokens(&self) -> usize {
        let told = self.pieces.iter().filter(|piece| piece.fate.is_told());
        told.map(|piece| piece.tokens).sum()
    }

    /// `None` where there is nothing to tell of.
    pub(crate) fn account(&self) -> Option<manifest::Section> {
        let told = self.told().count();
        let left = self.pieces.len() - told + self.more;
        let item = |piece: &Piece<T>| Item {
            item: (self.form.item)(&piece.value).chars().take(NAME).collect(),
            tokens: piece.tokens,
            fate: piece.fate,
        };
        (told + left > 0).then(|| manifest::Section {
            name: self.form.name.to_owned(),
            tokens: self.tokens(),
            share: Some(self.share),
            told,
            left,
            items: self.pieces.iter().take(LISTED).map(item).collect(),
        })
    }
}

impl<T: Clone> Piece<T> {
    /// Its fate when all that there is of it is told.
    fn whole(&self) -> Fate {
        if self.was_cut { Fate::Cut } else { Fate::Told }
    }

    /// Whether an end of it fits into `room`; it is that end then.
    fn cut(&mut self, (form, mark): (&Form<T>, &str), room: usize, counter: &Counter) -> bool {
        let mut value = self.value.clone();
        let text = (form.text)(&mut value).clone();
        let all = text.chars().count();
        let mut keep = all.saturating_mul(room) / self.tokens.max(1);
        while keep >= LEAST {
            let end: String = text.chars().skip(all - keep).collect();
            *(form.text)(&mut value) = format!("…{end}");
            let tokens = counter.count(&(form.told)(&value, mark));
            if tokens <= room {
                (self.value, self.tokens, self.fate) = (value, tokens, Fate::Cut);
                return true;
            }
            keep = keep * 7 / 8;
        }
        false
    }
}
