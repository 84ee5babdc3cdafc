//! What the API server refuses in a definition.

use serde_json::{Map, Value};

use super::rules;

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// The members of `JSONSchemaProps` that may be used; others are forbidden or unknown.
const KEYWORDS: [&str; 34] = [
    "additionalProperties",
    "allOf",
    "anyOf",
    "default",
    "description",
    "enum",
    "example",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "nullable",
    "oneOf",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    PRESERVE,
    "x-kubernetes-validations",
];

/// What may not stand within `allOf`, `anyOf`, `oneOf` and `not`.
const NOT_IN_JUNCTORS: [&str; 7] = [
    "additionalProperties",
    "default",
    "description",
    "nullable",
    "title",
    "type",
    PRESERVE,
];

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Formats that the API server checks; it ignores others.
const FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];

/// Why the API server would not take a definition; empty if it would.
pub fn problems(definition: &Value) -> Vec<String> {
    let mut found = Vec::new();
    head(definition, &mut found);
    let spec = &definition["spec"];
    let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        found.push("exactly one version is stored".to_owned());
    }
    for version in versions {
        columns(version, &mut found);
        let schema = &version["schema"]["openAPIV3Schema"];
        if schema["type"] != "object" {
            found.push("the root is an object".to_owned());
        }
        let metadata = schema["properties"]["metadata"].as_object();
        let restricted = metadata.into_iter().flat_map(Map::keys);
        for keyword in restricted.filter(|k| *k != "type" && *k != "properties") {
            found.push(format!("metadata: `{keyword}` is forbidden"));
        }
        structural(schema, "", &mut found);
        rules::check(schema, &mut found);
    }
    found
}

fn head(definition: &Value, found: &mut Vec<String>) {
    if definition["apiVersion"] != "apiextensions.k8s.io/v1"
        || definition["kind"] != "CustomResourceDefinition"
    {
        found.push("it is no CustomResourceDefinition".to_owned());
    }
    let spec = &definition["spec"];
    let names = &spec["names"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let full = format!("{}.{}", text(&names["plural"]), text(&spec["group"]));
    if definition["metadata"]["name"] != full.as_str() {
        found.push(format!("its name is not {full}"));
    }
    let many = ["shortNames", "categories"].map(|key| names[key].as_array());
    let words = many.into_iter().flatten().flatten();
    for word in words.chain([&names["plural"], &names["singular"]]) {
        let word = text(word);
        let is_label = !word.is_empty()
            && word.len() <= 63
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !is_label {
            found.push(format!("`{word}` is no label"));
        }
    }
    if !["Namespaced", "Cluster"].contains(&text(&spec["scope"]).as_str()) {
        found.push("it has no scope".to_owned());
    }
}

fn columns(version: &Value, found: &mut Vec<String>) {
    let columns = version["additionalPrinterColumns"].as_array();
    for column in columns.into_iter().flatten() {
        let kind = column["type"].as_str().unwrap_or_default();
        let path = column["jsonPath"].as_str().unwrap_or_default();
        let known = ["integer", "number", "string", "boolean", "date"].contains(&kind);
        if !known || !path.starts_with('.') || column["name"].as_str().is_none_or(str::is_empty) {
            found.push(format!("a column is wrong: {column}"));
        }
    }
}

fn structural(schema: &Value, path: &str, found: &mut Vec<String>) {
    let Some(members) = schema.as_object() else {
        found.push(format!("{path}: it is no schema"));
        return;
    };
    for keyword in members.keys() {
        if !KEYWORDS.contains(&keyword.as_str()) {
            found.push(format!("{path}: `{keyword}` is forbidden"));
        }
    }
    let preserves = members.get(PRESERVE);
    if preserves.is_some_and(|value| value != true) {
        found.push(format!("{path}: {PRESERVE} is true or absent"));
    }
    let loose = preserves.is_some() || members.contains_key("x-kubernetes-int-or-string");
    match members.get("type").and_then(Value::as_str) {
        Some(kind) if !TYPES.contains(&kind) => found.push(format!("{path}: no type `{kind}`")),
        Some(kind) if preserves.is_some() && kind != "object" => {
            found.push(format!("{path}: only an object preserves unknown fields"));
        }
        None if !loose => found.push(format!("{path}: it has no type")),
        Some(_) | None => {}
    }
    if let Some(format) = members.get("format").and_then(Value::as_str)
        && !FORMATS.contains(&format)
    {
        found.push(format!("{path}: the format `{format}` means nothing"));
    }
    if members.contains_key("default") {
        found.push(format!("{path}: a default would change what was written"));
    }
    list(members, path, found);
    for junctor in ["allOf", "anyOf", "oneOf"] {
        let parts = members.get(junctor).and_then(Value::as_array);
        for part in parts.into_iter().flatten() {
            within(part, schema, path, found);
        }
    }
    if let Some(part) = members.get("not") {
        within(part, schema, path, found);
    }
    below(members, path, found);
}

fn list(members: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    let is_array = members.get("type").is_some_and(|kind| kind == "array");
    if is_array && !members.get("items").is_some_and(Value::is_object) {
        found.push(format!("{path}: a list has one schema for its items"));
    }
    let Some(kind) = members.get("x-kubernetes-list-type") else {
        return;
    };
    if !is_array || !["atomic", "set", "map"].iter().any(|known| kind == known) {
        found.push(format!("{path}: it is no list of this type"));
    }
    let keys = members
        .get("x-kubernetes-list-map-keys")
        .and_then(Value::as_array);
    for key in keys.into_iter().flatten().filter_map(Value::as_str) {
        let items = &members["items"];
        let required = items["required"].as_array();
        if items["properties"].get(key).is_none()
            || !required.is_some_and(|required| required.iter().any(|name| name == key))
        {
            found.push(format!("{path}: the key `{key}` is not required"));
        }
    }
}

fn below(members: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    let is_object = members.get("type").is_some_and(|kind| kind == "object");
    let properties = members.get("properties").and_then(Value::as_object);
    let additional = members.get("additionalProperties");
    if (properties.is_some() || additional.is_some()) && !is_object {
        found.push(format!("{path}: only an object has properties"));
    }
    if properties.is_some() && additional.is_some() {
        found.push(format!(
            "{path}: additionalProperties and properties exclude each other"
        ));
    }
    if additional.is_some_and(|value| !value.is_object()) {
        found.push(format!("{path}: additionalProperties is a schema"));
    }
    for (key, value) in properties.into_iter().flatten() {
        structural(value, &format!("{path}.{key}"), found);
    }
    for (key, value) in [
        ("[]", members.get("items")),
        ("{}", additional.filter(|value| value.is_object())),
    ] {
        if let Some(value) = value {
            structural(value, &format!("{path}{key}"), found);
        }
    }
}

/// A part of a junctor only restricts what stands outside of it.
fn within(part: &Value, outside: &Value, path: &str, found: &mut Vec<String>) {
    for keyword in NOT_IN_JUNCTORS {
        if part.get(keyword).is_some() {
            found.push(format!("{path}: `{keyword}` is forbidden in a junctor"));
        }
    }
    let properties = part["properties"].as_object();
    for (key, value) in properties.into_iter().flatten() {
        match outside["properties"].get(key) {
            Some(outside) => within(value, outside, &format!("{path}.{key}"), found),
            None => found.push(format!("{path}: `{key}` is not described outside")),
        }
    }
}
