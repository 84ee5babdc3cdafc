//! The metrics, in `OpenMetrics` text.
//!
//! The decision log's thread counts requests from the finished records: nothing on the request path
//! takes the locks of a metric family, and log and metrics cannot disagree. Labels are names from the
//! configuration and fixed codes, never anything that a caller or an upstream chose.

mod class;
mod credentials;
mod labels;
mod memory;
mod plain;
mod process;
mod register;
mod traces;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use countersign_types::ResourceName;
use jiff::Timestamp;
use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        exemplar::HistogramWithExemplars,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use self::labels::{
    CertificateLabel, ClassLabel, CredentialLabel, FetchLabels, Label, ListenerLabel, Name,
    RequestLabels, ResultLabel, RevisionLabel, ShedLabels, SinkLabel, SocketLabel, TargetLabel,
    TraceLabel, UpstreamLabels, WouldRefuseLabels,
};
pub use self::{
    class::Class,
    credentials::CredentialStanding,
    traces::{SpansLost, Step},
};

/// All metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

/// A histogram whose buckets name the trace of a request that they count.
type Traced = HistogramWithExemplars<TraceLabel>;

#[derive(Debug)]
struct Inner {
    registry: Registry,
    /// Without our prefix: what is called the same for every process.
    process: Registry,
    started_at: Gauge,
    would_refuse: Family<WouldRefuseLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    overhead: Histogram,
    duration: Family<TargetLabel, Traced, fn() -> Traced>,
    request_bytes: Family<TargetLabel, Counter>,
    response_bytes: Family<TargetLabel, Counter>,
    upstream_responses: Family<UpstreamLabels, Counter>,
    credential_age: Family<CredentialLabel, Gauge>,
    credential_fetches: Family<FetchLabels, Counter>,
    probes: Family<FetchLabels, Counter>,
    client_connections: Family<ListenerLabel, Gauge>,
    connections_by_class: Family<ClassLabel, Gauge>,
    connections_shed: Family<ShedLabels, Counter>,
    upstream_connections: Gauge,
    revision: Family<RevisionLabel, Gauge>,
    reloads: Family<ResultLabel, Counter>,
    reloaded_at: Gauge,
    last_reload_successful: Gauge,
    proof_sources_missing: Gauge,
    on_last_good: Gauge,
    certificates: Family<CertificateLabel, Gauge>,
    restart_needed: Gauge,
    /// Whether objects of the cluster cannot be read.
    objects_stale: Gauge,
    workload_api_up: Family<SocketLabel, Gauge>,
    decisions_dropped: Family<ClassLabel, Counter>,
    decisions_summarized: Family<ClassLabel, Counter>,
    decision_write_errors: Counter,
    decision_sinks_up: Family<SinkLabel, Gauge>,
    decision_sinks_dropped: Family<SinkLabel, Counter>,
    memory: memory::Memory,
    traces: traces::Traces,
    standings: credentials::Standings,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// New metrics, all zero. Each call makes a registry of its own.
    pub fn new() -> Self {
        let mut inner = Inner {
            registry: Registry::with_prefix("countersign"),
            process: Registry::default(),
            started_at: Gauge::default(),
            would_refuse: Family::default(),
            requests: Family::default(),
            overhead: Histogram::new(exponential_buckets(5e-6, 4.0, 10)),
            duration: Family::new_with_constructor(|| {
                Traced::new(exponential_buckets(1e-3, 2.5, 13))
            }),
            request_bytes: Family::default(),
            response_bytes: Family::default(),
            upstream_responses: Family::default(),
            credential_age: Family::default(),
            credential_fetches: Family::default(),
            probes: Family::default(),
            client_connections: Family::default(),
            connections_by_class: Family::default(),
            connections_shed: Family::default(),
            upstream_connections: Gauge::default(),
            revision: Family::default(),
            reloads: Family::default(),
            reloaded_at: Gauge::default(),
            last_reload_successful: Gauge::default(),
            proof_sources_missing: Gauge::default(),
            on_last_good: Gauge::default(),
            certificates: Family::default(),
            restart_needed: Gauge::default(),
            objects_stale: Gauge::default(),
            workload_api_up: Family::default(),
            decisions_dropped: Family::default(),
            decisions_summarized: Family::default(),
            decision_write_errors: Counter::default(),
            decision_sinks_up: Family::default(),
            decision_sinks_dropped: Family::default(),
            memory: memory::Memory::default(),
            traces: traces::Traces::default(),
            standings: credentials::Standings::default(),
        };
        for class in Class::ALL {
            // Registered at start: a counter that appears with its first loss hides that loss.
            let label = ClassLabel {
                class: class.name(),
            };
            drop(inner.decisions_dropped.get_or_create(&label));
            drop(inner.decisions_summarized.get_or_create(&label));
        }
        inner.register_requests();
        inner.register_state();
        inner.memory.register(&mut inner.registry);
        inner.traces.register(&mut inner.registry);
        inner.standings.register(&mut inner.registry);
        process::register(&mut inner.process);
        Self(Arc::new(inner))
    }

    /// Everything as `OpenMetrics` text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        self.0.memory.refresh();
        let mut text = String::with_capacity(8 * 1024);
        for registry in [&self.0.process, &self.0.registry] {
            text::encode_registry(&mut text, registry)?;
        }
        text::encode_eof(&mut text)?;
        Ok(text)
    }

    /// Everything as Prometheus' text format 0.0.4, which has no exemplars.
    pub fn encode_plain(&self) -> Result<String, fmt::Error> {
        self.encode().map(|text| plain::of_open_metrics(&text))
    }

    /// The process started at `at`.
    pub fn started(&self, at: Timestamp) {
        self.0.started_at.set(at.as_second());
    }

    /// Counts a client connection as open until the guard is dropped.
    pub fn connection(&self, listener: &Arc<str>) -> ConnectionGuard {
        let gauge = self
            .0
            .client_connections
            .get_or_create_owned(&ListenerLabel {
                listener: Label(Arc::clone(listener)),
            });
        ConnectionGuard::new(gauge)
    }

    /// Counts a client connection as identified or unidentified.
    pub fn connection_of(&self, identified: bool) -> ConnectionGuard {
        let class = class(identified);
        let gauge = self
            .0
            .connections_by_class
            .get_or_create_owned(&ClassLabel { class });
        ConnectionGuard::new(gauge)
    }

    /// Counts a client connection that was closed in favour of others.
    pub fn connection_shed(&self, identified: bool, reason: &'static str) {
        let labels = ShedLabels {
            class: class(identified),
            reason,
        };
        self.0.connections_shed.get_or_create(&labels).inc();
    }

    /// Counts an upstream connection as open until the guard is dropped.
    pub fn upstream_connection(&self) -> ConnectionGuard {
        ConnectionGuard::new(self.0.upstream_connections.clone())
    }

    /// Counts an attempt to obtain a credential; `result` is `ok` or the failure's reason code.
    pub fn credential_fetched(&self, credential: &ResourceName, result: &'static str) {
        let labels = FetchLabels {
            credential: Name(Some(credential.clone())),
            result,
        };
        self.0.credential_fetches.get_or_create(&labels).inc();
    }

    /// Counts a probe; `result` is its finding.
    pub fn probed(&self, credential: &ResourceName, result: &'static str) {
        let labels = FetchLabels {
            credential: Name(Some(credential.clone())),
            result,
        };
        self.0.probes.get_or_create(&labels).inc();
    }

    /// The resources of `revision` took effect at `at`.
    pub fn reloaded(&self, revision: &str, at: Timestamp) {
        // A scrape between these two lines sees no revision, never two.
        self.0.revision.clear();
        self.0
            .revision
            .get_or_create(&RevisionLabel {
                revision: revision.to_owned(),
            })
            .set(1);
        self.0.reloaded_at.set(at.as_second());
        self.0.last_reload_successful.set(1);
        self.count_reload("ok");
    }

    /// A revision was rejected; the old one stays in effect.
    pub fn reload_failed(&self) {
        self.0.last_reload_successful.set(0);
        self.count_reload("rejected");
    }

    /// Whether the revision in force was kept by an earlier process, since the newest cannot be used.
    pub fn on_last_good(&self, kept: bool) {
        self.0.on_last_good.set(i64::from(kept));
    }

    /// When each certificate ends, by what it is for.
    pub fn certificates<'c>(&self, ends: impl Iterator<Item = (&'c str, Timestamp)>) {
        for (certificate, not_after) in ends {
            let label = CertificateLabel {
                certificate: Label(certificate.into()),
            };
            let gauge = self.0.certificates.get_or_create(&label);
            gauge.set(not_after.as_second());
        }
    }

    /// Whether objects of the cluster, which are resources, cannot be read now or were not read yet.
    pub fn objects_stale(&self, stale: bool) {
        self.0.objects_stale.set(i64::from(stale));
    }

    /// How many sources of callers there are whose keys are missing, so that their callers cannot be identified.
    pub fn proof_sources_missing(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.0.proof_sources_missing.set(count);
    }

    /// Whether the Gateway file is another than the one that the gateway started with.
    pub fn restart_needed(&self, needed: bool) {
        self.0.restart_needed.set(i64::from(needed));
    }

    /// Whether the agent of the SPIFFE Workload API at `socket` streams bundles.
    pub fn workload_api(&self, socket: &Path, up: bool) {
        let label = SocketLabel {
            socket: socket.display().to_string(),
        };
        let gauge = self.0.workload_api_up.get_or_create(&label);
        gauge.set(i64::from(up));
    }

    fn count_reload(&self, result: &'static str) {
        self.0.reloads.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts lost records.
    pub fn decisions_dropped(&self, class: Class, count: u64) {
        let label = ClassLabel {
            class: class.name(),
        };
        self.0.decisions_dropped.get_or_create(&label).inc_by(count);
    }

    /// Counts a record that is only in a summary.
    pub fn decision_summarized(&self, class: Class) {
        let label = ClassLabel {
            class: class.name(),
        };
        self.0.decisions_summarized.get_or_create(&label).inc();
    }

    /// Counts a failed write of the decision log.
    pub fn decision_write_failed(&self) {
        self.0.decision_write_errors.inc();
    }

    /// Whether a sink of decision records takes them.
    pub fn decision_sink(&self, sink: &Arc<str>, up: bool) {
        let label = SinkLabel {
            sink: Label(Arc::clone(sink)),
        };
        // Registered with its first success: a counter that appears with its first loss hides that loss.
        drop(self.0.decision_sinks_dropped.get_or_create(&label));
        let gauge = self.0.decision_sinks_up.get_or_create(&label);
        gauge.set(i64::from(up));
    }

    /// Counts records that one sink lost.
    pub fn decision_sink_dropped(&self, sink: &Arc<str>, count: u64) {
        let label = SinkLabel {
            sink: Label(Arc::clone(sink)),
        };
        let lost = self.0.decision_sinks_dropped.get_or_create(&label);
        lost.inc_by(count);
    }

    /// Counts a finished request.
    pub fn finished(&self, request: &Finished<'_>) {
        let target = Name(request.target.cloned());
        self.0
            .requests
            .get_or_create(&RequestLabels {
                outcome: request.outcome,
                reason: request.reason,
                target: target.clone(),
                policy: Name(request.policy.cloned()),
            })
            .inc();
        if let Some(reason) = request.would_refuse {
            let labels = WouldRefuseLabels {
                reason,
                target: target.clone(),
                policy: Name(request.policy.cloned()),
            };
            self.0.would_refuse.get_or_create(&labels).inc();
        }
        self.0.overhead.observe(seconds(request.overhead));
        if let Some((name, age_s)) = request.credential {
            let label = CredentialLabel {
                credential: Name(Some(name.clone())),
            };
            let age = i64::try_from(age_s).unwrap_or(i64::MAX);
            self.0.credential_age.get_or_create(&label).set(age);
        }
        if let Some((status, reused)) = request.upstream {
            let labels = UpstreamLabels {
                target: target.clone(),
                class: status_class(status),
                reused: if reused { "true" } else { "false" },
            };
            self.0.upstream_responses.get_or_create(&labels).inc();
        }
        let label = TargetLabel { target };
        let trace = request.trace.clone();
        self.0.duration.get_or_create(&label).observe(
            seconds(request.total),
            trace.map(|trace_id| TraceLabel { trace_id }),
            None,
        );
        let (sent, received) = request.bytes;
        self.0.request_bytes.get_or_create(&label).inc_by(sent);
        self.0.response_bytes.get_or_create(&label).inc_by(received);
    }
}

/// The counted facts of a finished request.
#[derive(Debug)]
pub struct Finished<'a> {
    /// The code of its outcome.
    pub outcome: &'static str,
    /// The code of its reason.
    pub reason: &'static str,
    /// The target it was for.
    pub target: Option<&'a ResourceName>,
    /// The policy that decided.
    pub policy: Option<&'a ResourceName>,
    /// The reason with which a policy that only observes would have refused it.
    pub would_refuse: Option<&'static str>,
    /// The gateway's own share of its time.
    pub overhead: Duration,
    /// Its credential, and the age of the value in seconds.
    pub credential: Option<(&'a ResourceName, u64)>,
    /// The status of the API's response, and whether the connection had been used before.
    pub upstream: Option<(Option<u16>, bool)>,
    /// From accept to the last byte.
    pub total: Duration,
    /// The bytes of the bodies of the request and the response.
    pub bytes: (u64, u64),
    /// The id of its trace, if its spans are sent.
    pub trace: Option<String>,
}

/// Counts one connection as open until it is dropped.
#[derive(Debug)]
#[must_use = "the connection counts as open only until the guard is dropped"]
pub struct ConnectionGuard(Gauge);

impl ConnectionGuard {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn class(identified: bool) -> &'static str {
    if identified {
        "identified"
    } else {
        "unidentified"
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn status_class(status: Option<u16>) -> &'static str {
    match status {
        None => "none",
        Some(100..=199) => "1xx",
        Some(200..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(500..=599) => "5xx",
        Some(_) => "other",
    }
}

#[cfg(test)]
mod tests;
