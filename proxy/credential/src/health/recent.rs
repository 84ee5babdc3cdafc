//! For which workloads a value worked recently: these are not held back because of others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use countersign_config::model::ResourceName;
use countersign_core::single_flight::LastTime;
use foldhash::HashMap;

/// The most workloads that are remembered; if there are more, the list is cleared.
const MOST: usize = 256;

/// Successes within this time count as one: the next is not worth a write to shared memory.
const ONE: Duration = Duration::from_secs(1);

/// When values last worked, by workload.
#[derive(Debug, Default)]
pub(super) struct RecentSuccesses(ArcSwap<HashMap<ResourceName, Arc<Success>>>);

#[derive(Debug)]
struct Success {
    generation: AtomicU64,
    at: LastTime,
}

impl RecentSuccesses {
    /// The value of this generation worked for this workload. Lock-free if that is already known.
    pub(super) fn mark(&self, workload: &ResourceName, generation: u64) {
        if let Some(success) = self.0.load().get(workload) {
            if success.generation.load(Ordering::Acquire) != generation || !success.at.within(ONE) {
                success.at.mark();
                success.generation.store(generation, Ordering::Release);
            }
            return;
        }
        let success = Arc::new(Success {
            generation: AtomicU64::new(generation),
            at: LastTime::never(),
        });
        success.at.mark();
        self.0.rcu(|all| {
            let mut all = match all.len() {
                MOST.. => HashMap::default(),
                _ => HashMap::clone(all),
            };
            all.insert(workload.clone(), Arc::clone(&success));
            all
        });
    }

    /// Whether that was within this time.
    pub(super) fn knows(&self, workload: &ResourceName, generation: u64, within: Duration) -> bool {
        let all = self.0.load();
        all.get(workload).is_some_and(|success| {
            success.generation.load(Ordering::Acquire) == generation && success.at.within(within)
        })
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.load().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_success_is_of_one_value_and_grows_old() {
        const WITHIN: Duration = Duration::from_mins(10);
        let lately = RecentSuccesses::default();
        let name = |n: usize| ResourceName::namespaced("qa", &n.to_string());
        assert!(!lately.knows(&name(1), 1, WITHIN));
        lately.mark(&name(1), 1);
        assert!(lately.knows(&name(1), 1, WITHIN));
        assert!(!lately.knows(&name(1), 2, WITHIN));
        assert!(!lately.knows(&name(2), 1, WITHIN));
        tokio::time::advance(WITHIN).await;
        assert!(!lately.knows(&name(1), 1, WITHIN));
        lately.mark(&name(1), 2);
        assert!(lately.knows(&name(1), 2, WITHIN));
        for n in 0..1_000 {
            lately.mark(&name(n), 1);
        }
        assert!(lately.len() <= MOST);
    }
}
