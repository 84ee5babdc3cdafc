//! Telling issuers that a value is no longer needed, once nobody holds it any more.
//!
//! A value that is let go may still be on its way with a request. So nobody has to know when it is
//! safe to end it: the last holder's letting go is the moment.

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

use super::{
    CredentialError, Tools,
    provider::{self, Asking, Fetcher},
};
use crate::vault::Lease;

/// Revocations at a time: they may wait, requests may not.
const AT_ONCE: usize = 8;

/// The waits between the attempts; a failure that cannot pass ends them.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// What is told of a value that its credential wants to be revoked and that is not.
pub(super) const NOT_REVOKED: &str = "revokeWhenIdle is not heeded: the value cannot be ended without \
     more than it, such as a Slack bot's token, with which the bot user would be deactivated";

/// How an issuer is told that one of its values is no longer needed. Holds no secret itself.
#[derive(Debug, Clone)]
pub(super) enum Revocation {
    /// At the token endpoint's revocation URL (RFC 7009), as the client that asked for it.
    Oauth,
    /// By Slack's `auth.revoke`, and in the store of rotated tokens first.
    Slack,
    /// At the Vault that made it.
    Lease(Arc<Lease>),
}

impl Revocation {
    pub(super) async fn carry_out(
        &self,
        asking: &Asking<'_>,
        secret: &Secret,
        tools: &Tools,
    ) -> Result<(), CredentialError> {
        match self {
            Self::Oauth => provider::revoke_access_token(asking, secret, tools).await,
            Self::Slack => provider::revoke_slack(asking.credential, secret, tools).await,
            Self::Lease(lease) => tools.sources.end(lease).await,
        }
    }
}

/// A value that is shared by all who use it, and revoked when the last of them lets it go, if the
/// credential asks for that.
#[derive(Debug)]
pub(super) struct Value {
    secret: Secret,
    ending: Option<Ending>,
}

#[derive(Debug)]
struct Ending {
    revocation: Revocation,
    credential: Arc<Credential>,
    /// From this second on there is nothing to revoke.
    ends_at: AtomicI64,
    revoker: Arc<Revoker>,
}

/// The second of a moment; the last there is for none.
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

    /// Its issuer has given the same value again, with another end.
    pub(super) fn now_ends(&self, expires_at: Option<Timestamp>) {
        if let Some(ending) = &self.ending {
            ending.ends_at.store(second(expires_at), Ordering::Relaxed);
        }
    }

    /// Whether it will be revoked when nobody holds it any more.
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
    /// To be made within the runtime that revocations run on: values may end on any thread.
    pub(super) fn new(fetcher: Fetcher, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            fetcher,
            clock,
            tasks: TaskTracker::new(),
            places: Semaphore::new(AT_ONCE),
            runtime: Handle::current(),
        })
    }

    /// Waits until all that was let go is revoked; whether it was, within `limit`.
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
        // Never closed; without a place nothing is lost but order.
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
                "the credential's value was revoked where it was issued"
            ),
            Err(error) => complain(ending, &error.to_string()),
        }
        pending.0 = None;
    }
}

/// A revocation that is not over. Says so if it is cut off by the process's end.
struct CutOff(Option<Ending>);

impl Drop for CutOff {
    fn drop(&mut self) {
        if let Some(ending) = &self.0 {
            complain(ending, "the gateway ended before the issuer was told");
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
        "a value that is not used any more was not revoked; its issuer takes it until its end: \
         revoke it there if that is too long"
    );
}
