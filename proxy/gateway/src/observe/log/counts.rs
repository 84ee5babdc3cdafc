//! What both ends of the log's queues share: counts of what was lost and used, and what waits to be told.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use countersign_core::{
    clock::Clock,
    metrics::{Class, Metrics, SpansLost},
};

use super::{
    super::{closed::Closed, count, sampler::Sampler, steps::steps},
    event::Events,
    recent::Recent,
    shed::ShedConnections,
    used::LastUsed,
    uses::Uses,
};

/// What both ends of the queues share.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts(pub(super) Arc<CountsInner>);

#[derive(Debug, Default)]
pub(super) struct CountsInner {
    /// Lost records that the log has not reported yet.
    identified_dropped: AtomicU64,
    unidentified_dropped: AtomicU64,
    pub(super) shed: ShedConnections,
    pub(super) events: Events,
    pub(super) recent: Arc<Recent>,
    pub(super) uses: Uses,
    pub(super) used: OnceLock<Arc<LastUsed>>,
    pub(super) observer: OnceLock<(Metrics, Clock)>,
    sampler: Option<Sampler>,
}

impl Counts {
    /// Counts of a log of which some requests have their spans sent.
    pub(super) fn sampling(sampler: Option<Sampler>) -> Self {
        Self(Arc::new(CountsInner {
            sampler,
            ..CountsInner::default()
        }))
    }

    /// The metrics, once there are any.
    pub(super) fn metrics(&self) -> Option<&Metrics> {
        self.0.observer.get().map(|(metrics, _)| metrics)
    }

    /// Counts the spans of a request whose record is lost.
    pub(super) fn untraced(&self, closed: &Closed) {
        let keeps = |sampler: Sampler| sampler.keeps(&closed.entry, closed.outcome);
        if let Some(metrics) = self.metrics().filter(|_| self.0.sampler.is_some_and(keeps)) {
            let spans = 1 + steps(closed).count() as u64;
            metrics.spans_lost(SpansLost::QueueFull, spans);
        }
    }

    /// Counts a finished request.
    pub(super) fn record(&self, closed: &Closed) {
        self.0.uses.record(closed);
        if let Some((metrics, _)) = self.0.observer.get() {
            count::finished(metrics, closed, self.0.sampler);
        }
        if let Some(used) = self.0.used.get() {
            used.note(closed);
        }
    }

    /// Counts lost records.
    pub(super) fn dropped(&self, class: Class, count: u64) {
        self.untold(class).fetch_add(count, Ordering::Relaxed);
        if let Some((metrics, _)) = self.0.observer.get() {
            metrics.decisions_dropped(class, count);
        }
    }

    /// Counts a record that is part of a summary.
    pub(super) fn summarized(&self, class: Class) {
        if let Some((metrics, _)) = self.0.observer.get() {
            metrics.decision_summarized(class);
        }
    }

    /// Counts a failed attempt to write.
    pub(super) fn write_failed(&self) {
        if let Some((metrics, _)) = self.0.observer.get() {
            metrics.decision_write_failed();
        }
    }

    /// Counts records that a sink lost.
    pub(super) fn lost_by(&self, sink: &Arc<str>, class: Class, count: u64) {
        if let Some((metrics, _)) = self.0.observer.get() {
            metrics.decisions_dropped(class, count);
            metrics.decision_sink_dropped(sink, count);
        }
    }

    /// Counts records that the only sink lost, which are counted as lost already.
    pub(super) fn sink_lost(&self, sink: &Arc<str>, count: u64) {
        if let Some((metrics, _)) = self.0.observer.get() {
            metrics.decision_sink_dropped(sink, count);
        }
    }

    /// Notes whether a sink took what it was given.
    pub(super) fn sink_works(&self, sink: &Arc<str>, works: bool) {
        if let Some((metrics, _)) = self.0.observer.get() {
            metrics.decision_sink(sink, works);
        }
    }

    /// Takes the lost records that the log has not reported yet; the caller must write a line for them.
    pub(super) fn take_dropped(&self, class: Class) -> u64 {
        self.untold(class).swap(0, Ordering::Relaxed)
    }

    /// Returns what [`Self::take_dropped`] took, when the line could not be written.
    pub(super) fn untake_dropped(&self, class: Class, count: u64) {
        self.untold(class).fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn untold(&self, class: Class) -> &AtomicU64 {
        match class {
            Class::Identified => &self.0.identified_dropped,
            Class::Unidentified => &self.0.unidentified_dropped,
        }
    }

    pub(super) fn now(&self) -> jiff::Timestamp {
        self.0
            .observer
            .get()
            .map_or_else(|| Clock::system().now(), |(_, clock)| clock.now())
    }
}
