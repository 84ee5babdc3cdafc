//! Reads a directory of YAML files into one [`PolicySet`], completely or not at all.

mod changes;
mod files;

use std::path::Path;

use aws_lc_rs::digest;
use jiff::Timestamp;

use crate::{
    model::Gateway,
    policy::{PolicySet, Resources},
    problem::Problems,
    validate,
    yaml::{self, Document, Findings, Source},
};

pub use changes::{Change, Changed, Fingerprints};

/// The targets that ship with Countersign.
const CATALOG: [(&str, &str); 3] = [
    ("catalog/slack.yaml", include_str!("catalog/slack.yaml")),
    (
        "catalog/slack-gov.yaml",
        include_str!("catalog/slack-gov.yaml"),
    ),
    ("catalog/qase.yaml", include_str!("catalog/qase.yaml")),
];

/// A usable revision and its warnings.
#[derive(Debug)]
pub struct Loaded {
    /// The resources.
    pub policies: PolicySet,
    /// To find out what the next revision changes.
    pub fingerprints: Fingerprints,
    /// Warnings only.
    pub warnings: Problems,
}

/// Loads every `*.yaml` and `*.yml` file of the given directories (or single files), in the order of
/// their names, on top of the catalog. The error has all problems, not only the first, and the warnings.
pub fn resources<P: AsRef<Path>>(paths: &[P]) -> Result<Loaded, Problems> {
    load(paths, None)
}

/// The same, with warnings about what has expired or is overdue at `now`.
pub fn resources_at<P: AsRef<Path>>(paths: &[P], now: Timestamp) -> Result<Loaded, Problems> {
    load(paths, Some(now))
}

/// Loads the Gateway file, with its warnings.
pub fn gateway(path: &Path) -> Result<(Gateway, Problems), Problems> {
    let findings = Findings::default();
    let sources = files::read(&[path], &findings);
    let documents = parse(&sources, &findings);
    let gateway = validate::gateway(path, &documents, &findings);
    let problems = finish(findings);
    match gateway {
        Some(gateway) if !problems.any_error() => Ok((gateway, problems)),
        _ => Err(problems),
    }
}

fn load<P: AsRef<Path>>(paths: &[P], now: Option<Timestamp>) -> Result<Loaded, Problems> {
    let findings = Findings::default();
    let catalog = catalog();
    let sources = files::read(paths, &findings);
    let documents = parse(catalog.iter().chain(&sources), &findings);
    let parts = validate::resources(&documents, now, &findings);
    let problems = finish(findings);
    if problems.any_error() {
        return Err(problems);
    }
    Ok(Loaded {
        policies: PolicySet::compile(Resources {
            workloads: parts.workloads,
            targets: parts.targets,
            credentials: parts.credentials,
            policies: parts.policies,
            revision: revision(&sources),
        }),
        fingerprints: Fingerprints::of(&documents),
        warnings: problems,
    })
}

pub(crate) fn catalog() -> Vec<Source> {
    CATALOG
        .iter()
        .map(|(path, text)| Source {
            path: path.into(),
            text: (*text).to_owned(),
            catalog: true,
        })
        .collect()
}

fn parse<'s>(
    sources: impl IntoIterator<Item = &'s Source>,
    findings: &Findings,
) -> Vec<Document<'s>> {
    sources
        .into_iter()
        .flat_map(|source| yaml::documents(source, findings))
        .collect()
}

fn finish(findings: Findings) -> Problems {
    let mut problems = findings.into_problems();
    problems.sort();
    problems
}

/// The first six bytes, in hex, of a SHA-256 over the operator's texts in their order. File names are
/// not included: renaming a file changes nothing.
fn revision(sources: &[Source]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for source in sources {
        context.update(source.text.as_bytes());
        // A separator, so that moving text from one file to the next changes the hash.
        context.update(&[0]);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&context.finish().as_ref()[..8]);
    format!("{:012x}", u64::from_be_bytes(first) >> 16)
}

#[cfg(test)]
mod tests;
