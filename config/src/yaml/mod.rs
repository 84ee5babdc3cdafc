//! YAML as a tree in which every node knows its place.
//!
//! Resources are not read directly into their types, because serde stops at the first mistake. A
//! document is first parsed into a [`Node`] tree. [`read`] then reads types from the tree and collects
//! every structural mistake, and `validate` uses the same tree to find the place of each finding
//! ([`Location`]).

pub(crate) mod changes;
mod compose;
mod library;
pub(crate) mod lists;
mod node;
pub(crate) mod placeholders;
pub(crate) mod read;
pub(crate) mod redact;
mod split;

pub(crate) use node::{Key, Node, Value};
pub use read::closest;
pub(crate) use split::documents;

use std::{
    cell::{Cell, RefCell},
    path::{Path, PathBuf},
};

use crate::problem::{Place, Problem, Problems, Severity};

/// A file and its text.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// Whether it is part of the catalog, not the operator's.
    pub(crate) catalog: bool,
}

/// One document of a file.
#[derive(Debug)]
pub(crate) struct Document<'s> {
    pub(crate) source: &'s Source,
    pub(crate) root: Node,
}

impl Document<'_> {
    /// The place of the whole document.
    pub(crate) fn location(&self) -> Location<'_> {
        Location {
            source: self.source,
            node: Some(&self.root),
            line: self.root.line,
            column: self.root.column,
            width: 1,
        }
    }
}

/// A place within a document that can be narrowed key by key. A key that is missing keeps the place of
/// its parent, so that a finding about it points somewhere useful.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Location<'a> {
    source: &'a Source,
    node: Option<&'a Node>,
    line: usize,
    column: usize,
    width: usize,
}

impl<'a> Location<'a> {
    /// A line and column of a text that was not parsed into a tree.
    pub(crate) fn position(source: &'a Source, line: usize, column: usize) -> Self {
        Self {
            source,
            node: None,
            line,
            column,
            width: 1,
        }
    }

    /// The value of `name`: its own place if it is a scalar, otherwise the place of its key.
    #[must_use]
    pub(crate) fn key(self, name: &str) -> Self {
        match self.node.and_then(|node| node.entry(name)) {
            Some((key, node)) => {
                let (line, column, width) = if node.is_scalar() {
                    (node.line, node.column, node.width)
                } else {
                    (key.line, key.column, key.width)
                };
                Self {
                    node: Some(node),
                    line,
                    column,
                    width,
                    ..self
                }
            }
            None => Self { node: None, ..self },
        }
    }

    /// The key itself, not its value.
    #[must_use]
    pub(crate) fn key_name(self, name: &str) -> Self {
        match self.node.and_then(|node| node.entry(name)) {
            Some((key, _)) => Self {
                node: None,
                line: key.line,
                column: key.column,
                width: key.width,
                ..self
            },
            None => self,
        }
    }

    /// The place of a node of the same document.
    #[must_use]
    pub(crate) fn at(self, node: &'a Node) -> Self {
        Self {
            node: Some(node),
            line: node.line,
            column: node.column,
            width: node.width,
            ..self
        }
    }

    /// The entry of a list.
    #[must_use]
    pub(crate) fn index(self, index: usize) -> Self {
        match self.node.and_then(|node| node.item(index)) {
            Some(node) => Self {
                node: Some(node),
                line: node.line,
                column: node.column,
                width: node.width,
                ..self
            },
            // One value may stand without its list.
            None if self
                .node
                .is_some_and(|node| matches!(node.value, Value::Map(_))) =>
            {
                self
            }
            None => Self { node: None, ..self },
        }
    }

    /// Only the file and line, which are cheap to find.
    pub(crate) fn file_and_line(&self) -> (&'a Path, usize) {
        (&self.source.path, self.line)
    }

    /// The place, with its line as it may be shown.
    pub(crate) fn place(&self) -> Place {
        Place {
            file: self.source.path.clone(),
            line: self.line,
            column: self.column,
            width: self.width,
            snippet: redact::line(&self.source.text, self.line),
        }
    }
}

/// More findings than anybody reads. Further ones are only counted, so that a wrong file does not keep
/// the loader busy with rendering its lines.
const MOST_FINDINGS: usize = 1_000;

/// How many names are compared for suggestions. Enough for a hundred mistakes among ten thousand names.
const MOST_COMPARED: usize = 1_000_000;

/// The same for one object of a cluster.
const MOST_COMPARED_BY_OBJECT: usize = 5_000;

/// How often a sample request is tested against a route, to find rules that allow nothing.
const MOST_TRIES: usize = 20_000_000;

/// The same for one object of a cluster.
const MOST_TRIES_BY_OBJECT: usize = 200_000;

/// The findings so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    kept: RefCell<Vec<Problem>>,
    /// Including those that were only counted.
    count: Cell<usize>,
    /// The errors among them.
    errors: Cell<usize>,
    /// How many names were compared for remedies.
    compared: Cell<usize>,
    /// How many samples were tested.
    tried: Cell<usize>,
}

impl Findings {
    /// Those of one object among thousands, of many tenants: it may cost a small part of what a directory may.
    pub(crate) fn of_object() -> Self {
        Self {
            compared: Cell::new(MOST_COMPARED - MOST_COMPARED_BY_OBJECT),
            tried: Cell::new(MOST_TRIES - MOST_TRIES_BY_OBJECT),
            ..Self::default()
        }
    }

    /// A finding that makes the resources unusable.
    pub(crate) fn error(
        &self,
        location: &Location<'_>,
        code: &'static str,
        message: impl AsRef<str>,
        remedy: impl AsRef<str>,
    ) {
        let place = self.has_room().then(|| location.place());
        self.add(Severity::Error, place, code, message, remedy);
    }

    /// A finding that is probably not intended.
    pub(crate) fn warning(
        &self,
        location: &Location<'_>,
        code: &'static str,
        message: impl AsRef<str>,
        remedy: impl AsRef<str>,
    ) {
        let place = self.has_room().then(|| location.place());
        self.add(Severity::Warning, place, code, message, remedy);
    }

    /// A finding with this place. Message and remedy are redacted like snippets.
    pub(crate) fn add(
        &self,
        severity: Severity,
        place: Option<Place>,
        code: &'static str,
        message: impl AsRef<str>,
        remedy: impl AsRef<str>,
    ) {
        self.count.set(self.count.get() + 1);
        if severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        if self.kept.borrow().len() >= MOST_FINDINGS {
            return;
        }
        self.kept.borrow_mut().push(Problem {
            severity,
            code,
            message: redact::text(message.as_ref()),
            remedy: redact::text(remedy.as_ref()),
            place,
        });
    }

    /// Whether this many names may be compared for a remedy. There is one bound for all findings
    /// together.
    pub(crate) fn may_compare(&self, names: usize) -> bool {
        self.has_room() && spend(&self.compared, names, MOST_COMPARED)
    }

    /// Whether this many more samples may be tested. There is one bound for all together.
    pub(crate) fn may_try(&self, samples: usize) -> bool {
        spend(&self.tried, samples, MOST_TRIES)
    }

    fn has_room(&self) -> bool {
        self.kept.borrow().len() < MOST_FINDINGS
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }

    /// How many of them are errors.
    pub(crate) fn errors(&self) -> usize {
        self.errors.get()
    }

    /// Whether any is an error. More findings than are kept count as an error.
    pub(crate) fn any_error(&self) -> bool {
        self.count.get() > MOST_FINDINGS
            || self
                .kept
                .borrow()
                .iter()
                .any(|problem| problem.severity == Severity::Error)
    }

    /// All that were kept, and the number of the others as an error of its own.
    pub(crate) fn into_problems(self) -> Problems {
        let more = self.count.get() - self.kept.borrow().len();
        let mut problems = self.kept.into_inner();
        if more > 0 {
            problems.push(Problem {
                severity: Severity::Error,
                code: "too-many-problems",
                message: format!("there are {more} more problems, which are not shown"),
                remedy: "fix these first".to_owned(),
                place: None,
            });
        }
        Problems(problems)
    }
}

fn spend(spent: &Cell<usize>, more: usize, most: usize) -> bool {
    let all = spent.get().saturating_add(more);
    let enough = all <= most;
    if enough {
        spent.set(all);
    }
    enough
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t72_remedies_are_looked_for_among_so_many_names_in_all() {
        let findings = Findings::default();
        let names = MOST_COMPARED / 100;
        let looked = (0..1_000).filter(|_| findings.may_compare(names)).count();
        assert_eq!(looked, 100);
        assert!(!findings.may_compare(usize::MAX));
    }

    #[test]
    fn t72_no_remedy_is_looked_for_that_is_not_shown() {
        let findings = Findings::default();
        for _ in 0..MOST_FINDINGS {
            assert!(findings.may_compare(1));
            findings.add(Severity::Warning, None, "code", "message", "remedy");
        }
        assert!(!findings.may_compare(1));
    }
    #[test]
    fn t72_samples_are_tried_out_so_often_in_all() {
        let findings = Findings::default();
        let samples = MOST_TRIES / 100;
        let tried = (0..1_000).filter(|_| findings.may_try(samples)).count();
        assert_eq!(tried, 100);
        assert!(!findings.may_try(usize::MAX));
    }
}
