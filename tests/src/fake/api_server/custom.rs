//! Objects of custom resources against the structural schema of their definition: what is unknown is
//! pruned, defaults are set, and the rest is checked.

use regex::Regex;
use serde_json::{Value, json};

use super::failure::Cause;

/// Drops what the schema does not know, sets defaults, and returns the paths of what was dropped.
pub(super) fn prune(schema: &Value, value: &mut Value, path: &str, dropped: &mut Vec<String>) {
    if schema["x-kubernetes-embedded-resource"] == true {
        return;
    }
    match value {
        Value::Object(fields) => {
            let keeps = schema["x-kubernetes-preserve-unknown-fields"] == true;
            let properties = &schema["properties"];
            let additional = &schema["additionalProperties"];
            let root = path.is_empty();
            fields.retain(|name, _| {
                let is_meta = root && ["apiVersion", "kind", "metadata"].contains(&name.as_str());
                let known = is_meta || !properties[name].is_null();
                let known = known || additional == true || additional.is_object();
                if !known && !keeps {
                    dropped.push(joined(path, name));
                }
                known || keeps
            });
            for (name, schema) in properties.as_object().into_iter().flatten() {
                if !schema["default"].is_null() && !fields.contains_key(name) {
                    fields.insert(name.clone(), schema["default"].clone());
                }
            }
            for (name, value) in fields {
                if root && name == "metadata" {
                    continue;
                }
                let below = match &properties[name] {
                    Value::Null if additional.is_object() => additional,
                    Value::Null => continue,
                    known => known,
                };
                prune(below, value, &joined(path, name), dropped);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                prune(&schema["items"], item, &format!("{path}[{index}]"), dropped);
            }
        }
        _ => {}
    }
}

fn joined(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// What is wrong with a value.
pub(super) fn check(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    if let Some(expected) = wrong_type(schema, value) {
        let is = type_of(value);
        let message =
            format!("Invalid value: \"{is}\": {path} in body must be of type {expected}: \"{is}\"");
        causes.push(Cause {
            reason: "FieldValueTypeInvalid",
            field: path.to_owned(),
            message,
        });
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        causes.push(Cause {
            reason: "FieldValueNotSupported",
            field: path.to_owned(),
            message: format!(
                "Unsupported value: {value}: supported values: {}",
                allowed.join(", ")
            ),
        });
    }
    match value {
        Value::String(text) => check_text(schema, text, path, causes),
        Value::Number(_) => check_number(schema, value, path, causes),
        Value::Array(items) => {
            check_count(schema, "Items", items.len(), path, causes);
            for (index, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{index}]"), causes);
            }
        }
        Value::Object(fields) => {
            check_count(schema, "Properties", fields.len(), path, causes);
            for name in schema["required"].as_array().into_iter().flatten() {
                let name = name.as_str().unwrap_or_default();
                if !fields.contains_key(name) {
                    causes.push(Cause {
                        reason: "FieldValueRequired",
                        field: joined(path, name),
                        message: "Required value".to_owned(),
                    });
                }
            }
            for (name, value) in fields {
                if path.is_empty() && name == "metadata" {
                    continue;
                }
                let below = match &schema["properties"][name] {
                    Value::Null => &schema["additionalProperties"],
                    known => known,
                };
                if below.is_object() {
                    check(below, value, &joined(path, name), causes);
                }
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wrong_type<'a>(schema: &'a Value, value: &Value) -> Option<&'a str> {
    if schema["x-kubernetes-int-or-string"] == true {
        return (!value.is_i64() && !value.is_u64() && !value.is_string())
            .then_some("integer,string");
    }
    let expected = schema["type"].as_str()?;
    let is = type_of(value);
    let fits = is == expected || (expected == "number" && is == "integer");
    (!fits).then_some(expected)
}

fn check_text(schema: &Value, text: &str, path: &str, causes: &mut Vec<Cause>) {
    check_count(schema, "Length", text.chars().count(), path, causes);
    if let Some(pattern) = schema["pattern"].as_str() {
        let matches = Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
        if !matches {
            let message =
                format!("Invalid value: \"{text}\": {path} in body should match '{pattern}'");
            causes.push(Cause::invalid(path, message));
        }
    }
}

fn check_number(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let number = value.as_f64().unwrap_or_default();
    let low = schema["minimum"].as_f64().filter(|low| number < *low);
    let high = schema["maximum"].as_f64().filter(|high| number > *high);
    for (limit, word) in [
        (low, "greater than or equal to"),
        (high, "less than or equal to"),
    ] {
        if let Some(limit) = limit {
            let message =
                format!("Invalid value: {value}: {path} in body should be {word} {limit}");
            causes.push(Cause::invalid(path, message));
        }
    }
}

fn check_count(schema: &Value, what: &str, count: usize, path: &str, causes: &mut Vec<Cause>) {
    let limit = |word: &str| schema[format!("{word}{what}")].as_u64();
    let count = count as u64;
    if let Some(most) = limit("max").filter(|most| count > *most) {
        causes.push(match what {
            "Length" => Cause {
                reason: "FieldValueTooLong",
                field: path.to_owned(),
                message: format!("Too long: may not be more than {most} bytes"),
            },
            _ => Cause {
                reason: "FieldValueTooMany",
                field: path.to_owned(),
                message: format!("Too many: {count}: must have at most {most} items"),
            },
        });
    }
    if let Some(least) = limit("min").filter(|least| count < *least) {
        let unit = if what == "Length" {
            "chars long"
        } else {
            "items"
        };
        let message = format!("Invalid value: {path} in body should be at least {least} {unit}");
        causes.push(Cause::invalid(path, message));
    }
}

/// The status that a definition gets as soon as it is made: its names are taken, and it is served.
pub(super) fn established(definition: &mut Value, now: &str) {
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "lastTransitionTime": now,
            "reason": reason, "message": message,
        })
    };
    let stored = definition["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten();
    let stored = stored.filter(|version| version["storage"] == true);
    let stored: Vec<Value> = stored.map(|version| version["name"].clone()).collect();
    definition["status"] = json!({
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "acceptedNames": definition["spec"]["names"],
        "storedVersions": stored,
    });
}
