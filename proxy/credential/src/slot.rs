//! The slot of one credential: its current value, the value's freshness, and at most one fetch in
//! progress.

pub(super) mod callers;
mod failure;
mod issue;

pub(super) use failure::Failure;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use countersign_config::model::Credential;
use countersign_core::{
    bearer::Bearer,
    clock::Clock,
    metrics::Metrics,
    outage::{Outage, PROMPT},
    single_flight::{LastTime, SharedOutcome, SingleFlight},
};
use jiff::Timestamp;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use self::callers::SlotHandle;
use super::{
    CredentialError, Generations, Issued,
    forced::{Forced, RejectionAction},
    provider::{FetchRequest, Fetched, Fetcher},
    revoke::{Revoker, Value},
};

/// Uses within this time count as one: the next is not worth a write to shared memory.
const ONE_USE: Duration = Duration::from_millis(100);

/// [`Slot::rejected`] if no value was rejected.
const NONE: u64 = 0;

/// What all slots share.
#[derive(Debug, Clone)]
pub(super) struct SlotContext {
    pub(super) fetcher: Fetcher,
    pub(super) generations: Arc<Generations>,
    pub(super) clock: Clock,
    pub(super) revoker: Arc<Revoker>,
    pub(super) metrics: Metrics,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) credential: Arc<Credential>,
    /// The caller, if each caller has its own value.
    pub(super) caller: Option<Arc<dyn Bearer>>,
    /// Its place among the slots of the other callers.
    pub(super) handle: Option<SlotHandle>,
    fetcher: Fetcher,
    generations: Arc<Generations>,
    pub(super) clock: Clock,
    revoker: Arc<Revoker>,
    metrics: Metrics,
    pub(super) held: ArcSwapOption<Issued>,
    /// The generation that an API has rejected.
    rejected: AtomicU64,
    /// The generation for which only another replica's renewal may be used.
    looked_for: AtomicU64,
    /// The forced renewals.
    forced: Forced,
    /// When the source last responded.
    answered: LastTime,
    pub(super) failure: ArcSwapOption<Failure>,
    /// The outage of its source, if there is one.
    outage: Arc<Outage>,
    /// Whether the source has an outage.
    stale: Arc<AtomicBool>,
    pub(super) flight: SingleFlight<Result<Arc<Issued>, CredentialError>>,
    /// When a request last asked for it.
    used: LastTime,
    /// Whether a maintenance task runs.
    pub(super) maintained: AtomicBool,
    /// Wakes the maintenance task.
    pub(super) changed: Arc<Notify>,
}

/// Why a fetch is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FetchTrigger {
    /// A request needs a value, now or soon.
    Use,
    /// It is time, and no request waits.
    Ahead,
}

/// What a slot can return without waiting.
pub(super) enum Readiness {
    /// A value that may be used.
    Ready(Arc<Issued>),
    /// The source failed a moment ago.
    Failed(CredentialError),
    /// It must be fetched.
    Due,
}

/// Whether the current value may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Good,
    /// Yes, but it is time to renew it.
    Renew,
    /// Only if its source does not respond for a moment.
    Unchecked,
    /// No.
    Bad,
}

impl Slot {
    pub(super) fn new(credential: Arc<Credential>, context: &SlotContext) -> Self {
        let SlotContext {
            fetcher,
            generations,
            clock,
            revoker,
            metrics,
        } = context.clone();
        Self {
            credential,
            caller: None,
            handle: None,
            fetcher,
            generations,
            clock,
            revoker,
            metrics,
            held: ArcSwapOption::empty(),
            rejected: AtomicU64::new(NONE),
            looked_for: AtomicU64::new(NONE),
            forced: Forced::default(),
            answered: LastTime::never(),
            failure: ArcSwapOption::empty(),
            outage: Arc::default(),
            stale: Arc::default(),
            flight: SingleFlight::new(),
            used: LastTime::never(),
            maintained: AtomicBool::new(false),
            changed: Arc::default(),
        }
    }

    /// The same for one caller's own value. All callers' values have one source.
    pub(super) fn of_caller(self, caller: Arc<dyn Bearer>, handle: Option<SlotHandle>) -> Self {
        let outage = handle
            .as_ref()
            .map_or_else(Arc::default, SlotHandle::outage);
        Self {
            caller: Some(caller),
            handle,
            outage,
            ..self
        }
    }

    /// What can be returned at once. Starts a renewal that is due but does not wait for it.
    pub(super) fn readiness(self: &Arc<Self>) -> Readiness {
        self.touch();
        let held = self.held.load();
        let freshness = held
            .as_ref()
            .map_or(Freshness::Bad, |held| self.freshness(held));
        match (held.as_ref(), freshness) {
            (Some(held), Freshness::Good) => Readiness::Ready(Arc::clone(held)),
            (Some(held), Freshness::Renew) => {
                if self.failing().is_none() {
                    drop(self.start(FetchTrigger::Use));
                }
                Readiness::Ready(Arc::clone(held))
            }
            (held, Freshness::Unchecked | Freshness::Bad) | (held @ None, _) => {
                match self.failing() {
                    None => Readiness::Due,
                    Some(failure) => {
                        match held.filter(|held| self.serves_despite(held, &failure.error)) {
                            Some(held) => Readiness::Ready(Arc::clone(held)),
                            None => Readiness::Failed(failure.error.clone()),
                        }
                    }
                }
            }
        }
    }

    /// Waits for a fetch.
    pub(super) async fn fetched(self: Arc<Self>) -> Result<Arc<Issued>, CredentialError> {
        self.touch();
        let result = self.wait().await;
        match result {
            // The fetch had begun before the value was rejected.
            Ok(issued) if self.is_rejected(&issued) => self.wait().await,
            Ok(_) | Err(_) => result,
        }
    }

    /// Marks the value as rejected, if it is still the current one; not if that was done too often.
    pub(super) fn invalidate(&self, generation: u64) -> bool {
        let held = self.held.load();
        let held = held.as_ref().filter(|held| held.generation == generation);
        let Some(held) = held else { return true };
        if self.is_rejected(held) {
            return self.looked_for.load(Ordering::Acquire) != generation;
        }
        let action = self.forced.take(generation);
        let looked_for = match action {
            RejectionAction::Renew => NONE,
            RejectionAction::Look if Fetcher::is_renewed_elsewhere(&self.credential) => generation,
            RejectionAction::Look | RejectionAction::Keep => return false,
        };
        self.looked_for.store(looked_for, Ordering::Release);
        self.rejected.store(generation, Ordering::Release);
        action == RejectionAction::Renew
    }

    pub(super) fn start(
        self: &Arc<Self>,
        trigger: FetchTrigger,
    ) -> SharedOutcome<Result<Arc<Issued>, CredentialError>> {
        self.flight.join(|| Arc::clone(self).fetch(trigger))
    }

    async fn fetch(self: Arc<Self>, trigger: FetchTrigger) -> Result<Arc<Issued>, CredentialError> {
        let held = self.held.load_full();
        if let Some(held) = held.as_ref().filter(|held| self.is_settled(held, trigger)) {
            return Ok(Arc::clone(held));
        }
        // Taken before the source is asked: a later rejection may concern the result of this fetch, and
        // must outlive it.
        let rejected = self.rejected.swap(NONE, Ordering::AcqRel);
        let request = FetchRequest {
            credential: &self.credential,
            caller: self.caller.as_deref(),
            held: held.as_deref().filter(|held| held.generation != rejected),
            rejected: held
                .as_ref()
                .filter(|held| held.generation == rejected)
                .map(|held| held.secret()),
            now: self.clock.now(),
        };
        let began = Instant::now();
        let fetched = match held.as_ref().filter(|held| self.only_looks(held, rejected)) {
            // A silent store is no reason to take the value from its other users.
            Some(held) => match timeout(PROMPT, self.fetcher.renewed_elsewhere(&request)).await {
                Ok(Some(fetched)) => Ok(fetched),
                Ok(None) | Err(_) => return Ok(Arc::clone(held)),
            },
            None => self.fetcher.fetch(request).await,
        };
        let fetched = fetched.and_then(|fetched| self.issue(fetched, held.as_ref()));
        let counted = match &fetched {
            Ok(_) => "ok",
            Err(error) => error.reason().facts().code,
        };
        self.metrics
            .credential_fetched(&self.credential.name, counted);
        let result = match fetched {
            Ok(issued) => {
                if trigger == FetchTrigger::Use {
                    self.used.mark();
                }
                self.answered.mark();
                if let Some(lasted) = self.outage.over() {
                    tracing::info!(
                        credential = %self.credential.name,
                        seconds = lasted.as_secs(),
                        "the credential's source responds again"
                    );
                }
                self.failure.store(None);
                self.stale.store(false, Ordering::Relaxed);
                self.held.store(Some(Arc::clone(&issued)));
                Ok(issued)
            }
            Err(error) => self.fail(error, held, rejected, began),
        };
        self.start_maintenance();
        result
    }

    /// Whether there is nothing to fetch, because another fetch has just completed.
    fn is_settled(&self, held: &Issued, trigger: FetchTrigger) -> bool {
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= self.clock.now());
        match (self.freshness(held), trigger) {
            (Freshness::Good, FetchTrigger::Use) => true,
            (Freshness::Good, FetchTrigger::Ahead) => !due(held.renew_ahead_at),
            (Freshness::Renew | Freshness::Unchecked | Freshness::Bad, _) => false,
        }
    }

    /// Whether the current value was rejected too often to be renewed, and is still valid.
    fn only_looks(&self, held: &Issued, rejected: u64) -> bool {
        held.generation == rejected
            && self.looked_for.load(Ordering::Acquire) == rejected
            && !held.is_over(self.clock.now())
    }

    fn touch(&self) {
        if !self.used.within(ONE_USE) {
            self.used.mark();
        }
    }

    /// How long ago a request last asked for it.
    pub(super) fn last_use(&self) -> Option<Duration> {
        self.used.age()
    }

    /// How long no request has asked for it.
    pub(super) fn unused_for(&self) -> Duration {
        self.used.age().unwrap_or(Duration::ZERO)
    }

    /// Whether a request has asked for the current value since it was fetched.
    pub(super) fn used_since_obtained(&self) -> bool {
        self.used.age() < self.answered.age()
    }

    /// Whether the maintenance task must continue, although there was no value a moment ago.
    pub(super) fn stays_maintained(&self) -> bool {
        self.maintained.store(false, Ordering::SeqCst);
        self.held.load().is_some() && !self.maintained.swap(true, Ordering::SeqCst)
    }

    pub(super) fn freshness(&self, held: &Issued) -> Freshness {
        let now = held.expires_at.map(|_| self.clock.now());
        let reached = |at: Option<Timestamp>| at.zip(now).is_some_and(|(at, now)| at <= now);
        if self.is_rejected(held) || reached(held.expires_at) {
            return Freshness::Bad;
        }
        match held
            .recheck
            .map(|recheck| (recheck, self.answered.age().unwrap_or(Duration::MAX)))
        {
            Some((recheck, age)) if age >= recheck.overdue => Freshness::Unchecked,
            Some((recheck, age)) if age >= recheck.due => Freshness::Renew,
            Some(_) | None if reached(held.renew_at) => Freshness::Renew,
            Some(_) | None => Freshness::Good,
        }
    }

    fn is_rejected(&self, issued: &Issued) -> bool {
        self.rejected.load(Ordering::Acquire) == issued.generation
    }
}
