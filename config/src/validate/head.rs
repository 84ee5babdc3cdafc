//! The beginning of every resource: `apiVersion`, `kind` and `metadata`.

use std::path::Path;

use foldhash::HashMap;
use serde::{Deserialize, de::IgnoredAny};

use super::names::{self, NameRule};
use crate::{
    model::ResourceName,
    pace::yield_core,
    problem::{Place, Severity},
    resource::{API_VERSION, Kind, Metadata},
    shown,
    yaml::{
        Document, Findings, Location,
        read::{did_you_mean, read},
    },
};

/// A document with a known kind.
#[derive(Debug)]
pub(super) struct Head<'d> {
    pub(super) document: &'d Document<'d>,
    pub(super) kind: Kind,
    /// `None` if its name was reported.
    pub(super) name: Option<ResourceName>,
    /// Whether an earlier resource has the same name, so that this one does not count.
    pub(super) duplicate: bool,
}

/// A resource with a valid structure.
#[derive(Debug)]
pub(super) struct Parsed<'d, S> {
    pub(super) name: ResourceName,
    pub(super) document: &'d Document<'d>,
    pub(super) spec: S,
}

impl<S> Parsed<'_, S> {
    /// The place of its spec.
    pub(super) fn location(&self) -> Location<'_> {
        self.document.location().key("spec")
    }

    /// Its namespace, for kinds that have one.
    pub(super) fn namespace(&self) -> &str {
        self.name.namespace().unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    #[serde(rename = "spec")]
    _spec: IgnoredAny,
    /// The controllers' of a cluster; not used here.
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
}

/// Reads the heads of all documents. A document without a known kind is reported and left out.
pub(super) fn read_all<'d>(documents: &'d [Document<'d>], findings: &Findings) -> Vec<Head<'d>> {
    let mut firsts: HashMap<(Kind, ResourceName), &Document<'_>> = HashMap::default();
    let mut heads = Vec::new();
    for document in documents {
        yield_core();
        let Some(mut head) = read_one(document, findings) else {
            continue;
        };
        if let Some(name) = &head.name {
            match firsts.get(&(head.kind, name.clone())) {
                // The operator's target replaces the catalog's.
                Some(first) if !first.source.catalog => {
                    head.duplicate = true;
                    let first = first.location().key("metadata").key("name");
                    let (file, line) = first.file_and_line();
                    findings.error(
                        &document.location().key("metadata").key("name"),
                        "duplicate-name",
                        format!(
                            "there is a {} `{name}` already, at {}:{}",
                            head.kind,
                            shown::path(file),
                            line
                        ),
                        "give one of them another name, or remove it",
                    );
                }
                Some(_) | None => {
                    firsts.insert((head.kind, name.clone()), document);
                }
            }
        }
        heads.push(head);
    }
    heads
}

/// The specs of a kind, in order; `None` for one whose structure is broken, and nothing for
/// duplicates.
pub(super) fn specs<'h, 'd: 'h, S: Deserialize<'d>>(
    kind: Kind,
    heads: &'h [Head<'d>],
    findings: &'h Findings,
) -> impl Iterator<Item = Option<Parsed<'d, S>>> + 'h {
    heads
        .iter()
        .filter(move |head| head.kind == kind)
        .map(move |head| {
            let spec = spec(head, findings);
            Some(Parsed {
                name: head.name.clone()?,
                document: head.document,
                spec: spec?,
            })
        })
}

/// Reads the spec of one resource.
pub(super) fn spec<'d, S: Deserialize<'d>>(head: &Head<'d>, findings: &Findings) -> Option<S> {
    let (key, node) = head.document.root.entry("spec")?;
    read(head.document.source, Some(key), node, findings)
}

/// Reports that a file has no Gateway.
pub(super) fn no_gateway(path: &Path, findings: &Findings) {
    let place = Place {
        file: path.to_owned(),
        line: 0,
        column: 0,
        width: 0,
        snippet: String::new(),
    };
    findings.add(
        Severity::Error,
        Some(place),
        "no-gateway",
        "the file has no Gateway",
        "write one: `kind: Gateway`, with `spec.resources`",
    );
}

fn read_one<'d>(document: &'d Document<'d>, findings: &Findings) -> Option<Head<'d>> {
    let envelope = read::<Envelope>(document.source, None, &document.root, findings);
    let location = document.location();
    if let Some(version) = document.root.text("apiVersion")
        && version != API_VERSION
    {
        findings.error(
            &location.key("apiVersion"),
            "wrong-api-version",
            format!("`{version}` is not a known apiVersion"),
            format!("write `apiVersion: {API_VERSION}`"),
        );
    }
    // Read from the tree, so that another mistake does not hide the kind.
    let written = document.root.text("kind")?;
    let Some(kind) = Kind::parse(written) else {
        findings.error(
            &location.key("kind"),
            "wrong-kind",
            format!("`{written}` is not a known kind"),
            did_you_mean(written, Kind::ALL.map(Kind::name)),
        );
        return None;
    };
    let name = match &envelope {
        Some(envelope) => name(kind, &envelope.metadata, location, findings),
        None => written_name(kind, document),
    };
    Some(Head {
        document,
        kind,
        name,
        duplicate: false,
    })
}

fn name(
    kind: Kind,
    metadata: &Metadata,
    location: Location<'_>,
    findings: &Findings,
) -> Option<ResourceName> {
    let location = location.key("metadata");
    let valid = names::check(
        &metadata.name,
        NameRule::RESOURCE,
        &location.key("name"),
        findings,
    );
    match (kind.is_namespaced(), &metadata.namespace) {
        (true, Some(namespace)) => {
            let place = location.key("namespace");
            let sound = names::check(namespace, NameRule::NAMESPACE, &place, findings);
            (valid && sound).then(|| ResourceName::namespaced(namespace, &metadata.name))
        }
        (true, None) => {
            findings.error(
                &location,
                "missing-key",
                format!("a {kind} needs a namespace"),
                "add `namespace:` to the metadata",
            );
            None
        }
        (false, None) => valid.then(|| ResourceName::cluster_wide(&metadata.name)),
        (false, Some(_)) => {
            findings.error(
                &location.key_name("namespace"),
                "unknown-key",
                format!("a {kind} cannot have a namespace"),
                "remove `namespace` from the metadata",
            );
            valid.then(|| ResourceName::cluster_wide(&metadata.name))
        }
    }
}

/// The name of a resource whose head was reported, as far as it is known, so that references to it are
/// not reported too.
fn written_name(kind: Kind, document: &Document<'_>) -> Option<ResourceName> {
    let (_, metadata) = document.root.entry("metadata")?;
    let name = metadata.text("name")?;
    Some(match metadata.text("namespace") {
        Some(namespace) if kind.is_namespaced() => ResourceName::namespaced(namespace, name),
        _ => ResourceName::cluster_wide(name),
    })
}
