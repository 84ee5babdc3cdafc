//! Placeholders of template languages that were not filled in, wherever they are.

mod find;

pub(crate) use find::find;

use super::{Document, Findings, Location, Node, Value};
use crate::pace::yield_core;

/// The code of these findings; at the same place no other mistake is reported.
pub(crate) const CODE: &str = "unrendered-template";

/// The longest placeholder that is shown, in characters.
const LONGEST: usize = 60;

pub(crate) fn check(documents: &[Document<'_>], findings: &Findings) {
    for document in documents {
        // Ours has none; a test loads it.
        if !document.source.catalog {
            yield_core();
            let walk = Walk {
                document,
                findings,
                heeded: true,
            };
            walk.node(&document.root);
        }
    }
}

#[derive(Clone, Copy)]
struct Walk<'d> {
    document: &'d Document<'d>,
    findings: &'d Findings,
    /// Whether the values mean something here that a placeholder never is.
    heeded: bool,
}

impl Walk<'_> {
    fn node(self, node: &Node) {
        match &node.value {
            Value::Text(text) => self.text(text, node.line, node.column),
            Value::List(items) => items.iter().for_each(|item| self.node(item)),
            Value::Map(entries) => {
                for (key, value) in entries {
                    self.text(&key.text, key.line, key.column);
                    match &*key.text {
                        // The API server's; the second is a copy of the whole resource.
                        "managedFields" | "kubectl.kubernetes.io/last-applied-configuration" => {}
                        // A program that is run may be a shell.
                        "annotations" | "labels" | "command" => Self {
                            heeded: false,
                            ..self
                        }
                        .node(value),
                        _ => self.node(value),
                    }
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_) => {}
        }
    }

    fn text(self, text: &str, line: usize, column: usize) {
        let Some(placeholder) = find(text) else {
            return;
        };
        let location = Location::position(self.document.source, line, column);
        report(&location, placeholder, self.heeded, self.findings);
    }
}

/// Reports a placeholder; only as a warning if it may be meant.
pub(super) fn report(
    location: &Location<'_>,
    placeholder: &str,
    heeded: bool,
    findings: &Findings,
) {
    let shown: String = placeholder.chars().take(LONGEST).collect();
    let message = format!("`{shown}` is a placeholder that was not filled in");
    let remedy = "render the file first, as with `helm template`, `envsubst` or your pipeline; or write the value itself";
    if heeded {
        findings.error(location, CODE, message, remedy);
    } else {
        findings.warning(location, CODE, message, remedy);
    }
}
