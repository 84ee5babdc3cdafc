//! Days by which somebody must have done something. A warning comes ahead: what expires at night is found at
//! six in the morning.

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::yaml::{Findings, Location};

/// How many days ahead a warning comes.
const AHEAD: i32 = 30;

/// What has to be done by a day, and the codes of its findings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    /// The code from this many days ahead on.
    pub(super) due: &'static str,
    /// The code once the day has passed.
    pub(super) overdue: &'static str,
    pub(super) remedy: &'static str,
}

impl Deadline {
    pub(super) const ROTATION: Self = Self {
        due: "rotation-due",
        overdue: "rotation-overdue",
        remedy: "replace the secret, and write the day when it is due next",
    };
    pub(super) const REVIEW: Self = Self {
        due: "review-due",
        overdue: "review-overdue",
        remedy: "ask the owner whether the access is still needed, and write the day of the next review",
    };

    /// Warns if the day has passed or is near; the day itself still counts.
    pub(super) fn check(
        self,
        day: Date,
        now: Timestamp,
        location: &Location<'_>,
        findings: &Findings,
    ) {
        let today = now.to_zoned(TimeZone::UTC).date();
        let left = days_between(today, day);
        let (code, message) = match left {
            ..0 => (self.overdue, "this day has passed".to_owned()),
            0 => (self.due, "this day is today".to_owned()),
            1 => (self.due, "this day is tomorrow".to_owned()),
            2..=AHEAD => (self.due, format!("this day is in {left} days")),
            _ => return,
        };
        findings.warning(location, code, message, self.remedy);
    }
}

fn days_between(from: Date, to: Date) -> i32 {
    from.until(to).map_or(i32::MAX, |span| span.get_days())
}
