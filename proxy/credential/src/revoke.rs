//! Revokes values at their issuers after the last holder has dropped them.
//!
//! A released value may still be in use by a request. So no code has to know when it is safe to revoke:
//! dropping the last holder is the moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use countersign_config::model::Credential;
use countersign_core::{clock::Clock, secret::Secret};
use jiff::Timestamp;
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::task::TaskTracker;

use super::{provider::Fetcher, revocation::Revocation};

/// The most concurrent revocations.
const AT_ONCE: usize = 8;

/// The delays between the attempts; a permanent failure ends them.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// The message for a value that its credential wants to be revoked and that is not.
pub(super) const NOT_REVOKED: &str = "revokeWhenIdle has no effect: revoking this value would do more, as for a Slack bot token, where it deactivates the bot user";

/// A value that its users share, and that is revoked when the last of them drops it, if the credential
/// asks for that.
#[derive(Debug)]
pub(super) struct Value {
    secret: Secret,
    ending: Option<Ending>,
}

#[derive(Debug)]
struct Ending {
    revocation: Revocation,
    credential: Arc<Credential>,
    /// From this second on revoking is pointless.
    ends_at: AtomicI64,
    revoker: Arc<Revoker>,
}

/// The second of a time; the maximum if there is none.
fn second(moment: Option<Timestamp>) -> i64 {
    moment.map_or(i64::MAX, Timestamp::as_second)
}

impl Value {
    pub(super) fn new(
        secret: Secret,
        expires_at: Option<Timestamp>,
        revocation: Option<Revocation>,
        credential: &Arc<Credential>,
        revoker: &Arc<Revoker>,
    ) -> Self {
        if revocation.is_none() && credential.revoke_when_idle {
            tracing::warn!(credential = %credential.name, "{NOT_REVOKED}");
        }
        let revocation = revocation.filter(|_| credential.revoke_when_idle);
        Self {
            secret,
            ending: revocation.map(|revocation| Ending {
                revocation,
                credential: Arc::clone(credential),
                ends_at: AtomicI64::new(second(expires_at)),
                revoker: Arc::clone(revoker),
            }),
        }
    }

    /// Its issuer has returned the same value again, with another expiry.
    pub(super) fn now_ends(&self, expires_at: Option<Timestamp>) {
        if let Some(ending) = &self.ending {
            ending.ends_at.store(second(expires_at), Ordering::Relaxed);
        }
    }

    /// Whether it will be revoked when no one holds it any more.
    pub(super) fn is_revoked_at_end(&self) -> bool {
        self.ending.is_some()
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            let revoker = Arc::clone(&ending.revoker);
            revoker.revoke(ending, self.secret.clone());
        }
    }
}

/// Revokes values in tasks of its own.
#[derive(Debug)]
pub(super) struct Revoker {
    fetcher: Fetcher,
    clock: Clock,
    tasks: TaskTracker,
    places: Semaphore,
    runtime: Handle,
}

impl Revoker {
    /// To be called within the runtime that runs revocations: values can be dropped on any thread.
    pub(super) fn new(fetcher: Fetcher, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            fetcher,
            clock,
            tasks: TaskTracker::new(),
            places: Semaphore::new(AT_ONCE),
            runtime: Handle::current(),
        })
    }

    /// Waits, at most for `limit`, until all dropped values are revoked; returns whether they were.
    pub(super) async fn finish(&self, limit: Duration) -> bool {
        self.tasks.close();
        let waiting = tokio::time::timeout(limit, self.tasks.wait());
        waiting.await.is_ok()
    }

    fn revoke(self: Arc<Self>, ending: Ending, secret: Secret) {
        if ending.ends_at.load(Ordering::Relaxed) <= self.clock.now().as_second() {
            return;
        }
        let (tasks, runtime) = (self.tasks.clone(), self.runtime.clone());
        let result = CutOff(Some(ending));
        tasks.spawn_on(
            async move { self.carry_out(result, &secret).await },
            &runtime,
        );
    }

    async fn carry_out(&self, mut pending: CutOff, secret: &Secret) {
        let Some(ending) = &pending.0 else { return };
        // The semaphore is never closed; without a permit only the order would be lost.
        let _place = self.places.acquire().await;
        let mut pauses = PAUSES.iter();
        let result = loop {
            let Ending {
                revocation,
                credential,
                ..
            } = ending;
            let now = self.clock.now();
            let telling = self.fetcher.revoke(revocation, credential, secret, now);
            let result = telling.await;
            match (&result, pauses.next()) {
                (Err(error), Some(pause)) if error.may_pass() => tokio::time::sleep(*pause).await,
                _ => break result,
            }
        };
        match result {
            Ok(()) => tracing::info!(
                credential = %ending.credential.name,
                "the credential's value was revoked at its issuer"
            ),
            Err(error) => complain(ending, &error.to_string()),
        }
        pending.0 = None;
    }
}

/// A revocation in progress. Logs if the process's end interrupts it.
struct CutOff(Option<Ending>);

impl Drop for CutOff {
    fn drop(&mut self) {
        if let Some(ending) = &self.0 {
            complain(
                ending,
                "the gateway ended before the revocation was complete",
            );
        }
    }
}

fn complain(ending: &Ending, why: &str) {
    let until = Timestamp::from_second(ending.ends_at.load(Ordering::Relaxed))
        .map_or_else(|_| "for ever".to_owned(), |at| at.to_string());
    tracing::warn!(
        credential = %ending.credential.name,
        error = why,
        until,
        "an unused value was not revoked; its issuer accepts it until it expires: revoke it there if that is too long"
    );
}
