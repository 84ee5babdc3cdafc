//! When each grant was last used, kept in the state directory, so that a restart does not forget it.
//!
//! The log's thread counts; from time to time, on a thread that may wait for the disk, what was counted since is
//! added to the file. Gateways that share the directory share the file, under a lock.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_config::{
    history::{LAST_USE, LastUse},
    model::{Gateway, StateStore},
};

use super::state::GatewayState;

/// How often it is written.
const EVERY: Duration = Duration::from_mins(1);

/// The largest file that is read.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What was used, and where it is kept.
#[derive(Debug, Clone, Default)]
pub(super) struct LastUses {
    /// `None` if the state is not in a directory.
    directory: Option<PathBuf>,
    /// What could not be written yet.
    unwritten: Arc<Mutex<LastUse>>,
}

impl LastUses {
    pub(super) fn of(gateway: &Gateway) -> Self {
        let directory = match &gateway.state {
            StateStore::Directory { path, .. } if gateway.continues_earlier_runs => {
                Some(path.clone())
            }
            StateStore::Directory { .. }
            | StateStore::Kubernetes { .. }
            | StateStore::Vault { .. } => None,
        };
        Self {
            directory,
            unwritten: Arc::default(),
        }
    }

    /// The file, if there is one.
    pub(super) fn file(&self) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(LAST_USE))
    }

    /// Keeps what is used until the gateway drains.
    pub(super) async fn keep(self, gateway: Arc<GatewayState>) {
        loop {
            tokio::select! {
                () = gateway.lifecycle.drain.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            self.write(&gateway).await;
        }
    }

    /// Adds what was used since to the file.
    pub(super) async fn write(&self, gateway: &GatewayState) {
        let Some(directory) = self.directory.clone() else {
            return;
        };
        let mut since = gateway.recorder.take_uses();
        add_scopes(&mut since, gateway);
        let unwritten = Arc::clone(&self.unwritten);
        let writing = move || {
            let mut waiting = unwritten.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.add(&since);
            if *waiting == LastUse::default() {
                return;
            }
            match write(&directory, &waiting) {
                Ok(()) => *waiting = LastUse::default(),
                Err(error) => tracing::warn!(
                    %error,
                    directory = %directory.display(),
                    "what was used cannot be kept; it is tried again"
                ),
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(writing).await {
            tracing::error!(%error, "keeping what was used failed");
        }
    }
}

/// The scopes of the credentials that were used, as their APIs say.
fn add_scopes(since: &mut LastUse, gateway: &GatewayState) {
    for used in &mut since.credentials {
        let health = gateway.credential.health.known(&used.name);
        if let Some(scopes) = health.and_then(|health| health.scopes.report()) {
            let unused = &scopes.unused;
            let needed = scopes.granted.iter();
            let needed = needed.filter(|scope| !unused.contains(scope));
            used.scopes_used = needed.cloned().collect();
            used.scopes_held = scopes.granted;
        }
    }
}

fn write(directory: &Path, since: &LastUse) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(directory.join(format!(".{LAST_USE}.lock")))?;
    lock.lock()?;
    let path = directory.join(LAST_USE);
    let mut kept = read(&path)?;
    kept.add(since);
    let mut file = tempfile::Builder::new()
        .prefix(".countersign-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    file.write_all(&serde_json::to_vec(&kept)?)?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// What was kept; nothing if there is none, or it was damaged.
fn read(path: &Path) -> io::Result<LastUse> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > LARGEST => return Ok(LastUse::default()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(LastUse::default()),
        Ok(_) | Err(_) => {}
    }
    let kept = LastUse::read(&fs::read(path)?);
    if kept.is_none() {
        tracing::warn!(file = %path.display(), "what was used before cannot be read, and is counted anew");
    }
    Ok(kept.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use countersign_config::history::{GrantUse, Used};
    use jiff::Timestamp;

    use super::*;

    fn used(count: u64) -> LastUse {
        let at = Timestamp::UNIX_EPOCH;
        LastUse {
            from: Some(at),
            to: Some(at),
            grants: vec![GrantUse {
                workload: "qa/w".into(),
                policy: "qa/p".into(),
                rule: Some(0),
                used: Used {
                    count,
                    first: at,
                    last: at,
                    last_id: "one".into(),
                },
            }],
            ..LastUse::default()
        }
    }

    #[test]
    fn uses_of_several_processes_add_up_and_damage_is_no_end() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        write(&state, &used(2)).unwrap();
        write(&state, &used(3)).unwrap();
        let file = state.join(LAST_USE);
        assert_eq!(read(&file).unwrap().grants[0].used.count, 5);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&file, "{").unwrap();
        write(&state, &used(1)).unwrap();
        assert_eq!(read(&file).unwrap().grants[0].used.count, 1);
    }
}
