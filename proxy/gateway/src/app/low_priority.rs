//! Long work beside requests: a thread of low priority, for revisions that are read and freed.

use std::{panic::resume_unwind, sync::Arc, thread};

use countersign_authorize::Snapshot;
use rustix::process::setpriority_process;

/// The `nice` value of the thread: where it competes with a worker for a core it gets about a tenth of it,
/// which delays a revision by seconds at most.
const NICENESS: i32 = 10;

/// Does work in a thread of low priority and waits for it. If none can be had, it does the work itself.
pub(super) fn at_low_priority<T: Send>(work: impl Fn() -> T + Sync) -> T {
    let unhurried = || {
        lower_priority();
        work()
    };
    thread::scope(|scope| match builder().spawn_scoped(scope, unhurried) {
        Ok(working) => working.join().unwrap_or_else(|panic| resume_unwind(panic)),
        Err(_) => work(),
    })
}

/// For this thread only. If that is not permitted, it has the priority of requests.
fn lower_priority() {
    if let Err(error) = setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the reload has the priority of requests");
    }
}

fn builder() -> thread::Builder {
    thread::Builder::new().name("reload".to_owned())
}

/// Revisions that are no longer in force. The last request that uses one must not have to free it, which
/// takes milliseconds for thousands of policies; so they are kept here until no request does.
#[derive(Debug, Default)]
pub(super) struct Retired(Vec<Arc<Snapshot>>);

impl Retired {
    pub(super) fn push(&mut self, snapshot: Arc<Snapshot>) {
        self.0.push(snapshot);
    }

    /// Frees those that no request uses any longer.
    pub(super) fn free_unused(&mut self) {
        let all = std::mem::take(&mut self.0).into_iter();
        let (unused, used): (Vec<_>, Vec<_>) =
            all.partition(|snapshot| Arc::strong_count(snapshot) == 1);
        self.0 = used;
        if unused.is_empty() {
            return;
        }
        // Without a thread they are freed here.
        let freeing = builder().spawn(move || {
            lower_priority();
            let unused = unused.into_iter().filter_map(Arc::into_inner);
            unused.for_each(Snapshot::free);
        });
        drop(freeing);
    }
}
