//! A task that waits for its turns.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::{Gate, Key, Turn};

/// Waiting for one turn after the other.
#[derive(Debug)]
pub struct Wait<'g, K: Key> {
    gate: &'g Gate<K>,
    key: K,
    next: Next<K>,
}

#[derive(Debug)]
enum Next<K: Key> {
    /// A turn is asked for.
    Ask,
    /// There is one.
    Now(Turn<K>),
    /// It is put down there.
    Given(Arc<Seat<K>>),
}

/// Where a turn is put down for a task that waits for it.
#[derive(Debug)]
struct Seat<K: Key>(Mutex<(Option<Turn<K>>, Option<Waker>)>);

impl<'g, K: Key> Wait<'g, K> {
    /// Waits for the turns of `key`. The first one is there already.
    pub fn with_first(gate: &'g Gate<K>, key: K, first: Turn<K>) -> Self {
        Self {
            gate,
            key,
            next: Next::Now(first),
        }
    }

    /// Waits for nothing more, and gives back the turn that may be there.
    pub fn stop(&mut self) {
        self.next = Next::Ask;
    }

    /// A turn; the task is woken when there is one.
    pub fn poll_turn(&mut self, context: &Context<'_>) -> Poll<Turn<K>> {
        let seat = match mem::replace(&mut self.next, Next::Ask) {
            Next::Now(turn) => return Poll::Ready(turn),
            Next::Given(seat) => seat,
            Next::Ask => match self.gate.take() {
                Some(turn) => return Poll::Ready(turn),
                None => self.sit_down(),
            },
        };
        if let Some(turn) = seat.take(context.waker()) {
            return Poll::Ready(turn);
        }
        self.next = Next::Given(seat);
        Poll::Pending
    }

    fn sit_down(&self) -> Arc<Seat<K>> {
        let seat = Arc::new(Seat(Mutex::new((None, None))));
        // Whoever has gone meanwhile takes no turn.
        let waiting = Arc::downgrade(&seat);
        self.gate.wait(self.key, move |turn| {
            if let Some(seat) = waiting.upgrade() {
                seat.give(turn);
            }
        });
        seat
    }
}

impl<K: Key> Seat<K> {
    fn give(&self, turn: Turn<K>) {
        let waker = {
            let mut seat = self.lock();
            seat.0 = Some(turn);
            seat.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn take(&self, waker: &Waker) -> Option<Turn<K>> {
        let mut seat = self.lock();
        if seat.0.is_none() {
            seat.1 = Some(waker.clone());
        }
        seat.0.take()
    }

    fn lock(&self) -> MutexGuard<'_, (Option<Turn<K>>, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
