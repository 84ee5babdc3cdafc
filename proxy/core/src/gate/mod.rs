//! Work that waits for its turn, so that whoever has much of it delays others by a little.
//!
//! A worker serves what is ready in the order in which it became so. A flood would be ahead of everybody
//! else. So only a few pieces of work that anybody can cause are in the workers' queues at any time; the rest
//! waits here, where those that cause it take turns.

mod wait;

pub use wait::Wait;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Begins with a piece of work, at once and without waiting for anything.
type Start<K> = Box<dyn FnOnce(Turn<K>) + Send>;

/// What a key is: whatever tells those apart that take turns.
pub trait Key: Copy + Eq + Hash + Send + 'static {}

impl<K: Copy + Eq + Hash + Send + 'static> Key for K {}

/// How many newcomers may wait.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Of one key.
    pub for_one: usize,
    /// Of all together.
    pub for_all: usize,
}

/// Which room is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of one key.
    One,
    /// That of all.
    All,
}

/// A queue in which keys take turns. Cheap to clone; clones share.
pub struct Gate<K: Key>(Arc<Shared<K>>);

struct Shared<K: Key> {
    /// How many pieces of work are in progress beside each other.
    most: usize,
    queue: Mutex<Queue<K>>,
}

struct Queue<K: Key> {
    in_progress: usize,
    /// Turns of these that were given back, to be handed on.
    free: usize,
    /// Whether somebody hands them on at this moment.
    is_starting: bool,
    newcomers: usize,
    waiting: HashMap<K, Waiting<K>>,
    /// The keys that wait, next first.
    order: VecDeque<K>,
}

/// What waits for one key. Newcomers and what goes on take turns too: neither a flood of newcomers keeps those
/// from going on that were begun with, nor the other way round.
struct Waiting<K: Key> {
    newcomers: VecDeque<Start<K>>,
    others: VecDeque<Start<K>>,
    newcomer_is_next: bool,
}

/// The right to one piece of work. The next one begins when it is dropped.
pub struct Turn<K: Key>(Option<Gate<K>>);

impl<K: Key> Gate<K> {
    /// At most `most` pieces of work are in progress beside each other.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Shared {
            most: most.max(1),
            queue: Mutex::new(Queue {
                in_progress: 0,
                free: 0,
                is_starting: false,
                newcomers: 0,
                waiting: HashMap::new(),
                order: VecDeque::new(),
            }),
        }))
    }

    /// Begins with a newcomer, now or when it is its key's turn. If there is no room, returns whose newcomer
    /// was dropped, and why: the oldest one of this key, or of the key that has most; this one itself only where
    /// many keys have one each.
    pub fn enter(
        &self,
        key: K,
        room: Room,
        start: impl FnOnce(Turn<K>) + Send + 'static,
    ) -> Option<(K, Full)> {
        let mut queue = self.queue();
        if !queue.take(self.0.most) {
            let (gone, dropped) = queue.take_in(key, room, Box::new(start));
            // Closing what it holds takes a moment, in which nobody should wait for the lock.
            drop(queue);
            drop(dropped);
            return gone;
        }
        drop(queue);
        start(Turn(Some(self.clone())));
        None
    }

    /// Whether a newcomer of `key` would have an older one dropped.
    pub fn is_full_for(&self, key: K, room: Room) -> bool {
        self.queue().newcomers_of(&key) >= room.for_one
    }

    /// Goes on with something when it is its key's turn. There is always room for it.
    pub fn wait(&self, key: K, start: impl FnOnce(Turn<K>) + Send + 'static) {
        let mut queue = self.queue();
        if !queue.take(self.0.most) {
            return queue.push(key, false, Box::new(start));
        }
        drop(queue);
        start(Turn(Some(self.clone())));
    }

    /// A turn, if nobody has to wait for one.
    pub fn take(&self) -> Option<Turn<K>> {
        let free = self.queue().take(self.0.most);
        free.then(|| Turn(Some(self.clone())))
    }

    /// Hands on a turn that was given back. Where a piece of work ends while it is started, that is done by
    /// whoever started it, so that nothing nests.
    fn give_back(self) {
        {
            let mut queue = self.queue();
            queue.free += 1;
            if queue.is_starting {
                return;
            }
            queue.is_starting = true;
        }
        loop {
            // Not in the condition, where the lock would be kept.
            let next = self.queue().next();
            let Some(start) = next else { return };
            start(Turn(Some(self.clone())));
        }
    }

    /// What is guarded is whole after each statement, so a panic elsewhere spoils nothing.
    fn queue(&self) -> MutexGuard<'_, Queue<K>> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Key> Queue<K> {
    fn take(&mut self, most: usize) -> bool {
        let free = self.in_progress < most;
        self.in_progress += usize::from(free);
        free
    }

    /// Whose newcomer is dropped for it, and that one, if there is no room.
    fn take_in(
        &mut self,
        key: K,
        room: Room,
        start: Start<K>,
    ) -> (Option<(K, Full)>, Option<Start<K>>) {
        let own = self.newcomers_of(&key);
        let Some((gone, why)) = self.crowded(key, own, room) else {
            self.push(key, true, start);
            return (None, None);
        };
        let dropped = if gone == key && own == 0 {
            Some(start)
        } else {
            self.push(key, true, start);
            self.remove_oldest(&gone)
        };
        (Some((gone, why)), dropped)
    }

    /// Whose newcomer gives way to one of `key`, which has `own`, if there are too many then.
    fn crowded(&self, key: K, own: usize, room: Room) -> Option<(K, Full)> {
        if own >= room.for_one {
            return Some((key, Full::One));
        }
        if self.newcomers < room.for_all {
            return None;
        }
        let by_count = self
            .waiting
            .iter()
            .map(|(key, it)| (it.newcomers.len(), *key));
        let fullest = by_count.max_by_key(|(count, _)| *count);
        let more = fullest.filter(|(count, _)| *count > own.max(1));
        Some((more.map_or(key, |(_, fullest)| fullest), Full::All))
    }

    fn newcomers_of(&self, key: &K) -> usize {
        self.waiting.get(key).map_or(0, |it| it.newcomers.len())
    }

    /// Takes out the oldest of several newcomers, so that something of the key is left.
    fn remove_oldest(&mut self, key: &K) -> Option<Start<K>> {
        let oldest = self.waiting.get_mut(key)?.newcomers.pop_front()?;
        self.newcomers -= 1;
        Some(oldest)
    }

    fn push(&mut self, key: K, is_newcomer: bool, start: Start<K>) {
        let waiting = self.waiting.entry(key).or_insert_with(Waiting::new);
        if waiting.is_empty() {
            self.order.push_back(key);
        }
        if is_newcomer {
            waiting.newcomers.push_back(start);
            self.newcomers += 1;
        } else {
            waiting.others.push_back(start);
        }
    }

    /// What is to be started in a turn that was given back.
    fn next(&mut self) -> Option<Start<K>> {
        if self.free > 0
            && let Some(start) = self.pop()
        {
            self.free -= 1;
            return Some(start);
        }
        self.in_progress -= mem::take(&mut self.free);
        self.is_starting = false;
        None
    }

    fn pop(&mut self) -> Option<Start<K>> {
        let key = self.order.pop_front()?;
        let waiting = self.waiting.get_mut(&key)?;
        let before = waiting.newcomers.len();
        let start = waiting.pop();
        self.newcomers -= before - waiting.newcomers.len();
        if waiting.is_empty() {
            self.waiting.remove(&key);
        } else {
            self.order.push_back(key);
        }
        start
    }
}

impl<K: Key> Waiting<K> {
    fn new() -> Self {
        Self {
            newcomers: VecDeque::new(),
            others: VecDeque::new(),
            newcomer_is_next: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.newcomers.is_empty() && self.others.is_empty()
    }

    fn pop(&mut self) -> Option<Start<K>> {
        let of_newcomers = self.newcomer_is_next || self.others.is_empty();
        self.newcomer_is_next = !of_newcomers;
        if of_newcomers {
            self.newcomers
                .pop_front()
                .or_else(|| self.others.pop_front())
        } else {
            self.others.pop_front()
        }
    }
}

impl<K: Key> Clone for Gate<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Key> fmt::Debug for Gate<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl<K: Key> fmt::Debug for Turn<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

impl<K: Key> Drop for Turn<K> {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    type Started = (&'static str, Turn<&'static str>);

    const FLOOD: &str = "flood";
    const HONEST: &str = "honest";

    const OTHER: &str = "other";

    const ROOM: Room = Room {
        for_one: 3,
        for_all: 5,
    };

    struct Entrance(Gate<&'static str>, mpsc::Sender<Started>);

    impl Entrance {
        fn enter(&self, key: &'static str, name: &'static str) -> Option<(&'static str, Full)> {
            let sender = self.1.clone();
            self.0.enter(key, ROOM, move |turn| {
                let _ = sender.send((name, turn));
            })
        }

        fn go_on(&self, key: &'static str, name: &'static str) {
            let sender = self.1.clone();
            self.0.wait(key, move |turn| {
                let _ = sender.send((name, turn));
            });
        }
    }

    fn gate(most: usize) -> (Entrance, mpsc::Receiver<Started>) {
        let (sender, started) = mpsc::channel();
        (Entrance(Gate::new(most), sender), started)
    }

    #[test]
    fn only_so_many_are_looked_at_beside_each_other() {
        let (gate, started) = gate(2);
        for name in ["a", "b", "c"] {
            assert_eq!(gate.enter(FLOOD, name), None);
        }
        let held: Vec<_> = started.try_iter().collect();
        assert_eq!(held.iter().map(|it| it.0).collect::<Vec<_>>(), ["a", "b"]);
        drop(held);
        assert_eq!(started.try_recv().map(|it| it.0), Ok("c"));
    }

    #[test]
    fn a_source_with_many_delays_another_by_one() {
        let (gate, started) = gate(1);
        for name in ["1", "2", "3", "4"] {
            assert_eq!(gate.enter(FLOOD, name), None);
        }
        assert_eq!(gate.enter(HONEST, "honest"), None);
        let order: Vec<_> = started.try_iter().map(|(name, _)| name).collect();
        assert_eq!(order, ["1", "2", "honest", "3", "4"]);
    }

    #[test]
    fn a_connection_that_ends_unseen_gives_its_turn_back() {
        let (gate, started) = gate(1);
        assert_eq!(gate.enter(FLOOD, "gone"), None);
        drop(started.try_recv());
        assert_eq!(gate.enter(FLOOD, "next"), None);
        assert_eq!(started.try_recv().map(|it| it.0), Ok("next"));
    }

    #[test]
    fn of_one_source_and_of_all_only_so_many_wait() {
        let (gate, started) = gate(1);
        for name in ["started", "1", "2", "3"] {
            assert_eq!(gate.enter(FLOOD, name), None);
        }
        assert!(gate.0.is_full_for(FLOOD, ROOM) && !gate.0.is_full_for(HONEST, ROOM));
        assert_eq!(gate.enter(FLOOD, "4"), Some((FLOOD, Full::One)));
        for name in ["5", "6"] {
            assert_eq!(gate.enter(HONEST, name), None);
        }
        let all = Full::All;
        assert_eq!(gate.enter(HONEST, "7"), Some((FLOOD, all)), "it had most");
        assert_eq!(gate.enter(HONEST, "8"), Some((HONEST, Full::One)));
        assert_eq!(gate.enter(OTHER, "9"), Some((HONEST, all)));
        assert_eq!(
            gate.enter(FLOOD, "10"),
            Some((FLOOD, all)),
            "all have as many"
        );
        let order: Vec<_> = started.try_iter().map(|(name, _)| name).collect();
        assert_eq!(order, ["started", "4", "7", "9", "10", "8"]);
    }

    #[test]
    fn who_was_looked_at_and_newcomers_of_its_source_take_turns() {
        let (gate, started) = gate(1);
        for name in ["started", "1", "2", "3"] {
            assert_eq!(gate.enter(FLOOD, name), None);
        }
        for name in ["goes on", "and on"] {
            gate.go_on(FLOOD, name);
        }
        gate.go_on(HONEST, "honest");
        let order: Vec<_> = started.try_iter().map(|(name, _)| name).collect();
        assert_eq!(
            order,
            ["started", "goes on", "honest", "1", "and on", "2", "3"]
        );
    }

    /// As where the runtime that would serve them has ended.
    #[test]
    fn those_that_end_while_they_are_started_do_not_nest() {
        let gate = Gate::new(1);
        let first = gate.take();
        let room = Room {
            for_one: 100_000,
            for_all: 100_000,
        };
        for _ in 0..100_000 {
            assert_eq!(gate.enter("flood", room, drop), None);
        }
        drop(first);
        assert_eq!(gate.queue().in_progress, 0);
    }

    #[test]
    fn nothing_is_kept_of_sources_that_wait_no_more() {
        let (gate, started) = gate(1);
        for (client, name) in [(FLOOD, "a"), (HONEST, "b"), (FLOOD, "c")] {
            assert_eq!(gate.enter(client, name), None);
        }
        while started.try_recv().is_ok() {}
        let queue = gate.0.queue();
        assert_eq!(queue.in_progress, 0);
        assert!(queue.waiting.is_empty() && queue.order.is_empty());
    }
}
