//! A circuit breaker: prevents every request from trying a credential that an API rejects.
//!
//! A rejection counts first for the workload that met it, which may ask for something that no other
//! does. So a rejected request holds back the requests of its own workload with that value, and no
//! others. All are held back on better evidence: the gateway's own probe, or a second workload that met
//! the same since the value last worked for anyone. Then a workload for which it worked recently
//! continues, each other one may try once, and repeated failures of one workload lengthen only its own
//! back-off. A value that a probe found to be rejected is tried again by probes.
//!
//! The state is for one generation at one host; another value can be used at once.

mod evidence;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use countersign_config::model::ResourceName;
use tokio::time::Instant;

use self::evidence::{BackOff, Evidence, HeldFromAll, State};
pub use self::evidence::{LastRejection, Tripped};
use super::{super::recent::RecentSuccesses, HostHealth};

/// The first back-off. Each failed trial doubles it, and up to a quarter of random delay is added, so
/// that replicas do not try in step.
pub const BACK_OFF_SHORTEST: Duration = Duration::from_secs(1);

/// The longest back-off, including the random delay.
pub const BACK_OFF_LONGEST: Duration = Duration::from_mins(5);

/// For how long a success of a workload counts.
const WORKED_LATELY: Duration = Duration::from_mins(10);

/// The breaker of one credential at one host.
#[derive(Debug, Default)]
pub struct Breaker {
    /// Whether anything is held back. Without it, no lock is taken.
    any: AtomicBool,
    state: Mutex<State>,
    lately: RecentSuccesses,
}

/// The API rejected this value, and it is too early to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The generation.
    pub generation: u64,
    /// The workload that is held back; `None` is all.
    pub workload: Option<ResourceName>,
    /// The API's error, if it gave one.
    pub said: Option<Arc<str>>,
    /// When it is tried again; zero while another request tries, or if the next one may.
    pub again_in: Duration,
    /// Whether a request tries it at this moment.
    pub trying: bool,
    /// How long ago the API rejected it last.
    pub age: Duration,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the API rejects this value")?;
        if let Some(workload) = &self.workload {
            write!(f, " in requests of {workload}")?;
        }
        write!(f, " (generation {}", self.generation)?;
        if let Some(said) = &self.said {
            write!(f, ", `{said}`")?;
        }
        write!(f, ", {} s ago); it is tried again ", self.age.as_secs())?;
        match self.again_in {
            _ if self.trying => write!(f, "by another request at this moment")?,
            Duration::ZERO => write!(f, "by the next request")?,
            wait => write!(f, "in {} s", wait.as_secs() + 1)?,
        }
        write!(f, ", and at once when its source has another")
    }
}

/// Permission to try a rejected value again. If it is dropped without a result, the next request may
/// try.
#[derive(Debug)]
#[must_use = "a trial that is dropped proved nothing"]
pub struct HalfOpenPermit {
    place: Arc<HostHealth>,
    generation: u64,
    /// The workload that tries; `None` if it is tried for all.
    workload: Option<ResourceName>,
    probes: bool,
}

impl HalfOpenPermit {
    /// Whether a probe found the rejection, so that a probe should try again.
    pub fn is_for_a_probe(&self) -> bool {
        self.probes
    }
}

impl Drop for HalfOpenPermit {
    fn drop(&mut self) {
        let mut state = self.place.breaker.state();
        let held = match &self.workload {
            Some(workload) => state.held(workload, self.generation),
            None => state
                .held_from_all(self.generation)
                .map(|held_from_all| &mut held_from_all.held),
        };
        if let Some(held) = held {
            held.trying = false;
        }
    }
}

impl HostHealth {
    /// Whether a request of this workload may use the value of this generation. With a permit, the
    /// request finds out whether it still does not work.
    pub fn admit(
        self: &Arc<Self>,
        workload: &ResourceName,
        generation: u64,
    ) -> Result<Option<HalfOpenPermit>, Rejected> {
        let breaker = &self.breaker;
        if !breaker.any.load(Ordering::Acquire) {
            return Ok(None);
        }
        let now = Instant::now();
        let mut state = breaker.state();
        let held_from_all = state
            .held_from_all(generation)
            .map(|held_from_all| held_from_all.evidence);
        let lately = breaker.lately.knows(workload, generation, WORKED_LATELY);
        let (held, of, probes) = match held_from_all {
            Some(Evidence::Probe) => (
                state
                    .held_from_all(generation)
                    .map(|held_from_all| &mut held_from_all.held),
                None,
                true,
            ),
            Some(Evidence::Workloads) | None if state.held(workload, generation).is_some() => (
                state.held(workload, generation),
                Some(workload.clone()),
                false,
            ),
            Some(Evidence::Workloads) if !lately => (
                state
                    .held_from_all(generation)
                    .map(|held_from_all| &mut held_from_all.held),
                None,
                false,
            ),
            Some(Evidence::Workloads) | None => return Ok(None),
        };
        let Some(held) = held else { return Ok(None) };
        if !held.begin(now) {
            return Err(held.rejected(generation, of, now));
        }
        Ok(Some(HalfOpenPermit {
            place: Arc::clone(self),
            generation,
            workload: of,
            probes,
        }))
    }
}

impl Breaker {
    /// The API rejected this value in a request of this workload, and there is no better one.
    ///
    /// Concurrent requests that began before the back-off do not lengthen it.
    pub fn trip(&self, workload: &ResourceName, generation: u64, said: Option<&str>) -> Tripped {
        let mut state = self.state();
        self.any.store(true, Ordering::Release);
        state.rejected(workload, generation, said, Instant::now())
    }

    /// A probe found that the API rejects this value, and there is no better one.
    pub fn trip_for_all(&self, generation: u64, said: Option<&str>) {
        let mut state = self.state();
        self.any.store(true, Ordering::Release);
        state.hold_by_probe(generation, said, Instant::now());
    }

    /// The API accepted this value in a request of this workload. Returns whether that ends a rejection.
    pub fn worked(&self, workload: &ResourceName, generation: u64) -> bool {
        self.lately.mark(workload, generation);
        self.if_any(|state, now| state.worked(workload, generation, now))
    }

    /// A probe found that the API accepts this value. Returns whether that ends a rejection.
    pub fn proven(&self, generation: u64) -> bool {
        self.if_any(|state, now| state.reopen(generation, now))
    }

    /// The last rejection, whether or not it is over.
    pub fn last_rejection(&self) -> Option<LastRejection> {
        self.state().last()
    }

    /// What is held back, if anything: first for all, then by workload.
    pub fn rejected(&self) -> Vec<Rejected> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.state().all_rejected(Instant::now())
    }

    fn if_any(&self, note: impl FnOnce(&mut State, Instant) -> bool) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let mut state = self.state();
        let ended = note(&mut state, Instant::now());
        if state.is_calm() {
            state.calm();
            self.any.store(false, Ordering::Release);
        }
        ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BackOff {
    /// Begins a trial, if it is time for one.
    fn begin(&mut self, now: Instant) -> bool {
        if now < self.until || self.trying {
            return false;
        }
        self.trying = true;
        true
    }

    pub(in crate::health) fn rejected(
        &self,
        generation: u64,
        workload: Option<ResourceName>,
        now: Instant,
    ) -> Rejected {
        Rejected {
            generation,
            workload,
            said: self.said.clone(),
            again_in: self.until.saturating_duration_since(now),
            trying: self.trying,
            age: now.saturating_duration_since(self.since),
        }
    }
}

impl HeldFromAll {
    pub(in crate::health) fn rejected(&self, now: Instant) -> Rejected {
        self.held.rejected(self.generation, None, now)
    }
}

/// Twice the previous one, plus up to a quarter; `chance` is from 0 to 255.
pub(in crate::health) fn back_off(failures: u32, chance: u8) -> Duration {
    let doublings = failures.saturating_sub(1).min(9);
    let plain = BACK_OFF_SHORTEST * 2_u32.pow(doublings);
    let more = plain / 4 * u32::from(chance) / 255;
    (plain + more).min(BACK_OFF_LONGEST)
}

/// The back-off after this many failures in a row.
pub(in crate::health) fn next_back_off(failures: u32) -> Duration {
    let mut byte = [0];
    // Without randomness replicas try in step; that is the only effect.
    let chance = aws_lc_rs::rand::fill(&mut byte).map_or(0, |()| byte[0]);
    back_off(failures, chance)
}
