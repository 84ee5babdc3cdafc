//! The memory budget in metrics: its size, who holds how much, and what was refused because of it.

use std::{fmt, sync::OnceLock};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    Metrics,
    labels::{MemoryLabel, ShortLabels},
};

/// The budget, the bytes held by unidentified connections, and by workloads.
pub(crate) type Reading = [usize; 3];

impl Metrics {
    /// Sets how the memory budget is read. The first call counts.
    pub fn watch_memory(&self, read: impl Fn() -> Reading + Send + Sync + 'static) {
        self.0.memory.watch(read);
    }

    /// Counts something that was refused or closed because of the budget; `class` is its account's.
    pub fn memory_refused(&self, class: &'static str, reason: &'static str) {
        self.0.memory.refused(class, reason);
    }
}

#[derive(Default)]
pub(super) struct Memory {
    total: Gauge,
    held: Family<MemoryLabel, Gauge>,
    refused: Family<ShortLabels, Counter>,
    /// Read when metrics are scraped, so that requests need not report what they reserve.
    read: OnceLock<Box<dyn Fn() -> Reading + Send + Sync>>,
}

impl Memory {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "memory_budget",
            "The memory budget for everything that peers can make the gateway hold",
            Unit::Bytes,
            self.total.clone(),
        );
        registry.register_with_unit(
            "memory_held",
            "Held part of the memory budget, by unidentified connections and by workloads",
            Unit::Bytes,
            self.held.clone(),
        );
        registry.register(
            "memory_refused",
            "Refusals and closed connections because of the memory budget, by class and reason",
            self.refused.clone(),
        );
    }

    pub(super) fn watch(&self, read: impl Fn() -> Reading + Send + Sync + 'static) {
        self.read.get_or_init(|| Box::new(read));
    }

    pub(super) fn refused(&self, class: &'static str, reason: &'static str) {
        self.refused
            .get_or_create(&ShortLabels { class, reason })
            .inc();
    }

    /// Updates the gauges.
    pub(super) fn refresh(&self) {
        let Some(read) = self.read.get() else { return };
        let [total, unidentified, workloads] =
            read().map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        self.total.set(total);
        for (class, bytes) in [("unidentified", unidentified), ("workload", workloads)] {
            self.held.get_or_create(&MemoryLabel { class }).set(bytes);
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}
