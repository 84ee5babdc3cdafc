//! The tasks of a gateway, and how they end: by themselves when it drains, or cut off.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The gateway's tasks, and the signal that tells them to finish. Cheap to clone; clones share.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    /// Everything that must end before the process does.
    pub tasks: Tasks,
    /// Cancelled when the gateway drains.
    pub drain: CancellationToken,
    /// Set a moment before.
    pub leaving: Leaving,
}

/// Whether the gateway is about to drain. From then on each answer of HTTP/1.1 says that it is the last of its
/// connection, so that clients go elsewhere by themselves: an idle connection that is closed may carry a request at
/// that very moment. HTTP/2 has its own way to say so. Cheap to clone; clones share.
#[derive(Debug, Clone, Default)]
pub struct Leaving(Arc<AtomicBool>);

impl Leaving {
    /// From now on.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that must end before the process does. Cheap to clone; clones share.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl Tasks {
    /// Runs a task that ends by itself once the gateway drains, and is dropped if it does not.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(self.until_cut(task));
    }

    /// The same, in another runtime than the one this is called in.
    pub fn spawn_on(&self, task: impl Future<Output = ()> + Send + 'static, runtime: &Handle) {
        self.tracker.spawn_on(self.until_cut(task), runtime);
    }

    fn until_cut(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = Option<()>> + Send + 'static {
        // Boxed before it is wrapped: a task is moved about several times until it runs, and some
        // are large.
        self.cut.clone().run_until_cancelled_owned(Box::pin(task))
    }

    /// The tasks that run now.
    pub fn count(&self) -> usize {
        self.tracker.len()
    }

    /// Waits for all tasks to end by themselves; returns whether they did within `limit`.
    pub(crate) async fn finish(&self, limit: Duration) -> bool {
        self.tracker.close();
        let waiting = tokio::time::timeout(limit, self.tracker.wait());
        waiting.await.is_ok()
    }

    /// Drops the remaining tasks, and waits until they are gone.
    pub(crate) async fn cut_off(&self) {
        self.cut.cancel();
        self.tracker.wait().await;
    }
}
