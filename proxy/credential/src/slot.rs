//! One credential's slot: the value held, how fresh it is, and the one fetch that may be under
//! way.

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
    flight::{Flight, LastTime, Outcome},
    metrics::Metrics,
    outage::{Outage, PROMPT},
};
use jiff::Timestamp;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    CredentialError, Generations, Issued,
    callers::Home,
    forced::{Forced, Leave},
    provider::{Asking, Fetched, Fetcher},
    revoke::{Revoker, Value},
};

/// Uses within this time are one: the next is not worth a write that all cores wait for.
const ONE_USE: Duration = Duration::from_millis(100);

/// [`Slot::rejected`] when no value is.
const NONE: u64 = 0;

/// What all slots have in common.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) fetcher: Fetcher,
    pub(super) generations: Arc<Generations>,
    pub(super) clock: Clock,
    pub(super) revoker: Arc<Revoker>,
    pub(super) metrics: Metrics,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) credential: Arc<Credential>,
    /// For whom, where each caller has a value of its own.
    pub(super) caller: Option<Arc<dyn Bearer>>,
    /// Among which other callers' it is kept.
    pub(super) home: Option<Home>,
    fetcher: Fetcher,
    generations: Arc<Generations>,
    pub(super) clock: Clock,
    revoker: Arc<Revoker>,
    metrics: Metrics,
    pub(super) held: ArcSwapOption<Issued>,
    /// The generation that an API has rejected.
    rejected: AtomicU64,
    /// The generation about which nothing may be done but to look whether another has renewed it.
    looked_for: AtomicU64,
    /// The renewals because of rejections.
    forced: Forced,
    /// When the source last answered.
    answered: LastTime,
    pub(super) failure: ArcSwapOption<Failure>,
    /// The outage of its source, if there is one.
    outage: Arc<Outage>,
    /// Whether there is one.
    stale: Arc<AtomicBool>,
    pub(super) flight: Flight<Result<Arc<Issued>, CredentialError>>,
    /// When a request last asked for it.
    used: LastTime,
    /// Whether somebody looks after what is held.
    pub(super) tended: AtomicBool,
    /// Tells who looks after it.
    pub(super) changed: Arc<Notify>,
}

/// Why a fetch is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// A request needs a value, or will before long.
    Use,
    /// It is time, and nobody waits.
    Ahead,
}

/// What a slot can say without waiting.
pub(super) enum Readiness {
    /// A value that may be used.
    Ready(Arc<Issued>),
    /// The source failed a moment ago.
    Failed(CredentialError),
    /// It must be fetched.
    Due,
}

/// Whether a held value may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    /// It may, but it is time to see about the next one.
    Renew,
    /// Only if its source cannot be asked for a moment.
    Unchecked,
    /// It may not.
    Bad,
}

impl Slot {
    pub(super) fn new(credential: Arc<Credential>, common: &Common) -> Self {
        let Common {
            fetcher,
            generations,
            clock,
            revoker,
            metrics,
        } = common.clone();
        Self {
            credential,
            caller: None,
            home: None,
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
            flight: Flight::new(),
            used: LastTime::never(),
            tended: AtomicBool::new(false),
            changed: Arc::default(),
        }
    }

    /// The same for one caller's own value. All callers' values have one source.
    pub(super) fn of_caller(self, caller: Arc<dyn Bearer>, home: Option<Home>) -> Self {
        let outage = home.as_ref().map_or_else(Arc::default, Home::outage);
        Self {
            caller: Some(caller),
            home,
            outage,
            ..self
        }
    }

    /// What can be said at once. Starts a renewal that is due but does not wait for it.
    pub(super) fn readiness(self: &Arc<Self>) -> Readiness {
        self.touch();
        let held = self.held.load();
        let standing = held
            .as_ref()
            .map_or(Standing::Bad, |held| self.standing(held));
        match (held.as_ref(), standing) {
            (Some(held), Standing::Good) => Readiness::Ready(Arc::clone(held)),
            (Some(held), Standing::Renew) => {
                if self.failing().is_none() {
                    drop(self.start(Why::Use));
                }
                Readiness::Ready(Arc::clone(held))
            }
            (held, Standing::Unchecked | Standing::Bad) | (held @ None, _) => {
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
            // The fetch that was joined had begun before the value was rejected.
            Ok(issued) if self.is_rejected(&issued) => self.wait().await,
            Ok(_) | Err(_) => result,
        }
    }

    /// Marks the held value as rejected, if it is still this one; not if that was done too often.
    pub(super) fn invalidate(&self, generation: u64) -> bool {
        let held = self.held.load();
        let held = held.as_ref().filter(|held| held.generation == generation);
        let Some(held) = held else { return true };
        if self.is_rejected(held) {
            return self.looked_for.load(Ordering::Acquire) != generation;
        }
        let leave = self.forced.take(generation);
        let looked_for = match leave {
            Leave::Renew => NONE,
            Leave::Look if Fetcher::is_renewed_elsewhere(&self.credential) => generation,
            Leave::Look | Leave::Keep => return false,
        };
        self.looked_for.store(looked_for, Ordering::Release);
        self.rejected.store(generation, Ordering::Release);
        leave == Leave::Renew
    }

    pub(super) fn start(
        self: &Arc<Self>,
        why: Why,
    ) -> Outcome<Result<Arc<Issued>, CredentialError>> {
        self.flight.join(|| Arc::clone(self).fetch(why))
    }

    async fn fetch(self: Arc<Self>, why: Why) -> Result<Arc<Issued>, CredentialError> {
        let held = self.held.load_full();
        if let Some(held) = held.as_ref().filter(|held| self.is_settled(held, why)) {
            return Ok(Arc::clone(held));
        }
        // Taken before the source is asked: a rejection that comes later speaks of what this
        // fetch may bring, and must outlive it.
        let rejected = self.rejected.swap(NONE, Ordering::AcqRel);
        let asking = Asking {
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
            // That the store is silent is no reason to take away what others use.
            Some(held) => match timeout(PROMPT, self.fetcher.renewed_elsewhere(&asking)).await {
                Ok(Some(fetched)) => Ok(fetched),
                Ok(None) | Err(_) => return Ok(Arc::clone(held)),
            },
            None => self.fetcher.fetch(asking).await,
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
                if why == Why::Use {
                    self.used.mark();
                }
                self.answered.mark();
                if let Some(lasted) = self.outage.over() {
                    tracing::info!(
                        credential = %self.credential.name,
                        seconds = lasted.as_secs(),
                        "the credential's source gives again"
                    );
                }
                self.failure.store(None);
                self.stale.store(false, Ordering::Relaxed);
                self.held.store(Some(Arc::clone(&issued)));
                Ok(issued)
            }
            Err(error) => self.fail(error, held, rejected, began),
        };
        self.look_after();
        result
    }

    /// Whether there is nothing to fetch, because another fetch has just brought it.
    fn is_settled(&self, held: &Issued, why: Why) -> bool {
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= self.clock.now());
        match (self.standing(held), why) {
            (Standing::Good, Why::Use) => true,
            (Standing::Good, Why::Ahead) => !due(held.renew_ahead_at),
            (Standing::Renew | Standing::Unchecked | Standing::Bad, _) => false,
        }
    }

    /// Whether what is held was rejected too often to be renewed, and lives.
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

    /// Whether a request has asked for the value that is held since it came.
    pub(super) fn used_since_obtained(&self) -> bool {
        self.used.age() < self.answered.age()
    }

    /// Whether whoever looks after it must go on, though nothing was held a moment ago.
    pub(super) fn stays_tended(&self) -> bool {
        self.tended.store(false, Ordering::SeqCst);
        self.held.load().is_some() && !self.tended.swap(true, Ordering::SeqCst)
    }

    pub(super) fn standing(&self, held: &Issued) -> Standing {
        let now = held.expires_at.map(|_| self.clock.now());
        let reached = |at: Option<Timestamp>| at.zip(now).is_some_and(|(at, now)| at <= now);
        if self.is_rejected(held) || reached(held.expires_at) {
            return Standing::Bad;
        }
        match held
            .recheck
            .map(|recheck| (recheck, self.answered.age().unwrap_or(Duration::MAX)))
        {
            Some((recheck, age)) if age >= recheck.overdue => Standing::Unchecked,
            Some((recheck, age)) if age >= recheck.due => Standing::Renew,
            Some(_) | None if reached(held.renew_at) => Standing::Renew,
            Some(_) | None => Standing::Good,
        }
    }

    fn is_rejected(&self, issued: &Issued) -> bool {
        self.rejected.load(Ordering::Acquire) == issued.generation
    }
}
