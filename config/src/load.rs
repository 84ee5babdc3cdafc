//! Reads a directory of YAML files into one [`PolicySet`], completely or not at all.

mod changes;
mod files;
mod kept;

use std::path::Path;

use aws_lc_rs::digest;
use jiff::Timestamp;

use crate::{
    cluster::{Accepted, Objects, Verdict},
    model::Gateway,
    pace::yield_core,
    policy::PolicySet,
    problem::Problems,
    setting::Setting,
    validate::{self, Outcome},
    yaml::{self, Document, Findings, Source},
};

pub use changes::{Change, Changed, Fingerprints};
pub use kept::{ResourceText, all_texts, resources_of, resources_of_and_objects};

/// The targets that ship with Countersign: a name for messages, and the YAML.
pub const CATALOG: [(&str, &str); 3] = [
    ("catalog/slack.yaml", include_str!("catalog/slack.yaml")),
    (
        "catalog/slack-gov.yaml",
        include_str!("catalog/slack-gov.yaml"),
    ),
    ("catalog/qase.yaml", include_str!("catalog/qase.yaml")),
];

/// What to do where a gateway is told to use the cluster in which it runs, and there is none.
pub const NOT_IN_KUBERNETES: &str = validate::NOT_IN_KUBERNETES;

/// The code of warnings about places in which there is nothing. Whoever runs a command on them has named the
/// wrong ones.
pub const NOTHING_FOUND: &str = files::NOTHING_FOUND;

/// A usable revision and its warnings.
#[derive(Debug)]
pub struct Loaded {
    /// The resources.
    pub policies: PolicySet,
    /// To find out what the next revision changes.
    pub fingerprints: Fingerprints,
    /// What was read, in its order.
    pub texts: Vec<ResourceText>,
    /// Warnings only.
    pub warnings: Problems,
    /// What became of each object of the cluster.
    pub verdicts: Vec<Verdict>,
    /// The versions of the cluster's objects that are in force.
    pub accepted: Accepted,
}

/// Loads every `*.yaml` and `*.yml` file of the given directories (or single files), in the order of
/// their names, on top of the catalog. The error has all problems, not only the first, and the warnings.
pub fn resources<P: AsRef<Path>>(paths: &[P]) -> Result<Loaded, Problems> {
    load(paths, None, &Setting::default())
}

/// The same, with warnings about what has expired or is due at `now`.
pub fn resources_at<P: AsRef<Path>>(paths: &[P], now: Timestamp) -> Result<Loaded, Problems> {
    load(paths, None, &Setting::at(now))
}

/// The same, with warnings about everything that does not fit what is known beside the resources.
pub fn resources_in<P: AsRef<Path>>(paths: &[P], setting: &Setting) -> Result<Loaded, Problems> {
    load(paths, None, setting)
}

/// The same, and the objects of a cluster on top, each of which is accepted on its own: `accepted` is what was in
/// force until now. The error has the problems of the files alone.
pub fn resources_and_objects<P: AsRef<Path>>(
    paths: &[P],
    objects: &Objects,
    accepted: &Accepted,
    setting: &Setting,
) -> Result<Loaded, Problems> {
    load(paths, Some((objects, accepted)), setting)
}

/// Loads the Gateway file, with its warnings.
pub fn gateway(path: &Path) -> Result<(Gateway, Problems), Problems> {
    load_gateway(path, false)
}

/// The same, with warnings about what it names and this machine does not have.
pub fn gateway_here(path: &Path) -> Result<(Gateway, Problems), Problems> {
    load_gateway(path, true)
}

/// The text of a Gateway file, to compare a later one with; empty if it cannot be read.
pub fn gateway_text(path: &Path) -> String {
    let sources = files::read(&[path], &Findings::default());
    sources
        .into_iter()
        .next()
        .map(|source| source.text)
        .unwrap_or_default()
}

/// The keys of a Gateway file that differ from an earlier text of it, such as `spec.limits.drain`; or why the
/// file can no longer be used.
pub fn gateway_changes(before: &str, path: &Path) -> Result<Vec<String>, Problems> {
    gateway(path)?;
    let findings = Findings::default();
    let sources = [before.to_owned(), gateway_text(path)].map(|text| Source {
        path: path.to_owned(),
        text,
        catalog: false,
    });
    let [before, after] = sources.each_ref().map(|source| parse([source], &findings));
    let mut keys = yaml::changes::keys(before.first(), after.first());
    // Labels, annotations and what the API server sets mean nothing here.
    keys.retain(|key| !key.starts_with("metadata.") || key == "metadata.name");
    keys.retain(|key| !key.starts_with("status"));
    Ok(keys)
}

fn load_gateway(path: &Path, here: bool) -> Result<(Gateway, Problems), Problems> {
    let findings = Findings::default();
    let sources = files::read(&[path], &findings);
    let documents = parse(&sources, &findings);
    let gateway = validate::gateway(path, &documents, here, &findings);
    let problems = finish(findings);
    match gateway {
        Some(gateway) if !problems.any_error() => Ok((gateway, problems)),
        _ => Err(problems),
    }
}

fn load<P: AsRef<Path>>(
    paths: &[P],
    objects: Option<(&Objects, &Accepted)>,
    setting: &Setting,
) -> Result<Loaded, Problems> {
    let findings = Findings::default();
    let sources = files::read(paths, &findings);
    load_sources(sources, objects, setting, findings)
}

fn load_sources(
    sources: Vec<Source>,
    objects: Option<(&Objects, &Accepted)>,
    setting: &Setting,
    findings: Findings,
) -> Result<Loaded, Problems> {
    let catalog = catalog();
    let documents = parse(catalog.iter().chain(&sources), &findings);
    if !findings.any_error()
        && !sources.is_empty()
        && documents.iter().all(|document| document.source.catalog)
    {
        files::no_documents(&sources, &findings);
    }
    let mut parts = validate::resources(&documents, setting, objects.is_some(), &findings);
    let problems = finish(findings);
    if problems.any_error() {
        return Err(problems);
    }
    let outcome = objects.map(|(objects, accepted)| parts.add_objects(objects, accepted, setting));
    let Outcome { verdicts, accepted } = outcome.unwrap_or_default();
    let revision = revision(&sources, &accepted);
    let policies = PolicySet::compile(parts.into_resources(revision));
    let fingerprints = Fingerprints::of(&documents, &accepted);
    for document in documents {
        drop(document);
        yield_core();
    }
    Ok(Loaded {
        policies,
        fingerprints,
        texts: kept::texts(sources),
        warnings: problems,
        verdicts,
        accepted,
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
        .flat_map(|document| yaml::lists::expand(document, findings))
        .collect()
}

fn finish(findings: Findings) -> Problems {
    let mut problems = findings.into_problems();
    problems.drop_consequences(yaml::placeholders::CODE);
    problems.sort();
    problems
}

/// The first six bytes, in hex, of a SHA-256 over the operator's texts in their order. File names are
/// not included: renaming a file changes nothing. Then what the cluster's objects in force say, in the order of their
/// names.
fn revision(sources: &[Source], accepted: &Accepted) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for source in sources {
        context.update(source.text.as_bytes());
        // A separator, so that moving text from one file to the next changes the hash.
        context.update(&[0]);
    }
    for (_, in_force) in accepted.iter() {
        context.update(in_force.version.digest());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&context.finish().as_ref()[..8]);
    format!("{:012x}", u64::from_be_bytes(first) >> 16)
}

#[cfg(test)]
mod tests;
