//! Whether a decision log is what the gateway wrote: `countersign audit`.
//!
//! One pass over the sealed lines of some files, in bounded memory: a chain is some hundred bytes. The lines of a
//! chain must follow each other, each must be what its fingerprint says, and the tree of all must have the root that
//! the gateway has signed.

mod files;
mod prove;

use std::collections::BTreeMap;

use countersign_audit::{Checkpoint, Frontier, SealError, VerifyingKey};
use serde::Serialize;

pub use self::{
    files::{AuditError, Checkpoints, Sealed},
    prove::{Proven, check, prove},
};

/// The most problems that are told; the rest is counted.
const TOLD: usize = 100;

/// What was verified: the schema `countersign.audit/v1`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Lines that are what they were.
    pub lines: u64,
    /// Lines that are no gateway's.
    pub foreign: u64,
    /// By chain.
    pub chains: BTreeMap<String, ChainReport>,
    /// What is not as it was written, in the order of the log.
    pub problems: Vec<Problem>,
    /// All of them, also those that are not told.
    pub count: u64,
}

/// One chain: what one process of a gateway wrote of one class.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ChainReport {
    /// The lines that were read.
    pub lines: u64,
    /// The first that was read.
    pub first: u64,
    /// The lines that a checkpoint has signed; `None` without a checkpoint.
    pub signed: Option<u64>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file; empty for what is missing altogether.
    pub file: String,
    /// The line; 0 if there is none.
    pub line: u64,
    /// What is wrong.
    pub what: String,
}

/// A chain as it is followed.
#[derive(Debug, Default)]
struct Followed {
    next: u64,
    last: Option<String>,
    tree: Frontier,
    /// All lines from the first on were there, so that the tree is the signed one.
    whole: bool,
    /// Whether the root was compared.
    compared: bool,
    at: (String, u64),
}

/// Verifies the sealed lines of some files.
///
/// # Errors
/// When a file cannot be read.
pub fn verify(
    files: Vec<Sealed>,
    checkpoints: &Checkpoints,
    key: &VerifyingKey,
) -> Result<Report, AuditError> {
    let mut verifier = Verifier {
        report: Report::default(),
        chains: BTreeMap::new(),
        signed: BTreeMap::new(),
    };
    verifier.take_checkpoints(checkpoints, key);
    for file in files {
        file.each(|place, line| verifier.see(place, line))?;
    }
    Ok(verifier.end())
}

struct Verifier {
    report: Report,
    chains: BTreeMap<String, Followed>,
    signed: BTreeMap<String, Checkpoint>,
}

impl Verifier {
    fn problem(&mut self, place: (&str, u64), what: impl Into<String>) {
        self.report.count += 1;
        if self.report.problems.len() < TOLD {
            self.report.problems.push(Problem {
                file: place.0.to_owned(),
                line: place.1,
                what: what.into(),
            });
        }
    }

    fn take_checkpoints(&mut self, checkpoints: &Checkpoints, key: &VerifyingKey) {
        for (file, note) in &checkpoints.0 {
            match Checkpoint::verify(note, key) {
                Ok(checkpoint) => {
                    let prefix = format!("{}/", key.name());
                    match checkpoint.origin.strip_prefix(&prefix) {
                        Some(chain) if file.ends_with(&format!("{chain}.checkpoint")) => {
                            self.signed.insert(chain.to_owned(), checkpoint);
                        }
                        Some(_) | None => {
                            let origin = &checkpoint.origin;
                            self.problem(
                                (file, 0),
                                format!("the checkpoint is that of {origin}: it was moved here"),
                            );
                        }
                    }
                }
                Err(error) => self.problem(
                    (file, 0),
                    format!("the checkpoint cannot be trusted: {error}"),
                ),
            }
        }
    }

    fn see(&mut self, place: (&str, u64), line: &[u8]) {
        let (integrity, leaf) = match countersign_audit::read(line) {
            Ok(read) => read,
            Err(SealError::Unsealed) => {
                return self.problem(place, "a line that is not sealed: it was added, or written before observe.audit was set");
            }
            Err(error) => {
                self.problem(place, format!("a line that {}", said(&error)));
                return self.pass_over(place, line);
            }
        };
        self.report.lines += 1;
        let entry = self
            .report
            .chains
            .entry(integrity.chain.clone())
            .or_insert_with(|| ChainReport {
                first: integrity.sequence,
                ..ChainReport::default()
            });
        entry.lines += 1;
        let is_new = !self.chains.contains_key(&integrity.chain);
        let mut chain = self.chains.remove(&integrity.chain).unwrap_or_default();
        if is_new {
            chain.whole = integrity.sequence == 0;
            if integrity.sequence > 0 {
                let missing = integrity.sequence;
                self.problem(place, format!("the first {missing} lines of chain {} are missing: they were removed, or rotated away", integrity.chain));
            }
            chain.next = integrity.sequence;
            chain.last.clone_from(&integrity.previous);
        }
        if integrity.sequence < chain.next {
            let was = integrity.sequence;
            chain.whole = false;
            self.problem(
                place,
                format!(
                    "line {was} of its chain again, after line {}: it was moved or copied here",
                    chain.next - 1
                ),
            );
        } else {
            if integrity.sequence > chain.next {
                let missing = integrity.sequence - chain.next;
                let (file, line) = &chain.at;
                let after = format!("{file}:{line}");
                chain.whole = false;
                self.problem(place, format!("{missing} lines are missing between {after} and here (from {} of chain {})", chain.next, integrity.chain));
            } else if chain.last != integrity.previous {
                chain.whole = false;
                self.problem(
                    place,
                    "the line before it is not the one that was written there",
                );
            }
            chain.next = integrity.sequence + 1;
            chain.last = Some(integrity.fingerprint);
            chain.tree.push(leaf);
        }
        chain.at = (place.0.to_owned(), place.1);
        self.compare(&integrity.chain, &mut chain);
        self.chains.insert(integrity.chain, chain);
    }

    /// Goes on behind a line that was changed in its place: the lines after it are as they were.
    fn pass_over(&mut self, place: (&str, u64), line: &[u8]) {
        if let Some(claimed) = countersign_audit::claimed(line)
            && let Some(chain) = self.chains.get_mut(&claimed.chain)
            && chain.next == claimed.sequence
        {
            chain.next += 1;
            chain.last = Some(claimed.fingerprint);
            chain.whole = false;
            chain.at = (place.0.to_owned(), place.1);
        }
    }

    /// Compares the root with the signed one, once the chain is as long.
    fn compare(&mut self, name: &str, chain: &mut Followed) {
        let Some(signed) = self.signed.get(name).cloned() else {
            return;
        };
        if chain.whole && !chain.compared && chain.tree.size() == signed.size {
            chain.compared = true;
            if chain.tree.root() != signed.root {
                let (file, line) = chain.at.clone();
                self.problem((&file, line), "the lines up to here are not those that were signed: somebody has sealed others anew");
            }
        }
    }

    fn end(mut self) -> Report {
        for (name, signed) in std::mem::take(&mut self.signed) {
            let size = signed.size;
            match self.chains.get(&name) {
                None => self.problem(
                    ("", 0),
                    format!("chain {name} is missing altogether: {size} lines were signed"),
                ),
                Some(chain) if chain.next < size => {
                    let (file, line) = chain.at.clone();
                    let missing = size - chain.next;
                    self.problem((&file, line), format!("the last {missing} lines of chain {name} are missing: the log was cut off here"));
                }
                Some(_) => {}
            }
            if let Some(report) = self.report.chains.get_mut(&name) {
                report.signed = Some(size);
            }
        }
        self.report
    }
}

fn said(error: &SealError) -> String {
    let text = error.to_string();
    text.strip_prefix("it ").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests;
