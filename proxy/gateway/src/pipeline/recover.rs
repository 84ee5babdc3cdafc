//! One exchange with an API that may reject the credential, and the recovery from that.
//!
//! ```text
//! send -> evaluate -> (renew the credential -> send again -> evaluate)
//! ```
//!
//! Only failures that the target declares are recovered from: for these the API has not acted. A request is
//! sent a second time at most once, with another value, and only if its whole body was kept. If that is not
//! possible, the client gets the API's own response, and the record says why.

use std::{fmt, sync::Arc};

use countersign_authorize::Permit;
use countersign_config::model::{AuthFailure, AuthFailureAction, Target};
use countersign_core::reason::Reason;
use countersign_credential::{CredentialError, Issued};
use countersign_upstream::{
    detect::{ResponseMeta, Verdict},
    forward::{BodyMeter, NotKept, Outbound, RequestBody, Sent, UpstreamBody},
    inject::{self, Stripped},
};
use http::{Request, StatusCode, request::Parts, uri::PathAndQuery};

use super::{
    RequestHandler,
    answer::Streamed,
    credential::{self, BoundCredential, ResponseFailure, UsedCredential},
    peek::PeekedBody,
    response_observer::ResponseObserver,
};
use crate::{api_error::ApiError, observe::Record, refusal::Refusal};

/// The result of renewing a rejected credential.
enum Renewal {
    /// There is a new value.
    Renewed(Arc<Issued>),
    /// There is a new value, but the request cannot be sent again.
    NotKept(NotKept),
    /// Its source still has the rejected value.
    Unchanged,
    /// It was renewed for this reason too often recently.
    TooOften,
    /// Its source could not be asked.
    Failed(CredentialError),
    /// The new value was rejected before, too.
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

/// One request and its state.
pub(super) struct Exchange<'x, 's> {
    pub(super) handler: &'x RequestHandler,
    pub(super) permit: &'x Permit<'s>,
    pub(super) outbound: &'x Outbound,
    pub(super) bound: Option<BoundCredential<'s>>,
    /// The request's target without the credential.
    pub(super) stripped: PathAndQuery,
    pub(super) meter: Arc<BodyMeter>,
}

impl<'s> Exchange<'_, 's> {
    /// The meter of the request's body. It keeps the body until the response arrives, in case the API
    /// rejects the credential or refuses the request unprocessed.
    pub(super) fn meter(handler: &RequestHandler) -> Arc<BodyMeter> {
        Arc::new(match handler.services.limits.replay_bytes {
            0 => BodyMeter::default(),
            bytes => BodyMeter::keeping(bytes, handler.session.purse.charge()),
        })
    }

    fn recovers(&self) -> bool {
        let target = permit_target(self.permit);
        self.handler.services.limits.replay_bytes > 0
            && target.auth_failure.iter().any(is_recoverable)
    }

    /// Sends the request, and a second time if that is needed.
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
            Stripped::Checked(form, guard) => {
                RequestBody::checked(form, guard, Arc::clone(&self.meter))
            }
            Stripped::Rewritten(form, charge) => {
                self.meter.holds(charge);
                RequestBody::full(form, Arc::clone(&self.meter))
            }
        };
        let Some(bound) = self.bound.take() else {
            let sent = self.send(parts, body, None, record).await?;
            self.meter.forget_kept();
            let response = self.held(sent.response)?;
            return Ok(self.answer(response, None, None));
        };
        // Only if it may be needed. Names and values are counted references.
        let again = self.recovers().then(|| parts.clone());
        let sent = self.send(parts, body, again.as_ref(), record).await?;
        self.evaluate(sent, again, bound, record).await
    }

    async fn evaluate(
        self,
        sent: Sent,
        again: Option<Parts>,
        bound: BoundCredential<'s>,
        record: &mut Record,
    ) -> Result<Streamed, Refusal> {
        let target = permit_target(self.permit);
        let limit = self.handler.services.limits.inspect_bytes;
        let meta = ResponseMeta::of(self.permit.route(), &sent.response, limit);
        let mut response = self.held(sent.response)?;
        let verdict = response.body_mut().evaluate(meta, target, limit).await;
        match verdict {
            Verdict::Failed(rule) if is_recoverable(rule) => {
                // Boxed, because it is rare: otherwise every request's future would be as large.
                Box::pin(self.rejected(response, meta, again, bound, record)).await
            }
            verdict => Ok(self.passed(response, verdict, &bound)),
        }
    }

    /// Passes the response on.
    fn passed(
        self,
        response: http::Response<PeekedBody>,
        verdict: Verdict<'_>,
        bound: &BoundCredential<'_>,
    ) -> Streamed {
        self.meter.forget_kept();
        self.note_limit(&response, bound);
        bound.health.scopes.note(response.headers());
        let fine = matches!(verdict, Verdict::Fine);
        let status = response.status();
        let mut used = UsedCredential::of(bound);
        used.accepted = fine;
        if fine && !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS {
            used.worked(permit_target(self.permit));
        }
        self.answer(response, Some(used), None)
    }

    /// Applies the API's rate limit to all requests with this credential, within a bound.
    fn note_limit(&self, response: &http::Response<PeekedBody>, bound: &BoundCredential<'_>) {
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let host = self.permit.authority().host();
            bound.health.limits.note(
                Some(&bound.workload),
                permit_target(self.permit).rate_limit,
                host,
                self.stripped.path(),
                response.headers(),
                self.handler.services.access.clock.now(),
            );
        }
    }

    /// The API rejected the credential.
    async fn rejected(
        self,
        mut response: http::Response<PeekedBody>,
        meta: ResponseMeta,
        again: Option<Parts>,
        bound: BoundCredential<'s>,
        record: &mut Record,
    ) -> Result<Streamed, Refusal> {
        let limit = self.handler.services.limits.inspect_bytes;
        response.body_mut().finish(limit).await;
        let said = said(meta, response.body(), &bound.issued);
        let generation = bound.issued.generation();
        record.rejected(generation, said.as_deref());
        let renewal = self.renew(&bound).await;
        if let Renewal::Renewed(issued) = &renewal {
            let Ok(trial) = bound.place.admit(&bound.workload, issued.generation()) else {
                return Ok(self.gave_up(response, &Renewal::StillRejected, said, &bound));
            };
            let bound = BoundCredential { trial, ..bound };
            let kept = again.ok_or(NotKept::TooLarge);
            match kept.and_then(|again| Ok((again, self.meter.take_kept()?))) {
                Ok((again, body)) => {
                    let issued = Arc::clone(issued);
                    // Drops the first response before the second request.
                    drop(response);
                    return self.replay(again, body, issued, bound, record).await;
                }
                Err(why) => {
                    return Ok(self.gave_up(response, &Renewal::NotKept(why), said, &bound));
                }
            }
        }
        Ok(self.gave_up(response, &renewal, said, &bound))
    }

    /// Renews the credential. All requests that failed with this value share one renewal, which continues
    /// if they leave.
    async fn renew(&self, bound: &BoundCredential<'s>) -> Renewal {
        let credentials = &self.handler.services.credential.credentials;
        let generation = bound.issued.generation();
        if bound.trial.is_some() {
            // Its source was asked before this request was sent.
            return Renewal::StillRejected;
        }
        let may_renew = credentials.invalidate(bound.issued.name(), generation);
        match credential::value(self.handler, bound.credential).await {
            Ok(issued) if issued.generation() == generation && may_renew => Renewal::Unchanged,
            Ok(issued) if issued.generation() == generation => Renewal::TooOften,
            Ok(issued) => Renewal::Renewed(issued),
            Err(error) => Renewal::Failed(error),
        }
    }

    /// Sends the request a second time, by the same permit.
    async fn replay(
        self,
        mut parts: Parts,
        body: bytes::Bytes,
        issued: Arc<Issued>,
        bound: BoundCredential<'s>,
        record: &mut Record,
    ) -> Result<Streamed, Refusal> {
        let target = permit_target(self.permit);
        let limit = self.handler.services.limits.inspect_bytes;
        let (authority, stripped) = (self.permit.authority(), self.stripped.clone());
        inject::again(
            &mut parts,
            authority,
            stripped,
            self.permit.route(),
            bound.attach,
            issued.secret(),
        )
        .map_err(|error| Refusal::from(error).at(target))?;
        let bound = BoundCredential { issued, ..bound };
        record.carries(&bound.issued, &self.handler.services.access.clock);
        record.timing.rejected = record.timing.first_byte;
        // The client's bytes were counted the first time.
        let meter = Arc::new(BodyMeter::default());
        let sent = self
            .send(parts, RequestBody::full(body, meter), None, record)
            .await?;
        if let Some(upstream) = &mut record.upstream {
            upstream.replayed = true;
        }
        let meta = ResponseMeta::of(self.permit.route(), &sent.response, limit);
        let mut response = self.held(sent.response)?;
        match response.body_mut().evaluate(meta, target, limit).await {
            Verdict::Failed(rule) if is_recoverable(rule) => {
                response.body_mut().finish(limit).await;
                let said = said(meta, response.body(), &bound.issued);
                let issued = Arc::clone(&bound.issued);
                Ok(self.gave_up(response, &Renewal::Renewed(issued), said, &bound))
            }
            verdict => Ok(self.passed(response, verdict, &bound)),
        }
    }

    /// Passes the API's own response on, and keeps the value from the next requests.
    fn gave_up(
        self,
        response: http::Response<PeekedBody>,
        renewal: &Renewal,
        said: Option<String>,
        bound: &BoundCredential<'s>,
    ) -> Streamed {
        self.meter.forget_kept();
        let (used, target) = (UsedCredential::of(bound), permit_target(self.permit));
        match renewal {
            // There is a new value, which may be used; or there is none, and the credential's slot
            // remembers that.
            Renewal::NotKept(_) | Renewal::Failed(_) => {}
            Renewal::Renewed(_)
            | Renewal::Unchanged
            | Renewal::TooOften
            | Renewal::StillRejected => used.rejected(target, said.as_deref()),
        }
        let failure = ResponseFailure {
            reason: Reason::CredentialRejected,
            detail: format!(
                "{} rejected {} (generation {}){}; {renewal}. {}",
                target.name,
                bound.issued.name(),
                bound.issued.generation(),
                said.map(|said| format!(" with `{said}`"))
                    .unwrap_or_default(),
                Reason::CredentialRejected.facts().remedy,
            ),
        };
        self.answer(response, Some(used), Some(failure))
    }

    /// Charges for a response until it is evaluated, and until the client reads it.
    fn held(
        &self,
        response: http::Response<UpstreamBody>,
    ) -> Result<http::Response<PeekedBody>, Refusal> {
        let purse = &self.handler.session.purse;
        let mut room = purse.charge();
        room.set(response.body().most_held())
            .map_err(|short| Refusal::from(short).at(permit_target(self.permit)))?;
        Ok(response.map(|body| PeekedBody::from(body).charged(purse.charge(), room)))
    }

    async fn send(
        &self,
        parts: Parts,
        body: RequestBody,
        copy: Option<&Parts>,
        record: &mut Record,
    ) -> Result<Sent, Refusal> {
        let request = Request::from_parts(parts, body);
        super::forward(self, request, copy, record).await
    }

    fn answer(
        self,
        response: http::Response<PeekedBody>,
        used: Option<UsedCredential>,
        failure: Option<ResponseFailure>,
    ) -> Streamed {
        let observer = ResponseObserver::new(self.handler, self.permit, &response, used, failure);
        Streamed::new(response, observer, self.meter)
    }
}

/// The API's error code in a complete response.
fn said(meta: ResponseMeta, body: &PeekedBody, issued: &Issued) -> Option<String> {
    let error = ApiError::read(meta, &body.content())?;
    Some(error.without(Some(issued)).code)
}

fn permit_target<'s>(permit: &Permit<'s>) -> &'s Arc<Target> {
    permit.grant().target()
}

fn is_recoverable(rule: &AuthFailure) -> bool {
    match rule.then {
        AuthFailureAction::RefreshAndReplay | AuthFailureAction::RereadSource => true,
        AuthFailureAction::Report => false,
    }
}
