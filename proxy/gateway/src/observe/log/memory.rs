//! A log in memory, for tests.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;

use super::{super::closed::Closed, document, event::Event};

/// The records of a [`DecisionLog::memory`](super::DecisionLog::memory), parsed from the very
/// lines that a file would hold. Clones share the records, and each has its own place in
/// [`MemoryLog::next`].
#[derive(Debug, Clone, Default)]
pub struct MemoryLog {
    shared: Arc<Shared>,
    read: usize,
}

#[derive(Debug, Default)]
struct Shared {
    records: Mutex<Vec<Value>>,
    events: Mutex<Vec<Value>>,
    more: Notify,
}

impl MemoryLog {
    /// All records so far.
    pub fn all(&self) -> Vec<Value> {
        self.records().clone()
    }

    /// What happened to the gateway itself so far.
    pub fn events(&self) -> Vec<Value> {
        let events = &self.shared.events;
        events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The next record that this clone has not given out yet; waits for it, without a bound.
    pub async fn next(&mut self) -> Value {
        loop {
            let more = Arc::clone(&self.shared);
            let more = more.more.notified();
            if let Some(record) = self.unread() {
                return record;
            }
            more.await;
        }
    }

    fn unread(&mut self) -> Option<Value> {
        let record = self.records().get(self.read).cloned()?;
        self.read += 1;
        Some(record)
    }

    /// Keeps a record, and returns its line.
    pub(super) fn push(&self, closed: &Closed) -> Vec<u8> {
        let mut line = Vec::new();
        document::write_line(closed, &mut line);
        let record = serde_json::from_slice(&line).expect("a record is JSON");
        self.records().push(record);
        self.shared.more.notify_waiters();
        line
    }

    /// Keeps an event, and returns its line.
    pub(super) fn push_event(&self, event: &Event) -> Vec<u8> {
        let mut line = Vec::new();
        event.write(&mut line);
        let event = serde_json::from_slice(&line).expect("an event is JSON");
        let events = &self.shared.events;
        events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event);
        line
    }

    fn records(&self) -> std::sync::MutexGuard<'_, Vec<Value>> {
        self.shared
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
