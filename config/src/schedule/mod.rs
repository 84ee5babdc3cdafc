//! Recurring windows of time in a time zone, correct across daylight saving changes.
//!
//! A window opens when a cron expression fires on the zone's wall clock, and stays open for a length of
//! elapsed time: 45 minutes are 45 minutes, even in the night when the clock changes. It fires when
//! Kubernetes would start a `CronJob` with this `schedule` and `timeZone`. So a time of day that the change to
//! summer time skips does not fire on that day, and one that the change back repeats fires twice.

mod cron;
mod memo;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

pub use cron::{CronError, FieldProblem};

use cron::Cron;
use memo::{Memo, Span};

/// The longest window.
const MAX_DURATION: Duration = Duration::from_hours(31 * 24);

/// A window of a length that opens whenever a cron expression fires in a time zone. Cheap to
/// clone; clones share what they remember.
#[derive(Debug, Clone)]
pub struct Schedule(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cron: Cron,
    /// As written, but for spaces.
    written: String,
    zone: TimeZone,
    zone_name: String,
    duration: SignedDuration,
    memo: Memo,
}

/// Why a schedule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The cron expression does not parse.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// No such time zone.
    #[error("no such time zone")]
    TimeZone,
    /// The time zone has another spelling; Kubernetes distinguishes capitals.
    #[error("the time zone is spelled `{0}`")]
    Spelling(String),
    /// The expression never fires, for example on 31 February.
    #[error("it never opens")]
    Never,
    /// The window is empty, longer than 31 days or no whole number of seconds.
    #[error("the duration must be whole seconds, more than 0 and at most 31 days")]
    Duration,
}

impl Schedule {
    /// Parses the cron expression, as Kubernetes reads it, and the IANA zone name.
    pub fn parse(cron: &str, duration: Duration, time_zone: &str) -> Result<Self, ScheduleError> {
        if duration.is_zero() || duration > MAX_DURATION || duration.subsec_nanos() != 0 {
            return Err(ScheduleError::Duration);
        }
        let parsed = Cron::parse(cron)?;
        let zone = zone(time_zone)?;
        let schedule = Self(Arc::new(Inner {
            cron: parsed,
            written: cron.split_whitespace().collect::<Vec<_>>().join(" "),
            zone,
            zone_name: time_zone.to_owned(),
            duration: SignedDuration::try_from(duration).map_err(|_| ScheduleError::Duration)?,
            memo: Memo::default(),
        }));
        match schedule.next_open(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never),
        }
    }

    /// Whether a window is open: from the moment it fires (inclusive) for `duration` (exclusive).
    pub fn is_open(&self, at: Timestamp) -> bool {
        let Inner { duration, memo, .. } = &*self.0;
        if let Some(open) = memo.recall(at.as_second()) {
            return open;
        }
        // One search: a window is open now if one fired within the last `duration`.
        let now = at.as_second();
        let Some(earliest) = at.checked_sub(*duration).ok() else {
            return false;
        };
        let Some(fires) = self.next_open(earliest) else {
            return false;
        };
        let fires = fires.as_second();
        let span = if fires <= now {
            Span {
                open: true,
                from: fires,
                until: fires.saturating_add(duration.as_secs()),
            }
        } else {
            Span {
                open: false,
                from: now,
                until: fires,
            }
        };
        memo.keep(span);
        span.open
    }

    /// When the window that is open at `at` closes; `None` if none is open. If windows overlap this is
    /// the end of the earliest, and the schedule stays open.
    pub fn closes(&self, at: Timestamp) -> Option<Timestamp> {
        let fires = self.next_open(at.checked_sub(self.0.duration).ok()?)?;
        let open = fires.as_second() <= at.as_second();
        open.then(|| fires.checked_add(self.0.duration).unwrap_or(Timestamp::MAX))
    }

    /// When the next window opens after `at`; `None` if there is none within forty years.
    pub fn next_open(&self, at: Timestamp) -> Option<Timestamp> {
        self.0.cron.next(at, &self.0.zone)
    }

    /// How long each window stays open.
    pub fn duration(&self) -> SignedDuration {
        self.0.duration
    }

    /// Whether each window opens before the one before it closes, every day.
    pub(crate) fn never_closes(&self) -> bool {
        let pause = self.0.cron.longest_pause();
        pause.is_some_and(|minutes| SignedDuration::from_mins(minutes) <= self.0.duration)
    }

    /// The moment on the schedule's wall clock.
    pub fn in_zone(&self, at: Timestamp) -> Zoned {
        at.to_zoned(self.0.zone.clone())
    }
}

/// The zone with exactly this name.
fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let zone = TimeZone::get(name).map_err(|_| ScheduleError::TimeZone)?;
    match zone.iana_name() {
        Some(spelled) if spelled == name => Ok(zone),
        Some(spelled) if spelled.eq_ignore_ascii_case(name) => {
            Err(ScheduleError::Spelling(spelled.to_owned()))
        }
        Some(_) | None => Err(ScheduleError::TimeZone),
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            written,
            zone_name,
            duration,
            ..
        } = &*self.0;
        write!(f, "`{written}` for {duration:#} in {zone_name}")
    }
}
