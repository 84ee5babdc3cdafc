//! Summaries: refusals beyond a rate become one line.
//!
//! Forwarded requests are always written. A refusal is written too, unless its caller gets the same one all
//! the time; further ones within ten seconds are counted and reported in one line at the end.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use countersign_config::model::Workload;
use countersign_core::{destination::Authority, metrics::Class};
use foldhash::fast::RandomState;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    super::closed::Closed,
    class::{class_of, was_forwarded},
    top::Top,
};

/// The window of the bounds below.
const WINDOW: Duration = Duration::from_secs(10);

/// Written refusals for one reason, of one workload or of all unidentified callers.
const OF_ONE_REASON: u32 = 200;

/// Written refusals of one unidentified caller's address.
const OF_ONE_SOURCE: u32 = 50;

/// Workloads that have a summary of their own; the rest of a window shares one.
const CALLERS: usize = 1024;

/// Addresses of unidentified callers that are counted separately; the rest of a window counts as one.
const SOURCES: usize = 4096;

/// Addresses and targets that a line names.
const NAMED: usize = 8;

/// The refusals of the current window.
#[derive(Debug)]
pub(super) struct Digest {
    began: Instant,
    hasher: RandomState,
    /// By the hash of whom they concern.
    tallies: HashMap<u64, Summary>,
    sources: HashMap<IpAddr, u32>,
    /// What the sources without a place of their own have written.
    other_sources: u32,
}

/// Refusals of one workload, or of all unidentified callers.
#[derive(Debug)]
pub(in crate::observe) struct Summary {
    pub(in crate::observe) class: Class,
    pub(in crate::observe) workload: Option<Arc<Workload>>,
    pub(in crate::observe) subject: Option<Arc<str>>,
    pub(in crate::observe) first: Timestamp,
    pub(in crate::observe) last: Timestamp,
    /// Those without a record of their own.
    pub(in crate::observe) count: u64,
    pub(in crate::observe) reasons: Vec<ReasonCount>,
    pub(in crate::observe) sources: Top<IpAddr, NAMED>,
    pub(in crate::observe) targets: Top<Authority, NAMED>,
}

/// As many as there are reasons.
#[derive(Debug)]
pub(in crate::observe) struct ReasonCount {
    pub(in crate::observe) reason: &'static str,
    pub(in crate::observe) count: u64,
    written: u32,
}

impl Digest {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            hasher: RandomState::default(),
            tallies: HashMap::new(),
            sources: HashMap::new(),
            other_sources: 0,
        }
    }

    /// Whether a record is written; otherwise it is counted in a summary.
    pub(super) fn admits(&mut self, closed: &Closed) -> bool {
        if was_forwarded(closed) {
            return true;
        }
        let class = class_of(closed);
        let source = class == Class::Identified || self.source_admits(closed);
        let tally = self.tally(class, closed);
        let reason = tally.reason(closed.outcome.reason());
        if source && reason.written < OF_ONE_REASON {
            reason.written += 1;
            return true;
        }
        reason.count += 1;
        tally.add(closed);
        false
    }

    fn source_admits(&mut self, closed: &Closed) -> bool {
        let Some(address) = closed.entry.client.map(|client| client.ip()) else {
            return true;
        };
        let written = if self.sources.len() < SOURCES || self.sources.contains_key(&address) {
            self.sources.entry(address).or_default()
        } else {
            &mut self.other_sources
        };
        *written += 1;
        *written <= OF_ONE_SOURCE
    }

    fn tally(&mut self, class: Class, closed: &Closed) -> &mut Summary {
        let entry = &closed.entry;
        let subject = || entry.caller.as_ref()?.subject.clone();
        let mut whom = match (class, &entry.workload) {
            (Class::Unidentified, _) => self.hasher.hash_one(class),
            (Class::Identified, Some(workload)) => self.hash(class, workload.name.as_str()),
            (Class::Identified, None) => self.hash(class, subject()),
        };
        let mut known = true;
        if self.tallies.len() >= CALLERS && !self.tallies.contains_key(&whom) {
            whom = self.hash(class, "others");
            known = false;
        }
        self.tallies.entry(whom).or_insert_with(|| Summary {
            class,
            workload: entry.workload.clone().filter(|_| known),
            subject: subject().filter(|_| known && entry.workload.is_none()),
            first: closed.time,
            last: closed.time,
            count: 0,
            reasons: Vec::new(),
            sources: Top::default(),
            targets: Top::default(),
        })
    }

    fn hash(&self, class: Class, whom: impl Hash) -> u64 {
        self.hasher.hash_one((class, whom))
    }

    /// The summaries of the window, if it is over by `now`.
    pub(super) fn over(&mut self, now: Instant) -> Vec<Summary> {
        if now.duration_since(self.began) < WINDOW {
            return Vec::new();
        }
        self.began = now;
        self.end()
    }

    /// The summaries of the window so far.
    pub(super) fn end(&mut self) -> Vec<Summary> {
        self.sources.clear();
        self.other_sources = 0;
        let ended = self.tallies.drain().map(|(_, summary)| summary);
        ended.filter(|summary| summary.count > 0).collect()
    }
}

impl Summary {
    fn reason(&mut self, reason: &'static str) -> &mut ReasonCount {
        let known = self.reasons.iter().position(|known| known.reason == reason);
        let index = known.unwrap_or_else(|| {
            self.reasons.push(ReasonCount {
                reason,
                count: 0,
                written: 0,
            });
            self.reasons.len() - 1
        });
        &mut self.reasons[index]
    }

    fn add(&mut self, closed: &Closed) {
        if self.count == 0 {
            self.first = closed.time;
        }
        self.count += 1;
        self.first = self.first.min(closed.time);
        self.last = self.last.max(closed.time);
        if let Some(client) = closed.entry.client {
            self.sources.add(&client.ip());
        }
        if let Some(target) = &closed.entry.target {
            self.targets.add(&target.authority);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Outcome, UpstreamPart, fixture};

    const STRANGER: Outcome = Outcome::Refused {
        reason: "identity_missing",
        blame: "caller",
    };

    const DENIED: Outcome = Outcome::Refused {
        reason: "request_not_allowed",
        blame: "operator",
    };

    const BROKEN: Outcome = Outcome::Failed {
        reason: "upstream_reset",
        blame: "upstream",
    };

    fn stranger(address: [u8; 4]) -> Box<Closed> {
        let (recorder, _) = fixture::recorder();
        let mut record = recorder.open();
        record.client = Some((address, 1).into());
        record.take_closed(STRANGER)
    }

    fn of(subject: &str, outcome: Outcome) -> Box<Closed> {
        let (recorder, _) = fixture::recorder();
        let mut record = recorder.open();
        record.caller = Some(fixture::caller(subject));
        record.take_closed(outcome)
    }

    fn digest() -> Digest {
        Digest::new(Instant::now())
    }

    /// How many of `count` such records are written.
    fn written(digest: &mut Digest, count: u64, closed: &Closed) -> u64 {
        (0..count).map(|_| u64::from(digest.admits(closed))).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn a_strangers_flood_becomes_one_line() {
        let mut digest = digest();
        let flood = written(&mut digest, 60_000, &stranger([10, 0, 0, 1]));
        assert_eq!(flood, u64::from(OF_ONE_SOURCE));
        // Another one is heard all the same.
        assert_eq!(written(&mut digest, 1, &stranger([10, 0, 0, 2])), 1);
        assert!(digest.over(Instant::now()).is_empty());
        tokio::time::advance(WINDOW).await;
        let summaries = digest.over(Instant::now());
        assert_eq!(summaries.len(), 1);
        assert_eq!(summaries[0].count, 60_000 - flood);
        assert_eq!(summaries[0].reasons[0].reason, "identity_missing");
        assert_eq!(summaries[0].reasons[0].count, 60_000 - flood);
        let sources: Vec<_> = summaries[0].sources.named().collect();
        assert_eq!(sources, [(&IpAddr::from([10, 0, 0, 1]), 60_000 - flood)]);
        // A new window starts anew.
        assert_eq!(written(&mut digest, 1, &stranger([10, 0, 0, 1])), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_from_everywhere_are_bounded_in_all() {
        let mut digest = digest();
        let mut closed = stranger([10, 0, 0, 0]);
        let mut flood = 0;
        for number in 0..100_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            closed.entry.client = Some(([10, a, b, c], 1).into());
            flood += written(&mut digest, 1, &closed);
        }
        assert_eq!(flood, u64::from(OF_ONE_REASON));
        assert!(digest.sources.len() <= SOURCES);
        let summaries = digest.end();
        assert_eq!(summaries.len(), 1);
        assert_eq!(summaries[0].count, 100_000 - flood);
        assert!(summaries[0].sources.named().count() <= NAMED);
    }

    #[tokio::test(start_paused = true)]
    async fn workloads_are_told_apart_and_what_was_forwarded_is_always_written() {
        let mut digest = digest();
        let refused = written(&mut digest, 5000, &of("one", DENIED));
        assert_eq!(refused, u64::from(OF_ONE_REASON));
        assert_eq!(written(&mut digest, 50, &of("other", DENIED)), 50);
        let forwarded = written(&mut digest, 5000, &of("one", Outcome::Permitted));
        assert_eq!(forwarded, 5000);
        let mut broken = of("one", BROKEN);
        assert_eq!(
            written(&mut digest, 5000, &broken),
            u64::from(OF_ONE_REASON)
        );
        broken.entry.upstream = Some(UpstreamPart::default());
        assert_eq!(written(&mut digest, 5000, &broken), 5000);
        let summaries = digest.end();
        assert_eq!(summaries.len(), 1);
        assert_eq!(summaries[0].subject.as_deref(), Some("one"));
        assert_eq!(summaries[0].count, 2 * (5000 - refused));
        assert_eq!(summaries[0].reasons.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_without_number_are_bounded() {
        let mut digest = digest();
        let mut closed = of("", DENIED);
        let (mut first, many) = (0, 2 * CALLERS as u64);
        for number in 0..many {
            closed.entry.caller = Some(fixture::caller(&number.to_string()));
            first += written(&mut digest, 1, &closed);
        }
        // Those that found no place of their own are told in sum.
        assert_eq!(first, CALLERS as u64 + u64::from(OF_ONE_REASON));
        assert_eq!(digest.tallies.len(), CALLERS + 1);
        let summaries = digest.end();
        assert_eq!(summaries.len(), 1);
        assert_eq!(summaries[0].subject, None);
        assert_eq!(summaries[0].count, many - first);
    }
}
