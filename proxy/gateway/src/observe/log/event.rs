//! What happened to the gateway itself: a line each, so that a gap between records is explained.

use std::sync::{Mutex, PoisonError};

use countersign_config::load::Change;
use countersign_core::redact::redact;
use jiff::Timestamp;

use super::super::json::{Object, key};

/// The schema of the line.
const SCHEMA: &str = "countersign.event/v1";

/// The longest text, in bytes.
const TEXT_BYTES: usize = 256;

/// The longest sentence, in bytes.
const DETAIL_BYTES: usize = 4096;

/// The most changes that a line names.
const MOST_CHANGES: usize = 25;

/// The most events that wait to be written; there are few.
const MOST_WAITING: usize = 64;

/// What happened.
#[derive(Debug)]
pub enum Happened {
    /// The gateway is about to serve.
    Started,
    /// Another revision of the resources is in force.
    Reloaded {
        /// The revision before it.
        previous: String,
        /// What differs.
        changes: Vec<Change>,
    },
    /// New resources, or something they need, cannot be used: the old revision stays in force.
    ReloadRejected {
        /// Why.
        detail: String,
    },
    /// Nothing new is accepted any more.
    Draining {
        /// The connections and tunnels that may finish.
        open: usize,
    },
    /// The gateway has ended.
    Stopped {
        /// The connections and tunnels that did not finish in time.
        cut_off: usize,
    },
}

/// An event, and the revision that is in force.
#[derive(Debug)]
pub(in crate::observe) struct Event {
    pub(in crate::observe) time: Timestamp,
    pub(in crate::observe) revision: String,
    pub(in crate::observe) happened: Happened,
}

impl Event {
    /// Whether it comes after all records.
    pub(super) fn is_last(&self) -> bool {
        matches!(self.happened, Happened::Stopped { .. })
    }

    fn name(&self) -> &'static str {
        match self.happened {
            Happened::Started => "started",
            Happened::Reloaded { .. } => "reloaded",
            Happened::ReloadRejected { .. } => "reload_rejected",
            Happened::Draining { .. } => "draining",
            Happened::Stopped { .. } => "stopped",
        }
    }

    /// Appends the line.
    pub(super) fn write(&self, line: &mut Vec<u8>) {
        let mut json = Object::open_within(line, TEXT_BYTES);
        json.text(key!("schema"), SCHEMA);
        json.shown(key!("time"), Some(format_args!("{:.3}", self.time)));
        json.text(key!("event"), self.name());
        json.text(key!("version"), env!("CARGO_PKG_VERSION"));
        json.text(key!("revision"), &*self.revision);
        match &self.happened {
            Happened::Started => {}
            Happened::Reloaded { previous, changes } => {
                json.text(key!("previous_revision"), &**previous);
                let named = changes.iter().take(MOST_CHANGES);
                json.list(key!("changes"), named, |json, change| {
                    json.text(key!("change"), change.what.as_str());
                    json.text(key!("kind"), change.kind.name());
                    json.text(key!("name"), &*change.name);
                });
                json.number(key!("changed"), changes.len() as u64);
            }
            Happened::ReloadRejected { detail } => {
                json.text_within(key!("detail"), &*redact(detail), DETAIL_BYTES);
            }
            Happened::Draining { open } => json.number(key!("open"), *open as u64),
            Happened::Stopped { cut_off } => json.number(key!("cut_off"), *cut_off as u64),
        }
        json.close();
        line.push(b'\n');
    }
}

/// Those that were not written yet.
#[derive(Debug, Default)]
pub(super) struct Events(Mutex<Vec<Event>>);

impl Events {
    pub(super) fn add(&self, event: Event) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST_WAITING {
            waiting.push(event);
        }
    }

    pub(super) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use countersign_config::{load::Changed, resource::Kind};
    use serde_json::Value;

    use super::*;
    use crate::observe::fixture;

    fn line(happened: Happened) -> Value {
        let event = Event {
            time: fixture::clock().now(),
            revision: "bbbb".into(),
            happened,
        };
        let mut line = Vec::new();
        event.write(&mut line);
        assert!(
            line.ends_with(b"\n") && line.len() <= 15 * 1024,
            "{}",
            line.len()
        );
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn a_reload_says_what_changed() {
        let changes = vec![Change {
            what: Changed::Removed,
            kind: Kind::AccessPolicy,
            name: "qa/one".into(),
        }];
        let previous = "aaaa".to_owned();
        assert_eq!(
            line(Happened::Reloaded { previous, changes }),
            serde_json::json!({
                "schema": "countersign.event/v1", "time": "2026-11-23T05:10:03.412Z",
                "event": "reloaded", "version": env!("CARGO_PKG_VERSION"), "revision": "bbbb",
                "previous_revision": "aaaa", "changed": 1,
                "changes": [{"change": "removed", "kind": "AccessPolicy", "name": "qa/one"}],
            })
        );
    }

    #[test]
    fn a_line_is_bounded_however_much_happened() {
        let long = "\u{2028}".repeat(10_000);
        let change = Change {
            what: Changed::Added,
            kind: Kind::AccessPolicy,
            name: long.clone(),
        };
        let changes = vec![change; 1000];
        let told = line(Happened::Reloaded {
            previous: long.clone(),
            changes,
        });
        assert_eq!(told["changed"], 1000);
        assert_eq!(told["changes"].as_array().unwrap().len(), MOST_CHANGES);
        let told = line(Happened::ReloadRejected { detail: long });
        assert!(told["detail"].as_str().unwrap().ends_with("[cut]"));
    }
}
