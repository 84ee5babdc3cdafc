//! Rate limits and failures that a test switches on for the next few requests.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// A 429 to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    /// The value of `Retry-After`, in seconds.
    pub retry_after_secs: u32,
}

/// What is to happen to the next requests, by method or path.
#[derive(Debug)]
pub(crate) struct Upcoming<T>(Mutex<HashMap<String, (usize, T)>>);

impl<T> Default for Upcoming<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Upcoming<T> {
    /// The next `times` requests for `key` meet `what`.
    pub(crate) fn set(&self, key: &str, times: usize, what: T) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(key.to_owned(), (times, what));
    }

    /// What this request meets.
    pub(crate) fn take(&self, key: &str) -> Option<T> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, what) = map.get_mut(key)?;
        *left = left.checked_sub(1)?;
        Some(what.clone())
    }
}
