//! What the API server demands of rules in CEL: that they speak of what the schema describes, and are cheap.

use serde_json::Value;

/// How many times a rule may run for one object. The API server multiplies the cost of a rule with the bounds of
/// all lists around it, and refuses more than ten million.
const MOST_RUNS: u64 = 20_000;

/// As many entries as an unbounded list of small objects is taken for (3 MiB, two bytes each).
const UNBOUNDED: u64 = 3 * 1024 * 1024 / 2;

/// Words of CEL that are escaped in names of fields.
const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
];

/// Why the API server would not take a rule of the schema.
pub(super) fn check(schema: &Value, found: &mut Vec<String>) {
    at(schema, "", 1, found);
}

fn at(schema: &Value, path: &str, runs: u64, found: &mut Vec<String>) {
    let rules = schema["x-kubernetes-validations"].as_array();
    for rule in rules.into_iter().flatten() {
        one(rule, schema, path, runs, found);
    }
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        at(value, &format!("{path}.{key}"), runs, found);
    }
    for (step, keyword, most) in [
        ("[]", "items", "maxItems"),
        ("{}", "additionalProperties", "maxProperties"),
    ] {
        if let Some(value) = schema.get(keyword) {
            let most = schema[most].as_u64().unwrap_or(UNBOUNDED);
            at(
                value,
                &format!("{path}{step}"),
                runs.saturating_mul(most),
                found,
            );
        }
    }
}

fn one(rule: &Value, schema: &Value, path: &str, runs: u64, found: &mut Vec<String>) {
    let text = rule["rule"].as_str().unwrap_or_default();
    if text.is_empty() {
        found.push(format!("{path}: a rule is empty"));
    }
    let message = rule["message"].as_str().unwrap_or_default();
    if message.is_empty() || message.len() > 2_048 || message.contains('\n') {
        found.push(format!("{path}: a rule has no message of one line"));
    }
    if runs > MOST_RUNS {
        found.push(format!("{path}: a rule runs {runs} times for one object"));
    }
    for name in fields(text) {
        let field = &schema["properties"][name];
        if RESERVED.contains(&name) {
            found.push(format!("{path}: `{name}` is a word of CEL"));
        }
        if !is_declared(field) {
            found.push(format!("{path}: CEL knows no field `{name}` here"));
        }
    }
}

/// Whether CEL sees a field: it has a type, and so has what it holds.
fn is_declared(field: &Value) -> bool {
    let typed = |value: &Value| value["type"].is_string();
    typed(field)
        && [field.get("items"), field.get("additionalProperties")]
            .into_iter()
            .flatten()
            .all(typed)
}

/// The names after `self.` in a rule.
fn fields(rule: &str) -> impl Iterator<Item = &str> {
    rule.split("self.").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}
