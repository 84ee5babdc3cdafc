//! Text in CEL: values as literals.

use serde_json::Value;

/// A value as a CEL literal. A string that is a key of `instead` becomes that expression. CEL as the API server
/// compiles it wants the values of a list or map to be of one type, so all that are not texts are made dynamic.
pub(super) fn literal(value: &Value, instead: &[(&str, &str)]) -> String {
    match value {
        Value::String(text) => match instead.iter().find(|(key, _)| key == text) {
            Some((_, expression)) => (*expression).to_owned(),
            None => quoted(text),
        },
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| dynamic(item, instead)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", quoted(key), dynamic(value, instead)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn dynamic(value: &Value, instead: &[(&str, &str)]) -> String {
    let literal = literal(value, instead);
    if value.is_string() {
        literal
    } else {
        format!("dyn({literal})")
    }
}

/// A text as a CEL string.
pub(super) fn quoted(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('\'', "\\'")
        .replace('\n', "\\n");
    format!("'{escaped}'")
}
