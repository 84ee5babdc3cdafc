//! The CA's directory: files are written completely or not at all, and only the owner can read the key.
//!
//! The root's certificate and key are in one file, so that a crash cannot leave one without the other. A
//! file gets its name only when it is complete and on disk; a crash before that leaves a temporary file
//! that nothing reads.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use countersign_core::files;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::CaError;

/// Certificate and private key of the root, PEM.
pub(super) const ROOT_FILE: &str = "root.pem";
/// A public copy of the latest intermediate's certificate, for people.
pub(super) const INTERMEDIATE_FILE: &str = "intermediate.crt";

/// Larger than any file of the CA; prevents reading a wrong file completely.
const MAX_BYTES: u64 = 64 * 1024;

/// Makes the directory (mode 0700) if it is not there, and checks who may write to it.
pub(super) fn prepare_directory(directory: &Path) -> Result<(), CaError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| io_error("create", directory, source))?;
    check_directory(directory)
}

/// Refuses a directory in which everyone can replace files. With the sticky bit only a file's
/// owner can, which is how Kubernetes mounts Secrets.
pub(super) fn check_directory(directory: &Path) -> Result<(), CaError> {
    let mode = fs::metadata(directory)
        .map_err(|source| io_error("read", directory, source))?
        .permissions()
        .mode()
        & 0o7777;
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        return Err(CaError::Permissions {
            path: directory.to_owned(),
            mode,
            danger: "replace the CA's key",
            remedy: "0700",
        });
    }
    Ok(())
}

/// Reads a file that holds a private key; `None` if it is not there.
///
/// Others must not read it. The group may, because that is all a Kubernetes Secret volume with
/// `fsGroup` can offer to a gateway that does not run as root.
pub(super) fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, CaError> {
    let file = match files::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error("read", path, source)),
    };
    let metadata = file
        .metadata()
        .map_err(|source| io_error("read", path, source))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o037 != 0 {
        return Err(CaError::Permissions {
            path: path.to_owned(),
            mode,
            danger: "read or change the CA's key",
            remedy: "0600",
        });
    }
    // Allocated in full, so that growing leaves no copy of the key behind.
    let mut contents = Zeroizing::new(Vec::with_capacity(
        usize::try_from(MAX_BYTES).expect("64 KiB fits"),
    ));
    file.take(MAX_BYTES)
        .read_to_end(&mut contents)
        .map_err(|source| io_error("read", path, source))?;
    Ok(Some(contents))
}

/// Makes a file of mode 0600 unless one of that name is there already: of several processes that
/// try at once exactly one succeeds (`false` for the others), and no file is ever seen in part.
pub(super) fn create(path: &Path, contents: &[u8]) -> Result<bool, CaError> {
    let outcome = match staged(path, contents)?.persist_noclobber(path) {
        Ok(_) => true,
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => false,
        Err(error) => return Err(io_error("write", path, error.error)),
    };
    sync_parent(path)?;
    Ok(outcome)
}

/// Puts a file of mode 0600 in the place of the one that may be there.
pub(super) fn replace(path: &Path, contents: &[u8]) -> Result<(), CaError> {
    staged(path, contents)?
        .persist(path)
        .map_err(|error| io_error("write", path, error.error))?;
    sync_parent(path)
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), CaError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The contents on disk, under a temporary name beside `path`.
fn staged(path: &Path, contents: &[u8]) -> Result<NamedTempFile, CaError> {
    let write = || -> io::Result<NamedTempFile> {
        let mut file = tempfile::Builder::new()
            .prefix(".countersign-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(parent(path))?;
        file.write_all(contents)?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    write().map_err(|source| io_error("write", path, source))
}

/// Makes the directory entry as durable as the file.
fn sync_parent(path: &Path) -> Result<(), CaError> {
    File::open(parent(path))
        .and_then(|directory| directory.sync_all())
        .map_err(|source| io_error("write", path, source))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> CaError {
    CaError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
