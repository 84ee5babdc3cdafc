//! What admission did, counted. Labels are fixed codes.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{
    outcome::LeftAlone,
    review::{Decision, Webhook},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    webhook: &'static str,
    result: &'static str,
    reason: &'static str,
}

/// The counters. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pods: Family<Labels, Counter>,
    failures: Counter,
    events_lost: Counter,
}

impl Metrics {
    /// Counters of this registry, whose prefix is `countersign`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for reason in LeftAlone::ALL {
            // From the start: a counter that appears with its first pod hides that pod.
            metrics.count("mutate", "left_alone", reason.code(), 0);
        }
        registry.register(
            "admission_pods",
            "Pods by what became of them: injected (reason: the mode), left_alone, refused, passed",
            metrics.pods.clone(),
        );
        registry.register(
            "admission_failures",
            "Calls that could not be answered; the API server refuses these pods",
            metrics.failures.clone(),
        );
        registry.register(
            "admission_events_lost",
            "Events about pods left alone that could not be written",
            metrics.events_lost.clone(),
        );
        metrics
    }

    /// Counts a decision: one for each of its reasons.
    pub fn decided(&self, webhook: Webhook, decision: &Decision) {
        let webhook = match webhook {
            Webhook::Mutate => "mutate",
            Webhook::Validate => "validate",
        };
        match decision {
            Decision::Injected(mode) => self.count(webhook, "injected", mode.as_str(), 1),
            Decision::LeftAlone(why) => self.count(webhook, "left_alone", why.code(), 1),
            Decision::Passed => self.count(webhook, "passed", "", 1),
            Decision::Refused(codes) => {
                for code in codes {
                    self.count(webhook, "refused", code, 1);
                }
            }
        }
    }

    /// Counts a call that could not be answered.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// Counts an Event that was not written.
    pub fn event_lost(&self) {
        self.events_lost.inc();
    }

    fn count(&self, webhook: &'static str, result: &'static str, reason: &'static str, by: u64) {
        let labels = Labels {
            webhook,
            result,
            reason,
        };
        self.pods.get_or_create(&labels).inc_by(by);
    }
}
