//! Fair shares of an endpoint whose connections are scarce.
//!
//! The connections of one pool key belong to a workload, and each of its callers (usually a pod) has a fair
//! part of them: a caller may take one more while it holds less than seven times what would then be free.
//! So one caller alone may hold seven eighths, two together fourteen fifteenths, and something is left for
//! the next. Waiting requests are served by how little their caller holds, then by how long they have
//! waited.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, LazyLock},
};

use tokio::sync::Notify;

/// How many times the free part a caller may hold. No exchange is interrupted for another caller, so
/// something must stay free for a later one, and more than one caller can stall.
const OF_FREE: usize = 7;

/// The caller of a request, for fairness only: a hash of whatever distinguishes callers. Callers with the
/// same hash share their part of the connections, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallerId(u64);

impl CallerId {
    /// The gateway itself.
    pub const GATEWAY: Self = Self(0);

    /// The caller that these parts identify.
    pub fn of(parts: impl Hash) -> Self {
        // With a random key per process, so that nobody can choose a name to share another's part.
        static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEYS.hash_one(parts))
    }
}

/// What callers hold, and which of them wait.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    callers: HashMap<CallerId, Party, foldhash::fast::RandomState>,
    waiting: usize,
    next: u64,
}

#[derive(Debug, Default)]
struct Party {
    held: Held,
    waiting: VecDeque<(u64, Arc<Notify>)>,
}

/// What one caller has in use.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// Connections of its own.
    pub(super) connections: usize,
    /// Streams of connections that are shared.
    pub(super) streams: usize,
}

/// What is free.
#[derive(Debug, Clone, Copy)]
pub(super) struct Free {
    /// Connections that are not in use.
    pub(super) connections: usize,
    /// Streams, of open connections and of those that could be opened; none if connections are not shared.
    pub(super) streams: usize,
}

impl Held {
    /// Whether it may take one more connection.
    pub(super) fn may_connect(self, free: Free) -> bool {
        may_take_one(self.connections, free.connections)
    }

    /// Whether it may take one more stream.
    pub(super) fn may_stream(self, free: Free) -> bool {
        may_take_one(self.streams, free.streams)
    }

    /// Whether it may take what is free.
    pub(super) fn may_take(self, free: Free) -> bool {
        if free.streams > 0 {
            self.may_stream(free)
        } else {
            self.may_connect(free)
        }
    }
}

/// A caller that holds nothing may take the last one.
fn may_take_one(held: usize, free: usize) -> bool {
    held == 0 || held < OF_FREE * free.saturating_sub(1)
}

impl FairQueue {
    /// What a caller holds.
    pub(super) fn held(&self, caller: CallerId) -> Held {
        self.callers
            .get(&caller)
            .map_or_else(Held::default, |party| party.held)
    }

    /// Changes what a caller holds.
    pub(super) fn change(&mut self, caller: CallerId, change: impl FnOnce(&mut Held)) {
        let party = self.callers.entry(caller).or_default();
        change(&mut party.held);
        self.forget_if_idle(caller);
    }

    /// Whether a request waits.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Whether a waiting request may take what is free: a new one comes after it.
    pub(super) fn is_somebodys(&self, free: Free) -> bool {
        self.chosen(free).is_some()
    }

    /// Queues a request; one that was woken for nothing goes before the others of its caller.
    pub(super) fn enqueue(
        &mut self,
        caller: CallerId,
        wake: &Arc<Notify>,
        again: Option<u64>,
    ) -> u64 {
        let number = again.unwrap_or(self.next);
        self.next += 1;
        self.waiting += 1;
        let party = self.callers.entry(caller).or_default();
        if again.is_some() {
            party.waiting.push_front((number, Arc::clone(wake)));
        } else {
            party.waiting.push_back((number, Arc::clone(wake)));
        }
        number
    }

    /// Removes a request from the queue; false if it was already woken.
    pub(super) fn leave(&mut self, caller: CallerId, number: u64) -> bool {
        let Some(party) = self.callers.get_mut(&caller) else {
            return false;
        };
        let before = party.waiting.len();
        party.waiting.retain(|(waiting, _)| *waiting != number);
        let left = party.waiting.len() < before;
        self.waiting -= usize::from(left);
        self.forget_if_idle(caller);
        left
    }

    /// Wakes the next request.
    pub(super) fn wake_next(&mut self, free: Free) {
        let Some(caller) = self.chosen(free) else {
            return;
        };
        let party = self.callers.get_mut(&caller);
        if let Some((_, wake)) = party.and_then(|party| party.waiting.pop_front()) {
            self.waiting -= 1;
            wake.notify_one();
        }
        self.forget_if_idle(caller);
    }

    /// The next caller: of those that may, the one that holds least; of these, the one that has waited
    /// longest.
    fn chosen(&self, free: Free) -> Option<CallerId> {
        let waiting = self.callers.iter().filter_map(|(caller, party)| {
            let (number, _) = party.waiting.front()?;
            let order = (party.held.connections + party.held.streams, *number);
            party.held.may_take(free).then_some((order, *caller))
        });
        waiting
            .min_by_key(|(order, _)| *order)
            .map(|(_, caller)| caller)
    }

    fn forget_if_idle(&mut self, caller: CallerId) {
        let idle = self
            .callers
            .get(&caller)
            .is_some_and(|party| party.held == Held::default() && party.waiting.is_empty());
        if idle {
            self.callers.remove(&caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const A: CallerId = CallerId(1);
    const B: CallerId = CallerId(2);

    fn connections(connections: usize) -> Free {
        Free {
            connections,
            streams: 0,
        }
    }

    fn waiter(queue: &mut FairQueue, caller: CallerId) -> Arc<Notify> {
        let wake = Arc::new(Notify::new());
        queue.enqueue(caller, &wake, None);
        wake
    }

    fn is_woken(wake: &Arc<Notify>) -> bool {
        wake.notified().now_or_never().is_some()
    }

    /// How many each holds when nobody can take more.
    fn fill(most: usize, callers: usize) -> Vec<usize> {
        let mut held = vec![Held::default(); callers];
        loop {
            let mut moved = false;
            for at in 0..callers {
                let taken: usize = held.iter().map(|held| held.connections).sum();
                let free = most - taken;
                if free > 0 && held[at].may_connect(connections(free)) {
                    held[at].connections += 1;
                    moved = true;
                }
            }
            if !moved {
                return held.iter().map(|held| held.connections).collect();
            }
        }
    }

    #[test]
    fn one_alone_holds_most_and_something_is_left_for_the_next() {
        assert_eq!(fill(256, 1), [224]);
        assert_eq!(fill(256, 3), [82, 81, 81]);
        assert_eq!(fill(8, 1), [7]);
        assert_eq!(fill(2, 1), [1]);
        assert_eq!(fill(2, 2), [1, 1]);
        assert_eq!(fill(1, 1), [1]);
        assert_eq!(fill(3, 9).iter().sum::<usize>(), 3);
    }

    #[test]
    fn who_holds_least_is_next_and_then_who_waits_longest() {
        let mut queue = FairQueue::default();
        queue.change(A, |held| held.connections = 3);
        let [first, second] = [(); 2].map(|()| waiter(&mut queue, A));
        let other = waiter(&mut queue, B);
        for expected in [&other, &first, &second] {
            assert!(queue.is_somebodys(connections(9)));
            queue.wake_next(connections(9));
            assert!(is_woken(expected));
        }
        assert!(!queue.is_somebodys(connections(9)));
    }

    #[test]
    fn who_has_his_part_is_passed_over() {
        let mut queue = FairQueue::default();
        queue.change(A, |held| held.connections = 14);
        let greedy = waiter(&mut queue, A);
        queue.wake_next(connections(3));
        assert!(!is_woken(&greedy));
        assert!(!queue.is_somebodys(connections(3)));
        queue.change(A, |held| held.connections = 13);
        queue.wake_next(connections(3));
        assert!(is_woken(&greedy));
    }

    #[test]
    fn streams_count_where_there_are_some() {
        let mut queue = FairQueue::default();
        queue.change(A, |held| held.streams = 49);
        let greedy = waiter(&mut queue, A);
        let free = |streams| Free {
            connections: 100,
            streams,
        };
        queue.wake_next(free(8));
        assert!(!is_woken(&greedy));
        queue.wake_next(free(9));
        assert!(is_woken(&greedy));
    }

    #[test]
    fn nothing_is_kept_of_who_is_gone() {
        let mut queue = FairQueue::default();
        let wake = Arc::new(Notify::new());
        let number = queue.enqueue(A, &wake, None);
        queue.change(B, |held| held.streams += 1);
        queue.change(B, |held| held.streams -= 1);
        assert!(queue.leave(A, number));
        assert!(!queue.leave(A, number));
        assert!(queue.callers.is_empty());
        assert_eq!(queue.waiting, 0);
    }
}
