//! What waits for one reader, whom one task reads for: the stories' items, in order and so many at most; beside them the
//! notices that they may miss; and why nothing more comes. Thousands of readers have one each and most are empty, so that
//! it takes room only while something waits.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::hub::aside::{Aside, Notice};
use crate::hub::item::Item;
use crate::hub::reader::{Delivery, Place, Why};

/// Room for items that an empty queue keeps.
const KEPT: usize = 4;

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// An item was taken, or none ever will be.
    taken: Notify,
    /// Nobody reads the log for it any more.
    turned: Notify,
    /// The most items that wait.
    most: usize,
}

#[derive(Debug)]
struct State {
    entries: VecDeque<Entry>,
    /// When an item was last taken, or could be again.
    taken: Instant,
    aside: Aside,
    /// Somebody reads the log to put something there.
    is_filled: bool,
    /// Nothing more comes at all: nothing was taken for too long.
    is_slow: bool,
    /// Nobody takes anything any more.
    is_left: bool,
    /// Of the task that waits.
    waker: Option<Waker>,
}

#[derive(Debug)]
enum Entry {
    Item(Place, Arc<Item>),
    /// Of this story nothing more comes.
    Over(u32),
}

/// To read the log for a queue: one at a time does, or what the others read would find it full.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Queue>);

/// Whether an item could be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    Yes,
    /// The queue is full.
    Full,
    /// Nobody takes it any more.
    Gone,
}

impl Queue {
    pub(super) fn new(most: usize) -> Self {
        Self {
            state: Mutex::new(State {
                entries: VecDeque::new(),
                taken: Instant::now(),
                aside: Aside::default(),
                is_filled: false,
                is_slow: false,
                is_left: false,
                waker: None,
            }),
            taken: Notify::new(),
            turned: Notify::new(),
            most,
        }
    }

    pub(super) fn give(&self, place: Place, item: &Arc<Item>) -> Given {
        let mut state = self.state();
        if state.is_left {
            return Given::Gone;
        }
        if state.entries.len() >= self.most {
            return Given::Full;
        }
        state.push(Entry::Item(place, Arc::clone(item)));
        wake(state);
        Given::Yes
    }

    pub(crate) fn tell(&self, number: u32, notice: &Arc<Notice>) {
        let mut state = self.state();
        state.aside.put(number, notice);
        wake(state);
    }

    /// Whoever left a story is told nothing more of it.
    pub(crate) fn forget(&self, number: u32) {
        self.state().aside.forget(number);
    }

    /// Nothing more comes.
    pub(super) fn slow(&self) {
        let mut state = self.state();
        state.is_slow = true;
        wake(state);
    }

    /// Nothing more comes of this story; what there is of it is given before.
    pub(super) fn over(&self, number: u32) {
        let mut state = self.state();
        state.push(Entry::Over(number));
        wake(state);
    }

    /// Nothing more is taken.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.is_left = true;
        state.entries = VecDeque::new();
        drop(state);
        self.taken.notify_waiters();
        self.turned.notify_waiters();
    }

    pub(super) fn is_left(&self) -> bool {
        self.state().is_left
    }

    /// How many items could be given now.
    pub(super) fn room(&self) -> usize {
        self.most.saturating_sub(self.state().entries.len())
    }

    /// Waits until there is room again, and enough to be worth it: a whole story's missed part is put together for it.
    /// False when nobody takes anything any more. Cancel-safe.
    pub(super) async fn ready(&self) -> bool {
        loop {
            // Before the look, so that what changes after it is heard.
            let taken = self.taken.notified();
            {
                let state = self.state();
                if state.is_left {
                    return false;
                }
                let waiting = state.entries.len();
                if waiting < self.most && waiting <= self.most / 2 {
                    // Whoever else waits looks too: not all who come to it put something there.
                    self.taken.notify_one();
                    return true;
                }
            }
            taken.await;
        }
    }

    /// The same, and until nobody else reads the log for it. `None` when nobody takes anything any more. Cancel-safe.
    pub(super) async fn turn(self: &Arc<Self>) -> Option<Turn> {
        loop {
            let turned = self.turned.notified();
            if !self.ready().await {
                return None;
            }
            if !std::mem::replace(&mut self.state().is_filled, true) {
                return Some(Turn(Arc::clone(self)));
            }
            turned.await;
        }
    }

    /// What is given next; or why nothing more is. Cancel-safe.
    pub(super) async fn next(&self) -> Result<Delivery, Why> {
        poll_fn(|context| {
            let mut state = self.state();
            if state.is_slow {
                return Poll::Ready(Err(Why::Slow));
            }
            // These are few.
            if let Some((number, notice)) = state.aside.take() {
                return Poll::Ready(Ok(Delivery::Notice(number, notice)));
            }
            match self.take(&mut state) {
                Some(taken) => Poll::Ready(taken),
                None => state.wait(context),
            }
        })
        .await
    }

    /// An item that is there already.
    pub(super) fn try_next(&self) -> Option<Delivery> {
        let mut state = self.state();
        let is_item = matches!(state.entries.front(), Some(Entry::Item(..)));
        is_item.then(|| self.take(&mut state)?.ok()).flatten()
    }

    /// Once nothing more comes at all. Cancel-safe; of the same task as [`Queue::next`].
    pub(super) async fn ended(&self) {
        poll_fn(|context| {
            let mut state = self.state();
            match state.is_slow {
                true => Poll::Ready(()),
                false => state.wait(context),
            }
        })
        .await;
    }

    /// When an item was last taken: now, where none waits.
    pub(super) fn taken(&self) -> Instant {
        let state = self.state();
        match state.entries.is_empty() {
            true => Instant::now(),
            false => state.taken,
        }
    }

    fn take(&self, state: &mut State) -> Option<Result<Delivery, Why>> {
        let entry = state.entries.pop_front()?;
        state.taken = Instant::now();
        if state.entries.is_empty() {
            state.entries.shrink_to(KEPT);
        }
        self.taken.notify_one();
        Some(match entry {
            Entry::Item(place, item) => Ok(Delivery::Item(place, item)),
            Entry::Over(number) => Err(Why::Story(number)),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.state().is_filled = false;
        // All: the first may go away while they wait for room.
        self.0.turned.notify_waiters();
    }
}

impl State {
    fn push(&mut self, entry: Entry) {
        if self.entries.is_empty() {
            self.taken = Instant::now();
        }
        self.entries.push_back(entry);
    }

    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => self.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// After the lock: whoever wakes wants it.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}
