//! Who signed which review off, and when: a file that the next review reads.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The name and version of the file.
const SCHEMA: &str = "countersign.sign-off/v1";

/// All sign-offs, by workload; the last one counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignOffs {
    schema: String,
    workloads: BTreeMap<String, Vec<SignOff>>,
}

/// One sign-off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignOff {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What was reviewed.
    pub revision: String,
}

/// Why a file of sign-offs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignOffError {
    /// It is not such a file.
    #[error("this is not a file of sign-offs: {0}")]
    Broken(#[from] serde_json::Error),
    /// It is one of another version.
    #[error("this is a file of sign-offs of another version: {0:?}")]
    Version(String),
}

impl SignOffs {
    /// Reads the text of a file; an empty one has none.
    ///
    /// # Errors
    /// When it is another file: it must not be written over.
    pub fn read(text: &str) -> Result<Self, SignOffError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let read: Self = serde_json::from_str(text)?;
        if read.schema != SCHEMA {
            return Err(SignOffError::Version(read.schema));
        }
        Ok(read)
    }

    /// The last sign-off of a workload.
    pub fn of(&self, workload: &str) -> Option<&SignOff> {
        self.workloads
            .get(workload)?
            .iter()
            .max_by_key(|signed| signed.at)
    }

    /// Adds one for a workload.
    pub fn add(&mut self, workload: &str, signed: SignOff) {
        self.workloads
            .entry(workload.to_owned())
            .or_default()
            .push(signed);
    }

    /// The text of a file.
    ///
    /// # Panics
    /// Never: texts and times can be written.
    pub fn text(&self) -> String {
        let whole = Self {
            schema: SCHEMA.to_owned(),
            workloads: self.workloads.clone(),
        };
        let text = serde_json::to_string_pretty(&whole);
        text.expect("texts and times can be written") + "\n"
    }
}
