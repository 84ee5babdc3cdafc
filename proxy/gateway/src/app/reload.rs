//! Taking a new revision: whole, or not at all.
//!
//! Directories are watched (Kubernetes swaps a `..data` link in them) and looked at now and then
//! besides, since a watch can be lost; SIGHUP asks for it at once. A revision that cannot be used
//! changes nothing, and the log, the metric and `/readyz` say so.

use std::{
    fs,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use countersign_config::{
    load::{self, Loaded},
    problem::Problems,
};
use notify::{RecursiveMode, Watcher};
use rustix::process::setpriority_process;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

use super::Rooms;
use crate::{
    accept::ListenerCertificate, authorize::Snapshot, ca::CaError, observe::admin::AdminState,
};

/// Why a new revision is not in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The resources cannot be used.
    #[error("{0}")]
    Resources(Problems),
    /// Its hosts can get no certificates.
    #[error(transparent)]
    Ca(#[from] CaError),
}

impl From<Problems> for ReloadError {
    fn from(problems: Problems) -> Self {
        Self::Resources(problems)
    }
}

/// How often the directories are looked at without being asked.
const POLL: Duration = Duration::from_secs(10);

/// How long a look may take before someone is told.
const SLOW: Duration = Duration::from_secs(30);

/// How long a change must have settled: files are often written one after the other.
const SETTLE: Duration = Duration::from_millis(100);

/// How far reading new resources stands back behind requests: it has a tenth of a worker's share of a
/// core that both want, so that a revision is delayed by seconds at most.
const NICENESS: i32 = 10;

/// Takes new revisions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reloader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    rooms: Arc<Rooms>,
    state: AdminState,
    directories: Vec<PathBuf>,
    certificates: Vec<Arc<ListenerCertificate>>,
    changed: Notify,
    /// Set by SIGHUP: load even if nothing seems to have changed.
    forced: AtomicBool,
    /// What the files looked like when they were last loaded.
    seen: Mutex<Stamp>,
    reloading: Mutex<()>,
}

/// Names, times and sizes of files: equal stamps mean that there is nothing to load.
type Stamp = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

impl Reloader {
    pub(super) fn new(
        rooms: Arc<Rooms>,
        state: AdminState,
        directories: Vec<PathBuf>,
        certificates: Vec<Arc<ListenerCertificate>>,
    ) -> Self {
        let shared = Shared {
            rooms,
            state,
            directories,
            certificates,
            changed: Notify::new(),
            forced: AtomicBool::new(false),
            seen: Mutex::default(),
            reloading: Mutex::default(),
        };
        *shared.seen.lock().unwrap_or_else(PoisonError::into_inner) = shared.stamp();
        Self(Arc::new(shared))
    }

    /// Loads everything again and puts it in force if it is usable.
    ///
    /// # Errors
    /// With every problem; the old revision then stays in force.
    pub fn reload(&self) -> Result<(), ReloadError> {
        self.0.reload()
    }

    /// Watches until the gateway drains.
    pub(super) async fn watch(self, mut hangup: Option<Signal>) {
        let watcher = self.watcher();
        loop {
            let asked = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await.is_some(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.rooms.drain.cancelled() => break,
                _ = asked => self.0.forced.store(true, Ordering::Relaxed),
                () = self.0.changed.notified() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep(POLL) => {}
            }
            let shared = Arc::clone(&self.0);
            let mut look = tokio::task::spawn_blocking(move || shared.look());
            let looked = loop {
                tokio::select! {
                    looked = &mut look => break Some(looked),
                    () = self.0.rooms.drain.cancelled() => break None,
                    () = tokio::time::sleep(SLOW) => tracing::warn!(
                        "the disk of the resources does not answer; the revision in force stays so"
                    ),
                }
            };
            match looked {
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::error!(%error, "the reload failed"),
                None => break,
            }
        }
        drop(watcher);
    }

    /// `None` where the system cannot watch: then polling must do.
    fn watcher(&self) -> Option<notify::RecommendedWatcher> {
        let shared = Arc::downgrade(&self.0);
        let told = move |_event| {
            if let Some(shared) = shared.upgrade() {
                shared.changed.notify_one();
            }
        };
        let mut watcher = notify::recommended_watcher(told)
            .inspect_err(|error| tracing::warn!(%error, "changes are noticed by polling only"))
            .ok()?;
        for directory in self.0.watched() {
            if let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, directory = %directory.display(), "changes are noticed by polling only");
            }
        }
        Some(watcher)
    }
}

/// Takes over SIGHUP, which would end a process that does not.
pub(super) fn hangup() -> Option<Signal> {
    signal(SignalKind::hangup())
        .inspect_err(|error| tracing::warn!(%error, "SIGHUP will not reload"))
        .ok()
}

impl Shared {
    /// Reloads if anything changed or someone asked.
    fn look(&self) {
        let stamp = self.stamp();
        let forced = self.forced.swap(false, Ordering::Relaxed);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == stamp && !forced {
                return;
            }
            *seen = stamp;
        }
        match self.reload() {
            // What is wrong with the files was said where everyone looks, and stays so until they
            // change.
            Ok(()) | Err(ReloadError::Resources(_)) => {}
            // The files are in order; the CA's directory may be again at the next look.
            Err(ReloadError::Ca(_)) => self.forced.store(true, Ordering::Relaxed),
        }
    }

    fn reload(&self) -> Result<(), ReloadError> {
        let _one_at_a_time = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.reload_proofs();
        let result = self.take();
        match &result {
            Ok(()) => self.state.set_reload_error(None),
            Err(error) => {
                self.rooms.recorder.metrics().reload_failed();
                tracing::error!(%error, "the old revision stays in force");
                self.state.set_reload_error(Some(&error.to_string()));
            }
        }
        result
    }

    /// What the gateway shows to clients, and what it checks theirs by. Each file stands for
    /// itself: one that cannot be used stays as it was.
    fn reload_proofs(&self) {
        for certificate in &self.certificates {
            if let Err(error) = certificate.reload() {
                tracing::error!(%error, "the listener's old certificate stays in force");
            }
        }
        for error in self.rooms.identifier.trust_domains().reload() {
            tracing::error!(%error, "the trust domain's old bundle stays in force");
        }
    }

    fn take(&self) -> Result<(), ReloadError> {
        let loaded = self.load()?;
        warn(&loaded.warnings);
        let rooms = &self.rooms;
        let previous = rooms.snapshots.load_full();
        if loaded.policies.revision() == &**previous.revision() {
            return Ok(());
        }
        // Certificates for the new hosts first: requests for them may come at once.
        rooms.ca.constrain(loaded.policies.intercepted_hosts())?;
        let next = Arc::new(Snapshot::new(loaded.policies, Some(&previous)));
        let revision = Arc::clone(next.revision());
        // First what the old revision used, then the new one: a request that still has the old one
        // cannot bring back what was let go.
        rooms.credentials.retain(next.credentials());
        let in_use = next.credentials();
        rooms
            .healths
            .retain(in_use.map(|credential| &credential.name));
        rooms.snapshots.store(next);
        rooms
            .recorder
            .metrics()
            .reloaded(&revision, rooms.clock.now());
        self.state.set_revision(&revision);
        tracing::info!(%revision, "a new revision is in force");
        Ok(())
    }

    /// Reads the resources in a thread of low priority: it takes long enough for requests that come
    /// meanwhile to notice, where it shares a core with a worker.
    fn load(&self) -> Result<Loaded, Problems> {
        let read = || load::resources_at(&self.directories, self.rooms.clock.now());
        let unhurried = || {
            // Of this thread alone; where it is not permitted, the thread is like any other.
            if let Err(error) = setpriority_process(None, NICENESS) {
                tracing::debug!(%error, "the reload has the priority of requests");
            }
            read()
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("reload".to_owned());
            match thread.spawn_scoped(scope, unhurried) {
                Ok(reading) => reading.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(_) => read(),
            }
        })
    }

    fn watched(&self) -> Vec<PathBuf> {
        let parents = self.files().filter_map(Path::parent).map(Path::to_owned);
        self.directories.iter().cloned().chain(parents).collect()
    }

    /// The single files, beside the directories.
    fn files(&self) -> impl Iterator<Item = &Path> {
        let certificates = self
            .certificates
            .iter()
            .flat_map(|certificate| certificate.files());
        certificates.chain(self.rooms.identifier.trust_domains().files())
    }

    /// Follows links, so that a swapped `..data` shows.
    fn stamp(&self) -> Stamp {
        let mut files: Vec<PathBuf> = self.files().map(Path::to_owned).collect();
        for directory in &self.directories {
            // A directory that vanished has no entries; the reload then says what is wrong.
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            files.extend(entries.map(|entry| entry.path()));
            files.push(directory.clone());
        }
        files.sort();
        let stamped = files.into_iter().map(|path| {
            let stamp = fs::metadata(&path)
                .and_then(|data| Ok((data.modified()?, data.len())))
                .ok();
            (path, stamp)
        });
        stamped.collect()
    }
}

/// Logs what is usable but probably not meant.
pub(super) fn warn(warnings: &Problems) {
    if !warnings.0.is_empty() {
        tracing::warn!(warnings = %warnings, "the resources are usable, but look at this");
    }
}
