//! One credential's slot: the value held, how fresh it is, and the one fetch that may be under
//! way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use countersign_config::model::Credential;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{
    CredentialError, Generations, Issued,
    provider::{Asking, Fetched, Fetcher},
};
use crate::{
    clock::Clock,
    flight::{Flight, LastTime, Outcome},
};

/// How long a failure is answered from memory: a missing file costs one look a second, however
/// many requests want it.
const BACK_OFF: Duration = Duration::from_secs(1);

/// How long the value from before serves while its source fails in a way that may pass.
const GRACE: Duration = Duration::from_secs(30);

/// [`Slot::rejected`] when no value is.
const NONE: u64 = 0;

#[derive(Debug)]
pub(super) struct Slot {
    credential: Arc<Credential>,
    fetcher: Fetcher,
    generations: Arc<Generations>,
    clock: Clock,
    held: ArcSwapOption<Issued>,
    /// The generation that an API has rejected.
    rejected: AtomicU64,
    /// When the source last answered.
    answered: LastTime,
    failure: ArcSwapOption<Failure>,
    flight: Flight<Result<Arc<Issued>, CredentialError>>,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    error: CredentialError,
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
enum Standing {
    Good,
    /// It may, but it is time to see about the next one.
    Renew,
    /// Only if its source cannot be asked for a moment.
    Unchecked,
    /// It may not.
    Bad,
}

impl Slot {
    pub(super) fn new(
        credential: Arc<Credential>,
        fetcher: Fetcher,
        generations: Arc<Generations>,
        clock: Clock,
    ) -> Self {
        Self {
            credential,
            fetcher,
            generations,
            clock,
            held: ArcSwapOption::empty(),
            rejected: AtomicU64::new(NONE),
            answered: LastTime::never(),
            failure: ArcSwapOption::empty(),
            flight: Flight::new(),
        }
    }

    /// What can be said at once. Starts a renewal that is due but does not wait for it.
    pub(super) fn readiness(self: &Arc<Self>) -> Readiness {
        let held = self.held.load();
        let standing = held
            .as_ref()
            .map_or(Standing::Bad, |held| self.standing(held));
        let failure = || {
            self.failure
                .load_full()
                .filter(|f| f.at.elapsed() < BACK_OFF)
        };
        match (held.as_ref(), standing) {
            (Some(held), Standing::Good) => Readiness::Ready(Arc::clone(held)),
            (Some(held), Standing::Renew) => {
                if failure().is_none() {
                    drop(self.start());
                }
                Readiness::Ready(Arc::clone(held))
            }
            (held, Standing::Unchecked | Standing::Bad) | (held @ None, _) => match failure() {
                None => Readiness::Due,
                Some(failure) => {
                    match held.filter(|held| self.serves_despite(held, &failure.error)) {
                        Some(held) => Readiness::Ready(Arc::clone(held)),
                        None => Readiness::Failed(failure.error.clone()),
                    }
                }
            },
        }
    }

    /// Waits for a fetch.
    pub(super) async fn fetched(self: Arc<Self>) -> Result<Arc<Issued>, CredentialError> {
        let result = self.wait().await;
        match result {
            // The fetch that was joined had begun before the value was rejected.
            Ok(issued) if self.is_rejected(&issued) => self.wait().await,
            Ok(_) | Err(_) => result,
        }
    }

    /// Marks the held value as rejected, if it is still this one.
    pub(super) fn invalidate(&self, generation: u64) {
        let held = self.held.load();
        if held
            .as_ref()
            .is_some_and(|held| held.generation == generation)
        {
            self.rejected.store(generation, Ordering::Release);
        }
    }

    async fn wait(self: &Arc<Self>) -> Result<Arc<Issued>, CredentialError> {
        self.start()
            .await
            .unwrap_or(Err(CredentialError::Abandoned))
    }

    fn start(self: &Arc<Self>) -> Outcome<Result<Arc<Issued>, CredentialError>> {
        self.flight.join(|| Arc::clone(self).fetch())
    }

    async fn fetch(self: Arc<Self>) -> Result<Arc<Issued>, CredentialError> {
        let held = self.held.load_full();
        if let Some(held) = held
            .as_ref()
            .filter(|held| self.standing(held) == Standing::Good)
        {
            return Ok(Arc::clone(held));
        }
        // Taken before the source is asked: a rejection that comes later speaks of what this
        // fetch may bring, and must outlive it.
        let rejected = self.rejected.swap(NONE, Ordering::AcqRel);
        let asking = Asking {
            credential: &self.credential,
            rejected: held
                .as_ref()
                .filter(|held| held.generation == rejected)
                .map(|held| &held.secret),
        };
        let fetched = self.fetcher.fetch(asking).await;
        match fetched.and_then(|fetched| self.issue(fetched, held.as_ref())) {
            Ok(issued) => {
                self.answered.mark();
                self.failure.store(None);
                self.held.store(Some(Arc::clone(&issued)));
                Ok(issued)
            }
            Err(error) => self.fail(error, held, rejected),
        }
    }

    /// Makes what was fetched usable. An unchanged value keeps its generation.
    fn issue(
        &self,
        fetched: Fetched,
        held: Option<&Arc<Issued>>,
    ) -> Result<Arc<Issued>, CredentialError> {
        let now = self.clock.now();
        if let Some(at) = fetched.expires_at.filter(|at| *at <= now) {
            return Err(CredentialError::Expired { at });
        }
        let same = held.filter(|held| held.secret == fetched.secret);
        if let Some(held) = same.filter(|held| held.renew_at.is_none_or(|at| now < at))
            && fetched.expires_at.is_none()
        {
            return Ok(Arc::clone(held));
        }
        let own_bound = self
            .credential
            .max_age
            .and_then(|age| now.checked_add(age).ok());
        let expires_at = [fetched.expires_at, own_bound].into_iter().flatten().min();
        Ok(Arc::new(Issued {
            secret: fetched.secret,
            name: self.credential.name.clone(),
            generation: same.map_or_else(
                || self.generations.next(&self.credential.name),
                |held| held.generation,
            ),
            obtained_at: now,
            expires_at,
            renew_at: expires_at.map(|end| renewal(now, end)),
        }))
    }

    /// Remembers a failure, and decides whether the value from before may serve meanwhile.
    fn fail(
        &self,
        error: CredentialError,
        held: Option<Arc<Issued>>,
        rejected: u64,
    ) -> Result<Arc<Issued>, CredentialError> {
        // Not solved, so the rejection stands; generations grow, so a newer one stays.
        self.rejected.fetch_max(rejected, Ordering::AcqRel);
        let held = held.filter(|held| self.serves_despite(held, &error));
        tracing::warn!(
            credential = %self.credential.name,
            error = %error,
            served_from_before = held.is_some(),
            "no credential from its source"
        );
        self.failure.store(Some(Arc::new(Failure {
            at: Instant::now(),
            error: error.clone(),
        })));
        if held.is_none() {
            self.held.store(None);
        }
        held.ok_or(error)
    }

    fn standing(&self, held: &Issued) -> Standing {
        let now = held.expires_at.map(|_| self.clock.now());
        let reached = |at: Option<Timestamp>| at.zip(now).is_some_and(|(at, now)| at <= now);
        if self.is_rejected(held) || reached(held.expires_at) {
            return Standing::Bad;
        }
        let recheck = self.fetcher.recheck(&self.credential);
        match recheck.map(|recheck| (recheck, self.answered.age().unwrap_or(Duration::MAX))) {
            Some((recheck, age)) if age >= recheck.overdue => Standing::Unchecked,
            Some((recheck, age)) if age >= recheck.due => Standing::Renew,
            Some(_) | None if reached(held.renew_at) => Standing::Renew,
            Some(_) | None => Standing::Good,
        }
    }

    fn is_rejected(&self, issued: &Issued) -> bool {
        self.rejected.load(Ordering::Acquire) == issued.generation
    }

    /// Whether a held value may be used although its source failed.
    fn serves_despite(&self, held: &Issued, error: &CredentialError) -> bool {
        match self.standing(held) {
            Standing::Bad => false,
            Standing::Good | Standing::Renew | Standing::Unchecked => {
                error.may_pass() && self.answered.within(GRACE)
            }
        }
    }
}

/// The moment to see about the next value: after four fifths of this one's life.
fn renewal(from: Timestamp, end: Timestamp) -> Timestamp {
    let life: SignedDuration = end.duration_since(from);
    end.checked_sub(life / 5).unwrap_or(from)
}
