//! Recurring windows of time in a time zone, right across daylight saving changes.

use std::time::Duration;

use jiff::Timestamp;

/// A window of a length that opens whenever a cron expression fires in a time zone.
#[derive(Debug, Clone)]
pub struct Schedule(());

/// Why a schedule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The cron expression does not parse.
    #[error("not a cron expression (minute hour day month weekday): {0}")]
    Cron(String),
    /// No such time zone.
    #[error("no such time zone")]
    TimeZone,
    /// The expression never fires, for example on 31 February.
    #[error("it never opens")]
    Never,
    /// The window is empty or longer than 31 days.
    #[error("the duration must be more than 0 and at most 31 days")]
    Duration,
}

impl Schedule {
    /// Parses the five-field cron expression and the IANA zone name.
    pub fn parse(
        _cron: &str,
        _duration: Duration,
        _time_zone: &str,
    ) -> Result<Self, ScheduleError> {
        unimplemented!()
    }

    /// Whether a window is open: from the moment it fires (inclusive) for `duration`.
    pub fn is_open(&self, _at: Timestamp) -> bool {
        unimplemented!()
    }

    /// When the next window opens after `at`.
    pub fn next_open(&self, _at: Timestamp) -> Option<Timestamp> {
        unimplemented!()
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        unimplemented!()
    }
}
