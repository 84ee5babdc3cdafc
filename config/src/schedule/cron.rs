//! Cron expressions as Kubernetes reads them in a CronJob's `schedule`: with `ParseStandard` of
//! <https://github.com/robfig/cron> v3. Other parsers differ in when one of day and weekday is enough,
//! in `7` for Sunday, in `N/step` and in what the clock's changes do.
//!
//! `tests/cron/table.tsv` has what Kubernetes' parser says; the tests compare.

use jiff::{Timestamp, civil::Date, tz::Offset, tz::TimeZone};

/// Five fields: an expression fires at every minute whose local time matches all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether one of `days` and `weekdays` is a star; otherwise a day needs to match only one of them.
    both_days: bool,
}

/// Why Kubernetes refuses an expression, or why it cannot be followed here; with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields.
    #[error(
        "a schedule has five fields (minute, hour, day of month, month, day of week), this has {0}"
    )]
    Fields(usize),
    /// `TZ=` or `CRON_TZ=`, which Kubernetes refuses too.
    #[error("the time zone does not belong in the expression")]
    Zone,
    /// `@every 1h`: counts from the last run, not from the clock.
    #[error("`@every` counts from the CronJob's last run, which is not known here")]
    Every,
    /// `@` and something that is not known.
    #[error("this is not one of the short forms")]
    ShortForm,
    /// A field that cannot be read.
    #[error("the field for the {field} cannot be read: {problem}")]
    Field {
        /// Which one, in words.
        field: &'static str,
        /// What is wrong with it.
        problem: FieldProblem,
    },
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldProblem {
    /// Neither a number nor a name.
    #[error("it has something that is neither a number nor a name with three letters")]
    Value,
    /// A number outside of what the field can be.
    #[error("a number is not between {least} and {most}")]
    Range {
        /// The smallest value.
        least: u8,
        /// The largest value.
        most: u8,
    },
    /// `5-1`.
    #[error("a range ends before it begins")]
    Backwards,
    /// `1-2-3` or `1/2/3`.
    #[error("a range has too many parts")]
    Parts,
    /// `*/0`.
    #[error("a step is not a number above zero")]
    Step,
}

impl CronError {
    /// What to write instead.
    pub fn remedy(&self) -> String {
        match self {
            Self::Fields(_) => {
                "write five fields, such as `0 6 * * MON-FRI`; there are none for seconds and years"
                    .to_owned()
            }
            Self::Zone => "write the zone under `timeZone`".to_owned(),
            Self::Every => "write the times, such as `0 * * * *` for every hour".to_owned(),
            Self::ShortForm => {
                "write `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly` or `@annually`, or five fields"
                    .to_owned()
            }
            Self::Field { field, problem } => remedy_of_field(field, *problem),
        }
    }
}

fn remedy_of_field(field: &str, problem: FieldProblem) -> String {
    match problem {
        FieldProblem::Range { .. } if field == WEEKDAY.field => {
            "write `0` or `SUN` for Sunday, up to `6` or `SAT`".to_owned()
        }
        FieldProblem::Range { least, most } => format!("write numbers from {least} to {most}"),
        FieldProblem::Backwards => {
            "write two ranges with a comma, such as `FRI-SAT,SUN-MON` or `22-23,0-2`".to_owned()
        }
        FieldProblem::Value | FieldProblem::Parts | FieldProblem::Step => {
            "write numbers, names such as `MON` or `JAN`, ranges `1-5`, steps `*/10` and lists `1,15`; Kubernetes has no `L`, `W`, `#` and `H`"
                .to_owned()
        }
    }
}

/// What a field can be.
struct Bounds {
    field: &'static str,
    least: u8,
    most: u8,
    /// From `least` on.
    names: &'static [&'static str],
}

const MINUTE: Bounds = Bounds {
    field: "minute",
    least: 0,
    most: 59,
    names: &[],
};
const HOUR: Bounds = Bounds {
    field: "hour",
    least: 0,
    most: 23,
    names: &[],
};
const DAY: Bounds = Bounds {
    field: "day of month",
    least: 1,
    most: 31,
    names: &[],
};
const MONTH: Bounds = Bounds {
    field: "month",
    least: 1,
    most: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const WEEKDAY: Bounds = Bounds {
    field: "day of week",
    least: 0,
    most: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// The values of a field, one bit each.
#[derive(Debug, Clone, Copy, Default)]
struct Values {
    bits: u64,
    /// Whether one of its ranges is `*` or `?`, without a step or with a step of one.
    star: bool,
}

/// Within so many seconds every expression that can fire does: 29 February can be eight years away, and a
/// change of the clock may skip a time of day some years in a row.
const HORIZON: i64 = 40 * 366 * DAY_SECONDS;

const DAY_SECONDS: i64 = 24 * 60 * 60;

impl Cron {
    pub(super) fn parse(written: &str) -> Result<Self, CronError> {
        if written.contains("TZ=") {
            return Err(CronError::Zone);
        }
        if written.starts_with('@') {
            return Self::short_form(written);
        }
        let fields: Vec<&str> = written.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(CronError::Fields(fields.len()));
        };
        let (days, weekdays) = (field(day, &DAY)?, field(weekday, &WEEKDAY)?);
        Ok(Self {
            minutes: field(minute, &MINUTE)?.bits,
            hours: field(hour, &HOUR)?.bits,
            days: days.bits,
            months: field(month, &MONTH)?.bits,
            weekdays: weekdays.bits,
            both_days: days.star || weekdays.star,
        })
    }

    fn short_form(written: &str) -> Result<Self, CronError> {
        Self::parse(match written {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * SUN",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other if other.starts_with("@every") => return Err(CronError::Every),
            _ => return Err(CronError::ShortForm),
        })
    }

    /// The first time after `after` at which the zone's wall clock matches. A time of day that a change of
    /// the clock skips does not come, and one that it repeats comes twice.
    pub(super) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut from = after.as_second() + 1;
        let last = from.saturating_add(HORIZON).min(Timestamp::MAX.as_second());
        while from < last {
            let start = Timestamp::from_second(from).ok()?;
            // Until the clock changes, it goes as the time does.
            let offset = i64::from(zone.to_offset(start).seconds());
            let change = zone.following(start).next();
            let end = change.map_or(last, |change| change.timestamp().as_second().min(last));
            if let Some(wall) = self.next_on_wall(from + offset, end + offset) {
                return Timestamp::from_second(wall - offset).ok();
            }
            from = end;
        }
        None
    }

    /// The longest time in minutes from one match to the next, if every day has the same; a change of the
    /// clock does not count.
    pub(super) fn longest_pause(&self) -> Option<i64> {
        let days = self.days == bits(&DAY);
        let weekdays = self.weekdays == bits(&WEEKDAY);
        let every_day = if self.both_days {
            days && weekdays
        } else {
            days || weekdays
        };
        if !every_day || self.months != bits(&MONTH) {
            return None;
        }
        let first = self.next_minute(0)?;
        let (mut last, mut longest) = (first, 0);
        while let Some(next) = self.next_minute(last + 1) {
            longest = longest.max(next - last);
            last = next;
        }
        Some(longest.max(first + 24 * 60 - last))
    }

    /// The first match from `from` (inclusive) to `until` (exclusive), as seconds of a clock that never
    /// changes.
    fn next_on_wall(&self, from: i64, until: i64) -> Option<i64> {
        let minute = from.div_euclid(60) + i64::from(from.rem_euclid(60) > 0);
        let mut day = minute.div_euclid(24 * 60);
        let mut minute = minute.rem_euclid(24 * 60);
        let midnight = Timestamp::from_second(day.checked_mul(DAY_SECONDS)?).ok()?;
        let mut date = Offset::UTC.to_datetime(midnight).date();
        while day * DAY_SECONDS < until {
            let in_month = is_set(self.months, i64::from(date.month()));
            if in_month
                && self.is_on(date)
                && let Some(minute) = self.next_minute(minute)
            {
                let fires = day * DAY_SECONDS + minute * 60;
                return (fires < until).then_some(fires);
            }
            let next = if in_month { date } else { date.last_of_month() };
            day += 1 + i64::from(next.day() - date.day());
            date = next.tomorrow().ok()?;
            minute = 0;
        }
        None
    }

    fn is_on(&self, date: Date) -> bool {
        let day = is_set(self.days, i64::from(date.day()));
        let weekday = i64::from(date.weekday().to_sunday_zero_offset());
        let weekday = is_set(self.weekdays, weekday);
        if self.both_days {
            day && weekday
        } else {
            day || weekday
        }
    }

    /// The first matching minute of a day from this one on.
    fn next_minute(&self, from: i64) -> Option<i64> {
        let first = from / 60;
        (first..24)
            .filter(|hour| is_set(self.hours, *hour))
            .find_map(|hour| {
                let least = if hour == first { from % 60 } else { 0 };
                let rest = self.minutes >> least;
                (rest != 0).then(|| hour * 60 + least + i64::from(rest.trailing_zeros()))
            })
    }
}

/// All values of a field.
fn bits(bounds: &Bounds) -> u64 {
    (bounds.least..=bounds.most).fold(0, |bits, value| bits | 1_u64 << value)
}

fn is_set(bits: u64, bit: i64) -> bool {
    bits >> bit & 1 == 1
}

/// A list of ranges; Kubernetes skips empty ones.
fn field(written: &str, bounds: &Bounds) -> Result<Values, CronError> {
    let mut values = Values::default();
    for part in written.split(',').filter(|part| !part.is_empty()) {
        let more = range(part, bounds).map_err(|problem| CronError::Field {
            field: bounds.field,
            problem,
        })?;
        values.bits |= more.bits;
        values.star |= more.star;
    }
    Ok(values)
}

/// `*`, `N` or `N-M`, perhaps with `/STEP`.
fn range(written: &str, bounds: &Bounds) -> Result<Values, FieldProblem> {
    let (range, step) = match written.split_once('/') {
        None => (written, None),
        Some((_, step)) if step.contains('/') => return Err(FieldProblem::Parts),
        Some((range, step)) => {
            let step = number(step).filter(|step| *step > 0);
            (range, Some(step.ok_or(FieldProblem::Step)?))
        }
    };
    let parts: Vec<&str> = range.split('-').collect();
    let star = matches!(parts[0], "*" | "?");
    let (first, last) = match parts[..] {
        // Kubernetes does not look at what follows a star.
        _ if star => (bounds.least.into(), bounds.most.into()),
        [only] => {
            let first = value(only, bounds)?;
            // `N/STEP` goes to the end.
            let last = step.map_or(first, |_| bounds.most.into());
            (first, last)
        }
        [first, last] => (value(first, bounds)?, value(last, bounds)?),
        _ => return Err(FieldProblem::Parts),
    };
    if first < bounds.least.into() || last > bounds.most.into() {
        return Err(FieldProblem::Range {
            least: bounds.least,
            most: bounds.most,
        });
    }
    if first > last {
        return Err(FieldProblem::Backwards);
    }
    let step = step.unwrap_or(1);
    let within = (first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    Ok(Values {
        bits: within.fold(0, |bits, value| bits | 1_u64 << value),
        star: star && step == 1,
    })
}

fn value(written: &str, bounds: &Bounds) -> Result<u64, FieldProblem> {
    let mut names = bounds.names.iter().zip(u64::from(bounds.least)..);
    names
        .find(|(name, _)| name.eq_ignore_ascii_case(written))
        .map(|(_, value)| value)
        .or_else(|| number(written))
        .ok_or(FieldProblem::Value)
}

/// As Go reads it, into 64 bits with a sign.
fn number(written: &str) -> Option<u64> {
    u64::try_from(written.parse::<i64>().ok()?).ok()
}
