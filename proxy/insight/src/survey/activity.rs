//! Requests of the last hour and day, by whose side their failure is on.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::is_within;
use crate::{
    reader::Line,
    record::{Entry, Outcome},
    triage::{Blame, blame_of},
};

/// The hours of a day.
pub const HOURS: usize = 24;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Requests of the last day.
#[derive(Debug)]
pub struct Activity {
    now: Timestamp,
    /// The last hour.
    pub hour: Tally,
    /// The last 24 hours.
    pub day: Tally,
    /// The last 24 hours, the oldest first.
    pub hours: [Hour; HOURS],
}

/// What became of some requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub requests: u64,
    /// Those that went through.
    pub went_through: u64,
    /// Those that did not, by whose side that is on.
    pub blamed: BTreeMap<Blame, u64>,
}

/// One hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hour {
    /// Requests that went through.
    pub went_through: u64,
    /// Requests that did not.
    pub failed: u64,
}

impl Activity {
    pub(super) fn until(now: Timestamp) -> Self {
        Self {
            now,
            hour: Tally::default(),
            day: Tally::default(),
            hours: [Hour::default(); HOURS],
        }
    }

    pub(super) fn see(&mut self, line: &Line<'_>) {
        match &line.entry {
            Entry::Decision(decision) => {
                let blame = match decision.outcome {
                    Outcome::Permitted | Outcome::Tunnelled => None,
                    Outcome::Refused | Outcome::Failed | Outcome::Other => {
                        Some(blame_of(&decision.reason))
                    }
                };
                self.add(decision.time, blame, 1);
            }
            // Refusals without a record of their own.
            Entry::Summary(summary) => {
                for one in &summary.reasons {
                    self.add(summary.last, Some(blame_of(&one.reason)), one.count);
                }
            }
            Entry::Event(_) | Entry::Dropped(_) | Entry::Shed(_) => {}
        }
    }

    fn add(&mut self, at: Timestamp, blame: Option<Blame>, count: u64) {
        if !is_within(at, self.now, DAY) {
            return;
        }
        self.day.add(blame, count);
        if is_within(at, self.now, HOUR) {
            self.hour.add(blame, count);
        }
        let ago = self.now.duration_since(at).as_hours();
        let ago = usize::try_from(ago).unwrap_or_default();
        if let Some(hour) = self.hours.iter_mut().rev().nth(ago) {
            match blame {
                None => hour.went_through += count,
                Some(_) => hour.failed += count,
            }
        }
    }
}

impl Tally {
    /// Those that did not go through.
    pub fn failed(&self) -> u64 {
        self.requests - self.went_through
    }

    fn add(&mut self, blame: Option<Blame>, count: u64) {
        self.requests += count;
        match blame {
            None => self.went_through += count,
            Some(blame) => *self.blamed.entry(blame).or_default() += count,
        }
    }
}
