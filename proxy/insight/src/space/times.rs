//! Classes of moments: which of some conditions on time hold, as intervals on one line.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use countersign_config::{model::Conditions, schedule::Schedule};
use jiff::Timestamp;

use super::Set;

/// From (inclusive) and until (exclusive).
pub(crate) type Interval = (Timestamp, Timestamp);

/// Intervals in their order; they do not touch.
pub(crate) type Intervals = Rc<Vec<Interval>>;

/// What a policy says about time.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) schedule: Option<Schedule>,
    pub(crate) not_after: Option<Timestamp>,
}

/// What makes two windows the same.
type Key = (Option<String>, Option<Timestamp>);

impl Window {
    /// `None` if the conditions say nothing about time.
    pub(crate) fn of(conditions: &Conditions) -> Option<Self> {
        let window = Self {
            schedule: conditions.schedule.clone(),
            not_after: conditions.not_after,
        };
        (window.schedule.is_some() || window.not_after.is_some()).then_some(window)
    }

    pub(crate) fn key(&self) -> Key {
        (
            self.schedule.as_ref().map(ToString::to_string),
            self.not_after,
        )
    }
}

/// Which windows are open, and when exactly that is so.
pub(crate) type TimeClass = (Set, Intervals);

/// The time that is looked at, and what is known about it.
#[derive(Debug)]
pub(crate) struct Timeline {
    from: Timestamp,
    until: Timestamp,
    always: Intervals,
    schedules: RefCell<HashMap<String, Intervals>>,
    classes: RefCell<HashMap<Vec<Key>, Rc<Vec<TimeClass>>>>,
}

impl Timeline {
    pub(crate) fn new(from: Timestamp, until: Timestamp) -> Self {
        Self {
            from,
            until,
            always: Rc::new(vec![(from, until)]),
            schedules: RefCell::default(),
            classes: RefCell::default(),
        }
    }

    pub(crate) fn until(&self) -> Timestamp {
        self.until
    }

    /// Every set of windows that is open at some time, while no others are.
    pub(crate) fn classes(&self, windows: &[Window]) -> Rc<Vec<TimeClass>> {
        let keys: Vec<Key> = windows.iter().map(Window::key).collect();
        if let Some(known) = self.classes.borrow().get(&keys) {
            return Rc::clone(known);
        }
        let classes = Rc::new(self.split(windows));
        let mut known = self.classes.borrow_mut();
        known.insert(keys, Rc::clone(&classes));
        classes
    }

    fn split(&self, windows: &[Window]) -> Vec<TimeClass> {
        if windows.is_empty() {
            return vec![(Set::new(), Rc::clone(&self.always))];
        }
        // When which window opens or closes.
        let mut changes: BTreeMap<Timestamp, Vec<(u32, bool)>> = BTreeMap::new();
        for (number, window) in (0_u32..).zip(windows) {
            for (opens, closes) in self.open(window) {
                changes.entry(opens).or_default().push((number, true));
                changes.entry(closes).or_default().push((number, false));
            }
        }
        let mut is_open = vec![false; windows.len()];
        let mut found: BTreeMap<Set, Vec<Interval>> = BTreeMap::new();
        let mut since = self.from;
        let mut close = |from: Timestamp, until: Timestamp, is_open: &[bool]| {
            if from < until {
                let open = (0_u32..).zip(is_open).filter(|(_, open)| **open);
                let intervals = found
                    .entry(open.map(|(number, _)| number).collect())
                    .or_default();
                intervals.push((from, until));
            }
        };
        for (at, changed) in changes {
            close(since, at, &is_open);
            since = at;
            for (number, open) in changed {
                is_open[number as usize] = open;
            }
        }
        close(since, self.until, &is_open);
        found
            .into_iter()
            .map(|(set, intervals)| (set, Rc::new(intervals)))
            .collect()
    }

    /// When a window is open.
    fn open(&self, window: &Window) -> Vec<Interval> {
        let end = window
            .not_after
            .map_or(self.until, |end| end.min(self.until));
        let intervals = match &window.schedule {
            Some(schedule) => self.schedule(schedule),
            None => Rc::clone(&self.always),
        };
        let cut = intervals
            .iter()
            .map(|(opens, closes)| (*opens, (*closes).min(end)));
        cut.filter(|(opens, closes)| opens < closes).collect()
    }

    fn schedule(&self, schedule: &Schedule) -> Intervals {
        let mut known = self.schedules.borrow_mut();
        let open = known
            .entry(schedule.to_string())
            .or_insert_with(|| Rc::new(openings(schedule, self.from, self.until)));
        Rc::clone(open)
    }
}

/// When a schedule is open between two moments.
fn openings(schedule: &Schedule, from: Timestamp, until: Timestamp) -> Vec<Interval> {
    let duration = schedule.duration();
    let mut intervals: Vec<Interval> = Vec::new();
    // A window that is open already opened within its length.
    let mut at = from.checked_sub(duration).unwrap_or(Timestamp::MIN);
    while let Some(opens) = schedule.next_open(at) {
        if opens >= until {
            break;
        }
        let closes = opens
            .checked_add(duration)
            .unwrap_or(Timestamp::MAX)
            .min(until);
        match intervals.last_mut() {
            Some(last) if last.1 >= opens => last.1 = closes,
            _ if closes > from => intervals.push((opens.max(from), closes)),
            _ => {}
        }
        at = opens;
    }
    intervals
}

/// Whether a moment is in one of the intervals.
pub(crate) fn contains(intervals: &[Interval], at: Timestamp) -> bool {
    let before = intervals.partition_point(|(from, _)| *from <= at);
    before > 0 && at < intervals[before - 1].1
}

/// All moments of several sets of intervals.
pub(crate) fn union<'i>(sets: impl Iterator<Item = &'i Intervals>) -> Vec<Interval> {
    let mut all: Vec<Interval> = sets.flat_map(|set| set.iter().copied()).collect();
    all.sort_unstable();
    let mut merged: Vec<Interval> = Vec::new();
    for (from, until) in all {
        match merged.last_mut() {
            Some(last) if last.1 >= from => last.1 = last.1.max(until),
            _ => merged.push((from, until)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    fn window(cron: &str, minutes: u64, zone: &str) -> Window {
        let schedule = Schedule::parse(cron, Duration::from_mins(minutes), zone);
        Window {
            schedule: Some(schedule.expect("a schedule")),
            not_after: None,
        }
    }

    #[test]
    fn windows_in_two_time_zones_differ_when_only_one_changes_its_clock() {
        // New York and Berlin are six hours apart, and five for some weeks of the year.
        let windows = [
            window("0 12 * * *", 60, "Europe/Berlin"),
            window("0 6 * * *", 60, "America/New_York"),
        ];
        let line = Timeline::new(at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
        let classes = line.classes(&windows);
        let days = |set: &[u32]| {
            let found = classes.iter().find(|(known, _)| known == set);
            found.map_or(0, |(_, intervals)| intervals.len())
        };
        // In 2026, from 8 to 29 March and from 25 October to 1 November: 21 and 7 days.
        assert_eq!((days(&[0, 1]), days(&[0]), days(&[1])), (365 - 28, 28, 28));
    }

    #[test]
    fn each_moment_is_in_the_class_that_the_schedules_say() {
        let mut windows = vec![
            window("*/7 1-4 * * SUN", 5, "Europe/Berlin"),
            window("30 2 * 3,10 *", 90, "Europe/Berlin"),
            window("0 22 28 * *", 1440 * 5, "America/New_York"),
        ];
        windows[1].not_after = Some(at("2026-10-25T01:10:00.5Z"));
        let (from, until) = (at("2026-02-25T00:00:00Z"), at("2026-11-05T00:00:00Z"));
        let line = Timeline::new(from, until);
        let classes = line.classes(&windows);
        let mut now = from;
        while now < until {
            let open = (0_u32..).zip(&windows).filter(|(_, window)| {
                window
                    .schedule
                    .as_ref()
                    .is_none_or(|schedule| schedule.is_open(now))
                    && window.not_after.is_none_or(|end| now < end)
            });
            let open: Set = open.map(|(number, _)| number).collect();
            let said: Vec<_> = classes
                .iter()
                .filter(|(_, when)| contains(when, now))
                .collect();
            assert_eq!(said.len(), 1, "{now}");
            assert_eq!(said[0].0, open, "{now}");
            now += jiff::SignedDuration::from_secs(61);
        }
    }
}
