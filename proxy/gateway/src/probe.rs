//! Probes: a cheap request, declared by the target, that shows whether a credential works before a pod's
//! request depends on it.
//!
//! A value is probed before its first use, and repeatedly while it is in use. All waiting requests share
//! one probe; none waits for a repeated one. If the API rejects a value, its source is asked again; if that
//! has no other value, the credential is not used. A probe that cannot be made delays nobody for long and
//! refuses nobody.
//!
//! A probe is the gateway's own request. It goes only to the host of a request that waits for it, which
//! policy has permitted, or to a host where a policy with the credential permits this very request. It
//! takes the route of its path, over connections of its own; its result is valid for the host that it went
//! to. The result is in the log, a metric and the credential's status. It has no decision record, since no
//! caller asked for it.

mod answer;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use countersign_config::{
    model::{Attach, Credential, Probe, ResourceName, Target},
    policy::PolicySet,
};
use countersign_core::{clock::Clock, destination::Authority, metrics::Metrics};
use countersign_credential::{
    Credentials, Issued,
    health::{Finding, Health, HostHealth, ProbeReport, Proof},
};
use countersign_upstream::{
    detect::ResponseMeta,
    forward::{BodyMeter, Forwarder, Outbound, RequestBody},
    inject,
};
use http::{
    HeaderValue, Request, StatusCode,
    header::{ACCEPT, USER_AGENT},
};
use tokio::time::timeout;

use answer::ProbeResult;

/// The longest time that a probe takes; requests wait for the first one.
const LONGEST: Duration = Duration::from_secs(3);

/// The gateway's own `User-Agent`.
const AGENT: HeaderValue = HeaderValue::from_static(concat!(
    "countersign/",
    env!("CARGO_PKG_VERSION"),
    " (probe)"
));

/// Makes probes.
#[derive(Debug)]
pub struct Prober {
    forwarder: Arc<Forwarder>,
    credentials: Arc<Credentials>,
    metrics: Metrics,
    clock: Clock,
    /// The most bytes of a response that are examined.
    inspect_bytes: usize,
    /// The name under which probes have connections: it has no namespace, as workloads do.
    own_name: ResourceName,
}

/// A request that is about to use a credential.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    /// Where it goes; policy permits it.
    pub authority: &'a Authority,
    /// The API.
    pub target: &'a Arc<Target>,
    /// Where the credential goes in the request.
    pub attach: &'a Attach,
    /// The credential.
    pub credential: &'a Arc<Credential>,
    /// The credential's health.
    pub health: &'a Arc<Health>,
    /// The credential's health at the request's host.
    pub place: &'a Arc<HostHealth>,
    /// The policies in force.
    pub policies: &'a PolicySet,
}

/// A credential and where it is probed.
#[derive(Debug, Clone)]
struct Subject {
    authority: Authority,
    target: Arc<Target>,
    credential: Arc<Credential>,
    health: Arc<Health>,
    /// The credential's health at this host.
    place: Arc<HostHealth>,
}

impl Prober {
    /// A prober that is idle until requests use a credential.
    pub fn new(
        forwarder: Arc<Forwarder>,
        credentials: Arc<Credentials>,
        metrics: Metrics,
        clock: Clock,
        inspect_bytes: usize,
    ) -> Self {
        Self {
            forwarder,
            credentials,
            metrics,
            clock,
            inspect_bytes,
            own_name: ResourceName::cluster_wide("probe"),
        }
    }

    /// Makes sure that a value was probed before it is used. Returns whether there was a probe to wait for:
    /// then the credential may have a new value, or be rejected.
    ///
    /// A value that belongs to one caller is not probed: its first request shows as much.
    pub async fn prove(self: &Arc<Self>, waiting: Waiting<'_>, generation: u64) -> bool {
        let Some(probe) = wanted(waiting) else {
            return false;
        };
        if waiting.place.probed.proof(generation, probe.every) == Proof::Fresh {
            return false;
        }
        let Some(subject) = self.subject(probe, waiting) else {
            return false;
        };
        let proof = subject.place.probed.proof(generation, probe.every);
        if proof == Proof::Fresh {
            return false;
        }
        let place = Arc::clone(&subject.place);
        let prober = Arc::clone(self);
        let probing = place.probed.flight.join(|| prober.settle(subject));
        if proof == Proof::Old {
            return false;
        }
        // If it was cut off, the value stays unproven, as without probes.
        let _cut_off = probing.await;
        true
    }

    /// Probes again after a rejection; returns whether a probe could be made.
    pub async fn retry(self: &Arc<Self>, waiting: Waiting<'_>) -> bool {
        let subject = wanted(waiting).and_then(|probe| self.subject(probe, waiting));
        let Some(subject) = subject else { return false };
        let place = Arc::clone(&subject.place);
        let prober = Arc::clone(self);
        let _cut_off = place.probed.flight.join(|| prober.settle(subject)).await;
        true
    }

    /// Where a probe may go: to the host of the waiting request, or where policy permits it.
    fn subject(&self, probe: &Probe, waiting: Waiting<'_>) -> Option<Subject> {
        let Waiting {
            authority,
            target,
            credential,
            health,
            place,
            policies,
            ..
        } = waiting;
        let (authority, place) = if probe.fits(target, authority.host(), authority.port()) {
            (authority.clone(), Arc::clone(place))
        } else if let Some((host, port)) = policies.probe_place(&credential.name, self.clock.now())
        {
            (Authority::new(host.clone(), port), health.at(host))
        } else {
            place.probed.forbid(|| forbidden(probe, &credential.name));
            return None;
        };
        Some(Subject {
            authority,
            target: Arc::clone(target),
            credential: Arc::clone(credential),
            health: Arc::clone(health),
            place,
        })
    }

    /// Probes the present value and, if it is rejected, the one that its source has instead.
    async fn settle(self: Arc<Self>, subject: Subject) {
        let Subject {
            target,
            credential,
            place,
            ..
        } = &subject;
        let Some(probe) = &target.probe else { return };
        // Without a value there is nothing to probe; the request that needs one is refused with the reason.
        let Ok(first) = self.credentials.obtain(credential).await else {
            return;
        };
        let rejected = first.generation();
        let said = match self.probe(probe, &subject, &first).await {
            Finding::Rejected(said) => said,
            Finding::Works => return proven(&subject, rejected),
            Finding::Insufficient(_) | Finding::Unknown(_) => return,
        };
        self.credentials.invalidate(&credential.name, rejected);
        let Ok(second) = self.credentials.obtain(credential).await else {
            return;
        };
        let said = if second.generation() == rejected {
            said
        } else {
            match self.probe(probe, &subject, &second).await {
                Finding::Rejected(said) => said,
                Finding::Works => return proven(&subject, second.generation()),
                Finding::Insufficient(_) | Finding::Unknown(_) => return,
            }
        };
        place
            .breaker
            .trip_for_all(second.generation(), said.as_deref());
    }

    /// Makes one probe and reports its result.
    async fn probe(&self, probe: &Probe, subject: &Subject, issued: &Issued) -> Finding {
        let Subject {
            authority,
            target,
            credential,
            health,
            place,
        } = subject;
        let (host, path) = (authority.host(), probe.path.as_str());
        let limited = health.limits.left(None, target.rate_limit, host, path);
        let result = match limited {
            Some(_) => ProbeResult::unknown("the API's rate limit is used up"),
            None => match timeout(LONGEST, self.ask(probe, subject, issued)).await {
                Ok(result) => result,
                Err(_elapsed) => ProbeResult::unknown("the API did not answer in time"),
            },
        };
        let ProbeResult { finding, shows } = result;
        self.metrics.probed(&credential.name, finding.as_str());
        let report = ProbeReport {
            generation: issued.generation(),
            at: self.clock.now(),
            finding: finding.clone(),
            shows,
        };
        let before = place.probed.note(report.clone());
        log(subject, &report, before.as_deref());
        finding
    }

    async fn ask(&self, probe: &Probe, subject: &Subject, issued: &Issued) -> ProbeResult {
        let Subject {
            authority,
            target,
            credential,
            health,
            ..
        } = subject;
        let route = target.route_for(authority.host(), &probe.path);
        let route = route.filter(|route| route.deny.is_none());
        let Some((route, attach)) = route.and_then(|route| Some((route, route.attach.as_ref()?)))
        else {
            return ProbeResult::unknown("no route attaches a credential there");
        };
        let request = Request::builder()
            .method(probe.method.clone())
            .uri(probe.path.path_and_query().clone())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json")
            .body(());
        let Ok((mut parts, ())) = request.map(Request::into_parts) else {
            return ProbeResult::unknown("the probe is no request");
        };
        let attached = Some((attach, issued.secret()));
        if let Err(error) = inject::head(&mut parts, authority, &probe.path, route, attached) {
            return ProbeResult::unknown(&error.to_string());
        }
        let outbound = Outbound::probe(authority, &self.own_name, credential);
        let body = RequestBody::full(Bytes::new(), Arc::new(BodyMeter::default()));
        let request = Request::from_parts(parts, body);
        let response = match self.forwarder.send(&outbound, request).await {
            Ok(sent) => sent.response,
            Err(error) => return ProbeResult::unknown(&error.to_string()),
        };
        let (scope, path) = (target.rate_limit, probe.path.as_str());
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let (limits, now) = (&health.limits, self.clock.now());
            limits.note(None, scope, authority.host(), path, response.headers(), now);
            return ProbeResult::unknown("the API's rate limit is used up");
        }
        health.scopes.note(response.headers());
        let meta = ResponseMeta::of(route, &response, self.inspect_bytes);
        answer::read(
            target,
            &probe.shows,
            meta,
            response,
            issued,
            self.inspect_bytes,
        )
        .await
    }
}

/// The target's probe, if it tests this credential.
fn wanted(waiting: Waiting<'_>) -> Option<&Probe> {
    let probe = waiting.target.probe.as_ref()?;
    let shared = !waiting.credential.provider.is_per_caller();
    (shared && probe.slot == waiting.attach.slot).then_some(probe)
}

fn forbidden(probe: &Probe, credential: &ResourceName) -> String {
    let (method, path) = (&probe.method, probe.path.as_str());
    let host = match probe.hosts.as_slice() {
        [host] => host.to_string(),
        _ => "a host that the target probes at".to_owned(),
    };
    format!(
        "no policy with {credential} permits {method} {path} at {host}, and no request waits there"
    )
}

/// A probe found that the API accepts the value. The end of a rejection that only requests had met is
/// logged here; the end of one that a probe had met is a result that differs.
fn proven(subject: &Subject, generation: u64) {
    if subject.place.breaker.proven(generation) {
        let credential = &subject.credential.name;
        tracing::info!(%credential, generation, "the API accepts the credential again");
    }
}

/// Logs a result that differs from the one before.
fn log(subject: &Subject, report: &ProbeReport, before: Option<&ProbeReport>) {
    let credential = &subject.credential.name;
    let generation = report.generation;
    let detail = report.finding.detail().unwrap_or_default();
    if before.is_none_or(|before| before.finding != report.finding) {
        match report.finding {
            Finding::Works => {
                tracing::info!(%credential, generation, shows = ?report.shows, "a probe shows that the credential works");
            }
            Finding::Rejected(_) => {
                tracing::warn!(%credential, generation, said = detail, "a probe shows that the API rejects the credential");
            }
            Finding::Insufficient(_) => {
                tracing::warn!(%credential, generation, said = detail, "the credential does not suffice for its probe");
            }
            Finding::Unknown(_) => {
                tracing::warn!(%credential, generation, why = detail, "a probe found nothing out about the credential");
            }
        }
    }
    let other = before.filter(|before| {
        let both = !before.shows.is_empty() && !report.shows.is_empty();
        both && before.shows != report.shows
    });
    if let Some(before) = other {
        tracing::warn!(
            %credential, generation, before = ?before.shows, now = ?report.shows,
            "the credential is another's than before: is that meant?"
        );
    }
}
