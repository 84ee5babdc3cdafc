//! What a revision changed: which resources, whose they are, and line by line.

use std::{collections::BTreeMap, fmt::Write as _};

use countersign_config::{policy::PolicySet, resource::Kind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use similar::TextDiff;

use super::{KeptFile, Revision};

/// The most lines of a difference that are shown.
const MOST_LINES: usize = 40;

/// The most resources that are named.
const MOST_RESOURCES: usize = 10;

/// What a revision changed of the one before it.
#[derive(Debug, Clone, Serialize)]
pub struct RevisionChange {
    /// The revision.
    pub revision: String,
    /// From when on it was in force.
    pub since: Option<Timestamp>,
    /// The revision before it.
    pub before: String,
    /// The resources that changed: those that concern the request, or else all; ten at most.
    pub resources: Vec<ChangedResource>,
    /// How many resources changed in all.
    pub changed: usize,
}

/// A resource that a revision changed.
#[derive(Debug, Clone, Serialize)]
pub struct ChangedResource {
    /// `added`, `changed` or `removed`.
    pub change: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// Its name, after its namespace if it has one.
    pub name: String,
    /// Whom to ask; `None` if the resource does not say.
    pub owner: Option<String>,
    /// Who approved it, and where that is written.
    pub approved: Option<String>,
    /// The lines that differ, as `diff -u` shows them; forty at most.
    pub diff: String,
}

impl RevisionChange {
    /// What `after` changed of `before`; of that, what `concerns` the request, if anything does.
    pub fn between(
        before: &Revision,
        after: &Revision,
        concerns: impl Fn(Kind, &str) -> bool,
    ) -> Self {
        let mut changes = before
            .loaded
            .fingerprints
            .changes(&after.loaded.fingerprints);
        let changed = changes.len();
        if changes
            .iter()
            .any(|change| concerns(change.kind, &change.name))
        {
            changes.retain(|change| concerns(change.kind, &change.name));
        }
        changes.truncate(MOST_RESOURCES);
        let texts = [before, after].map(|side| documents(&side.files));
        let resources = changes.into_iter().map(|change| {
            let (kind, name) = (change.kind, change.name);
            let [old, new] = texts.each_ref().map(|texts| {
                let text = texts.get(&(kind, name.clone()));
                text.copied().unwrap_or_default()
            });
            let sides = [&after.loaded.policies, &before.loaded.policies];
            ChangedResource {
                change: change.what.as_str(),
                kind: kind.name(),
                owner: sides.iter().find_map(|side| owner(side, kind, &name)),
                approved: sides.iter().find_map(|side| approved(side, kind, &name)),
                diff: lines(old, new),
                name,
            }
        });
        Self {
            revision: after.name.clone(),
            since: after.since,
            before: before.name.clone(),
            resources: resources.collect(),
            changed,
        }
    }
}

fn owner(policies: &PolicySet, kind: Kind, name: &str) -> Option<String> {
    let of = |own: &str, owner: &String| (own == name).then(|| owner.clone());
    match kind {
        Kind::AccessPolicy => policies
            .policies()
            .iter()
            .find_map(|policy| of(policy.name.as_str(), &policy.owner)),
        Kind::Workload => policies
            .workloads()
            .iter()
            .find_map(|workload| of(workload.name.as_str(), &workload.owner)),
        Kind::TargetService | Kind::Credential | Kind::Gateway => None,
    }
}

fn approved(policies: &PolicySet, kind: Kind, name: &str) -> Option<String> {
    if kind != Kind::AccessPolicy {
        return None;
    }
    let mut policies = policies.policies().iter();
    let approval = &policies
        .find(|policy| policy.name.as_str() == name)?
        .approval;
    let texts = [approval.by.as_deref(), approval.ticket.as_deref()];
    let texts: Vec<&str> = texts.into_iter().flatten().collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn lines(old: &str, new: &str) -> String {
    let diff = TextDiff::from_lines(old, new);
    let mut text = String::new();
    let mut shown = 0;
    for hunk in diff.unified_diff().context_radius(2).iter_hunks() {
        for change in hunk.iter_changes() {
            shown += 1;
            if shown <= MOST_LINES {
                let _ = writeln!(text, "{}{}", change.tag(), change.value().trim_end());
            }
        }
    }
    if shown > MOST_LINES {
        let _ = writeln!(text, "... and {} more lines", shown - MOST_LINES);
    }
    text
}

/// What tells a resource from others.
#[derive(Deserialize)]
struct Named {
    kind: String,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
}

/// The text of each resource. One that is part of a list is not found.
fn documents(files: &[KeptFile]) -> BTreeMap<(Kind, String), &str> {
    let texts = files.iter().flat_map(|file| split(&file.text));
    let named = texts.filter_map(|text| {
        let named: Named = serde_saphyr::from_str(text).ok()?;
        let Metadata { name, namespace } = named.metadata;
        let kind = Kind::parse(&named.kind)?;
        let name = match namespace.filter(|_| kind.is_namespaced()) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        };
        Some(((kind, name), text))
    });
    named.collect()
}

/// The documents of a file, between lines of `---`.
fn split(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" || line.starts_with("--- ") {
            documents.push(&text[start..at]);
            start = at + line.len();
        }
        at += line.len();
    }
    documents.push(&text[start..]);
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_found_by_name_and_compared_line_by_line() {
        let file = |text: &str| {
            vec![KeptFile {
                path: "a.yaml".into(),
                text: text.to_owned(),
            }]
        };
        let old = "# first\n---\nkind: AccessPolicy\nmetadata: { name: a, namespace: qa }\nspec:\n  allow: [a, b]\n---\n\
                   kind: TargetService\nmetadata: { name: t, namespace: ignored }\n";
        let files = file(old);
        let found = documents(&files);
        let keys: Vec<_> = found.keys().map(|(_, name)| name.as_str()).collect();
        assert_eq!(keys, ["t", "qa/a"]);
        let old = found[&(Kind::AccessPolicy, "qa/a".to_owned())];
        let new = old.replace("[a, b]", "[a]");
        let diff = lines(old, &new);
        assert!(
            diff.ends_with(" spec:\n-  allow: [a, b]\n+  allow: [a]\n"),
            "{diff}"
        );
        assert!(lines("", &"line\n".repeat(100)).ends_with("... and 60 more lines\n"));
    }
}
