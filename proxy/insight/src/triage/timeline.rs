//! When something happened, in bounded memory and whatever order it is told in.

use jiff::Timestamp;

/// The most stretches that are kept; beyond that they are made twice as long.
const MOST: usize = 1024;

/// Moments, by the hour at first.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    /// How long a stretch is, in milliseconds.
    width: i64,
    /// In order.
    stretches: Vec<Stretch>,
    count: u64,
}

#[derive(Debug, Clone, Copy)]
struct Stretch {
    index: i64,
    first: i64,
    last: i64,
    count: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            width: 3_600_000,
            stretches: Vec::new(),
            count: 0,
        }
    }
}

impl Timeline {
    pub(super) fn add(&mut self, time: Timestamp) {
        let at = time.as_millisecond();
        let index = at.div_euclid(self.width);
        self.count += 1;
        let place = match self.stretches.last() {
            Some(last) if last.index < index => Err(self.stretches.len()),
            Some(last) if last.index == index => Ok(self.stretches.len() - 1),
            _ => self
                .stretches
                .binary_search_by_key(&index, |stretch| stretch.index),
        };
        match place {
            Ok(place) => {
                let stretch = &mut self.stretches[place];
                stretch.first = stretch.first.min(at);
                stretch.last = stretch.last.max(at);
                stretch.count += 1;
            }
            Err(place) => {
                let stretch = Stretch {
                    index,
                    first: at,
                    last: at,
                    count: 1,
                };
                self.stretches.insert(place, stretch);
                if self.stretches.len() > MOST {
                    self.widen();
                }
            }
        }
    }

    fn widen(&mut self) {
        self.width *= 2;
        let width = self.width;
        for stretch in &mut self.stretches {
            stretch.index = stretch.first.div_euclid(width);
        }
        self.stretches.dedup_by(|later, earlier| {
            let same = later.index == earlier.index;
            if same {
                earlier.last = earlier.last.max(later.last);
                earlier.count += later.count;
            }
            same
        });
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn last(&self) -> Option<Timestamp> {
        self.stretches.last().map(|stretch| time(stretch.last))
    }

    /// The last moment before another; within an hour that has moments on both sides, its first one.
    pub(super) fn last_before(&self, time_: Timestamp) -> Option<Timestamp> {
        let at = time_.as_millisecond();
        let stretch = self
            .stretches
            .iter()
            .rev()
            .find(|stretch| stretch.first < at)?;
        let last = if stretch.last < at {
            stretch.last
        } else {
            stretch.first
        };
        Some(time(last))
    }

    /// The first moment after another; within an hour that has moments on both sides, its last one.
    pub(super) fn first_after(&self, time_: Timestamp) -> Option<Timestamp> {
        let at = time_.as_millisecond();
        let from = self.stretches.partition_point(|stretch| stretch.last <= at);
        let stretch = self.stretches.get(from)?;
        let first = if stretch.first > at {
            stretch.first
        } else {
            stretch.last
        };
        Some(time(first))
    }

    /// How many there were from one moment to another, by whole stretches.
    pub(super) fn between(&self, from: Timestamp, to: Timestamp) -> u64 {
        let (from, to) = (from.as_millisecond(), to.as_millisecond());
        let within = self.stretches.iter();
        let within = within.filter(|stretch| stretch.last >= from && stretch.first <= to);
        within.map(|stretch| stretch.count).sum()
    }
}

fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn at(minutes: i64) -> Timestamp {
        let start: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        start + SignedDuration::from_mins(minutes)
    }

    #[test]
    fn the_order_in_which_it_is_told_does_not_matter() {
        let moments = [0, 10, 59, 61, 300, 301, 900];
        let mut forward = Timeline::default();
        let mut backward = Timeline::default();
        for minutes in moments {
            forward.add(at(minutes));
        }
        for minutes in moments.iter().rev() {
            backward.add(at(*minutes));
        }
        for minutes in [-1, 60, 61, 62, 299, 302, 2000] {
            assert_eq!(
                forward.last_before(at(minutes)),
                backward.last_before(at(minutes))
            );
            assert_eq!(
                forward.first_after(at(minutes)),
                backward.first_after(at(minutes))
            );
        }
        assert_eq!(forward.last_before(at(299)), Some(at(61)));
        assert_eq!(forward.first_after(at(61)), Some(at(300)));
        assert_eq!(forward.first_after(at(900)), None);
        assert_eq!(forward.last_before(at(0)), None);
        assert_eq!(forward.last(), Some(at(900)));
    }

    #[test]
    fn years_take_no_more_room_than_a_month() {
        let mut timeline = Timeline::default();
        for hour in 0..20_000 {
            timeline.add(at(hour * 60));
        }
        assert!(timeline.stretches.len() <= MOST);
        assert_eq!(timeline.count(), 20_000);
        assert_eq!(timeline.between(at(0), at(20_000 * 60)), 20_000);
        assert_eq!(timeline.last(), Some(at(19_999 * 60)));
    }
}
