//! Who of this node's readers is in a story, and which of them type. Whoever enters and leaves only changes a table: what
//! is to be told of it the story's [`Host`] does, one task for each story with readers.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::{Bus, Feeds, Person};
use story::StoryId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Identity;
use crate::hub::aside::Notice;
use crate::hub::host::Host;
use crate::hub::queue::Queue;
use crate::hub::reader::Reader;
use crate::metrics::Metrics;

/// Those who began to type and of whom nobody was told yet.
const TYPISTS: usize = 16;

/// The rooms of this node.
#[derive(Debug)]
pub(crate) struct Rooms {
    pub(super) bus: Bus,
    pub(super) feeds: Feeds,
    pub(super) metrics: Metrics,
    pub(super) end: CancellationToken,
    /// This process among all nodes.
    pub(super) node: String,
    /// Redis did not answer when it was last asked.
    pub(super) is_lost: AtomicBool,
    tracker: TaskTracker,
    rooms: Mutex<HashMap<StoryId, Arc<Room>>>,
}

/// A story with readers here.
#[derive(Debug)]
pub(crate) struct Room {
    pub(super) story: StoryId,
    /// Somebody entered, left or types.
    pub(super) changed: Notify,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    seats: HashMap<u64, Seat>,
    /// Each person once.
    people: BTreeMap<Arc<str>, (Arc<str>, u32)>,
    last_seat: u64,
    /// Who is here at all nodes, as readers were last told.
    told: Option<Arc<Notice>>,
    typing: Vec<Typist>,
    /// The people are not those that were last taken.
    is_new: bool,
}

#[derive(Debug)]
struct Seat {
    sub: Arc<str>,
    number: u32,
    queue: Arc<Queue>,
}

/// Somebody who types.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Typist {
    pub(crate) sub: String,
    pub(crate) name: String,
}

impl From<&Identity> for Typist {
    fn from(person: &Identity) -> Self {
        Self {
            sub: person.sub.clone(),
            name: person.name.clone(),
        }
    }
}

/// A reader's seat in a room; they leave it when it is dropped.
#[derive(Debug)]
pub(crate) struct Occupied {
    room: Arc<Room>,
    seat: u64,
}

impl Rooms {
    /// Its tasks run in `tracker` until `end`.
    pub(crate) fn new(
        (bus, feeds): (Bus, Feeds),
        metrics: Metrics,
        (tracker, end): (TaskTracker, CancellationToken),
    ) -> Arc<Self> {
        Arc::new(Self {
            bus,
            feeds,
            metrics,
            end,
            node: format!("{:032x}", rand::random::<u128>()),
            is_lost: AtomicBool::new(false),
            tracker,
            rooms: Mutex::default(),
        })
    }

    /// They are told who is here, and others that they are.
    pub(crate) fn enter(
        self: &Arc<Self>,
        story: &StoryId,
        (reader, number): (&Reader, u32),
    ) -> Occupied {
        let mut rooms = self.rooms();
        let room = match rooms.get(story) {
            Some(room) => Arc::clone(room),
            None => {
                let room = Arc::new(Room {
                    story: story.clone(),
                    changed: Notify::new(),
                    table: Mutex::default(),
                });
                rooms.insert(story.clone(), Arc::clone(&room));
                let host = Host::new(Arc::clone(self), Arc::clone(&room));
                self.tracker.spawn(host.run());
                room
            }
        };
        // Under the lock: a room without people is let go of.
        let seat = room.table().enter(reader, number);
        drop(rooms);
        room.changed.notify_one();
        Occupied { room, seat }
    }

    /// Nobody waits for it: the room's task tells the other nodes. False where nobody reads the story here.
    pub(crate) fn types(&self, story: &StoryId, typist: Typist) -> bool {
        let room = self.rooms().get(story).map(Arc::clone);
        let Some(room) = room else { return false };
        let mut table = room.table();
        table.typing.retain(|known| known.sub != typist.sub);
        if table.typing.len() < TYPISTS {
            table.typing.push(typist);
        }
        drop(table);
        room.changed.notify_one();
        true
    }

    /// Whether a room is let go of: it is unless somebody has entered it.
    pub(super) fn let_go(&self, room: &Room) -> bool {
        let mut rooms = self.rooms();
        let is_empty = room.table().seats.is_empty();
        if is_empty {
            rooms.remove(&room.story);
        }
        is_empty
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<StoryId, Arc<Room>>> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Whether other people are here than when they were last asked for.
    pub(super) fn is_new(&self) -> bool {
        self.table().is_new
    }

    pub(super) fn people(&self) -> Vec<Person> {
        let mut table = self.table();
        table.is_new = false;
        let people = table.people.iter();
        let people = people.map(|(sub, (name, connections))| Person {
            sub: sub.to_string(),
            name: name.to_string(),
            connections: *connections,
        });
        people.collect()
    }

    /// The first of them in the order of their ids, who is always among those that Redis lists.
    pub(super) fn first(&self) -> Option<Arc<str>> {
        self.table().people.keys().next().map(Arc::clone)
    }

    /// Those who began to type since this was last asked.
    pub(super) fn typing(&self) -> Vec<Typist> {
        std::mem::take(&mut self.table().typing)
    }

    /// Tells everybody, and whoever enters later, who is here; gives whether that is news.
    pub(super) fn tell_people(&self, notice: Notice) -> bool {
        let notice = Arc::new(notice);
        let mut table = self.table();
        let told = table.told.as_ref();
        if told.is_some_and(|told| told.says_the_same(&notice)) {
            return false;
        }
        table.told = Some(Arc::clone(&notice));
        let seats = table.seats_for(&notice);
        drop(table);
        tell(seats, &notice);
        true
    }

    /// Tells everybody once.
    pub(super) fn tell(&self, notice: Notice) {
        let notice = Arc::new(notice);
        let seats = self.table().seats_for(&notice);
        tell(seats, &notice);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn enter(&mut self, reader: &Reader, number: u32) -> u64 {
        if let Some(told) = &self.told {
            reader.notices().tell(number, told);
        }
        let (sub, name) = (Arc::clone(&reader.sub), Arc::clone(&reader.name));
        let person = self.people.entry(Arc::clone(&sub)).or_insert_with(|| {
            self.is_new = true;
            (name, 0)
        });
        person.1 += 1;
        self.last_seat += 1;
        let queue = reader.notices();
        let seat = Seat { sub, number, queue };
        self.seats.insert(self.last_seat, seat);
        self.last_seat
    }

    fn leave(&mut self, seat: u64) {
        let Some(seat) = self.seats.remove(&seat) else {
            return;
        };
        seat.queue.forget(seat.number);
        if let Some((_, connections)) = self.people.get_mut(&seat.sub) {
            *connections -= 1;
            if *connections == 0 {
                self.people.remove(&seat.sub);
                self.is_new = true;
            }
        }
    }

    fn seats_for(&self, notice: &Notice) -> Vec<(u32, Arc<Queue>)> {
        let seats = self.seats.values();
        let seats = seats.filter(|seat| notice.is_for(&seat.sub));
        seats
            .map(|seat| (seat.number, Arc::clone(&seat.queue)))
            .collect()
    }
}

/// Without the lock: it wakes thousands, and whoever comes or goes waits for the lock.
fn tell(seats: Vec<(u32, Arc<Queue>)>, notice: &Arc<Notice>) {
    for (number, queue) in seats {
        queue.tell(number, notice);
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.room.table().leave(self.seat);
        self.room.changed.notify_one();
    }
}
