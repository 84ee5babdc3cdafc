//! The last revision that could be used, kept in the state directory for a start with one that cannot be.
//!
//! A running gateway keeps its revision in memory when the resources become unusable; one that restarts at that
//! moment would refuse to start. What is kept are the texts of the resources, which name secrets and never hold
//! any, in a file that is named by the hash of its content.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use aws_lc_rs::digest;
use countersign_config::{
    load::{self, Loaded, ResourceText},
    model::{Gateway, StateStore},
    problem::Problems,
    setting::Setting,
};
use serde::{Deserialize, Serialize};

use super::known_root::hex;

/// Below the state directory.
const DIRECTORY: &str = "last-good";

/// The largest file: the texts have 64 MiB at most, and JSON escapes some of them.
const LARGEST: u64 = 160 * 1024 * 1024;

/// Where the last good revision is kept.
#[derive(Debug)]
pub(super) struct LastGood {
    /// `None` if the state is not in a directory.
    directory: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct KeptFile {
    path: PathBuf,
    text: String,
}

impl LastGood {
    pub(super) fn of(gateway: &Gateway) -> Self {
        let directory = match &gateway.state {
            StateStore::Directory { path, .. } if gateway.continues_earlier_runs => {
                Some(path.join(DIRECTORY))
            }
            StateStore::Directory { .. }
            | StateStore::Kubernetes { .. }
            | StateStore::Vault { .. } => None,
        };
        Self { directory }
    }

    /// Keeps the texts of a revision that is in force, instead of those kept before. A failure is logged: the
    /// gateway works without, until it has to start with a bad revision.
    pub(super) fn keep(&self, texts: &[ResourceText]) {
        let Some(directory) = &self.directory else {
            return;
        };
        if let Err(error) = keep(directory, texts) {
            tracing::warn!(
                %error,
                directory = %directory.display(),
                "the revision cannot be kept; a start with a bad one would fail"
            );
        }
    }

    /// The newest kept revision that is whole and can still be used.
    pub(super) fn load(&self, setting: &Setting) -> Option<Loaded> {
        let directory = self.directory.as_deref()?;
        let mut files = kept_files(directory).ok()?;
        files.sort_by_key(|(kept, _)| std::cmp::Reverse(*kept));
        files.into_iter().find_map(|(_, file)| {
            let texts = read(&file)
                .inspect_err(|error| {
                    tracing::warn!(%error, file = %file.display(), "a kept revision cannot be used");
                })
                .ok()?;
            load::resources_of(texts, setting)
                .inspect_err(|problems| {
                    let error = problems.errors();
                    tracing::warn!(%error, file = %file.display(), "a kept revision cannot be used");
                })
                .ok()
        })
    }
}

/// The resources of a start: those of the directories, or the kept ones and why the others cannot be used.
///
/// # Errors
/// When neither can be used, with the problems of the directories.
pub(super) fn resources(
    directories: &[PathBuf],
    setting: &Setting,
    last_good: &LastGood,
) -> Result<(Loaded, Option<Problems>), Problems> {
    let problems = match load::resources_in(directories, setting) {
        Ok(loaded) => return Ok((loaded, None)),
        Err(problems) => problems,
    };
    let Some(kept) = last_good.load(setting) else {
        return Err(problems);
    };
    tracing::error!(
        revision = kept.policies.revision(),
        error = %problems.errors(),
        "the resources cannot be used; the gateway starts on the last good revision, which it had kept"
    );
    Ok((kept, Some(problems)))
}

fn keep(directory: &Path, texts: &[ResourceText]) -> io::Result<()> {
    let files: Vec<_> = texts
        .iter()
        .map(|ResourceText { path, text }| KeptFile {
            path: path.clone(),
            text: text.clone(),
        })
        .collect();
    let content = serde_json::to_vec(&files)?;
    drop(files);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut file = tempfile::Builder::new()
        .prefix(".countersign-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    file.write_all(&content)?;
    file.as_file().sync_all()?;
    let kept = directory.join(name(&content));
    file.persist(&kept).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()?;
    for (_, older) in kept_files(directory)? {
        if older != kept {
            remove(&older)?;
        }
    }
    Ok(())
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        // Another gateway that shares the directory was first.
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn kept_files(directory: &Path) -> io::Result<Vec<(SystemTime, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            // It may be gone already.
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
            files.extend(modified.map(|modified| (modified, path)));
        }
    }
    Ok(files)
}

fn read(path: &Path) -> io::Result<Vec<ResourceText>> {
    let mut content = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut content)?;
    if path
        .file_name()
        .is_none_or(|found| *found != *name(&content))
    {
        return Err(io::Error::other("its content is not what its name says"));
    }
    let files: Vec<KeptFile> = serde_json::from_slice(&content)?;
    let texts = files
        .into_iter()
        .map(|KeptFile { path, text }| ResourceText { path, text });
    Ok(texts.collect())
}

/// The name of a file with this content.
fn name(content: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, content);
    format!("{}.json", hex(hash.as_ref()))
}

#[cfg(test)]
mod tests;
