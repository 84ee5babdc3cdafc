//! CEL conditions, with a bound on what one may cost.

use jiff::Timestamp;

use crate::policy::{CallerFacts, RequestFacts};

/// A compiled CEL expression that yields a boolean.
#[derive(Debug, Clone)]
pub struct Condition(());

/// Why an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConditionError(pub String);

impl Condition {
    /// Parses and bounds an expression: at most 2,048 bytes, a bounded AST, no nested
    /// comprehensions, only known variables and functions.
    pub fn parse(_text: &str) -> Result<Self, ConditionError> {
        unimplemented!()
    }

    /// Whether it holds. An expression that fails (missing key, wrong type) is an error, and an
    /// error never permits.
    pub fn holds(
        &self,
        _caller: &CallerFacts,
        _request: &RequestFacts<'_>,
        _now: Timestamp,
    ) -> Result<bool, ConditionError> {
        unimplemented!()
    }

    /// The expression as it was written.
    pub fn written(&self) -> &str {
        unimplemented!()
    }
}
