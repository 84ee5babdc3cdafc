//! The credential of one request, and its outcome.

use std::sync::Arc;

use countersign_authorize::{Permit, Snapshot};
use countersign_config::model::{Attach, Credential, ResourceName, Target};
use countersign_core::{clock::Clock, reason::Reason};
use countersign_credential::{
    CredentialError, Issued,
    health::{HalfOpenPermit, Health, HostHealth, Rejected},
};

use super::RequestHandler;
use crate::{
    observe::{CredentialPart, Record, RejectedPart},
    probe::Waiting,
    refusal::Refusal,
};

/// The credential of one request, and what is known of it.
pub(super) struct BoundCredential<'s> {
    pub(super) attach: &'s Attach,
    pub(super) credential: &'s Arc<Credential>,
    pub(super) issued: Arc<Issued>,
    /// The workload that sends it.
    pub(super) workload: ResourceName,
    pub(super) health: Arc<Health>,
    /// The credential's health at the request's host.
    pub(super) place: Arc<HostHealth>,
    /// Set if this request tests whether a rejected value works again.
    pub(super) trial: Option<HalfOpenPermit>,
}

/// The credential that a request carried.
pub(super) struct UsedCredential {
    pub(super) workload: ResourceName,
    pub(super) place: Arc<HostHealth>,
    pub(super) issued: Arc<Issued>,
    /// Whether the API has certainly accepted it.
    pub(super) accepted: bool,
}

impl UsedCredential {
    pub(super) fn of(bound: &BoundCredential<'_>) -> Self {
        Self {
            workload: bound.workload.clone(),
            place: Arc::clone(&bound.place),
            issued: Arc::clone(&bound.issued),
            accepted: false,
        }
    }
}

impl UsedCredential {
    /// The API rejected the value, and there is no better one. The first time is logged.
    pub(super) fn rejected(&self, target: &Target, said: Option<&str>) {
        let (workload, generation) = (&self.workload, self.issued.generation());
        let tripped = self.place.breaker.trip(workload, generation, said);
        self.place.probed.doubt(generation);
        if tripped.is_news {
            tracing::warn!(
                credential = %self.issued.name(),
                target = %target.name,
                %workload,
                generation,
                said = said.unwrap_or_default(),
                "the API rejects the credential"
            );
        }
    }

    /// The API accepted the value. The end of a rejection is logged.
    pub(super) fn worked(&self, target: &Target) {
        let (workload, generation) = (&self.workload, self.issued.generation());
        if self.place.breaker.worked(workload, generation) {
            tracing::info!(
                credential = %self.issued.name(),
                target = %target.name,
                %workload,
                generation,
                "the API accepts the credential again"
            );
        }
        self.place.probed.worked(generation);
    }
}

/// Why a response reports a failure. The client gets the API's own response.
#[derive(Debug)]
pub(super) struct ResponseFailure {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

/// Obtains the credential that the permit names, just in time: nothing is fetched for a request that policy
/// does not permit, nor for one that its API would reject now.
pub(super) async fn obtain_credential<'s>(
    handler: &RequestHandler,
    snapshot: &'s Snapshot,
    permit: &Permit<'s>,
) -> Result<Option<BoundCredential<'s>>, Refusal> {
    let Some((attach, credential)) = permit.credential() else {
        return Ok(None);
    };
    let (target, workload) = (permit.grant().target(), &permit.grant().workload().name);
    let services = &handler.services.credential;
    let health = services.health.of(&credential.name);
    let place = health.at(permit.authority().host());
    let fetch = async || {
        let value = value(handler, credential).await;
        value.map_err(|error| Refusal::from(error).at(target))
    };
    let admit = |issued: &Issued| {
        let admitted = place.admit(workload, issued.generation());
        admitted.map_err(|rejected| Refusal::from(rejected).at(target))
    };
    let waiting = Waiting {
        authority: permit.authority(),
        target,
        attach,
        credential,
        health: &health,
        place: &place,
        policies: snapshot.policies(),
    };
    let mut issued = fetch().await?;
    let mut trial = admit(&issued)?;
    let probed = if let Some(trial) = &trial {
        // Its source may have a new value by now; then there is nothing to test.
        services
            .credentials
            .invalidate(&credential.name, issued.generation());
        issued = fetch().await?;
        trial.is_for_a_probe() && services.prober.retry(waiting).await
    } else {
        services.prober.prove(waiting, issued.generation()).await
    };
    if probed {
        drop(trial);
        issued = fetch().await?;
        trial = admit(&issued)?;
    }
    Ok(Some(BoundCredential {
        attach,
        credential,
        issued,
        workload: workload.clone(),
        health,
        place,
        trial,
    }))
}

/// The credential's value for this caller.
pub(super) async fn value(
    handler: &RequestHandler,
    credential: &Arc<Credential>,
) -> Result<Arc<Issued>, CredentialError> {
    let credentials = &handler.services.credential.credentials;
    let caller = &handler.session.caller;
    credentials.obtain_for(credential, caller).await
}

impl Record {
    /// Notes which credential it carries.
    pub(super) fn bound(&mut self, bound: Option<&BoundCredential<'_>>, clock: &Clock) {
        let Some(bound) = bound else {
            return;
        };
        self.credential = Some(CredentialPart {
            name: bound.issued.name().clone(),
            slot: Arc::clone(&bound.attach.slot),
            generation: 0,
            age_s: 0,
            expires_in_s: None,
            stale: false,
            rejected: None,
        });
        self.carries(&bound.issued, clock);
    }

    /// Notes which value of its credential it carries.
    pub(super) fn carries(&mut self, issued: &Issued, clock: &Clock) {
        let Some(part) = &mut self.credential else {
            return;
        };
        let now = clock.now();
        let seconds = |from: jiff::Timestamp, to: jiff::Timestamp| {
            u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
        };
        part.generation = issued.generation();
        part.age_s = seconds(issued.obtained_at(), now);
        part.expires_in_s = issued.expires_at().map(|end| seconds(now, end));
        part.stale = issued.is_stale();
    }

    /// Notes that the API rejected the value that it carried, and what it said.
    pub(super) fn rejected(&mut self, generation: u64, said: Option<&str>) {
        if let Some(part) = &mut self.credential {
            part.rejected = Some(Box::new(RejectedPart {
                generation,
                api_error: said.map(str::to_owned),
            }));
        }
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        Self::new(Reason::CredentialRejected, rejected.to_string())
    }
}
