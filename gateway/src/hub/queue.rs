//! What waits for one reader, whom one task reads for: the stories' items, in order and so many at most; beside them the
//! notices that they may miss; and why nothing more comes. Thousands of readers have one each and most are empty, so that
//! it takes room only while something waits.

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
    /// The most items that wait.
    most: usize,
}

#[derive(Debug)]
struct State {
    entries: VecDeque<Entry>,
    /// When an item was last taken.
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
        state
            .entries
            .push_back(Entry::Item(place, Arc::clone(item)));
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
        state.entries.push_back(Entry::Over(number));
        wake(state);
    }

    /// Nothing more is taken.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.is_left = true;
        state.entries = VecDeque::new();
        drop(state);
        self.taken.notify_waiters();
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
        self.until(|_| true).await
    }

    /// The same, and until nobody else reads the log for it. `None` when nobody takes anything any more. Cancel-safe.
    pub(super) async fn turn(self: &Arc<Self>) -> Option<Turn> {
        let is_first = |state: &mut State| !std::mem::replace(&mut state.is_filled, true);
        let is_there = self.until(is_first).await;
        is_there.then(|| Turn(Arc::clone(self)))
    }

    async fn until(&self, mut is_so: impl FnMut(&mut State) -> bool) -> bool {
        loop {
            // Before the look, so that what changes after it is heard.
            let taken = self.taken.notified();
            {
                let mut state = self.state();
                if state.is_left {
                    return false;
                }
                let waiting = state.entries.len();
                let has_room = waiting < self.most && waiting <= self.most / 2;
                if has_room && is_so(&mut state) {
                    // Whoever else waits looks too: not all who come to it put something there.
                    self.taken.notify_one();
                    return true;
                }
            }
            taken.await;
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
        self.0.taken.notify_one();
    }
}

impl State {
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

#[cfg(test)]
mod tests {
    use bus::Seen;
    use futures::FutureExt;
    use story::{Cursor, Seq, Tag};
    use tokio_util::task::TaskTracker;

    use super::*;

    fn item(seq: u64) -> Arc<Item> {
        let cursor = Cursor {
            epoch: "e".to_owned(),
            seq: Seq(seq),
            tag: Tag::START,
            draft: None,
        };
        let story = Arc::new("castle".parse().unwrap());
        Arc::new(Item::seen(story, Arc::new(cursor), Seen::Gap))
    }

    fn give(queue: &Queue, seq: u64) -> Given {
        queue.give(Place::live(seq as u32), &item(seq))
    }

    #[test]
    fn it_has_room_for_so_many_and_gives_them_in_order() {
        let queue = Queue::new(3);
        let given: Vec<_> = (1..=4).map(|seq| give(&queue, seq)).collect();
        assert_eq!(given, [Given::Yes, Given::Yes, Given::Yes, Given::Full]);
        let taken = std::iter::from_fn(|| queue.try_next());
        assert_eq!(
            taken.map(|next| next.number()).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert_eq!(give(&queue, 5), Given::Yes);
    }

    #[tokio::test]
    async fn all_who_wait_for_room_come_to_it() {
        let queue = Arc::new(Queue::new(2));
        assert_eq!((give(&queue, 0), give(&queue, 0)), (Given::Yes, Given::Yes));
        let tracker = TaskTracker::new();
        let givers = (1..=20).map(|seq| {
            let queue = Arc::clone(&queue);
            tracker.spawn(async move {
                while give(&queue, seq) == Given::Full {
                    assert!(queue.ready().await);
                }
            })
        });
        let givers: Vec<_> = givers.collect();
        let mut taken = Vec::new();
        while taken.len() < 22 {
            taken.push(queue.next().await.unwrap().number());
        }
        taken.sort_unstable();
        assert_eq!(taken, [0].into_iter().chain(0..=20).collect::<Vec<_>>());
        for giver in givers {
            giver.await.unwrap();
        }
    }

    #[tokio::test]
    async fn room_is_passed_on_by_whoever_does_not_use_it() {
        let queue = Queue::new(1);
        assert_eq!(give(&queue, 1), Given::Yes);
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(queue.ready())).collect();
        for wait in &mut waits {
            assert_eq!(wait.now_or_never(), None);
        }
        assert!(queue.try_next().is_some());
        for wait in waits {
            assert_eq!(wait.now_or_never(), Some(true));
        }
    }

    #[tokio::test]
    async fn who_waits_for_room_is_told_that_nobody_takes_any_more() {
        let queue = Queue::new(1);
        assert_eq!(give(&queue, 1), Given::Yes);
        let mut ready = Box::pin(queue.ready());
        assert_eq!((&mut ready).now_or_never(), None);
        queue.leave();
        assert_eq!(ready.now_or_never(), Some(false));
        assert_eq!(give(&queue, 2), Given::Gone);
    }

    #[tokio::test]
    async fn who_is_too_slow_hears_it_whichever_way_they_ask() {
        let queue = Arc::new(Queue::new(1));
        let asking = Arc::clone(&queue);
        // One task asks in two ways: it is woken for both.
        let both = TaskTracker::new().spawn(async move {
            tokio::join!(asking.next().map(|next| next.err()), asking.ended())
        });
        tokio::task::yield_now().await;
        queue.over(7);
        queue.slow();
        assert_eq!(both.await.unwrap(), (Some(Why::Slow), ()));
    }

    #[tokio::test]
    async fn a_story_that_is_over_ends_after_what_there_is_and_the_others_go_on() {
        let queue = Queue::new(3);
        assert_eq!(give(&queue, 1), Given::Yes);
        queue.over(1);
        assert_eq!(give(&queue, 2), Given::Yes);
        assert_eq!(queue.next().await.unwrap().number(), 1);
        assert!(queue.try_next().is_none());
        assert_eq!(queue.next().await.err(), Some(Why::Story(1)));
        assert_eq!(queue.next().await.unwrap().number(), 2);
        assert!(queue.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn one_at_a_time_reads_the_log_for_it_and_only_where_half_of_it_is_free() {
        let queue = Arc::new(Queue::new(4));
        (0..4).for_each(|seq| assert_eq!(give(&queue, seq), Given::Yes));
        let mut turns: Vec<_> = (0..2).map(|_| Box::pin(queue.turn())).collect();
        let mut is_ready = Box::pin(queue.ready());
        assert!(queue.try_next().is_some());
        assert!(turns.iter_mut().all(|turn| turn.now_or_never().is_none()));
        assert!(queue.try_next().is_some());
        let first = turns[0].as_mut().now_or_never().flatten();
        assert!(first.is_some() && turns[1].as_mut().now_or_never().is_none());
        assert_eq!((&mut is_ready).now_or_never(), Some(true));
        drop(first);
        assert!(turns[1].as_mut().now_or_never().flatten().is_some());
    }
}
