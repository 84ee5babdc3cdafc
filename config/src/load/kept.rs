//! The texts of a revision, so that it can be kept somewhere and loaded again.

use std::path::PathBuf;

use super::{Loaded, files, load_sources};
use crate::{
    cluster::{Accepted, Objects},
    problem::Problems,
    setting::Setting,
    yaml::{Findings, Source},
};

/// One file of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceText {
    /// The file that it was read from.
    pub path: PathBuf,
    /// Its whole text.
    pub text: String,
}

/// Loads the texts of an earlier [`Loaded`], in their order, as their files were loaded.
pub fn resources_of(texts: Vec<ResourceText>, setting: &Setting) -> Result<Loaded, Problems> {
    load_texts(texts, None, setting)
}

/// The same, and the objects of a cluster on top, each of which is accepted on its own.
pub fn resources_of_and_objects(
    texts: Vec<ResourceText>,
    objects: &Objects,
    accepted: &Accepted,
    setting: &Setting,
) -> Result<Loaded, Problems> {
    load_texts(texts, Some((objects, accepted)), setting)
}

fn load_texts(
    texts: Vec<ResourceText>,
    objects: Option<(&Objects, &Accepted)>,
    setting: &Setting,
) -> Result<Loaded, Problems> {
    let findings = Findings::default();
    let sources: Vec<_> = texts
        .into_iter()
        .map(|ResourceText { path, text }| Source {
            path,
            text,
            catalog: false,
        })
        .collect();
    files::check_texts(&sources, &findings);
    load_sources(sources, objects, setting, findings)
}

/// Everything that is in force: the files, and after them each object of a cluster as a file of its own.
pub fn all_texts(files: &[ResourceText], objects: &Accepted) -> Vec<ResourceText> {
    let objects = objects.iter().map(|(key, in_force)| {
        let document = in_force.version.document();
        ResourceText {
            path: format!("objects/{}/{}/{}.yaml", key.namespace, key.kind, key.name).into(),
            text: serde_saphyr::to_string(document).unwrap_or_else(|_| document.to_string()),
        }
    });
    files.iter().cloned().chain(objects).collect()
}

pub(super) fn texts(sources: Vec<Source>) -> Vec<ResourceText> {
    sources
        .into_iter()
        .map(|Source { path, text, .. }| ResourceText { path, text })
        .collect()
}
