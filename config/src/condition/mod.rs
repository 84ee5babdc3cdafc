//! CEL conditions, with a bound on their cost.
//!
//! The language has no budget of its own. So a condition is bounded when it is parsed (length, size, depth, no
//! nested comprehensions, no regular expression from the request), and its input is bounded too. It knows
//! three variables:
//!
//! | variable | what |
//! |---|---|
//! | `request` | `method`, `host`, `port`, `path` (as sent), `query` (a map; fields decoded as in a form; a list of strings where a field repeats). It is an error if a field that the expression reads has another spelling that some servers take for the same |
//! | `caller` | `cluster`, `namespace`, `serviceAccount`, `spiffeId`, `pod`, `labels`, `cronJob`; unknown ones are absent, and using an absent one without `has()` is an error |
//! | `now` | a timestamp |

mod bounds;
mod facts;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use cel::{Context, Env, ExecutionError, IdedExpr, Value, parser::PrattParser};
use jiff::Timestamp;

use crate::facts::{CallerFacts, RequestFacts};
use bounds::{Reads, Uses};

/// The longest expression, in bytes.
const MAX_LENGTH: usize = 2048;

/// The standard library, built once: building it costs more than evaluating a condition.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A compiled CEL expression that yields a boolean. Cheap to clone.
#[derive(Clone)]
pub struct Condition(Arc<Compiled>);

struct Compiled {
    expression: IdedExpr,
    uses: Uses,
    reads: Reads,
    written: String,
}

/// Why an expression cannot be used, or could not be evaluated. Never holds a value of the
/// request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConditionError(pub String);

impl ConditionError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl Condition {
    /// Parses and bounds an expression: at most 2,048 bytes, 256 nodes and 32 levels, no nested
    /// comprehensions, only known variables and functions, and regular expressions only as
    /// literals.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        if text.len() > MAX_LENGTH {
            return Err(ConditionError::new(
                "the expression is longer than 2,048 bytes",
            ));
        }
        // CEL's other parser overflows a 2 MiB stack at twenty brackets; `.clippy.toml` forbids it.
        let expression = PrattParser::new()
            .max_recursion_depth(bounds::MAX_DEPTH)
            .max_expression_node_count(bounds::MAX_NODES)
            .parse(text)
            .map_err(|errors| {
                let first = errors.errors.first();
                ConditionError(first.map_or_else(
                    || "it is not a CEL expression".to_owned(),
                    |error| {
                        let (line, column) = error.pos;
                        format!("line {line}, column {column}: {}", error.msg)
                    },
                ))
            })?;
        let (uses, reads) = bounds::check(&expression)?;
        Ok(Self(Arc::new(Compiled {
            expression,
            uses,
            reads,
            written: text.to_owned(),
        })))
    }

    /// Whether it holds. An expression that fails (missing key, wrong type) is an error, and an
    /// error never permits.
    pub fn holds(
        &self,
        caller: &CallerFacts,
        request: &RequestFacts<'_>,
        now: Timestamp,
    ) -> Result<bool, ConditionError> {
        let Compiled {
            expression,
            uses,
            reads,
            ..
        } = &*self.0;
        let mut context = Context::with_env(ENVIRONMENT.clone());
        if uses.request {
            let value = facts::request(request, uses.query.then_some(reads))?;
            context.add_variable_from_value("request", value);
        }
        if uses.caller {
            context.add_variable_from_value("caller", facts::caller(caller));
        }
        if uses.now {
            context.add_variable_from_value("now", facts::timestamp(now)?);
        }
        match Value::resolve(expression, &context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(ConditionError(format!(
                "the result is {}, not bool",
                other.type_of()
            ))),
            Err(error) => Err(self.describe(&error)),
        }
    }

    /// Whether its result for one request can change with time alone.
    pub fn depends_on_time(&self) -> bool {
        self.0.uses.now
    }

    /// Whether it reads more of a request than host and port.
    pub fn reads_requests(&self) -> bool {
        self.0.uses.content
    }

    /// The expression as it was written.
    pub fn written(&self) -> &str {
        &self.0.written
    }

    /// What failed, without the values that CEL's own messages carry.
    fn describe(&self, error: &ExecutionError) -> ConditionError {
        ConditionError(match error {
            ExecutionError::NoSuchKey(key) if self.written().contains(key.as_str()) => {
                format!("there is no `{key}`")
            }
            ExecutionError::NoSuchKey(_) => "a key is missing".to_owned(),
            ExecutionError::NoSuchOverload(overload) => format!(
                "`{}` does not take {}",
                overload.function(),
                overload.argument_types().join(", ")
            ),
            ExecutionError::FunctionError { function, .. } => {
                format!("`{function}` cannot use its argument")
            }
            ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
                "division by zero".to_owned()
            }
            ExecutionError::Overflow(..) => "a number is too large".to_owned(),
            ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds".to_owned(),
            // CEL's enum is non-exhaustive; other variants get a message without detail.
            _ => "a value has the wrong type".to_owned(),
        })
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.written()).finish()
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.written())
    }
}
