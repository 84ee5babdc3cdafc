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
    cluster::{Accepted, Boundary, Object, Objects},
    load::{self, Loaded, ResourceText},
    model::{Gateway, KubernetesSource, StateStore},
    problem::Problems,
    resource::Kind,
    setting::Setting,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// What a file holds if a cluster's objects are resources too; otherwise it holds the files alone.
#[derive(Serialize, Deserialize)]
struct KeptRevision {
    files: Vec<KeptFile>,
    objects: KeptObjects,
}

/// The objects of a cluster, as its API server would return them to a gateway that starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeptObjects {
    /// Which objects were read: others are not in force by what was kept.
    of: KubernetesSource,
    objects: Vec<Value>,
}

impl KeptObjects {
    /// These objects of a source, with what was accepted of them.
    pub(super) fn new(source: &KubernetesSource, objects: &[Object], accepted: &Accepted) -> Self {
        Self {
            of: source.clone(),
            objects: objects.iter().map(|one| accepted.kept(one)).collect(),
        }
    }

    /// Those of this source.
    fn read(&self, source: &KubernetesSource) -> Vec<Object> {
        if self.of != *source {
            return Vec::new();
        }
        let read = |object: &Value| Object::read(Kind::parse(object["kind"].as_str()?)?, object);
        self.objects.iter().filter_map(read).collect()
    }
}

/// What a gateway starts with.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) loaded: Loaded,
    /// Why the files cannot be used; then the kept ones are in force.
    pub(super) rejected: Option<Problems>,
    /// The objects that an earlier process knew.
    pub(super) objects: Vec<Object>,
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
    pub(super) fn keep(&self, texts: &[ResourceText], objects: Option<KeptObjects>) {
        let Some(directory) = &self.directory else {
            return;
        };
        if let Err(error) = keep(directory, texts, objects) {
            tracing::warn!(
                %error,
                directory = %directory.display(),
                "the revision cannot be kept; a start with a bad one would fail"
            );
        }
    }

    /// The newest kept revision that is whole and can still be used.
    pub(super) fn load(&self, setting: &Setting) -> Option<Loaded> {
        self.newest(|file, (texts, _)| {
            load::resources_of(texts, setting)
                .inspect_err(|problems| {
                    let error = problems.errors();
                    tracing::warn!(%error, file = %file.display(), "a kept revision cannot be used");
                })
                .ok()
        })
    }

    /// The newest kept texts that can be used, and the objects that were kept with them.
    fn load_with_objects(
        &self,
        source: &KubernetesSource,
        setting: &Setting,
    ) -> Option<(Loaded, Vec<Object>)> {
        self.newest(|_, (texts, objects)| {
            let objects = objects.map(|kept| kept.read(source)).unwrap_or_default();
            let all = in_cluster(source, &objects);
            let loaded =
                load::resources_of_and_objects(texts, &all, &Accepted::default(), setting).ok()?;
            Some((loaded, objects))
        })
    }

    /// The objects that were kept last.
    fn objects(&self, source: &KubernetesSource) -> Vec<Object> {
        let kept = self.newest(|_, (_, objects)| Some(objects?.read(source)));
        kept.unwrap_or_default()
    }

    /// The first result of what was kept, from the newest to the oldest.
    fn newest<T>(&self, mut take: impl FnMut(&Path, KeptContent) -> Option<T>) -> Option<T> {
        let directory = self.directory.as_deref()?;
        let mut files = kept_files(directory).ok()?;
        files.sort_by_key(|(kept, _)| std::cmp::Reverse(*kept));
        files.into_iter().find_map(|(_, file)| {
            let content = read(&file)
                .inspect_err(|error| {
                    tracing::warn!(%error, file = %file.display(), "a kept revision cannot be used");
                })
                .ok()?;
            take(&file, content)
        })
    }
}

type KeptContent = (Vec<ResourceText>, Option<KeptObjects>);

fn in_cluster(source: &KubernetesSource, objects: &[Object]) -> Objects {
    Objects {
        all: objects.to_vec(),
        boundary: Boundary::from(source),
    }
}

/// The resources of a start: those of the directories, or the kept ones and why the others cannot be used; and the
/// objects that were kept, which are in force until the API server shows what there is now.
///
/// # Errors
/// When neither can be used, with the problems of the directories.
pub(super) fn resources(
    directories: &[PathBuf],
    setting: &Setting,
    last_good: &LastGood,
    source: Option<&KubernetesSource>,
) -> Result<Start, Problems> {
    let objects = source.map(|source| last_good.objects(source));
    let objects = objects.unwrap_or_default();
    let loaded = match source {
        None => load::resources_in(directories, setting),
        Some(source) => {
            let all = in_cluster(source, &objects);
            load::resources_and_objects(directories, &all, &Accepted::default(), setting)
        }
    };
    let problems = match loaded {
        Ok(loaded) => {
            return Ok(Start {
                loaded,
                rejected: None,
                objects,
            });
        }
        Err(problems) => problems,
    };
    let kept = match source {
        None => last_good.load(setting).map(|kept| (kept, Vec::new())),
        Some(source) => last_good.load_with_objects(source, setting),
    };
    let Some((kept, objects)) = kept else {
        return Err(problems);
    };
    tracing::error!(
        revision = kept.policies.revision(),
        error = %problems.errors(),
        "the resources cannot be used; the gateway starts on the last good revision, which it had kept"
    );
    Ok(Start {
        loaded: kept,
        rejected: Some(problems),
        objects,
    })
}

fn keep(directory: &Path, texts: &[ResourceText], objects: Option<KeptObjects>) -> io::Result<()> {
    let files: Vec<_> = texts
        .iter()
        .map(|ResourceText { path, text }| KeptFile {
            path: path.clone(),
            text: text.clone(),
        })
        .collect();
    let content = match objects {
        None => serde_json::to_vec(&files)?,
        Some(objects) => serde_json::to_vec(&KeptRevision { files, objects })?,
    };
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

fn read(path: &Path) -> io::Result<KeptContent> {
    let mut content = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut content)?;
    if path
        .file_name()
        .is_none_or(|found| *found != *name(&content))
    {
        return Err(io::Error::other("its content is not what its name says"));
    }
    let (files, objects) = if content.starts_with(b"[") {
        (serde_json::from_slice::<Vec<KeptFile>>(&content)?, None)
    } else {
        let KeptRevision { files, objects } = serde_json::from_slice(&content)?;
        (files, Some(objects))
    };
    let texts = files
        .into_iter()
        .map(|KeptFile { path, text }| ResourceText { path, text });
    Ok((texts.collect(), objects))
}

/// The name of a file with this content.
fn name(content: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, content);
    format!("{}.json", hex(hash.as_ref()))
}

#[cfg(test)]
mod tests;
