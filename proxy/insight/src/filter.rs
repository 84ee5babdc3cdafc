//! A CEL expression over a record: `outcome == "refused" && workload.name.startsWith("qa/")`.
//!
//! Its variables are the fields of the record. An expression that cannot be evaluated for a record, because a part
//! of it is `null` or absent there, does not hold for it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

use cel::{Context, Env, ExecutionError, IdedExpr, Value, objects::Key, parser::PrattParser};

/// The longest expression, in bytes.
const MAX_LENGTH: usize = 2048;

/// The deepest nesting.
const MAX_DEPTH: u16 = 32;

/// The most nodes.
const MAX_NODES: usize = 256;

/// The fields of the lines; one that a line does not have is `null`.
const FIELDS: [&str; 35] = [
    "schema",
    "time",
    "id",
    "trace_id",
    "outcome",
    "reason",
    "blame",
    "listener",
    "original_destination",
    "caller",
    "workload",
    "policy",
    "target",
    "credential",
    "upstream",
    "bytes",
    "timing_us",
    "nearest",
    "detail",
    "class",
    "subject",
    "count",
    "first",
    "last",
    "reasons",
    "sources",
    "targets",
    "event",
    "version",
    "revision",
    "previous_revision",
    "changes",
    "changed",
    "open",
    "cut_off",
];

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A compiled expression.
pub struct Filter {
    expression: IdedExpr,
    written: String,
}

/// Why an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

impl Filter {
    /// Parses an expression, and checks that its variables are fields of a record.
    ///
    /// # Errors
    /// With the place of the mistake.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > MAX_LENGTH {
            return Err(FilterError(format!(
                "the expression is longer than {MAX_LENGTH} bytes"
            )));
        }
        let expression = PrattParser::new()
            .max_recursion_depth(MAX_DEPTH)
            .max_expression_node_count(MAX_NODES)
            .parse(text)
            .map_err(|errors| {
                let first = errors.errors.first();
                FilterError(first.map_or_else(
                    || "it is not a CEL expression".to_owned(),
                    |error| {
                        format!(
                            "line {}, column {}: {}",
                            error.pos.0, error.pos.1, error.msg
                        )
                    },
                ))
            })?;
        let filter = Self {
            expression,
            written: text.to_owned(),
        };
        let references = filter.expression.references();
        let mut unknown: Vec<_> = references
            .variables()
            .into_iter()
            .filter(|name| !FIELDS.contains(name) && !is_bound(name, text))
            .collect();
        unknown.sort_unstable();
        match unknown.first() {
            Some(name) => Err(FilterError(unknown_field(name))),
            None => Ok(filter),
        }
    }

    /// Whether it holds for a line, which is JSON.
    pub fn holds(&self, line: &serde_json::Value) -> bool {
        let mut context = Context::with_env(ENVIRONMENT.clone());
        for name in FIELDS {
            let value = line.get(name).map_or(Value::Null, value);
            context.add_variable_from_value(name, value);
        }
        let result: Result<Value, ExecutionError> = Value::resolve(&self.expression, &context);
        matches!(result, Ok(Value::Bool(true)))
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.written).finish()
    }
}

/// Whether a name is that of a macro's own variable, as `m` in `changes.exists(m, m.kind == "Workload")`.
fn is_bound(name: &str, text: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].trim_end().ends_with('(');
        before && text[at + name.len()..].trim_start().starts_with(',')
    })
}

fn unknown_field(name: &str) -> String {
    let near = FIELDS
        .iter()
        .min_by_key(|field| strsim::damerau_levenshtein(field, name));
    let near = near.filter(|field| strsim::damerau_levenshtein(field, name) <= 2);
    match near {
        Some(near) => format!("a record has no field `{name}`; did you mean `{near}`?"),
        None => {
            format!("a record has no field `{name}`; its fields are in docs/decision-record.md")
        }
    }
}

/// JSON as CEL has it. All whole numbers are `int`, as literals are.
fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::MAX)),
        },
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Array(items) => items.iter().map(value).collect::<Vec<_>>().into(),
        serde_json::Value::Object(members) => {
            let members = members.iter();
            let members = members.map(|(name, member)| (Key::from(name.as_str()), value(member)));
            members.collect::<HashMap<Key, Value>>().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("true", true)]
    #[case("outcome == 'refused'", true)]
    #[case("outcome == 'refused' && target.name == 'slack'", true)]
    #[case("target.path.startsWith('/api/') && timing_us.total > 40", true)]
    #[case("upstream.status >= 500", false)]
    #[case("workload == null", false)]
    #[case("credential == null", true)]
    #[case("nearest.mismatches.exists(m, m.what == 'paths')", true)]
    #[case("event == 'reloaded'", false)]
    #[case("timing_us.total", false)]
    fn an_expression_reads_the_fields_of_a_record(#[case] text: &str, #[case] expected: bool) {
        let line = json!({
            "outcome": "refused", "workload": {"name": "qa/nightly"}, "credential": null, "upstream": null,
            "target": {"name": "slack", "path": "/api/chat.postMessage"}, "timing_us": {"total": 70},
            "nearest": {"mismatches": [{"what": "paths"}]},
        });
        assert_eq!(Filter::parse(text).unwrap().holds(&line), expected);
    }

    #[rstest]
    #[case::misspelt("outcom == 'refused'", "did you mean `outcome`?")]
    #[case::unknown("weather == 'rain'", "docs/decision-record.md")]
    #[case::no_expression("outcome ==", "line 1")]
    #[case::empty("", "")]
    fn a_mistake_is_told_at_once(#[case] text: &str, #[case] expected: &str) {
        let error = Filter::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_long_or_deep_expression_is_refused() {
        Filter::parse(&format!("outcome == '{}'", "x".repeat(3000))).unwrap_err();
        Filter::parse(&"(".repeat(1000)).unwrap_err();
    }
}
