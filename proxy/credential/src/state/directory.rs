//! State in a directory: one file per credential, written atomically and readable only by the gateway.
//!
//! A write is complete and on disk under a temporary name before it is renamed, and the directory is
//! synced before the write counts. There are two locks, both released by the kernel when their process
//! dies: one per credential, held for a whole refresh, and one for the directory, held only during a
//! write. The file system must support `flock` among all the processes that share it; a local one does.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use countersign_config::model::ResourceName;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::{
    StateDocument, StateError, Stored, Version,
    document::{CLAIM, hex},
    envelope::{self, Keys},
};

/// The largest state file, in bytes.
const LARGEST: u64 = 256 * 1024;

/// The interval of attempts to take a lock that another process holds.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// How long another process may hold a credential's lock: longer than any refresh takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(25);

/// The prefix of temporary files; the next write removes one that a crash left.
const TEMPORARY: &str = ".countersign-";

#[derive(Debug)]
pub(super) struct Directory(Arc<DirectoryLocation>);

#[derive(Debug)]
struct DirectoryLocation {
    path: PathBuf,
    key_file: Option<PathBuf>,
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Exclusive {
    _file: File,
}

impl Directory {
    pub(super) fn new(path: PathBuf, key_file: Option<PathBuf>) -> Self {
        Self(Arc::new(DirectoryLocation { path, key_file }))
    }

    pub(super) async fn read(&self, credential: &ResourceName) -> Result<Stored, StateError> {
        let (place, credential) = (Arc::clone(&self.0), credential.clone());
        blocking(move || place.read(&credential)).await
    }

    pub(super) async fn replace(
        &self,
        credential: &ResourceName,
        expected: &Version,
        document: &StateDocument,
    ) -> Result<Version, StateError> {
        let (place, credential) = (Arc::clone(&self.0), credential.clone());
        let (expected, document) = (expected.clone(), document.write());
        blocking(move || place.replace(&credential, &expected, document)).await
    }

    /// Fails unless files can be written here.
    pub(super) async fn prove(&self) -> Result<(), StateError> {
        let place = Arc::clone(&self.0);
        blocking(move || place.prove()).await
    }

    /// Waits for the credential's lock by polling, so that no thread is blocked.
    pub(super) async fn exclude(&self, credential: &ResourceName) -> Result<Exclusive, StateError> {
        let began = Instant::now();
        loop {
            let (place, credential) = (Arc::clone(&self.0), credential.clone());
            if let Some(exclusive) = blocking(move || place.try_exclude(&credential)).await? {
                return Ok(exclusive);
            }
            if began.elapsed() >= PATIENCE {
                let seconds = PATIENCE.as_secs();
                return Err(StateError::Busy { seconds });
            }
            sleep(TRY_AGAIN).await;
        }
    }
}

/// Runs disk work on another thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(StateError::Unavailable {
            reason: "the gateway is shutting down".into(),
        })
    })
}

impl DirectoryLocation {
    fn read(&self, credential: &ResourceName) -> Result<Stored, StateError> {
        let path = self.file(credential, "state");
        let Some(bytes) = self.bytes(&path)? else {
            return Ok(Stored::nothing());
        };
        let at = path.display().to_string();
        let plain = envelope::open(&bytes, &at, credential, self.keys()?.as_ref())?;
        Ok(Stored {
            document: StateDocument::parse(&plain, &at)?,
            version: version(&bytes),
        })
    }

    fn replace(
        &self,
        credential: &ResourceName,
        expected: &Version,
        document: Zeroizing<Vec<u8>>,
    ) -> Result<Version, StateError> {
        let path = self.file(credential, "state");
        let file = envelope::close(document, credential, self.keys()?.as_ref())?;
        self.prepare()?;
        let lock = lock_file(&self.path.join(".lock"))?;
        // Others hold it only during a write.
        lock.lock()
            .map_err(|error| StateError::io("lock", &self.path, &error))?;
        let found = self.bytes(&path)?;
        if found.map_or(Version::Absent, |bytes| version(&bytes)) != *expected {
            return Err(StateError::Conflict);
        }
        self.write(&path, &file)
            .map_err(|error| StateError::io("write", &path, &error))?;
        Ok(version(&file))
    }

    /// Does all steps of a write, with an empty file.
    fn prove(&self) -> Result<(), StateError> {
        self.prepare()?;
        let failed = |error: io::Error| StateError::io("write", &self.path, &error);
        let lock = lock_file(&self.path.join(".lock"))?;
        lock.lock().map_err(failed)?;
        // After a crash in between, the next write removes it.
        let probe = self.path.join(format!("{TEMPORARY}probe"));
        self.write(&probe, &[b' '; CLAIM]).map_err(failed)?;
        fs::remove_file(&probe).map_err(failed)
    }

    fn try_exclude(&self, credential: &ResourceName) -> Result<Option<Exclusive>, StateError> {
        self.prepare()?;
        let path = self.file(credential, "lock");
        let file = lock_file(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Exclusive { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StateError::io("lock", &path, &error)),
        }
    }

    /// The content of the file; `None` if it does not exist.
    fn bytes(&self, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        let failed = |error: io::Error| StateError::io("read", path, &error);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        self.check_directory()?;
        let metadata = file.metadata().map_err(failed)?;
        check(path, &metadata, "0600")?;
        if metadata.len() > LARGEST {
            return Err(StateError::Corrupt {
                at: path.display().to_string().into(),
                reason: "it is larger than any state document",
            });
        }
        // Allocated at once, so that growing leaves no copy behind.
        let room = usize::try_from(metadata.len()).unwrap_or_default() + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        file.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    fn write(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        self.sweep()?;
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.path)?;
        file.write_all(contents)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(&self.path)?.sync_all()
    }

    /// Removes what interrupted writes have left. The caller holds the directory's lock, so no other
    /// write is in progress.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn keys(&self) -> Result<Option<Keys>, StateError> {
        // Read each time, so that a new key needs no restart; it is rarely needed.
        self.key_file.as_deref().map(Keys::read).transpose()
    }

    /// Creates the directory (mode 0700) if it does not exist, and checks its owner.
    fn prepare(&self) -> Result<(), StateError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|error| StateError::io("create", &self.path, &error))?;
        self.check_directory()
    }

    fn check_directory(&self) -> Result<(), StateError> {
        let metadata =
            fs::metadata(&self.path).map_err(|error| StateError::io("read", &self.path, &error))?;
        check(&self.path, &metadata, "0700")
    }

    /// A namespace has no dot, so two credentials never share a file.
    fn file(&self, credential: &ResourceName, ending: &str) -> PathBuf {
        let namespace = credential.namespace().unwrap_or_default();
        self.path
            .join(format!("{namespace}.{}.{ending}", credential.name()))
    }
}

fn lock_file(path: &Path) -> Result<File, StateError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| StateError::io("open", path, &error))
}

/// No two writes have the same bytes: each has its own serial or nonce.
fn version(bytes: &[u8]) -> Version {
    Version::Known(hex(digest(&SHA256, bytes).as_ref()).into())
}

fn check(path: &Path, metadata: &Metadata, remedy: &'static str) -> Result<(), StateError> {
    let ours = rustix::process::geteuid().as_raw();
    check_access(path, metadata.uid(), ours, metadata.mode() & 0o7777, remedy)
}

fn check_access(
    path: &Path,
    owner: u32,
    ours: u32,
    mode: u32,
    remedy: &'static str,
) -> Result<(), StateError> {
    let path = path.into();
    if owner != ours {
        return Err(StateError::Owner { path, owner, ours });
    }
    if mode & 0o077 != 0 {
        return Err(StateError::Permissions { path, mode, remedy });
    }
    Ok(())
}
