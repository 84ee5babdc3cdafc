//! Keeps a credential that an API rejects from being tried by every request.
//!
//! What one workload meets speaks for that workload: it may ask for what nobody else does. So a
//! rejected request holds back the requests of its own workload with that value, and no other's. All
//! are held back once there is better evidence: the gateway's own probe, or a second workload that
//! met the same since the value last worked for anybody. Then a workload for which it worked a
//! while ago goes on, any other that has not tried yet has its turn, and what keeps failing for one
//! lengthens that one's back-off only. A value that a probe has shown to be rejected is tried by
//! probes.
//!
//! All of it speaks of one generation at one host; another value is free to go at once.

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

use super::{
    Place,
    evidence::{Evidence, Held, Shut, State},
    lately::Lately,
};

/// The first back-off. Each failed trial doubles it, and up to a quarter is added by chance, so
/// that replicas do not try in step.
pub const BACK_OFF_SHORTEST: Duration = Duration::from_secs(1);

/// The longest back-off, chance included.
pub const BACK_OFF_LONGEST: Duration = Duration::from_mins(5);

/// For how long it counts that a value worked for a workload.
const WORKED_LATELY: Duration = Duration::from_mins(10);

/// The breaker of one credential at one host.
#[derive(Debug, Default)]
pub struct Breaker {
    /// Whether anything is known that is bad. While nothing is, no lock is taken.
    any: AtomicBool,
    state: Mutex<State>,
    lately: Lately,
}

/// The API rejected this value, and it is too early to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The generation.
    pub generation: u64,
    /// Whose requests are held back; `None` is everybody's.
    pub workload: Option<ResourceName>,
    /// What the API said, if it did.
    pub said: Option<Arc<str>>,
    /// In which time it is tried again; zero while another request tries.
    pub again_in: Duration,
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
        write!(f, "); it is tried again ")?;
        match self.again_in {
            Duration::ZERO => write!(f, "by another request at this moment")?,
            wait => write!(f, "in {} s", wait.as_secs() + 1)?,
        }
        write!(f, ", and at once when its source has another")
    }
}

/// The right to try a rejected value again. Dropped without a word it proves nothing, and the next
/// request may try.
#[derive(Debug)]
#[must_use = "a trial that is dropped proved nothing"]
pub struct Trial {
    place: Arc<Place>,
    generation: u64,
    /// Whose trial it is; `None` where it is tried for all.
    workload: Option<ResourceName>,
    probes: bool,
}

impl Trial {
    /// Whether a probe found what is to be tried, so that another should try it.
    pub fn is_for_a_probe(&self) -> bool {
        self.probes
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let mut state = self.place.breaker.state();
        let held = match &self.workload {
            Some(workload) => state.held(workload, self.generation),
            None => state.shut(self.generation).map(|shut| &mut shut.held),
        };
        if let Some(held) = held {
            held.trying = false;
        }
    }
}

impl Place {
    /// Whether a request of this workload may carry the value of this generation. A trial is the one
    /// request that finds out whether it still cannot.
    pub fn admit(
        self: &Arc<Self>,
        workload: &ResourceName,
        generation: u64,
    ) -> Result<Option<Trial>, Rejected> {
        let breaker = &self.breaker;
        if !breaker.any.load(Ordering::Acquire) {
            return Ok(None);
        }
        let now = Instant::now();
        let mut state = breaker.state();
        let shut = state.shut(generation).map(|shut| shut.evidence);
        let lately = breaker.lately.knows(workload, generation, WORKED_LATELY);
        let (held, of, probes) = match shut {
            Some(Evidence::Probe) => (
                state.shut(generation).map(|shut| &mut shut.held),
                None,
                true,
            ),
            Some(Evidence::Workloads) | None if state.held(workload, generation).is_some() => (
                state.held(workload, generation),
                Some(workload.clone()),
                false,
            ),
            Some(Evidence::Workloads) if !lately => (
                state.shut(generation).map(|shut| &mut shut.held),
                None,
                false,
            ),
            Some(Evidence::Workloads) | None => return Ok(None),
        };
        let Some(held) = held else { return Ok(None) };
        match held.begin(now) {
            Ok(()) => Ok(Some(Trial {
                place: Arc::clone(self),
                generation,
                workload: of,
                probes,
            })),
            Err(again_in) => Err(held.rejected(generation, of, again_in)),
        }
    }
}

impl Breaker {
    /// The API rejected this value in a request of this workload, and there is no better one. Returns
    /// the workload's back-off from now.
    ///
    /// Requests that were under way when it began, and find the same, do not lengthen it.
    pub fn trip(&self, workload: &ResourceName, generation: u64, said: Option<&str>) -> Duration {
        let mut state = self.state();
        self.any.store(true, Ordering::Release);
        state.rejected(workload, generation, said, Instant::now())
    }

    /// A probe has shown that the API rejects this value, and there is no better one.
    pub fn trip_for_all(&self, generation: u64, said: Option<&str>) {
        let mut state = self.state();
        self.any.store(true, Ordering::Release);
        state.shut_by_probe(generation, said, Instant::now());
    }

    /// The API took this value in a request of this workload.
    pub fn worked(&self, workload: &ResourceName, generation: u64) {
        self.lately.mark(workload, generation);
        self.if_any(|state, now| state.worked(workload, generation, now));
    }

    /// A probe has shown that the API takes this value.
    pub fn proven(&self, generation: u64) {
        self.if_any(|state, now| state.reopen(generation, now));
    }

    /// What is wrong with the credential, if something is: for all first, then by workload.
    pub fn rejected(&self) -> Vec<Rejected> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.state().all_rejected(Instant::now())
    }

    fn if_any(&self, note: impl FnOnce(&mut State, Instant)) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state();
        note(&mut state, Instant::now());
        if state.is_calm() {
            *state = State::default();
            self.any.store(false, Ordering::Release);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn begin(&mut self, now: Instant) -> Result<(), Duration> {
        let left = self.until.saturating_duration_since(now);
        if !left.is_zero() || self.trying {
            return Err(left);
        }
        self.trying = true;
        Ok(())
    }

    pub(super) fn rejected(
        &self,
        generation: u64,
        workload: Option<ResourceName>,
        again_in: Duration,
    ) -> Rejected {
        Rejected {
            generation,
            workload,
            said: self.said.clone(),
            again_in,
        }
    }
}

impl Shut {
    pub(super) fn told(&self, now: Instant) -> Rejected {
        let left = self.held.until.saturating_duration_since(now);
        self.held.rejected(self.generation, None, left)
    }
}

/// Twice the one before, plus up to a quarter; `chance` is from 0 to 255.
pub(super) fn back_off(failures: u32, chance: u8) -> Duration {
    let doublings = failures.saturating_sub(1).min(9);
    let plain = BACK_OFF_SHORTEST * 2_u32.pow(doublings);
    let more = plain / 4 * u32::from(chance) / 255;
    (plain + more).min(BACK_OFF_LONGEST)
}

/// The back-off after so many failures in a row.
pub(super) fn next_back_off(failures: u32) -> Duration {
    let mut byte = [0];
    // Without chance replicas try in step, and nothing worse.
    let chance = aws_lc_rs::rand::fill(&mut byte).map_or(0, |()| byte[0]);
    back_off(failures, chance)
}
