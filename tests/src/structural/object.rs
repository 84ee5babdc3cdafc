//! What the API server refuses and removes in an object. Rules in CEL are not run.

use serde_json::Value;

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// Removes what the schema does not know from an object.
///
/// # Errors
/// With everything in it that the schema does not allow.
pub fn admit(schema: &Value, object: &mut Value) -> Result<(), Vec<String>> {
    prune(schema, object);
    let mut found = Vec::new();
    check(schema, object, "", &mut found);
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn prune(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(members) => {
            let properties = schema["properties"].as_object();
            if let Some(each) = schema.get("additionalProperties") {
                members.values_mut().for_each(|value| prune(each, value));
                return;
            }
            if schema.get(PRESERVE).is_none() {
                // An object of the API server's own is not in the schema.
                let opaque = properties.is_none() && schema["type"] == "object";
                members.retain(|key, _| {
                    opaque || properties.is_some_and(|properties| properties.contains_key(key))
                });
            }
            // A key without a value is one that is not there.
            members.retain(|key, value| {
                !value.is_null() || properties.is_none_or(|known| !known.contains_key(key))
            });
            for (key, value) in members {
                if let Some(known) = properties.and_then(|properties| properties.get(key)) {
                    prune(known, value);
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| prune(&schema["items"], item)),
        _ => {}
    }
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(kind) = schema["type"].as_str()
        && !is_of(kind, value)
    {
        found.push(format!("{path}: must be of type {kind}"));
        return;
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        found.push(format!("{path}: supported values: {words:?}"));
    }
    bounds(schema, value, path, found);
    match value {
        Value::Object(members) => {
            let required = schema["required"].as_array().into_iter().flatten();
            for key in required.filter_map(Value::as_str) {
                if !members.contains_key(key) {
                    found.push(format!("{path}.{key}: Required value"));
                }
            }
            for (key, value) in members {
                let known = schema["properties"].get(key);
                if let Some(known) = known.or_else(|| schema.get("additionalProperties")) {
                    check(known, value, &format!("{path}.{key}"), found);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        _ => value.is_string(),
    }
}

fn bounds(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let size = match value {
        Value::String(text) => Some(("Length", text.chars().count())),
        Value::Array(items) => Some(("Items", items.len())),
        _ => None,
    };
    let size = size.map(|(what, size)| (what, size as u64));
    if let Some((what, size)) = size {
        let bound = |side: &str| schema[format!("{side}{what}")].as_u64();
        if bound("max").is_some_and(|most| size > most) || bound("min").is_some_and(|l| size < l) {
            found.push(format!("{path}: it has {size} {what}"));
        }
    }
    if let Some(number) = value.as_i64() {
        let bound = |key: &str| schema[key].as_i64();
        if bound("maximum").is_some_and(|most| number > most)
            || bound("minimum").is_some_and(|least| number < least)
        {
            found.push(format!("{path}: {number} is out of range"));
        }
    }
}
