//! The texts of a revision, so that it can be kept somewhere and loaded again.

use std::path::PathBuf;

use super::{Loaded, files, load_sources};
use crate::{
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
    load_sources(sources, None, setting, findings)
}

pub(super) fn texts(sources: Vec<Source>) -> Vec<ResourceText> {
    sources
        .into_iter()
        .map(|Source { path, text, .. }| ResourceText { path, text })
        .collect()
}
