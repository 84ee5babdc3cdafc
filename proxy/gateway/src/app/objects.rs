//! The objects of the cluster that are resources: what the watches saw, until it is taken into a revision.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_config::{
    cluster::{Boundary, Mirror, Object, Objects, Report, Seen},
    model::KubernetesSource,
};
use tokio::sync::{Notify, watch};

/// What the watches saw, and what became of it.
#[derive(Debug)]
pub(super) struct ClusterObjects {
    source: KubernetesSource,
    seen: Mutex<SeenObjects>,
    /// Told when there is something to take, or something to tell.
    changed: Notify,
    report: watch::Sender<Option<Arc<Report>>>,
}

#[derive(Debug)]
struct SeenObjects {
    mirror: Mirror,
    /// What an earlier process knew; all there is until every list was read once.
    kept: Vec<Object>,
    /// Something changed since they were taken last.
    untaken: bool,
    /// What was taken last is what every list has, and not what an earlier process knew.
    taken_whole: bool,
    /// A revision of it was in force.
    in_force: bool,
}

/// What the watches say at one moment.
#[derive(Debug)]
pub(super) struct Standing {
    /// Objects that an earlier process knew are in force instead.
    pub(super) kept: bool,
    /// All lists were read once, and a revision was made of them.
    pub(super) complete: bool,
    /// What was read once cannot be read now.
    pub(super) stale: bool,
    /// Why not, in sentences.
    pub(super) troubles: Vec<String>,
}

impl ClusterObjects {
    /// Those of a source; `kept` are the objects that an earlier process knew.
    pub(super) fn new(source: KubernetesSource, kept: Vec<Object>) -> Self {
        Self {
            seen: Mutex::new(SeenObjects {
                mirror: Mirror::new(&source),
                kept,
                untaken: false,
                taken_whole: false,
                in_force: false,
            }),
            source,
            changed: Notify::new(),
            report: watch::Sender::default(),
        }
    }

    pub(super) fn source(&self) -> &KubernetesSource {
        &self.source
    }

    /// Takes what a watch tells.
    pub(super) fn see(&self, told: Seen) {
        let mut seen = self.seen();
        let is_about_reading = matches!(told, Seen::Listed(..) | Seen::Trouble(..));
        let changed = seen.mirror.see(told);
        seen.untaken |= changed;
        drop(seen);
        if changed || is_about_reading {
            self.changed.notify_one();
        }
    }

    /// Completes when there is something to take, or something to tell.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether a revision should be made of them.
    pub(super) fn is_untaken(&self) -> bool {
        let seen = self.seen();
        seen.untaken && seen.mirror.is_complete()
    }

    /// All of them, for a revision.
    pub(super) fn take(&self) -> Objects {
        let mut seen = self.seen();
        // Half of the lists would take away what is in the other half, such as the target that narrows the catalog's.
        seen.taken_whole = seen.mirror.is_complete();
        let all = if seen.taken_whole {
            seen.untaken = false;
            seen.kept = Vec::new();
            seen.mirror.objects()
        } else {
            seen.kept.clone()
        };
        Objects {
            all,
            boundary: Boundary::from(&self.source),
        }
    }

    /// They are to be taken again.
    pub(super) fn not_taken(&self) {
        self.seen().untaken = true;
    }

    pub(super) fn standing(&self) -> Standing {
        let seen = self.seen();
        Standing {
            kept: !seen.kept.is_empty(),
            complete: seen.in_force,
            stale: seen.mirror.is_stale(),
            troubles: seen.mirror.troubles(),
        }
    }

    /// They are in force: tells what became of them, unless they are those of an earlier process.
    pub(super) fn tell(&self, report: Report) {
        let mut seen = self.seen();
        if seen.taken_whole {
            seen.in_force = true;
            drop(seen);
            self.report.send_replace(Some(Arc::new(report)));
        }
    }

    /// What became of them, and of every later revision; `None` until all were read.
    pub(super) fn reports(&self) -> watch::Receiver<Option<Arc<Report>>> {
        self.report.subscribe()
    }

    fn seen(&self) -> MutexGuard<'_, SeenObjects> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
