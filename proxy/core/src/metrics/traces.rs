//! The steps of requests in metrics, and what became of their spans.

use std::time::Duration;

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::{
    Metrics,
    labels::{LostLabel, StepLabel},
    seconds,
};

/// Why spans were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpansLost {
    /// Too many waited to be sent.
    QueueFull,
    /// The collector could not be reached, or took nothing.
    Collector,
    /// The collector refused them for good.
    Rejected,
}

impl SpansLost {
    const ALL: [Self; 3] = [Self::QueueFull, Self::Collector, Self::Rejected];

    /// Its name in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Collector => "collector",
            Self::Rejected => "rejected",
        }
    }
}

/// A step of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Confirming the caller's proof.
    Identify,
    /// The decision.
    Decide,
    /// Waiting for the end of the API's rate limit.
    Wait,
    /// Obtaining the credential.
    Credential,
    /// Resolving, dialling and greeting the API.
    Connect,
    /// From then to the head of its response.
    Upstream,
    /// The body of the response, or a tunnel.
    Body,
}

impl Step {
    /// All, in their order.
    pub const ALL: [Self; 7] = [
        Self::Identify,
        Self::Decide,
        Self::Wait,
        Self::Credential,
        Self::Connect,
        Self::Upstream,
        Self::Body,
    ];

    /// Its name in spans and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Decide => "decide",
            Self::Wait => "wait",
            Self::Credential => "credential",
            Self::Connect => "connect",
            Self::Upstream => "upstream",
            Self::Body => "body",
        }
    }
}

impl Metrics {
    /// Counts a step of a finished request.
    pub fn step(&self, step: Step, took: Duration) {
        let steps = self.0.traces.by_step.iter().zip(Step::ALL);
        for (histogram, _) in steps.filter(|(_, one)| *one == step) {
            histogram.observe(seconds(took));
        }
    }

    /// Counts spans that a collector took.
    pub fn spans_sent(&self, count: u64) {
        self.0.traces.sent.inc_by(count);
    }

    /// Counts spans that no collector took.
    pub fn spans_lost(&self, why: SpansLost, count: u64) {
        let lost = &self.0.traces.lost;
        let label = LostLabel { reason: why.name() };
        lost.get_or_create(&label).inc_by(count);
    }
}

#[derive(Debug)]
pub(super) struct Traces {
    /// Those of `steps`, without a look-up for each request.
    by_step: [Histogram; Step::ALL.len()],
    steps: Family<StepLabel, Histogram, fn() -> Histogram>,
    sent: Counter,
    lost: Family<LostLabel, Counter>,
}

impl Default for Traces {
    fn default() -> Self {
        let steps: Family<StepLabel, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(5e-6, 6.0, 9)));
        let by_step =
            Step::ALL.map(|step| steps.get_or_create_owned(&StepLabel { step: step.name() }));
        let traces = Self {
            by_step,
            steps,
            sent: Counter::default(),
            lost: Family::default(),
        };
        for why in SpansLost::ALL {
            // Registered at start: a counter that appears with its first loss hides that loss.
            drop(traces.lost.get_or_create(&LostLabel { reason: why.name() }));
        }
        traces
    }
}

impl Traces {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "step_duration",
            "Time that a step of a request took",
            Unit::Seconds,
            self.steps.clone(),
        );
        registry.register(
            "spans_sent",
            "Spans that the collector took",
            self.sent.clone(),
        );
        registry.register(
            "spans_dropped",
            "Spans that were lost, because too many waited or the collector did not take them",
            self.lost.clone(),
        );
    }
}
