//! One story on this node: watches it once, remembers its latest part, and gives each reader who joins exactly what they
//! miss and then everything as it comes. Whoever cannot take it fast enough is let go of and joins again from where they
//! are: what they missed meanwhile comes merged.

use std::sync::Arc;
use std::time::Duration;

use bus::{Error, Seen, Watch, backoff};
use story::StoryId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, sleep};

use crate::hub::backlog;
use crate::hub::item::Item;
use crate::hub::memory::{Join, Memory};
use crate::hub::reader::{Given, Member};
use crate::hub::stories::Start;
use crate::hub::{Hub, TAIL};
use crate::metrics::Joined;

/// A story without readers is let go of after this time, and at most half as much more.
const IDLE: Duration = Duration::from_secs(20);
/// The longest wait before a story that begins anew is read again, while Redis is away or refuses.
const AGAIN: Duration = Duration::from_secs(5);

pub(crate) type Opened = Result<(), Arc<Error>>;

#[derive(Debug)]
pub(crate) enum Command {
    /// Somebody joins, or joins again. `opened` is told whether the story can be watched.
    Join(Member, Option<oneshot::Sender<Opened>>),
    /// Whose place is of another history comes back.
    Anew(Member),
    /// For whom the log had nothing more, though more is remembered, comes back: it may have lost its end.
    Later(Member),
}

/// Somebody who goes on only when everything there was when they came is read.
struct Waiting {
    /// The reading that does it.
    reading: u64,
    member: Member,
    /// Their place is of another history: it is not looked for again.
    is_elsewhere: bool,
}

impl Command {
    /// Of somebody who has joined before.
    fn joined(&self) -> Option<&Member> {
        match self {
            Self::Join(_, Some(_)) => None,
            Self::Join(member, None) | Self::Anew(member) | Self::Later(member) => Some(member),
        }
    }
}

pub(crate) struct Actor {
    hub: Arc<Hub>,
    story: Arc<StoryId>,
    /// Among all actors.
    number: u64,
    watch: Watch,
    memory: Memory,
    members: Vec<Member>,
    waiting: Vec<Waiting>,
    commands: mpsc::Receiver<Command>,
    /// Held by each of those who will come back.
    away: Arc<()>,
    /// For those who read the log by themselves or have a full queue, to come back.
    again: mpsc::WeakSender<Command>,
}

impl Actor {
    /// Watches the story; where that cannot be, whoever has asked for it is told why.
    pub(crate) async fn start(hub: Arc<Hub>, story: Arc<StoryId>, start: Start) {
        let Start {
            number,
            again,
            mut commands,
        } = start;
        let Some(watched) = hub.end.run_until_cancelled(watch(&hub, &story)).await else {
            return;
        };
        let (watch, memory) = match watched {
            Ok(watched) => watched,
            Err(error) => {
                hub.stories.forget(&story, number);
                return refuse(&mut commands, &Arc::new(error)).await;
            }
        };
        let actor = Self {
            hub,
            story,
            number,
            watch,
            memory,
            members: Vec::new(),
            waiting: Vec::new(),
            commands,
            away: Arc::new(()),
            again,
        };
        actor.run().await;
    }

    /// Until nobody reads it for a while, or it cannot be read any more.
    async fn run(mut self) {
        let (mut looks, mut idle) = (interval(IDLE / 2), 0);
        loop {
            tokio::select! {
                seen = self.watch.next_or_caught_up() => {
                    let went = match seen {
                        Ok(Some(seen)) => self.see(seen).await,
                        Ok(None) => Ok(()),
                        Err(error) => Err(error),
                    };
                    if let Err(error) = went {
                        return self.fail(error).await;
                    }
                }
                command = self.commands.recv() => match command {
                    Some(command) => {
                        idle = 0;
                        self.take(command);
                    }
                    // Nobody reads it, and others needed its place.
                    None => return,
                },
                _ = looks.tick() => {
                    idle = if self.is_idle() { idle + 1 } else { 0 };
                    if idle > 2 && self.may_end() {
                        return;
                    }
                }
                () = self.hub.end.cancelled() => return,
            }
            self.settle();
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Join(member, opened) => {
                if let Some(opened) = opened {
                    // Who asked may be gone.
                    let _gone = opened.send(Ok(()));
                }
                let sure = member.at.is_none() && self.watch.is_caught_up();
                self.go_on(member, sure);
            }
            Command::Anew(member) if self.watch.is_caught_up() => self.start_anew(member),
            Command::Anew(member) => self.wait(member, true),
            Command::Later(member) => self.wait(member, false),
        }
    }

    fn may_end(&self) -> bool {
        let actor = (&*self.story, self.number);
        self.hub.stories.let_go(actor, &self.commands)
    }

    fn is_idle(&mut self) -> bool {
        self.members.retain(|member| !member.has_left());
        self.waiting.retain(|one| !one.member.has_left());
        let is_away = Arc::strong_count(&self.away) > 1;
        self.members.is_empty() && self.waiting.is_empty() && !is_away
    }

    async fn see(&mut self, seen: Seen) -> Result<(), Error> {
        if seen == Seen::Gap {
            let anew = watch_anew(&self.hub, &self.story);
            let Some(anew) = self.hub.end.run_until_cancelled(anew).await else {
                return Ok(());
            };
            (self.watch, self.memory) = anew?;
            self.all_wait();
            return Ok(());
        }
        let joins = self.memory.joins(&seen);
        let item = self.memory.see(seen, self.watch.cursor().clone());
        if joins {
            self.give(&item);
        } else {
            self.all_wait();
        }
        Ok(())
    }

    /// Where each goes on is seen when all there is was read.
    fn all_wait(&mut self) {
        let reading = self.watch.read_again();
        self.waiting
            .iter_mut()
            .for_each(|one| one.reading = reading);
        for member in std::mem::take(&mut self.members) {
            self.wait(member, false);
        }
    }

    fn wait(&mut self, member: Member, is_elsewhere: bool) {
        let reading = self.watch.read_again();
        self.waiting.push(Waiting {
            reading,
            member,
            is_elsewhere,
        });
    }

    fn give(&mut self, item: &Arc<Item>) {
        let mut index = 0;
        while let Some(member) = self.members.get_mut(index) {
            match member.give_new(item) {
                Given::Yes => index += 1,
                Given::Gone => _ = self.members.swap_remove(index),
                Given::Full => {
                    let member = self.members.swap_remove(index);
                    self.wait_for(member);
                }
            }
        }
    }

    /// Those who wait go on when all there was when they came is read.
    fn settle(&mut self) {
        let given = self.watch.given();
        let is_answered = |one: &mut Waiting| one.reading <= given;
        let answered: Vec<_> = self.waiting.extract_if(.., is_answered).collect();
        for one in answered {
            match one.is_elsewhere {
                true => self.start_anew(one.member),
                false => self.go_on(one.member, true),
            }
        }
    }

    fn go_on(&mut self, mut member: Member, sure: bool) {
        let join = match &member.at {
            Some(at) => self.memory.join(at, sure),
            None if !sure => Join::Unknown,
            None => self.memory.tail(TAIL).map_or(Join::Log, Join::Here),
        };
        match join {
            Join::Here(mut items) => {
                items.push(self.memory.live());
                for item in &items {
                    match member.give(item) {
                        Given::Yes => {}
                        Given::Full => return self.wait_for(member),
                        Given::Gone => return,
                    }
                }
                if let Some(how) = member.came.take() {
                    self.hub.metrics.joined(how);
                }
                self.members.push(member);
            }
            Join::Log => self.read_log(member),
            Join::Unknown => self.wait(member, false),
            Join::Other => self.start_anew(member),
        }
    }

    fn start_anew(&mut self, mut member: Member) {
        member.comes_by(Joined::Gap);
        // What follows begins there.
        let cursor = Arc::new(self.memory.start());
        let gap = Arc::new(Item::seen(Arc::clone(&self.story), cursor, Seen::Gap));
        match member.give(&gap) {
            Given::Yes => self.go_on(member, true),
            Given::Full => self.wait_for(member),
            Given::Gone => {}
        }
    }

    /// Until there is room in the queue; they join again then.
    fn wait_for(&self, member: Member) {
        self.hub.metrics.lagged();
        let again = self.again.clone();
        self.spawn(async move {
            if member.patiently(member.ready()).await.is_some() {
                come_back(&again, Command::Join(member, None)).await;
            }
        });
    }

    /// For somebody who was away for long.
    fn read_log(&self, mut member: Member) {
        if member.at.is_some() {
            member.comes_by(Joined::Log);
        }
        let (bus, story) = (self.hub.bus.clone(), Arc::clone(&self.story));
        let (again, reads) = (self.again.clone(), Arc::clone(&self.hub.reads));
        self.spawn(async move {
            // First of all room: nobody waits for another's reader.
            let Some(turn) = member.patiently(member.turn()).await else {
                return;
            };
            let Ok(read) = reads.acquire().await else {
                return;
            };
            if member.has_left() {
                return;
            }
            let seen = backlog::next(&bus, &story, &mut member).await;
            drop(read);
            let goes_on = backlog::give(member, &story, seen);
            drop(turn);
            if let Some((command, pause)) = goes_on {
                sleep(pause).await;
                come_back(&again, command).await;
            }
        });
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let (end, away) = (self.hub.end.clone(), Arc::clone(&self.away));
        self.hub.tracker.spawn(async move {
            tokio::select! {
                () = task => {}
                () = end.cancelled() => {}
            }
            drop(away);
        });
    }

    async fn fail(mut self, error: Error) {
        tracing::warn!(story = %self.story, %error, "a story cannot be read any more");
        self.hub.stories.forget(&self.story, self.number);
        self.close();
        refuse(&mut self.commands, &Arc::new(error)).await;
    }

    fn close(&mut self) {
        let waiting = self.waiting.drain(..).map(|one| one.member);
        let all = self.members.drain(..).chain(waiting);
        all.for_each(|member| member.put_out());
    }
}

impl Drop for Actor {
    /// However it ends, nobody waits for more of it. Whoever waits to be told whether it can be watched tries another.
    fn drop(&mut self) {
        self.close();
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Some(member) = command.joined() {
                member.put_out();
            }
        }
    }
}

/// Nothing that was asked for will be: whoever asked is told so.
async fn refuse(commands: &mut mpsc::Receiver<Command>, error: &Arc<Error>) {
    commands.close();
    while let Some(command) = commands.recv().await {
        if let Some(member) = command.joined() {
            member.put_out();
        }
        if let Command::Join(_, Some(opened)) = command {
            // Who asked may be gone.
            let _gone = opened.send(Err(Arc::clone(error)));
        }
    }
}

/// From the last events on.
async fn watch(hub: &Hub, story: &Arc<StoryId>) -> Result<(Watch, Memory), Error> {
    let watch = hub.feeds.watch_last(story, TAIL).await?;
    let memory = Memory::new(Arc::clone(story), watch.cursor().clone());
    Ok((watch, memory))
}

/// After a failover, which may not be over.
async fn watch_anew(hub: &Hub, story: &Arc<StoryId>) -> Result<(Watch, Memory), Error> {
    let mut failures = 0_u32;
    loop {
        match watch(hub, story).await {
            Err(error) if error.is_passing() && !hub.end.is_cancelled() => {
                tracing::warn!(%story, %error, "a story cannot be begun anew yet");
                failures = failures.saturating_add(1);
                sleep(backoff(failures, AGAIN)).await;
            }
            watched => return watched,
        }
    }
}

/// Where the story failed meanwhile, whoever reads it is told.
async fn come_back(again: &mpsc::WeakSender<Command>, command: Command) {
    let left = match again.upgrade() {
        Some(again) => again.send(command).await.err().map(|error| error.0),
        None => Some(command),
    };
    if let Some(member) = left.as_ref().and_then(Command::joined) {
        member.put_out();
    }
}
