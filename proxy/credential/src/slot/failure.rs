//! A failing source: how long a failure is cached, what is used meanwhile, and who waits.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{CredentialError, FetchTrigger, Freshness, Issued, Slot};

/// How long a failure is cached: a missing file is read once a second, however many requests need it.
const BACK_OFF: Duration = Duration::from_secs(1);

/// The longest that a request waits for a fetch, which continues without it: a disk may never respond.
const LONGEST_WAIT: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) at: Instant,
    pub(crate) error: CredentialError,
}

impl Slot {
    /// Waits for a fetch. If the last one hung, only briefly: the fetch continues, and the last known
    /// state is used meanwhile.
    pub(super) async fn wait(self: &Arc<Self>) -> Result<Arc<Issued>, CredentialError> {
        let began = Instant::now();
        let fetch = timeout(LONGEST_WAIT, self.start(FetchTrigger::Use));
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

    /// Records a failure, and decides whether the previous value may be used meanwhile.
    pub(super) fn fail(
        &self,
        error: CredentialError,
        held: Option<Arc<Issued>>,
        rejected: u64,
        began: Instant,
    ) -> Result<Arc<Issued>, CredentialError> {
        // Not solved, so the rejection remains; generations grow, so a newer one remains too.
        self.rejected.fetch_max(rejected, Ordering::AcqRel);
        let held = held.filter(|held| self.serves_despite(held, &error));
        let before = self.failure.load_full();
        let is_due = self.outage.failed(began);
        if is_due || before.is_none_or(|before| before.error != error) {
            tracing::warn!(
                credential = %self.credential.name,
                error = %error,
                served_from_before = held.is_some(),
                "the credential's source failed"
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

    /// Records why fetches will fail, for status reports.
    pub(crate) fn note_failure(&self, error: CredentialError) {
        if self.held.load().is_none() {
            self.failure.store(Some(Arc::new(Failure {
                at: Instant::now(),
                error,
            })));
        }
    }

    /// The failure of a moment ago, while nothing is fetched.
    pub(crate) fn failing(&self) -> Option<Arc<Failure>> {
        self.failure
            .load_full()
            .filter(|failure| failure.at.elapsed() < BACK_OFF)
    }

    /// Whether the current value may be used although its source failed.
    pub(super) fn serves_despite(&self, held: &Issued, error: &CredentialError) -> bool {
        match (self.freshness(held), held.recheck) {
            (Freshness::Bad, _) => false,
            (_, Some(recheck)) => self.answered.within(error.grace(recheck.grace)),
            // An issued value is valid until it expires, unless access was withdrawn.
            (_, None) => !error.withdraws(),
        }
    }
}
