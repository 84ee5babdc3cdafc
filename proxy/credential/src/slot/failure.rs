//! A source that fails: for how long that is remembered, what serves meanwhile, and who waits.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{CredentialError, Issued, Slot, Standing, Why};

/// How long a failure is answered from memory: a missing file costs one look a second, however
/// many requests want it.
const BACK_OFF: Duration = Duration::from_secs(1);

/// The longest that a request waits for a fetch, which goes on without it: a disk may never answer.
const LONGEST_WAIT: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) at: Instant,
    pub(crate) error: CredentialError,
}

impl Slot {
    /// Waits for a fetch. If the one before had no answer, then not for long: the fetch goes on, and
    /// meanwhile what was known before holds.
    pub(super) async fn wait(self: &Arc<Self>) -> Result<Arc<Issued>, CredentialError> {
        let began = Instant::now();
        let fetch = timeout(LONGEST_WAIT, self.start(Why::Use));
        let failure = self.failure.load_full().filter(|_| self.outage.hangs());
        if let Some(failure) = &failure
            && let Some(held) = self.held.load_full()
            && self.serves_despite(&held, &failure.error)
        {
            return Ok(held);
        }
        match self.outage.patiently(fetch).await {
            Some(Ok(fetched)) => fetched.unwrap_or(Err(CredentialError::Abandoned)),
            Some(Err(_elapsed)) => {
                self.outage.failed(began);
                Err(CredentialError::TooSlow)
            }
            None => Err(failure.map_or(CredentialError::TooSlow, |failure| failure.error.clone())),
        }
    }

    /// Remembers a failure, and decides whether the value from before may serve meanwhile.
    pub(super) fn fail(
        &self,
        error: CredentialError,
        held: Option<Arc<Issued>>,
        rejected: u64,
        began: Instant,
    ) -> Result<Arc<Issued>, CredentialError> {
        // Not solved, so the rejection stands; generations grow, so a newer one stays.
        self.rejected.fetch_max(rejected, Ordering::AcqRel);
        let held = held.filter(|held| self.serves_despite(held, &error));
        let before = self.failure.load_full();
        let is_due = self.outage.failed(began);
        if is_due || before.is_none_or(|before| before.error != error) {
            tracing::warn!(
                credential = %self.credential.name,
                error = %error,
                served_from_before = held.is_some(),
                "no credential from its source"
            );
        }
        self.failure.store(Some(Arc::new(Failure {
            at: Instant::now(),
            error: error.clone(),
        })));
        self.stale.store(true, Ordering::Relaxed);
        if held.is_none() {
            self.held.store(None);
        }
        held.ok_or(error)
    }

    /// Notes what will keep a fetch from bringing anything, for whoever asks how the credential stands.
    pub(crate) fn note_failure(&self, error: CredentialError) {
        if self.held.load().is_none() {
            self.failure.store(Some(Arc::new(Failure {
                at: Instant::now(),
                error,
            })));
        }
    }

    /// The failure of a moment ago, during which nothing is asked.
    pub(crate) fn failing(&self) -> Option<Arc<Failure>> {
        self.failure
            .load_full()
            .filter(|failure| failure.at.elapsed() < BACK_OFF)
    }

    /// Whether a held value may be used although its source failed.
    pub(super) fn serves_despite(&self, held: &Issued, error: &CredentialError) -> bool {
        match (self.standing(held), held.recheck) {
            (Standing::Bad, _) => false,
            (_, Some(recheck)) => self.answered.within(error.grace(recheck.grace)),
            // What was issued is good until its own end, unless access was taken away.
            (_, None) => !error.withdraws(),
        }
    }
}
