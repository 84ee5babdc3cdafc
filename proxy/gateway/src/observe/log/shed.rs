//! Connections that were closed in favour of others. There may be thousands per second, so each is only
//! counted, and the writer reports totals.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use countersign_core::metrics::Class;
use jiff::Timestamp;
use tokio::time::Instant;

use super::top::Top;

/// How often they are reported.
const EVERY: Duration = Duration::from_secs(10);

/// The most sources that a line names.
const NAMED: usize = 8;

/// Those not yet reported.
#[derive(Debug, Default)]
pub(super) struct ShedConnections(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    told: Option<Instant>,
    /// One per class that has any.
    tallies: Vec<Tally>,
}

/// The content of one line.
#[derive(Debug)]
pub(in crate::observe) struct Tally {
    pub(in crate::observe) class: Class,
    pub(in crate::observe) first: Timestamp,
    pub(in crate::observe) last: Timestamp,
    pub(in crate::observe) count: u64,
    /// As many as there are reasons to close a connection.
    pub(in crate::observe) reasons: Vec<(&'static str, u64)>,
    pub(in crate::observe) sources: Top<IpAddr, NAMED>,
}

impl ShedConnections {
    /// Counts one from this address, or for IPv6 from its network.
    pub(super) fn add(&self, class: Class, source: IpAddr, why: &'static str, now: Timestamp) {
        let mut counted = self.counted();
        let tallies = &mut counted.tallies;
        let known = tallies.iter().position(|tally| tally.class == class);
        let index = known.unwrap_or_else(|| {
            tallies.push(Tally::new(class, now));
            tallies.len() - 1
        });
        tallies[index].add(source, why, now);
    }

    /// Those to report now.
    pub(super) fn due(&self, now: Instant) -> Vec<Tally> {
        let mut counted = self.counted();
        let told = *counted.told.get_or_insert(now);
        if counted.tallies.is_empty() || now.duration_since(told) < EVERY {
            return Vec::new();
        }
        counted.told = Some(now);
        std::mem::take(&mut counted.tallies)
    }

    /// All those not yet reported.
    pub(super) fn end(&self) -> Vec<Tally> {
        std::mem::take(&mut self.counted().tallies)
    }

    /// What is guarded is whole after each statement, so a panic elsewhere spoils nothing.
    fn counted(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn new(class: Class, now: Timestamp) -> Self {
        Self {
            class,
            first: now,
            last: now,
            count: 0,
            reasons: Vec::new(),
            sources: Top::default(),
        }
    }

    fn add(&mut self, source: IpAddr, why: &'static str, now: Timestamp) {
        self.count += 1;
        self.last = self.last.max(now);
        match self.reasons.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, count)) => *count += 1,
            None => self.reasons.push((why, 1)),
        }
        self.sources.add(&source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[tokio::test(start_paused = true)]
    async fn any_number_from_anywhere_is_told_in_one_line_for_each_class() {
        let shed = ShedConnections::default();
        let moment = |second| Timestamp::from_second(second).unwrap();
        assert!(shed.due(Instant::now()).is_empty());
        for number in 0..30_000_u32 {
            let other = IpAddr::from(number.to_be_bytes());
            let second = i64::from(number);
            shed.add(Class::Unidentified, FLOOD, "source_full", moment(second));
            shed.add(Class::Unidentified, other, "listener_full", moment(second));
        }
        shed.add(Class::Identified, FLOOD, "share_exceeded", moment(1));
        assert!(shed.due(Instant::now()).is_empty());
        tokio::time::advance(EVERY).await;
        let told = shed.due(Instant::now());
        let [strangers, proven] = told.as_slice() else {
            panic!("{told:?}")
        };
        assert_eq!(strangers.count, 60_000);
        assert_eq!(
            (strangers.first, strangers.last),
            (moment(0), moment(29_999))
        );
        assert_eq!(
            strangers.reasons,
            [("source_full", 30_000), ("listener_full", 30_000)]
        );
        assert!(strangers.sources.named().count() <= NAMED);
        assert!(
            strangers
                .sources
                .named()
                .any(|(source, _)| *source == FLOOD)
        );
        assert_eq!((proven.class, proven.count), (Class::Identified, 1));
        // The next window begins with nothing.
        tokio::time::advance(EVERY).await;
        assert!(shed.due(Instant::now()).is_empty() && shed.end().is_empty());
    }
}
