//! From the JSON Schema of a type to a structural schema of the API server.
//!
//! A structural schema has no references, one type for each value, and either `properties` or
//! `additionalProperties`. The API server removes keys that it does not know unless it is told to preserve
//! them: then a misspelt `notAfter` would be stored as nothing. So every object preserves them, and the reader
//! refuses them.

use serde_json::{Map, Value, json};

use super::rules;

/// Keeps keys that the schema does not name.
pub(super) const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// Keywords that mean the same in both.
const SHARED: [&str; 9] = [
    "description",
    "maximum",
    "maxItems",
    "maxLength",
    "minimum",
    "minItems",
    "minLength",
    "pattern",
    "required",
];

/// The structural form of a schema; `definitions` are what its references name.
pub(super) fn convert(schema: &Value, definitions: &Map<String, Value>) -> Value {
    let Some(members) = schema.as_object().filter(|members| !members.is_empty()) else {
        return json!({ PRESERVE: true });
    };
    let mut converted = body(members, definitions);
    if let (Some(text), Some(object)) = (members.get("description"), converted.as_object_mut()) {
        object.insert("description".to_owned(), text.clone());
    }
    converted
}

fn body(members: &Map<String, Value>, definitions: &Map<String, Value>) -> Value {
    if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
        let name = reference.trim_start_matches("#/$defs/");
        let mut found = convert(&definitions[name], definitions);
        rules::of_type(name, &mut found);
        return found;
    }
    if let Some(alternatives) = members.get("anyOf").and_then(Value::as_array) {
        // An optional value: the API server takes `null` for a key that is not there.
        let value = alternatives.iter().find(|other| other["type"] != "null");
        return convert(value.unwrap_or(&Value::Null), definitions);
    }
    if let Some(alternatives) = members.get("oneOf").and_then(Value::as_array) {
        return one_of(alternatives, definitions);
    }
    plain(members, definitions)
}

/// An enum of Rust: of words, or of objects with one key each.
fn one_of(alternatives: &[Value], definitions: &Map<String, Value>) -> Value {
    let words: Vec<&Value> = alternatives.iter().flat_map(words).collect();
    if !words.is_empty() {
        return json!({ "type": "string", "enum": words });
    }
    let mut properties = Map::new();
    for alternative in alternatives {
        let Some(own) = alternative["properties"].as_object() else {
            continue;
        };
        for (key, value) in own {
            let mut value = convert(value, definitions);
            if let (Some(text), Some(object)) =
                (alternative.get("description"), value.as_object_mut())
            {
                object.insert("description".to_owned(), text.clone());
            }
            properties.insert(key.clone(), value);
        }
    }
    json!({ "type": "object", "properties": properties, PRESERVE: true })
}

fn words(alternative: &Value) -> Vec<&Value> {
    match (alternative.get("const"), alternative.get("enum")) {
        (Some(word), _) => vec![word],
        (None, Some(Value::Array(words))) => words.iter().collect(),
        (None, _) => Vec::new(),
    }
}

fn plain(members: &Map<String, Value>, definitions: &Map<String, Value>) -> Value {
    let mut converted = Map::new();
    let kind = type_of(members);
    match kind {
        Some(kind) => converted.insert("type".to_owned(), json!(kind)),
        None => converted.insert(PRESERVE.to_owned(), json!(true)),
    };
    for keyword in SHARED {
        if let Some(value) = members.get(keyword) {
            converted.insert(keyword.to_owned(), value.clone());
        }
    }
    if let Some(words) = members.get("enum") {
        converted.insert("enum".to_owned(), words.clone());
    }
    if let Some(items) = members.get("items") {
        converted.insert("items".to_owned(), convert(items, definitions));
    }
    if kind == Some("object") {
        object(members, definitions, &mut converted);
    }
    Value::Object(converted)
}

fn object(
    members: &Map<String, Value>,
    definitions: &Map<String, Value>,
    converted: &mut Map<String, Value>,
) {
    if let Some(own) = members.get("properties").and_then(Value::as_object) {
        let properties = own
            .iter()
            .map(|(key, value)| (key.clone(), convert(value, definitions)));
        converted.insert("properties".to_owned(), Value::Object(properties.collect()));
        converted.insert(PRESERVE.to_owned(), json!(true));
    } else if let Some(values) = members.get("additionalProperties") {
        let values = convert(values, definitions);
        converted.insert("additionalProperties".to_owned(), values);
    } else {
        converted.insert(PRESERVE.to_owned(), json!(true));
    }
}

/// The one type besides `null`.
fn type_of(members: &Map<String, Value>) -> Option<&str> {
    match members.get("type") {
        Some(Value::String(kind)) => Some(kind),
        Some(Value::Array(kinds)) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null"),
        _ => None,
    }
}
