//! The evidence of a breaker: what each workload met with a value, and whether that is enough to hold
//! back all.

use std::{collections::HashMap, sync::Arc, time::Duration};

use countersign_config::model::ResourceName;
use tokio::time::Instant;

use super::{Rejected, next_back_off};

/// The most workloads that are remembered at one host; the one whose back-off ends first is evicted.
pub(super) const MOST_WORKLOADS: usize = 256;

/// A workload that makes no request for this long after its back-off is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);

/// The interval of the search for what can be forgotten.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(super) struct State {
    by_workload: HashMap<ResourceName, WorkloadHistory>,
    all: Option<HeldFromAll>,
    /// The newest generation that worked for anyone since a rejection, and when.
    worked: Option<(u64, Instant)>,
    last: Option<LastRejection>,
    swept: Option<Instant>,
}

/// The last rejection at a host, which is remembered when the value works again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRejection {
    /// The generation.
    pub generation: u64,
    /// The workload whose request met it; `None` is a probe.
    pub workload: Option<ResourceName>,
    /// The API's error, if it gave one.
    pub said: Option<Arc<str>>,
    /// When.
    pub at: Instant,
    /// When the API accepted this value, or a newer one, afterwards.
    pub works_since: Option<Instant>,
}

/// What one workload met.
#[derive(Debug, Default)]
struct WorkloadHistory {
    generation: u64,
    /// How often in a row values were rejected, of any generation.
    failures: u32,
    held: Option<BackOff>,
}

/// What a rejected request led to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tripped {
    /// The workload's back-off from now.
    pub wait: Duration,
    /// Whether the workload had not met this with this value, or the value had worked for it since.
    pub is_news: bool,
}

/// A back-off.
#[derive(Debug)]
pub(super) struct BackOff {
    pub(super) since: Instant,
    pub(super) until: Instant,
    /// Whether a trial is in progress.
    pub(super) trying: bool,
    pub(super) said: Option<Arc<str>>,
}

/// A value that is held back from all.
#[derive(Debug)]
pub(super) struct HeldFromAll {
    pub(super) generation: u64,
    pub(super) evidence: Evidence,
    failures: u32,
    pub(super) held: BackOff,
}

/// Why a value is held back from all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// The gateway's own probe met it.
    Probe,
    /// Two workloads met it.
    Workloads,
}

impl BackOff {
    fn new(failures: u32, said: Option<Arc<str>>, now: Instant) -> Self {
        Self {
            since: now,
            until: now + next_back_off(failures),
            trying: false,
            said,
        }
    }

    /// Whether a rejection belongs to a request that was in progress when the back-off began.
    fn is_fresh(&self, now: Instant) -> bool {
        !self.trying && now < self.until
    }
}

impl State {
    /// The back-off of a workload with this value.
    pub(super) fn held(
        &mut self,
        workload: &ResourceName,
        generation: u64,
    ) -> Option<&mut BackOff> {
        let seen = self.by_workload.get_mut(workload)?;
        let held = seen.held.as_mut();
        held.filter(|_| seen.generation == generation)
    }

    /// The back-off that holds this value back from all.
    pub(super) fn held_from_all(&mut self, generation: u64) -> Option<&mut HeldFromAll> {
        let held_from_all = self.all.as_mut();
        held_from_all.filter(|held_from_all| held_from_all.generation == generation)
    }

    /// A request of this workload was rejected; returns its back-off from now, and whether it had not met
    /// this with this value.
    pub(super) fn rejected(
        &mut self,
        workload: &ResourceName,
        generation: u64,
        said: Option<&str>,
        now: Instant,
    ) -> Tripped {
        let seen = self.seen(workload);
        if generation < seen.generation {
            // It has met a newer value since.
            return Tripped::default();
        }
        let is_news = seen.held.is_none() || seen.generation != generation;
        let known = seen.held.take();
        if seen.generation == generation
            && let Some(held) = known
        {
            if held.is_fresh(now) {
                let left = held.until.saturating_duration_since(now);
                seen.held = Some(held);
                return Tripped {
                    wait: left,
                    is_news: false,
                };
            }
            seen.held = Some(held);
        }
        seen.generation = generation;
        seen.failures = seen.failures.saturating_add(1);
        let before = seen.held.take().and_then(|held| held.said);
        let said = said.map(Arc::from).or(before);
        let held = BackOff::new(seen.failures, said.clone(), now);
        let wait = held.until.saturating_duration_since(now);
        seen.held = Some(held);
        let is_new_here = seen.failures == 1;
        self.last = Some(LastRejection {
            generation,
            workload: Some(workload.clone()),
            said: said.clone(),
            at: now,
            works_since: None,
        });
        self.weigh(workload, generation, is_new_here, said, now);
        Tripped { wait, is_news }
    }

    /// Whether what one workload met is enough for all.
    fn weigh(
        &mut self,
        workload: &ResourceName,
        generation: u64,
        is_new_here: bool,
        said: Option<Arc<str>>,
        now: Instant,
    ) {
        let before = self.all.as_ref();
        if let Some(held_from_all) =
            before.filter(|held_from_all| held_from_all.generation >= generation)
        {
            // Another failure of a workload that failed before is no new evidence.
            let shows = held_from_all.evidence == Evidence::Probe || is_new_here;
            if shows && held_from_all.generation == generation && !held_from_all.held.is_fresh(now)
            {
                self.hold_from_all(generation, held_from_all.evidence, said, now);
            }
            return;
        }
        let worked = self.worked.filter(|(worked, _)| *worked >= generation);
        let second = self.by_workload.iter().any(|(name, seen)| {
            let held = seen.held.as_ref().filter(|_| seen.generation == generation);
            let since = held.map(|held| held.since);
            name != workload && since.is_some_and(|since| worked.is_none_or(|(_, at)| at < since))
        });
        if second {
            self.hold_from_all(generation, Evidence::Workloads, said, now);
        }
    }

    fn hold_from_all(
        &mut self,
        generation: u64,
        evidence: Evidence,
        said: Option<Arc<str>>,
        now: Instant,
    ) {
        let before = self.all.take();
        let failures = before
            .as_ref()
            .map_or(1, |held_from_all| held_from_all.failures.saturating_add(1));
        let said = said.or(before.and_then(|held_from_all| held_from_all.held.said));
        self.all = Some(HeldFromAll {
            generation,
            evidence,
            failures,
            held: BackOff::new(failures, said, now),
        });
    }

    /// A probe was rejected.
    pub(super) fn hold_by_probe(&mut self, generation: u64, said: Option<&str>, now: Instant) {
        let known = self.all.as_ref().is_some_and(|held_from_all| {
            let same =
                held_from_all.generation == generation && held_from_all.evidence == Evidence::Probe;
            held_from_all.generation > generation || (same && held_from_all.held.is_fresh(now))
        });
        if !known {
            let said: Option<Arc<str>> = said.map(Arc::from);
            self.last = Some(LastRejection {
                generation,
                workload: None,
                said: said.clone(),
                at: now,
                works_since: None,
            });
            self.hold_from_all(generation, Evidence::Probe, said, now);
        }
    }

    /// The last rejection.
    pub(super) fn last(&self) -> Option<LastRejection> {
        self.last.clone()
    }

    /// Forgets all but the last rejection.
    pub(super) fn calm(&mut self) {
        *self = Self {
            last: self.last.take(),
            ..Self::default()
        };
    }

    /// A request of this workload succeeded. Returns whether that ends a rejection.
    pub(super) fn worked(
        &mut self,
        workload: &ResourceName,
        generation: u64,
        now: Instant,
    ) -> bool {
        let seen = self.by_workload.get(workload);
        let was_held = seen.is_some_and(|seen| generation >= seen.generation)
            && self
                .by_workload
                .remove(workload)
                .is_some_and(|seen| seen.held.is_some());
        let reopened = self.reopen(generation, now);
        self.sweep(now);
        was_held || reopened
    }

    /// The value works: only workloads whose own requests are rejected are still held back, and these
    /// may try at once if all were held back. Returns whether all were.
    pub(super) fn reopen(&mut self, generation: u64, now: Instant) -> bool {
        if self.worked.is_none_or(|(worked, _)| worked <= generation) {
            self.worked = Some((generation, now));
        }
        if let Some(last) = &mut self.last
            && last.generation <= generation
        {
            last.works_since.get_or_insert(now);
        }
        let held_from_all = self.all.as_ref();
        if held_from_all.is_none_or(|held_from_all| held_from_all.generation > generation) {
            return false;
        }
        self.all = None;
        let held = self.by_workload.values_mut();
        for held in held.filter_map(|seen| seen.held.as_mut()) {
            held.until = held.until.min(now);
        }
        true
    }

    /// Whether nothing is held back.
    pub(super) fn is_calm(&self) -> bool {
        self.all.is_none() && self.by_workload.values().all(|seen| seen.held.is_none())
    }

    /// All that is held back.
    pub(super) fn all_rejected(&self, now: Instant) -> Vec<Rejected> {
        let mut by_workload: Vec<_> = self
            .by_workload
            .iter()
            .filter_map(|(name, seen)| {
                let held = seen.held.as_ref()?;
                Some(held.rejected(seen.generation, Some(name.clone()), now))
            })
            .collect();
        by_workload.sort_by(|one, other| one.workload.cmp(&other.workload));
        let all = self
            .all
            .iter()
            .map(|held_from_all| held_from_all.rejected(now));
        all.chain(by_workload).collect()
    }

    /// The entry of a workload, within the bound.
    fn seen(&mut self, workload: &ResourceName) -> &mut WorkloadHistory {
        if self.by_workload.len() >= MOST_WORKLOADS && !self.by_workload.contains_key(workload) {
            let first = self
                .by_workload
                .iter()
                .min_by_key(|(_, seen)| seen.held.as_ref().map(|held| held.until))
                .map(|(name, _)| name.clone());
            if let Some(first) = first {
                self.by_workload.remove(&first);
            }
        }
        self.by_workload.entry(workload.clone()).or_default()
    }

    fn sweep(&mut self, now: Instant) {
        let due = |at: Instant| now.saturating_duration_since(at) >= SWEEP_EVERY;
        if !self.swept.is_none_or(due) {
            return;
        }
        self.swept = Some(now);
        self.by_workload.retain(|_, seen| {
            let over = |held: &BackOff| now.saturating_duration_since(held.until) > FORGOTTEN_AFTER;
            !seen.held.as_ref().is_some_and(over)
        });
    }
}
