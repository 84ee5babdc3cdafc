//! Who may refresh now: of all the replicas that share a store exactly one.
//!
//! Whoever wants to refresh writes first, by compare-and-set, what he is about to spend and that
//! he is at it. That keeps the others away, and it tells whoever comes after a crash that the
//! token may be spent although its fruit was never stored: he spends it again at once, which the
//! issuer allows for a short while.
//!
//! In a directory, a lock that dies with its process tells whether the holder still lives. In other
//! stores the holder writes a sign of life every [`HEARTBEAT`], and who has watched for
//! [`SILENCE`] without one takes over. That is measured by the watcher's own clock: the clocks of
//! two machines are not compared, but for claims so old that no clock can be that wrong
//! ([`LONG_AGO`]).

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use countersign_config::model::ResourceName;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Attempt, Document, Fingerprint, State, StateError, Stored, Version,
    directory::{Exclusive, PATIENCE},
    document::Lease,
};

/// How often a holder shows that he lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// After watching this long without a sign of life, a claim is taken over.
const SILENCE: Duration = Duration::from_secs(3);

/// A claim that ended this long ago by its own word is over without watching.
const LONG_AGO: SignedDuration = SignedDuration::from_secs(60);

/// How often a claim that another holds is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The pauses between attempts to keep what a refresh brought.
const KEEP_TRYING: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
];

/// What a wish to refresh came to.
#[derive(Debug)]
pub(crate) enum Turn<'a> {
    /// There is nothing to do (any more): another replica did it.
    Settled(Document),
    /// It is ours to do.
    Ours(Claimed<'a>),
}

/// The right to refresh one credential. If it is dropped before it was settled, the claim stays in
/// the store, and the next one finds it.
#[derive(Debug)]
pub(crate) struct Claimed<'a> {
    state: &'a State,
    credential: ResourceName,
    holder: Arc<str>,
    document: Document,
    version: Version,
    exclusive: Option<Exclusive>,
}

/// A claim that is watched for a sign of life.
#[derive(Debug)]
struct Watched {
    version: Version,
    since: Instant,
}

impl State {
    /// Waits until there is nothing to do or it is ours to do. `wanted` says what would be spent,
    /// given what is kept now; `None` if all is well.
    pub(crate) async fn turn(
        &self,
        credential: &ResourceName,
        wanted: impl Fn(&Document) -> Option<Fingerprint>,
    ) -> Result<Turn<'_>, StateError> {
        let began = Instant::now();
        let exclusive = self.exclude(credential).await?;
        let holder: Arc<str> = Uuid::now_v7().simple().to_string().into();
        let mut watched = None;
        loop {
            let Stored { document, version } = self.read(credential).await?;
            let Some(spends) = wanted(&document) else {
                return Ok(Turn::Settled(document));
            };
            if exclusive.is_some() || self.is_free(&document, &version, &mut watched) {
                let claim = self.claiming(document, &holder, spends);
                let is_first = version == Version::Absent;
                match self.replace(credential, &version, &claim).await {
                    Ok(version) => {
                        let mut claimed = Claimed {
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
                        return Ok(Turn::Ours(claimed));
                    }
                    // Another was quicker.
                    Err(StateError::Conflict) => {}
                    Err(error) => return Err(error),
                }
            }
            if began.elapsed() >= PATIENCE {
                let seconds = PATIENCE.as_secs();
                return Err(StateError::Busy { seconds });
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    fn is_free(
        &self,
        document: &Document,
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
            Some(watched) if watched.version == *version => watched.since.elapsed() >= SILENCE,
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
    fn claiming(&self, mut document: Document, holder: &Arc<str>, spends: Fingerprint) -> Document {
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
        until: now.saturating_add(SILENCE).unwrap_or(now),
    }
}

impl Claimed<'_> {
    /// What is kept now, our claim included.
    pub(crate) fn document(&self) -> &Document {
        &self.document
    }

    /// Since when what we claimed to spend may be spent.
    pub(crate) fn spent_since(&self) -> Option<Timestamp> {
        self.document.attempt.as_ref().map(|attempt| attempt.since)
    }

    /// Writes down that something else will be spent; to be called before it is.
    pub(crate) async fn intend(&mut self, spends: Fingerprint) -> Result<(), StateError> {
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

    /// Writes the claim once more. To make a document may take other rights than to replace it, and
    /// less room; that it can be replaced must be certain before anything is spent.
    async fn prove_replaceable(&mut self) -> Result<(), StateError> {
        self.write(self.document.clone()).await
    }

    /// Does the work and shows all the while that we live.
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
                    // If we lost the claim, the end will show it; what was sent cannot be recalled.
                    Err(error) => tracing::debug!(
                        credential = %self.credential, %error, "no sign of life could be given"
                    ),
                },
            }
        }
    }

    async fn beat(&self) -> Result<(Document, Version), StateError> {
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

    /// Ends the claim with what is to be kept, trying for some seconds. [`StateError::Conflict`]
    /// says that another took the claim over meanwhile.
    pub(crate) async fn settle(mut self, mut document: Document) -> Result<Document, StateError> {
        if let Some(attempt) = &mut document.attempt {
            attempt.lease = None;
        }
        self.write(document).await?;
        Ok(self.document)
    }

    /// Writes although there are hitches.
    async fn write(&mut self, mut next: Document) -> Result<(), StateError> {
        let mut pauses = KEEP_TRYING.iter();
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

    /// Writes once. A conflict may be one with ourselves: with a sign of life, or with this very
    /// writing, if its outcome was not told to us.
    async fn try_write(&mut self, next: &mut Document) -> Result<Version, StateError> {
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
