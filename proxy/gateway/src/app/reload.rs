//! Loads a new revision of the resources: completely, or not at all.
//!
//! Directories are watched (Kubernetes swaps a `..data` link in them) and also polled, since a watch can be
//! lost; SIGHUP asks for a reload at once. A revision that cannot be used changes nothing, and the log, the
//! metric and `/readyz` say so.

mod take;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use countersign_config::{problem::Problems, setting::Setting};
use notify::{RecursiveMode, Watcher};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    time::Instant,
};

pub(super) use self::take::warn;
use super::{
    config_file::ConfigFile, in_force::InForce, objects::ClusterObjects, state::GatewayState,
};
use crate::{
    ca::CaError,
    certificates::{self, Certificates},
    observe::{Happened, admin::AdminState},
};

/// Why a new revision is not in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The resources cannot be used.
    #[error("{}", .0.errors())]
    Resources(Problems),
    /// No certificates can be issued for its hosts.
    #[error(transparent)]
    Ca(#[from] CaError),
}

impl From<Problems> for ReloadError {
    fn from(problems: Problems) -> Self {
        Self::Resources(problems)
    }
}

/// Polling interval of the directories.
const POLL: Duration = Duration::from_secs(10);

/// How long reading the directories may take before a warning is logged.
const SLOW: Duration = Duration::from_secs(30);

/// The longest time between a reload and the next one. It lasts as long as the one before took.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// How long the API server is waited for at start if the objects that an earlier process knew can be used instead.
const FIRST_LISTS: Duration = Duration::from_secs(30);

/// How long a change must have settled: files are often written one after the other.
const SETTLE: Duration = Duration::from_millis(100);

/// Takes new revisions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reloader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    gateway: Arc<GatewayState>,
    state: AdminState,
    sources: Sources,
    certificates: Arc<Certificates>,
    /// The Gateway file, if there is one.
    config: OnceLock<ConfigFile>,
    changed: Notify,
    /// Set by SIGHUP: load even if nothing seems to have changed.
    forced: AtomicBool,
    /// The files as they were last loaded.
    seen: Mutex<Stamp>,
    /// The resources in force; locked while they are reloaded.
    reloading: Mutex<InForce>,
    /// When the gateway started.
    began: Instant,
}

/// Where resources come from, and how far they fit the gateway.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) directories: Vec<PathBuf>,
    /// The objects of a cluster.
    pub(super) objects: Option<Arc<ClusterObjects>>,
    /// The gateway, as far as resources can fit it or not.
    pub(super) setting: Setting,
}

/// Names, times and sizes of files: if they are equal there is nothing to load.
type Stamp = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

impl Reloader {
    pub(super) fn new(
        gateway: Arc<GatewayState>,
        state: AdminState,
        sources: Sources,
        certificates: Certificates,
        in_force: InForce,
    ) -> Self {
        if let Some(rejected) = &in_force.rejected {
            let metrics = gateway.recorder.metrics();
            metrics.reload_failed();
            metrics.on_last_good(true);
            state.set_reload_error(Some(rejected));
            state.set_started_on_last_good(true);
        }
        let shared = Shared {
            gateway,
            state,
            sources,
            certificates: Arc::new(certificates),
            config: OnceLock::new(),
            changed: Notify::new(),
            forced: AtomicBool::new(false),
            seen: Mutex::default(),
            reloading: Mutex::new(in_force),
            began: Instant::now(),
        };
        shared.have_seen();
        shared.tell_standing();
        shared.report_certificates();
        Self(Arc::new(shared))
    }

    /// Only the first call counts.
    pub(super) fn watch_config(&self, file: PathBuf, text: String) {
        self.0.config.get_or_init(|| ConfigFile::new(file, text));
        self.0.have_seen();
    }

    /// Tells in the decision log of newer resources that the start could not use.
    pub(super) fn tell_start(&self) {
        let in_force = self
            .0
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(detail) = in_force.rejected.clone() {
            self.0.gateway.tell(Happened::ReloadRejected { detail });
        }
    }

    /// Loads everything again and puts it in force if it can be used.
    ///
    /// # Errors
    /// With every problem; the old revision then stays in force.
    pub fn reload(&self) -> Result<(), ReloadError> {
        self.0.reload()
    }

    /// Looks at the certificates. Reads files.
    pub(super) fn report_certificates(&self) {
        self.0.report_certificates();
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
                () = self.0.gateway.lifecycle.drain.cancelled() => break,
                _ = asked => self.0.forced.store(true, Ordering::Relaxed),
                () = self.0.changed.notified() => tokio::time::sleep(SETTLE).await,
                () = self.0.objects_changed() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep(POLL) => {}
            }
            let began = Instant::now();
            let shared = Arc::clone(&self.0);
            let mut look = tokio::task::spawn_blocking(move || shared.look());
            let looked = loop {
                tokio::select! {
                    looked = &mut look => break Some(looked),
                    () = self.0.gateway.lifecycle.drain.cancelled() => break None,
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
            // While thousands of objects change, at least half of the time is for requests.
            let rest = began.elapsed().min(LONGEST_REST);
            tokio::select! {
                () = self.0.gateway.lifecycle.drain.cancelled() => break,
                () = tokio::time::sleep(rest) => {}
            }
        }
        drop(watcher);
        let shared = Arc::clone(&self.0);
        // An error is a panic, which was told.
        let _ = tokio::task::spawn_blocking(move || shared.keep(true)).await;
    }

    /// Looks at the certificates from time to time until the gateway drains: they end without a change of a file.
    pub(super) async fn watch_certificates(self) {
        loop {
            tokio::select! {
                () = self.0.gateway.lifecycle.drain.cancelled() => return,
                () = tokio::time::sleep(certificates::LOOK) => {}
            }
            let shared = Arc::clone(&self.0);
            let look = tokio::task::spawn_blocking(move || shared.report_certificates());
            tokio::select! {
                () = self.0.gateway.lifecycle.drain.cancelled() => return,
                looked = look => if let Err(error) = looked {
                    tracing::error!(%error, "looking at the certificates failed");
                }
            }
        }
    }

    /// `None` if the system cannot watch; then the directories are polled.
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

/// Handles SIGHUP, which would otherwise end the process.
pub(super) fn hangup() -> Option<Signal> {
    signal(SignalKind::hangup())
        .inspect_err(|error| tracing::warn!(%error, "SIGHUP will not reload"))
        .ok()
}

impl Shared {
    fn have_seen(&self) {
        let stamp = self.stamp();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
    }

    /// Completes when there is news of a cluster's objects.
    async fn objects_changed(&self) {
        match &self.sources.objects {
            Some(objects) => objects.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Tells whether the objects of the cluster can be read.
    fn tell_standing(&self) {
        let Some(objects) = &self.sources.objects else {
            return;
        };
        let standing = objects.standing();
        let in_time = self.began.elapsed() < FIRST_LISTS;
        let usable = standing.complete || (standing.kept && !in_time);
        self.state.set_resources(usable, &standing.troubles);
        self.gateway
            .recorder
            .metrics()
            .objects_stale(standing.stale || !standing.complete);
    }

    /// Keeps what changed with the objects of the cluster, if it is time.
    fn keep(&self, at_once: bool) {
        if let Some(objects) = &self.sources.objects {
            self.in_force().keep(objects, at_once);
        }
    }

    /// Reloads if anything changed or someone asked.
    fn look(&self) {
        self.reload_if_changed();
        self.tell_standing();
        self.keep(false);
    }

    fn reload_if_changed(&self) {
        self.in_force().retired.free_unused();
        let stamp = self.stamp();
        let forced = self.forced.swap(false, Ordering::Relaxed);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let objects = self.sources.objects.as_ref();
            let untaken = objects.is_some_and(|objects| objects.is_untaken());
            if *seen == stamp && !forced && !untaken {
                return;
            }
            *seen = stamp;
        }
        match self.reload() {
            // The problems were reported, and stay until the files change.
            Ok(()) | Err(ReloadError::Resources(_)) => {}
            // The files are usable; the CA's directory may be too at the next poll.
            Err(ReloadError::Ca(_)) => self.forced.store(true, Ordering::Relaxed),
        }
    }

    fn reload(&self) -> Result<(), ReloadError> {
        // One at a time.
        let mut in_force = self.in_force();
        self.reload_proofs();
        if let Some(config) = self.config.get() {
            config.compare(&self.state, self.gateway.recorder.metrics());
        }
        let result = self.take(&mut in_force);
        match &result {
            Ok(()) => {
                in_force.rejected = None;
                self.state.set_reload_error(None);
                self.state.set_started_on_last_good(false);
                self.gateway.recorder.metrics().on_last_good(false);
            }
            Err(error) => {
                self.gateway.recorder.metrics().reload_failed();
                tracing::error!(%error, "the old revision stays in force");
                let detail = error.to_string();
                self.state.set_reload_error(Some(&detail));
                // What is tried again and again is told once.
                if in_force.rejected.as_ref() != Some(&detail) {
                    in_force.rejected = Some(detail.clone());
                    self.gateway.tell(Happened::ReloadRejected { detail });
                }
            }
        }
        result
    }

    /// Reloads the listeners' certificates and the trust bundles. If one file cannot be used, its old
    /// content stays in force.
    fn reload_proofs(&self) {
        self.certificates.reload();
        for error in self.gateway.access.identifier.trust_domains().reload() {
            tracing::error!(%error, "the trust domain's old bundle stays in force");
        }
        self.report_certificates();
    }

    fn report_certificates(&self) {
        let metrics = self.gateway.recorder.metrics();
        self.certificates.report(&self.state, metrics);
    }

    fn in_force(&self) -> MutexGuard<'_, InForce> {
        self.reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> Vec<PathBuf> {
        let parents = self.files().filter_map(Path::parent).map(|parent| {
            // That of a name alone.
            let here = parent.as_os_str().is_empty();
            if here { Path::new(".") } else { parent }.to_owned()
        });
        self.sources
            .directories
            .iter()
            .cloned()
            .chain(parents)
            .collect()
    }

    /// The watched files that are not in the directories.
    fn files(&self) -> impl Iterator<Item = &Path> {
        let certificates = self.certificates.files();
        let bundles = self.gateway.access.identifier.trust_domains().files();
        let config = self.config.get().map(ConfigFile::path);
        certificates.chain(bundles).chain(config)
    }

    /// Follows links, to notice a swapped `..data`.
    fn stamp(&self) -> Stamp {
        let mut files: Vec<PathBuf> = self.files().map(Path::to_owned).collect();
        for directory in &self.sources.directories {
            // A missing directory has no entries; the reload reports it.
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
