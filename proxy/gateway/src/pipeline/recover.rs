//! One exchange with an API that may reject the credential, and what is done about it.
//!
//! ```text
//! send -> judge -> (renew the credential -> send once more -> judge)
//! ```
//!
//! Only what the target declares a failed credential is recovered from: there the API has not acted. A
//! request is sent a second time once at most, with another value than the first, and only if the
//! whole of its body was kept. Whatever hinders that, the client gets the API's own answer, and the
//! record says why.

use std::{fmt, sync::Arc};

use countersign_config::model::{Attach, AuthFailure, AuthFailureAction, Credential, ResourceName};
use countersign_core::reason::Reason;
use countersign_credential::{
    CredentialError, Issued,
    health::{HalfOpenPermit, Health, HostHealth, Rejected},
};
use countersign_upstream::{
    detect::{Seen, Verdict},
    forward::{BodyMeter, NotKept, RequestBody, Sent, UpstreamBody},
    inject::{self, Stripped},
};
use http::{Request, StatusCode, request::Parts, uri::PathAndQuery};

use super::{
    aftermath::{Aftermath, Carried, Trouble},
    answer::Streamed,
    api_error::ApiError,
    held::Resumed,
};
use crate::{accept::Session, authorize::Permit, observe::Record, refusal::Refusal};

/// The credential of one request, and what is known of it.
pub(super) struct Armed<'s> {
    pub(super) attach: &'s Attach,
    pub(super) credential: &'s Arc<Credential>,
    pub(super) issued: Arc<Issued>,
    /// In whose name it is sent.
    pub(super) workload: ResourceName,
    pub(super) health: Arc<Health>,
    /// The same where the request goes.
    pub(super) place: Arc<HostHealth>,
    /// This request finds out whether a rejected value works again.
    pub(super) trial: Option<HalfOpenPermit>,
}

/// What became of a rejected credential.
enum Renewal {
    /// There is another value.
    Renewed(Arc<Issued>),
    /// There is, but the request cannot be sent again.
    NotKept(NotKept),
    /// Its source still has the value that was rejected.
    Unchanged,
    /// It was renewed for this reason too often of late.
    TooOften,
    /// Its source could not be asked.
    Failed(CredentialError),
    /// The one that there is was rejected before, too.
    StillRejected,
}

impl fmt::Display for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Renewed(_) => f.write_str("it was rejected again after it was renewed"),
            Self::NotKept(why) => write!(
                f,
                "it was renewed for the next request, but this one could not be sent again: {why}"
            ),
            Self::Unchanged => f.write_str("its source still has the same value"),
            Self::TooOften => f.write_str(
                "it was renewed so often of late because of rejections that it is kept for now",
            ),
            Self::Failed(error) => write!(f, "it could not be renewed: {error}"),
            Self::StillRejected => f.write_str("there is no value that is not rejected"),
        }
    }
}

/// One request on its way.
pub(super) struct Exchange<'x, 's> {
    pub(super) session: &'x Arc<Session>,
    pub(super) permit: &'x Permit<'s>,
    pub(super) armed: Option<Armed<'s>>,
    /// The request's target without the credential.
    pub(super) stripped: PathAndQuery,
    pub(super) meter: Arc<BodyMeter>,
}

impl<'s> Exchange<'_, 's> {
    /// What watches over the request's body, and keeps it until the answer comes: it may be needed
    /// again, because the API rejects the credential or refuses the request unprocessed.
    pub(super) fn meter(session: &Session) -> Arc<BodyMeter> {
        Arc::new(match session.rooms.limits.replay_bytes {
            0 => BodyMeter::default(),
            bytes => BodyMeter::keeping(bytes, session.purse.charge()),
        })
    }

    fn recovers(&self) -> bool {
        let target = permit_target(self.permit);
        self.session.rooms.limits.replay_bytes > 0 && target.auth_failure.iter().any(is_recoverable)
    }

    /// Sends the request, and once more if that is what it takes.
    pub(super) async fn run(
        mut self,
        parts: Parts,
        body: Stripped<hyper::body::Incoming>,
        record: &mut Record,
    ) -> Result<Streamed, Refusal> {
        let body = match body {
            Stripped::Untouched(begun, rest) => {
                RequestBody::resumed(begun, rest, Arc::clone(&self.meter))
            }
            Stripped::Rewritten(form, charge) => {
                self.meter.holds(charge);
                RequestBody::full(form, Arc::clone(&self.meter))
            }
        };
        let Some(armed) = self.armed.take() else {
            let sent = self.send(parts, body, None, record).await?;
            self.meter.forget_kept();
            let response = self.held(sent.response)?;
            return Ok(self.answer(response, None, None));
        };
        // Only where it may be needed: the names and values within are counted references.
        let again = self.recovers().then(|| parts.clone());
        let sent = self.send(parts, body, again.as_ref(), record).await?;
        self.judged(sent, again, armed, record).await
    }

    async fn judged(
        self,
        sent: Sent,
        again: Option<Parts>,
        armed: Armed<'s>,
        record: &mut Record,
    ) -> Result<Streamed, Refusal> {
        let target = permit_target(self.permit);
        let limit = self.session.rooms.limits.inspect_bytes;
        let seen = Seen::of(self.permit.route(), &sent.response, limit);
        let mut response = self.held(sent.response)?;
        let verdict = response.body_mut().judge(seen, target, limit).await;
        match verdict {
            Verdict::Failed(rule) if is_recoverable(rule) => {
                // Boxed, as it is rare: else every request would carry the room for it.
                Box::pin(self.rejected(response, seen, again, armed, record)).await
            }
            verdict => Ok(self.passed(response, verdict, &armed)),
        }
    }

    /// The answer goes on as it is.
    fn passed(
        self,
        response: http::Response<Resumed>,
        verdict: Verdict<'_>,
        armed: &Armed<'_>,
    ) -> Streamed {
        self.meter.forget_kept();
        self.note_limit(&response, armed);
        armed.health.scopes.note(response.headers());
        let fine = matches!(verdict, Verdict::Fine);
        let status = response.status();
        if fine && !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS {
            let generation = armed.issued.generation();
            armed.place.breaker.worked(&armed.workload, generation);
            armed.place.probed.worked(generation);
        }
        let mut carried = Carried::of(armed);
        carried.fine = fine;
        self.answer(response, Some(carried), None)
    }

    /// What the API says of its rate limit holds for all that share the credential, if within a bound.
    fn note_limit(&self, response: &http::Response<Resumed>, armed: &Armed<'_>) {
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let host = self.permit.authority().host();
            armed.health.limits.note(
                Some(&armed.workload),
                permit_target(self.permit).rate_limit,
                host,
                self.stripped.path(),
                response.headers(),
                self.session.rooms.clock.now(),
            );
        }
    }

    /// The API rejected the credential.
    async fn rejected(
        self,
        mut response: http::Response<Resumed>,
        seen: Seen,
        again: Option<Parts>,
        armed: Armed<'s>,
        record: &mut Record,
    ) -> Result<Streamed, Refusal> {
        let limit = self.session.rooms.limits.inspect_bytes;
        response.body_mut().finish(limit).await;
        let said = said(seen, response.body(), &armed.issued);
        let generation = armed.issued.generation();
        record.rejected(generation, said.as_deref());
        let renewal = self.renew(&armed).await;
        if let Renewal::Renewed(issued) = &renewal {
            let Ok(trial) = armed.place.admit(&armed.workload, issued.generation()) else {
                return Ok(self.gave_up(response, &Renewal::StillRejected, said, &armed));
            };
            let armed = Armed { trial, ..armed };
            let kept = again.ok_or(NotKept::TooLarge);
            match kept.and_then(|again| Ok((again, self.meter.take_kept()?))) {
                Ok((again, body)) => {
                    let issued = Arc::clone(issued);
                    // The first answer is let go before the second is asked for.
                    drop(response);
                    return self.replay(again, body, issued, armed, record).await;
                }
                Err(why) => {
                    return Ok(self.gave_up(response, &Renewal::NotKept(why), said, &armed));
                }
            }
        }
        Ok(self.gave_up(response, &renewal, said, &armed))
    }

    /// Has the credential renewed; all requests that failed with this value share one renewal, and
    /// it goes on if they leave.
    async fn renew(&self, armed: &Armed<'s>) -> Renewal {
        let credentials = &self.session.rooms.credentials;
        let generation = armed.issued.generation();
        if armed.trial.is_some() {
            // Its source was asked before this was sent.
            return Renewal::StillRejected;
        }
        let may_renew = credentials.invalidate(armed.issued.name(), generation);
        match super::value(self.session, armed.credential).await {
            Ok(issued) if issued.generation() == generation && may_renew => Renewal::Unchanged,
            Ok(issued) if issued.generation() == generation => Renewal::TooOften,
            Ok(issued) => Renewal::Renewed(issued),
            Err(error) => Renewal::Failed(error),
        }
    }

    /// Sends the request a second time, to the same place, by the same permit.
    async fn replay(
        self,
        mut parts: Parts,
        body: bytes::Bytes,
        issued: Arc<Issued>,
        armed: Armed<'s>,
        record: &mut Record,
    ) -> Result<Streamed, Refusal> {
        let target = permit_target(self.permit);
        let limit = self.session.rooms.limits.inspect_bytes;
        let (authority, stripped) = (self.permit.authority(), self.stripped.clone());
        inject::again(
            &mut parts,
            authority,
            stripped,
            self.permit.route(),
            armed.attach,
            issued.secret(),
        )
        .map_err(|error| Refusal::from(error).at(target))?;
        let armed = Armed { issued, ..armed };
        record.carries(&armed.issued, &self.session.rooms.clock);
        // The client's bytes were counted the first time.
        let meter = Arc::new(BodyMeter::default());
        let sent = self
            .send(parts, RequestBody::full(body, meter), None, record)
            .await?;
        if let Some(upstream) = &mut record.upstream {
            upstream.replayed = true;
        }
        let seen = Seen::of(self.permit.route(), &sent.response, limit);
        let mut response = self.held(sent.response)?;
        match response.body_mut().judge(seen, target, limit).await {
            Verdict::Failed(rule) if is_recoverable(rule) => {
                response.body_mut().finish(limit).await;
                let said = said(seen, response.body(), &armed.issued);
                let issued = Arc::clone(&armed.issued);
                Ok(self.gave_up(response, &Renewal::Renewed(issued), said, &armed))
            }
            verdict => Ok(self.passed(response, verdict, &armed)),
        }
    }

    /// The client gets the API's own answer, and the next requests are spared it.
    fn gave_up(
        self,
        response: http::Response<Resumed>,
        renewal: &Renewal,
        said: Option<String>,
        armed: &Armed<'s>,
    ) -> Streamed {
        self.meter.forget_kept();
        let generation = armed.issued.generation();
        match renewal {
            // There is another value, which is free to go; or there is none, and how long that is
            // remembered is the credential room's to say.
            Renewal::NotKept(_) | Renewal::Failed(_) => {}
            Renewal::Renewed(_)
            | Renewal::Unchanged
            | Renewal::TooOften
            | Renewal::StillRejected => {
                let (place, workload) = (&armed.place, &armed.workload);
                place.breaker.trip(workload, generation, said.as_deref());
                place.probed.doubt(generation);
            }
        }
        let trouble = Trouble {
            reason: Reason::CredentialRejected,
            detail: format!(
                "{} rejected {} (generation {generation}){}; {renewal}. {}",
                permit_target(self.permit).name,
                armed.issued.name(),
                said.map(|said| format!(" with `{said}`"))
                    .unwrap_or_default(),
                Reason::CredentialRejected.facts().remedy,
            ),
        };
        let carried = Carried::of(armed);
        self.answer(response, Some(carried), Some(trouble))
    }

    /// An answer is held until it is judged, and until its client takes it.
    fn held(
        &self,
        response: http::Response<UpstreamBody>,
    ) -> Result<http::Response<Resumed>, Refusal> {
        let purse = &self.session.purse;
        let mut room = purse.charge();
        room.set(response.body().most_held())
            .map_err(|short| Refusal::from(short).at(permit_target(self.permit)))?;
        Ok(response.map(|body| Resumed::from(body).charged(purse.charge(), room)))
    }

    async fn send(
        &self,
        parts: Parts,
        body: RequestBody,
        copy: Option<&Parts>,
        record: &mut Record,
    ) -> Result<Sent, Refusal> {
        let request = Request::from_parts(parts, body);
        let (session, meter) = (self.session, &self.meter);
        super::forward(session, request, copy, self.permit, record, meter).await
    }

    fn answer(
        self,
        response: http::Response<Resumed>,
        carried: Option<Carried>,
        trouble: Option<Trouble>,
    ) -> Streamed {
        let aftermath = Aftermath::new(self.session, self.permit, &response, carried, trouble);
        Streamed::new(response, aftermath, self.meter)
    }
}

/// What the API said, of an answer that is here as a whole.
fn said(seen: Seen, body: &Resumed, issued: &Issued) -> Option<String> {
    let error = ApiError::read(seen, &body.content())?;
    Some(error.without(Some(issued)).code)
}

fn permit_target<'s>(permit: &Permit<'s>) -> &'s Arc<countersign_config::model::Target> {
    permit.grant().target()
}

fn is_recoverable(rule: &AuthFailure) -> bool {
    match rule.then {
        AuthFailureAction::RefreshAndReplay | AuthFailureAction::RereadSource => true,
        AuthFailureAction::Report => false,
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        Self::new(Reason::CredentialRejected, rejected.to_string())
    }
}
