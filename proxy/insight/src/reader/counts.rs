//! What was read, and what could not be: nothing is left out silently.

use std::{collections::BTreeMap, fmt};

/// The most places that are named; the rest is counted.
const NAMED: usize = 5;

/// The most schemas of other versions that are named.
const SCHEMAS: usize = 16;

/// What a [`Reader`](super::Reader) has read so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes, uncompressed.
    pub bytes: u64,
    /// Lines of any kind.
    pub lines: u64,
    /// Lines of ours that were given out.
    pub records: u64,
    /// Lines that are not a gateway's.
    pub foreign: u64,
    /// Lines of ours that cannot be read.
    pub broken: u64,
    /// Last lines that were cut; another run will read them whole if the file is still written.
    pub truncated: u64,
    /// Lines of ours in schemas that this version does not know.
    pub unknown: u64,
    /// The schemas of those lines.
    pub unknown_schemas: BTreeMap<String, u64>,
    /// Inputs that could not be read to their end.
    pub interrupted: u64,
    /// How often time went back by more than a minute within one input.
    pub backwards: u64,
    /// By how many seconds at most.
    pub backwards_s: u64,
    /// Where the first mistakes are, and what they are.
    pub places: Vec<Place>,
}

/// Where something could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, or `-`.
    pub file: String,
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

impl Counts {
    /// One sentence for each thing that was not read, for people; none if everything was.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |count: u64, what: &str| {
            if count > 0 {
                notes.push(format!("{count} {what}"));
            }
        };
        note(self.foreign, "lines are not a gateway's and were skipped");
        note(self.broken, "lines are a gateway's and cannot be read");
        note(
            self.truncated,
            "last lines are cut off: the gateway was still writing, or the copy is incomplete",
        );
        note(self.interrupted, "inputs could not be read to their end");
        note(
            self.backwards,
            "times went back by more than a minute: a clock was set back, or the logs of several gateways follow each other",
        );
        if self.unknown > 0 {
            let schemas: Vec<_> = self.unknown_schemas.keys().map(String::as_str).collect();
            let (count, schemas) = (self.unknown, schemas.join(", "));
            notes.push(format!(
                "{count} lines have a schema of another version ({schemas}); use the `countersign` of that version"
            ));
        }
        notes.extend(self.places.iter().map(ToString::to_string));
        notes
    }

    pub(super) fn broken(&mut self, file: &str, line: u64, what: &str) {
        self.broken += 1;
        self.place(file, line, what);
    }

    pub(super) fn interrupted(&mut self, file: &str, line: u64, what: &str) {
        self.interrupted += 1;
        self.place(file, line, what);
    }

    pub(super) fn unknown(&mut self, schema: &str) {
        self.unknown += 1;
        if self.unknown_schemas.len() < SCHEMAS || self.unknown_schemas.contains_key(schema) {
            *self.unknown_schemas.entry(schema.to_owned()).or_default() += 1;
        }
    }

    fn place(&mut self, file: &str, line: u64, what: &str) {
        if self.places.len() < NAMED {
            self.places.push(Place {
                file: file.to_owned(),
                line,
                what: what.to_owned(),
            });
        }
    }
}
