//! Probes: a cheap request, which the target declares, that shows whether a credential works before
//! a pod's request has to find out.
//!
//! A value is probed before its first use, and again every so often while it is used; all requests
//! that wait share one probe, and none waits for a repeated one. A value that the API rejects is asked
//! for again at its source, and if there is no better one, is not used. A probe that cannot be made
//! holds nobody up for long and keeps nobody from trying.
//!
//! A probe is the gateway's own request: it goes where policy lets the credential go, by the route
//! that its path takes, over connections of its own, and is told in the log, a metric and the
//! credential's status. It has no decision record, since nobody asked.

mod answer;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use countersign_config::model::{Credential, Probe, ResourceName, SlotName, Target};
use http::{
    HeaderValue, Request, StatusCode,
    header::{ACCEPT, USER_AGENT},
};
use tokio::time::timeout;

use crate::{
    clock::Clock,
    credential::{Credentials, Issued},
    destination::Authority,
    detect::Seen,
    forward::{BodyMeter, Forwarder, PoolKey, RequestBody},
    health::{Finding, Health, ProbeReport, Proof},
    inject,
    observe::Metrics,
};
use answer::Told;

/// The longest that a probe takes: requests wait for the first one.
const LONGEST: Duration = Duration::from_secs(3);

/// As whom the gateway asks for itself.
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
    /// The most of an answer that is looked at, in bytes.
    inspect_bytes: usize,
    /// Whose connections a probe uses: no workload's, which all have a namespace.
    own_name: ResourceName,
}

/// A credential and where it is probed.
#[derive(Debug, Clone)]
struct Subject {
    target: Arc<Target>,
    credential: Arc<Credential>,
    health: Arc<Health>,
}

impl Prober {
    /// Probes nothing by itself: requests that use a credential have it probed.
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

    /// Sees to it that a value is probed before it is used in a slot. Returns whether there was
    /// something to wait for: then the credential may have another value by now, or be rejected.
    ///
    /// A value that each caller has for itself is not probed: its first request shows as much.
    pub async fn prove(
        self: &Arc<Self>,
        target: &Arc<Target>,
        slot: &SlotName,
        credential: &Arc<Credential>,
        issued: &Issued,
        health: &Arc<Health>,
    ) -> bool {
        let Some(probe) = &target.probe else {
            return false;
        };
        if probe.slot != *slot || credential.provider.is_per_caller() {
            return false;
        }
        let proof = health.probed.proof(issued.generation(), probe.every);
        if proof == Proof::Fresh {
            return false;
        }
        let subject = Subject {
            target: Arc::clone(target),
            credential: Arc::clone(credential),
            health: Arc::clone(health),
        };
        let prober = Arc::clone(self);
        let probing = health.probed.flight.join(|| prober.settle(subject));
        if proof == Proof::Old {
            return false;
        }
        // That it was cut off leaves the value unproven, and no worse than without probes.
        let _cut_off = probing.await;
        true
    }

    /// Probes the value that is held, and the one that its source has instead if it is rejected.
    async fn settle(self: Arc<Self>, subject: Subject) {
        let Subject {
            target,
            credential,
            health,
        } = &subject;
        let Some(probe) = &target.probe else { return };
        // Without a value there is nothing to probe; why is told where it is asked for.
        let Ok(first) = self.credentials.obtain(credential).await else {
            return;
        };
        let Finding::Rejected(said) = self.probe(probe, &subject, &first).await else {
            return;
        };
        let rejected = first.generation();
        self.credentials.invalidate(&credential.name, rejected);
        let Ok(second) = self.credentials.obtain(credential).await else {
            return;
        };
        let said = if second.generation() == rejected {
            said
        } else {
            match self.probe(probe, &subject, &second).await {
                Finding::Rejected(said) => said,
                Finding::Works | Finding::Insufficient(_) | Finding::Unknown(_) => return,
            }
        };
        health.breaker.trip(second.generation(), said.as_deref());
    }

    /// One probe, with all that is told of it.
    async fn probe(&self, probe: &Probe, subject: &Subject, issued: &Issued) -> Finding {
        let Subject {
            target,
            credential,
            health,
        } = subject;
        let path = probe.path.as_str();
        let limited = health.limits.left(target.rate_limit, &probe.host, path);
        let told = match limited {
            Some(_) => Told::unknown("the API's rate limit is used up"),
            None => match timeout(LONGEST, self.ask(probe, subject, issued)).await {
                Ok(told) => told,
                Err(_elapsed) => Told::unknown("the API did not answer in time"),
            },
        };
        let Told { finding, shows } = told;
        self.metrics.probed(&credential.name, finding.as_str());
        let report = ProbeReport {
            generation: issued.generation(),
            at: self.clock.now(),
            finding: finding.clone(),
            shows,
        };
        let before = health.probed.note(report.clone());
        log(subject, &report, before.as_deref());
        finding
    }

    async fn ask(&self, probe: &Probe, subject: &Subject, issued: &Issued) -> Told {
        let Subject {
            target,
            credential,
            health,
        } = subject;
        let authority = Authority::new(probe.host.clone(), probe.port);
        let route = target.route_for(&probe.host, &probe.path);
        // Validation saw to both; should a route have changed since, nothing leaves.
        let Some((route, attach)) = route.and_then(|route| Some((route, route.attach.as_ref()?)))
        else {
            return Told::unknown("no route attaches a credential there");
        };
        let request = Request::builder()
            .method(probe.method.clone())
            .uri(probe.path.path_and_query().clone())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json")
            .body(());
        let Ok((mut parts, ())) = request.map(Request::into_parts) else {
            return Told::unknown("the probe is no request");
        };
        let attached = Some((attach, issued.secret()));
        if let Err(error) = inject::head(&mut parts, &authority, &probe.path, route, attached) {
            return Told::unknown(&error.to_string());
        }
        let key = PoolKey {
            authority,
            workload: self.own_name.clone(),
            credential: Some(credential.name.clone()),
            caller: None,
        };
        let body = RequestBody::full(Bytes::new(), Arc::new(BodyMeter::default()));
        let request = Request::from_parts(parts, body);
        let response = match self.forwarder.send(&key, request).await {
            Ok(sent) => sent.response,
            Err(error) => return Told::unknown(&error.to_string()),
        };
        let (scope, path) = (target.rate_limit, probe.path.as_str());
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let (limits, now) = (&health.limits, self.clock.now());
            limits.note(scope, &probe.host, path, response.headers(), now);
            return Told::unknown("the API's rate limit is used up");
        }
        health.scopes.note(response.headers());
        let seen = Seen::of(route, &response, self.inspect_bytes);
        answer::read(
            target,
            &probe.shows,
            seen,
            response,
            issued,
            self.inspect_bytes,
        )
        .await
    }
}

/// What changes is told; that all is as before is not.
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
