//! Observes a response while it streams. What the API says of errors and of the credential goes into the
//! record once the response has ended.

use std::sync::Arc;

use bytes::Bytes;
use countersign_authorize::Permit;
use countersign_config::model::{AuthFailure, AuthFailureAction, AuthFailureBlame, Target};
use countersign_core::reason::Reason;
use countersign_credential::Issued;
use countersign_upstream::detect::{ResponseMeta, Verdict};
use http::Response;

use super::{
    RequestHandler, RequestServices,
    api_answer::AnswerStatus,
    credential::{ResponseFailure, UsedCredential},
    excerpt::Excerpt,
    peek::PeekedBody,
};
use crate::{
    api_error::ApiError,
    observe::{Outcome, Record},
};

/// Observes a response while it streams.
pub(super) struct ResponseObserver {
    services: Arc<RequestServices>,
    target: Arc<Target>,
    meta: ResponseMeta,
    status: AnswerStatus,
    excerpt: Option<Excerpt>,
    used: Option<UsedCredential>,
    failure: Option<ResponseFailure>,
}

impl ResponseObserver {
    pub(super) fn new(
        handler: &RequestHandler,
        permit: &Permit<'_>,
        response: &Response<PeekedBody>,
        used: Option<UsedCredential>,
        failure: Option<ResponseFailure>,
    ) -> Self {
        let target = permit.grant().target();
        let RequestHandler { services, session } = handler;
        let limit = services.limits.inspect_bytes;
        let meta = ResponseMeta::of(permit.route(), response, limit);
        Self {
            services: Arc::clone(services),
            target: Arc::clone(target),
            meta,
            status: AnswerStatus::of(response.status(), response.headers()),
            excerpt: Excerpt::wanted(target, meta, limit, &session.purse),
            used,
            failure,
        }
    }

    /// The value that the request carried.
    pub(super) fn issued(&self) -> Option<Arc<Issued>> {
        self.used.as_ref().map(|used| Arc::clone(&used.issued))
    }

    /// Observes a piece.
    pub(super) fn take(&mut self, data: &Bytes) {
        if let Some(excerpt) = &mut self.excerpt {
            excerpt.take(data);
        }
    }

    /// The response has ended: adds what the API said to the record.
    pub(super) fn conclude(self, record: &mut Record) -> Outcome {
        let body = self.excerpt.as_ref().map(Excerpt::body).unwrap_or_default();
        let issued = self.issued();
        let error = ApiError::read(self.meta, &body).map(|error| error.without(issued.as_deref()));
        let accepted = self.used.as_ref().is_none_or(|used| used.accepted);
        let verdict = if accepted {
            Verdict::Fine
        } else {
            self.meta.evaluate(&self.target, &body, true)
        };
        let failed = match verdict {
            Verdict::Failed(rule) => Some(rule),
            Verdict::Fine | Verdict::Open { .. } => None,
        };
        let failure = match (self.failure, failed, &self.used) {
            (Some(failure), _, _) => Some(failure),
            (None, Some(rule), Some(used)) => {
                let code = error.as_ref().map(|error| error.code.as_str());
                if rule.then != AuthFailureAction::Report {
                    // Too late to send this request again, but the next one gets a fresh value.
                    let (name, generation) = (used.issued.name(), used.issued.generation());
                    self.services
                        .credential
                        .credentials
                        .invalidate(name, generation);
                    used.rejected(&self.target, code);
                }
                Some(report(&self.target, rule, used, error.as_ref()))
            }
            (None, _, _) => None,
        };
        let code = error.map(|error| error.code);
        let failure = failure.or_else(|| {
            let reason = self.status.failure(issued.as_deref())?;
            let (who, issued) = (&self.target.name, issued.as_deref());
            let access = &self.services.access;
            let detail = self
                .status
                .tell(who, reason, code.as_deref(), issued, access);
            Some(ResponseFailure { reason, detail })
        });
        if let (Some(upstream), Some(code)) = (&mut record.upstream, code) {
            upstream.api_error = Some(code);
        }
        let Some(ResponseFailure { reason, detail }) = failure else {
            return Outcome::Permitted;
        };
        record.detail = Some(detail.into());
        Outcome::failed(reason)
    }
}

/// Describes a failure that the client sees, for the operator.
fn report(
    target: &Target,
    rule: &AuthFailure,
    used: &UsedCredential,
    error: Option<&ApiError>,
) -> ResponseFailure {
    let reason = match (rule.then, rule.blame) {
        (AuthFailureAction::RefreshAndReplay | AuthFailureAction::RereadSource, _) => {
            Reason::CredentialRejected
        }
        (AuthFailureAction::Report, AuthFailureBlame::Operator) => Reason::CredentialInsufficient,
        (AuthFailureAction::Report, AuthFailureBlame::Gateway) => Reason::CredentialUnseen,
    };
    let (name, generation) = (used.issued.name(), used.issued.generation());
    let said = match error {
        Some(error) => format!("`{}`", error.code),
        None => "with a status that says so".to_owned(),
    };
    let lacks = match error.and_then(|error| error.needed.as_ref()) {
        Some((needed, provided)) => format!("; needed: `{needed}`, provided: `{provided}`"),
        None => String::new(),
    };
    let detail = format!(
        "{} answered {said} to {name} (generation {generation}){lacks}. {}",
        target.name,
        reason.facts().remedy
    );
    ResponseFailure { reason, detail }
}
