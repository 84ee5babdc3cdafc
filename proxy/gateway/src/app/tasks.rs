//! What runs beside each other in a gateway, and how it ends: by itself, or cut off.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Everything that must end before the process does. Cheap to clone; clones share.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl Tasks {
    /// Runs a task that ends by itself once the gateway drains, and is dropped if it does not.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        // Boxed before it is wrapped: a task is moved about several times until it runs, and some
        // are large.
        let task = Box::pin(task);
        self.tracker.spawn(cut.run_until_cancelled_owned(task));
    }

    /// The tasks that run now.
    pub fn count(&self) -> usize {
        self.tracker.len()
    }

    /// Waits for all to end by themselves; whether they did within `limit`.
    pub(super) async fn finish(&self, limit: Duration) -> bool {
        self.tracker.close();
        let waiting = tokio::time::timeout(limit, self.tracker.wait());
        waiting.await.is_ok()
    }

    /// Drops those that are left, and waits until they are gone.
    pub(super) async fn cut_off(&self) {
        self.cut.cancel();
        self.tracker.wait().await;
    }
}
