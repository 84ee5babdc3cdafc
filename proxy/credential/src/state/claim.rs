//! The right to refresh: exactly one of the replicas that share a store has it.
//!
//! A replica records by compare-and-set which token it is about to spend. That keeps the others away. It
//! also tells a successor after a crash that the token may be spent although the result was never
//! stored: the successor sends it again at once, which the issuer allows for a short time.
//!
//! In a directory, a file lock that ends with its process shows whether the holder still lives. In other
//! stores the holder writes a heartbeat every [`HEARTBEAT`], and a replica that has seen none for
//! [`CLAIM_TIMEOUT`] takes over. It measures that by its own clock: the clocks of two machines are not
//! compared, except for claims so old that no clock can be that wrong ([`LONG_AGO`]).

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use countersign_config::model::ResourceName;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Attempt, Fingerprint, State, StateDocument, StateError, Stored, Version,
    directory::{Exclusive, PATIENCE},
    document::Lease,
};

/// The interval of the holder's heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// After this long without a heartbeat, a claim is taken over.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(3);

/// A claim that ended this long ago by its own timestamp is over without watching.
const LONG_AGO: SignedDuration = SignedDuration::from_secs(60);

/// The polling interval for a claim that another replica holds.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The delays between attempts to store the result of a refresh.
const RETRY_DELAYS: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
];

/// The outcome of trying to claim a refresh.
#[derive(Debug)]
pub(crate) enum ClaimOutcome<'a> {
    /// There is nothing to do: another replica did it.
    Settled(StateDocument),
    /// This replica has the claim.
    Ours(ClaimGuard<'a>),
}

/// The right to refresh one credential. If it is dropped before it is settled, the claim stays in the
/// store, and a successor finds it.
#[derive(Debug)]
pub(crate) struct ClaimGuard<'a> {
    state: &'a State,
    credential: ResourceName,
    holder: Arc<str>,
    document: StateDocument,
    version: Version,
    exclusive: Option<Exclusive>,
}

/// A claim that is watched for heartbeats.
#[derive(Debug)]
struct Watched {
    version: Version,
    since: Instant,
}

impl State {
    /// Waits until there is nothing to do or this replica has the claim. `wanted` returns what would be
    /// spent, given the stored document; `None` if nothing needs to be done.
    pub(crate) async fn claim(
        &self,
        credential: &ResourceName,
        wanted: impl Fn(&StateDocument) -> Option<Fingerprint>,
    ) -> Result<ClaimOutcome<'_>, StateError> {
        let began = Instant::now();
        let exclusive = self.exclude(credential).await?;
        let holder: Arc<str> = Uuid::now_v7().simple().to_string().into();
        let mut watched = None;
        loop {
            let Stored { document, version } = self.read(credential).await?;
            let Some(spends) = wanted(&document) else {
                return Ok(ClaimOutcome::Settled(document));
            };
            if exclusive.is_some() || self.is_free(&document, &version, &mut watched) {
                let claim = self.claiming(document, &holder, spends);
                let is_first = version == Version::Absent;
                match self.replace(credential, &version, &claim).await {
                    Ok(version) => {
                        let mut claimed = ClaimGuard {
                            state: self,
                            credential: credential.clone(),
                            holder,
                            document: claim,
                            version,
                            exclusive,
                        };
                        if is_first {
                            claimed.prove_replaceable().await?;
                        }
                        return Ok(ClaimOutcome::Ours(claimed));
                    }
                    // Another replica was faster.
                    Err(StateError::Conflict) => {}
                    Err(error) => return Err(error),
                }
            }
            if began.elapsed() >= PATIENCE {
                let seconds = PATIENCE.as_secs();
                return Err(StateError::Busy { seconds });
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    fn is_free(
        &self,
        document: &StateDocument,
        version: &Version,
        watched: &mut Option<Watched>,
    ) -> bool {
        let lease = document.attempt.as_ref().and_then(|a| a.lease.as_ref());
        let Some(lease) = lease else {
            return true;
        };
        if self.now().duration_since(lease.until) >= LONG_AGO {
            return true;
        }
        match watched {
            Some(watched) if watched.version == *version => {
                watched.since.elapsed() >= CLAIM_TIMEOUT
            }
            Some(_) | None => {
                *watched = Some(Watched {
                    version: version.clone(),
                    since: Instant::now(),
                });
                false
            }
        }
    }

    /// The document with our claim in it.
    fn claiming(
        &self,
        mut document: StateDocument,
        holder: &Arc<str>,
        spends: Fingerprint,
    ) -> StateDocument {
        let now = self.now();
        document.serial += 1;
        let before = document.attempt.take();
        let since = before
            .filter(|before| before.spends == spends)
            .map_or(now, |before| before.since);
        document.attempt = Some(Attempt {
            spends,
            since,
            lease: Some(lease(holder, now)),
        });
        document
    }
}

fn lease(holder: &Arc<str>, now: Timestamp) -> Lease {
    Lease {
        holder: Arc::clone(holder),
        until: now.saturating_add(CLAIM_TIMEOUT).unwrap_or(now),
    }
}

impl ClaimGuard<'_> {
    /// The stored document, including our claim.
    pub(crate) fn document(&self) -> &StateDocument {
        &self.document
    }

    /// Since when the token that we claimed may have been spent.
    pub(crate) fn spent_since(&self) -> Option<Timestamp> {
        self.document.attempt.as_ref().map(|attempt| attempt.since)
    }

    /// Records that something else will be spent; to be called before it is.
    pub(crate) async fn record_intent(&mut self, spends: Fingerprint) -> Result<(), StateError> {
        if self
            .document
            .attempt
            .as_ref()
            .is_some_and(|a| a.spends == spends)
        {
            return Ok(());
        }
        let next = self
            .state
            .claiming(self.document.clone(), &self.holder, spends);
        self.write(next).await
    }

    /// Writes the claim once more. Creating a document can need other rights than replacing it, and less
    /// room. That it can be replaced must be certain before anything is spent.
    async fn prove_replaceable(&mut self) -> Result<(), StateError> {
        self.write(self.document.clone()).await
    }

    /// Does the work while sending heartbeats.
    pub(crate) async fn hold<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if self.exclusive.is_some() {
            return work.await;
        }
        loop {
            let beat = async {
                sleep(HEARTBEAT).await;
                self.beat().await
            };
            tokio::select! {
                biased;
                done = &mut work => return done,
                beaten = beat => match beaten {
                    Ok((document, version)) => (self.document, self.version) = (document, version),
                    // If we lost the claim, `settle` will find out; what was sent cannot be recalled.
                    Err(error) => tracing::debug!(
                        credential = %self.credential, %error, "a heartbeat could not be written"
                    ),
                },
            }
        }
    }

    async fn beat(&self) -> Result<(StateDocument, Version), StateError> {
        let mut next = self.document.clone();
        next.serial += 1;
        let lease = lease(&self.holder, self.state.now());
        if let Some(attempt) = &mut next.attempt {
            attempt.lease = Some(lease);
        }
        let version = self
            .state
            .replace(&self.credential, &self.version, &next)
            .await?;
        Ok((next, version))
    }

    /// Ends the claim with the document to store, retrying for some seconds. [`StateError::Conflict`]
    /// means that another replica took the claim over meanwhile.
    pub(crate) async fn settle(
        mut self,
        mut document: StateDocument,
    ) -> Result<StateDocument, StateError> {
        if let Some(attempt) = &mut document.attempt {
            attempt.lease = None;
        }
        self.write(document).await?;
        Ok(self.document)
    }

    /// Writes, with retries.
    async fn write(&mut self, mut next: StateDocument) -> Result<(), StateError> {
        let mut pauses = RETRY_DELAYS.iter();
        loop {
            next.serial = self.document.serial + 1;
            let error = match self.try_write(&mut next).await {
                Ok(version) => {
                    (self.document, self.version) = (next, version);
                    return Ok(());
                }
                Err(error) => error,
            };
            match pauses.next() {
                Some(pause) if error.may_pass() && error != StateError::Conflict => {
                    sleep(*pause).await;
                }
                Some(_) | None => return Err(error),
            }
        }
    }

    /// Writes once. A conflict may be caused by ourselves: by a heartbeat, or by this write if its
    /// result was lost.
    async fn try_write(&mut self, next: &mut StateDocument) -> Result<Version, StateError> {
        let (state, credential) = (self.state, &self.credential);
        match state.replace(credential, &self.version, next).await {
            Err(StateError::Conflict) => {}
            other => return other,
        }
        let Stored { document, version } = state.read(credential).await?;
        if document == *next {
            return Ok(version);
        }
        let lease = document.attempt.as_ref().and_then(|a| a.lease.as_ref());
        if lease.is_none_or(|lease| lease.holder != self.holder) {
            return Err(StateError::Conflict);
        }
        next.serial = document.serial + 1;
        (self.document, self.version) = (document, version);
        state.replace(&self.credential, &self.version, next).await
    }
}
