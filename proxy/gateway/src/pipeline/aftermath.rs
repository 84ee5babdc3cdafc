//! What is still learned of a credential while an answer streams by, and what its record says then.

use std::sync::Arc;

use bytes::Bytes;
use countersign_config::model::{
    AuthFailure, AuthFailureAction, AuthFailureBlame, ResourceName, Target,
};
use countersign_core::reason::Reason;
use countersign_credential::{Issued, health::HostHealth};
use countersign_upstream::detect::{Seen, Verdict};
use http::Response;

use super::{
    api_error::{ApiError, Excerpt},
    held::Resumed,
    recover::Armed,
};
use crate::{
    accept::Session,
    app::Rooms,
    authorize::Permit,
    observe::{Outcome, Record},
};

/// The credential that a request carried.
pub(super) struct Carried {
    workload: ResourceName,
    place: Arc<HostHealth>,
    issued: Arc<Issued>,
    /// It is certain already that the API took it.
    pub(super) fine: bool,
}

impl Carried {
    pub(super) fn of(armed: &Armed<'_>) -> Self {
        Self {
            workload: armed.workload.clone(),
            place: Arc::clone(&armed.place),
            issued: Arc::clone(&armed.issued),
            fine: false,
        }
    }
}

/// Why an answer that the client gets is not what it should be.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

/// What is to be done once an answer has ended.
pub(super) struct Aftermath {
    rooms: Arc<Rooms>,
    target: Arc<Target>,
    seen: Seen,
    excerpt: Option<Excerpt>,
    carried: Option<Carried>,
    trouble: Option<Trouble>,
}

impl Aftermath {
    pub(super) fn new(
        session: &Session,
        permit: &Permit<'_>,
        response: &Response<Resumed>,
        carried: Option<Carried>,
        trouble: Option<Trouble>,
    ) -> Self {
        let target = permit.grant().target();
        let rooms = &session.rooms;
        let limit = rooms.limits.inspect_bytes;
        let seen = Seen::of(permit.route(), response, limit);
        Self {
            rooms: Arc::clone(rooms),
            target: Arc::clone(target),
            seen,
            excerpt: Excerpt::wanted(target, seen, limit, &session.purse),
            carried,
            trouble,
        }
    }

    /// The value that the request carried.
    pub(super) fn issued(&self) -> Option<Arc<Issued>> {
        self.carried
            .as_ref()
            .map(|carried| Arc::clone(&carried.issued))
    }

    /// Takes note of a piece that goes by.
    pub(super) fn take(&mut self, data: &Bytes) {
        if let Some(excerpt) = &mut self.excerpt {
            excerpt.take(data);
        }
    }

    /// The answer has come to its end: what the API said goes into the record.
    pub(super) fn conclude(self, record: &mut Record) -> Outcome {
        let body = self.excerpt.as_ref().map(Excerpt::body).unwrap_or_default();
        let issued = self.issued();
        let error = ApiError::read(self.seen, &body).map(|error| error.without(issued.as_deref()));
        let fine = self.carried.as_ref().is_none_or(|carried| carried.fine);
        let verdict = if fine {
            Verdict::Fine
        } else {
            self.seen.judge(&self.target, &body, true)
        };
        let failed = match verdict {
            Verdict::Failed(rule) => Some(rule),
            Verdict::Fine | Verdict::Open { .. } => None,
        };
        let trouble = match (self.trouble, failed, &self.carried) {
            (Some(trouble), _, _) => Some(trouble),
            (None, Some(rule), Some(carried)) => {
                let code = error.as_ref().map(|error| error.code.as_str());
                if rule.then != AuthFailureAction::Report {
                    // It came too late to be recovered from; the next request fares better.
                    let (name, generation) = (carried.issued.name(), carried.issued.generation());
                    self.rooms.credentials.invalidate(name, generation);
                    let breaker = &carried.place.breaker;
                    breaker.trip(&carried.workload, generation, code);
                    carried.place.probed.doubt(generation);
                }
                Some(report(&self.target, rule, carried, error.as_ref()))
            }
            (None, _, _) => None,
        };
        if let (Some(upstream), Some(error)) = (&mut record.upstream, error) {
            upstream.api_error = Some(error.code);
        }
        let Some(Trouble { reason, detail }) = trouble else {
            return Outcome::Permitted;
        };
        record.detail = Some(detail.into());
        let facts = reason.facts();
        Outcome::Failed {
            reason: facts.code,
            blame: facts.blame.as_str(),
        }
    }
}

/// What is passed on to the client, and told to the operator.
fn report(
    target: &Target,
    rule: &AuthFailure,
    carried: &Carried,
    error: Option<&ApiError>,
) -> Trouble {
    let reason = match (rule.then, rule.blame) {
        (AuthFailureAction::RefreshAndReplay | AuthFailureAction::RereadSource, _) => {
            Reason::CredentialRejected
        }
        (AuthFailureAction::Report, AuthFailureBlame::Operator) => Reason::CredentialInsufficient,
        (AuthFailureAction::Report, AuthFailureBlame::Gateway) => Reason::CredentialUnseen,
    };
    let (name, generation) = (carried.issued.name(), carried.issued.generation());
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
    Trouble { reason, detail }
}
