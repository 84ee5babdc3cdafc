//! The reference of the kinds for people, made from their schemas. The page `docs/resources.md` is its output.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write as _,
};

use countersign_config::{resource::Kind, schema};
use serde_json::Value;

const HEAD: &str = "<!-- Made by `just reference` from the types in config/src/resource; do not edit. -->

# The five kinds

Operators write four kinds of resource, in files or as objects of a cluster ([objects.md](objects.md)); a fifth, `Gateway`,
configures the proxy itself and is always a file. `countersign check DIR` says what is wrong with them, each with file and line.

- **Durations** are numbers with units: `500ms`, `90s`, `15m`, `1h30m`. **Sizes** are numbers of bytes: `65536`.
- **Times** are written as in RFC 3339, with a zone: `2026-11-23T05:10:00Z`. **Dates** are `2026-11-23`.
- **Paths of files** that are not absolute are relative to the directory in which the gateway, or the command, was started.
- A key that a kind does not have is refused. A default applies where the key is left out.
- `*` marks a key that must be given.

```yaml
apiVersion: countersign.dev/v1alpha1
kind: Workload                       # or TargetService, Credential, AccessPolicy, Gateway
metadata: { name: nightly-dashboard, namespace: qa }
spec: {}                             # as below
```

";

/// The reference of one kind, or the page of all.
pub(super) fn page(kind: Option<Kind>) -> String {
    let mut told = BTreeSet::new();
    let mut text = String::new();
    if let Some(kind) = kind {
        section(kind, &mut told, &mut text);
    } else {
        text.push_str(HEAD);
        for kind in Kind::ALL {
            section(kind, &mut told, &mut text);
        }
    }
    let end = text.trim_end().len();
    text.truncate(end);
    text.push('\n');
    text
}

/// A kind, and each type that it is the first to use.
fn section(kind: Kind, told: &mut BTreeSet<String>, text: &mut String) {
    let schema = schema::kind(kind);
    let definitions = &schema["$defs"];
    let top = format!("{}Spec", kind.name());
    let mut queue = VecDeque::from([top.clone()]);
    while let Some(name) = queue.pop_front() {
        if !told.insert(name.clone()) {
            continue;
        }
        let definition = &definitions[&name];
        let (level, title) = if name == top {
            ("##", kind.name())
        } else {
            ("###", short(&name))
        };
        let _ = writeln!(text, "{level} {title}\n\n{}\n", description(definition));
        body(definition, text, &mut queue);
    }
}

fn body(definition: &Value, text: &mut String, queue: &mut VecDeque<String>) {
    if let Some(properties) = definition["properties"].as_object() {
        let required: Vec<_> = definition["required"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        text.push_str("| key | type | what it says |\n|---|---|---|\n");
        for (key, schema) in properties {
            let mark = if required.iter().any(|name| *name == key) {
                " *"
            } else {
                ""
            };
            let kind = type_of(schema, queue);
            let _ = writeln!(text, "| `{key}`{mark} | {kind} | {} |", cell(&told(schema)));
        }
        text.push('\n');
    }
    for choice in ["oneOf", "anyOf"] {
        let choices = definition[choice].as_array().into_iter().flatten();
        let lines: Vec<_> = choices.map(|choice| variant(choice, queue)).collect();
        if !lines.is_empty() {
            let _ = writeln!(text, "One of:\n\n{}", lines.concat());
        }
    }
}

/// One of the forms that a type has.
fn variant(choice: &Value, queue: &mut VecDeque<String>) -> String {
    let what = description(choice);
    let what = if what.is_empty() {
        what
    } else {
        format!(": {what}")
    };
    if let Some(name) = choice["const"].as_str() {
        return format!("- `{name}`{what}\n");
    }
    let mut text = format!("- {}{what}\n", type_of(choice, queue));
    for (key, schema) in choice["properties"].as_object().into_iter().flatten() {
        let _ = writeln!(
            text,
            "  - `{key}`: {}. {}",
            type_of(schema, queue),
            told(schema)
        );
    }
    text
}

/// The type of a value, with a link to its section.
fn type_of(schema: &Value, queue: &mut VecDeque<String>) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        queue.push_back(name.to_owned());
        let short = short(name);
        return format!("[{short}](#{})", short.to_lowercase());
    }
    if let Some(text) = schema["const"].as_str() {
        return format!("`{text}`");
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let choices = choices.iter().filter(|choice| choice["type"] != "null");
            let types: Vec<_> = choices.map(|choice| type_of(choice, queue)).collect();
            return types.join(" or ");
        }
    }
    let kinds: Vec<_> = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let kinds = kinds.into_iter().filter(|kind| *kind != "null");
    let names: Vec<_> = kinds.map(|kind| named(kind, schema, queue)).collect();
    match names.as_slice() {
        [] => "any".to_owned(),
        names => names.join(" or "),
    }
}

/// A type of JSON in words, with its bounds.
fn named(kind: &str, schema: &Value, queue: &mut VecDeque<String>) -> String {
    match kind {
        "array" => format!("list of {}", type_of(&schema["items"], queue)),
        "object" => match &schema["additionalProperties"] {
            values @ Value::Object(_) => format!("map to {}", type_of(values, queue)),
            _ => "object".to_owned(),
        },
        "string" => "text".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "integer" | "number" => match (&schema["minimum"], &schema["maximum"]) {
            (Value::Number(low), Value::Number(high)) => format!("number, {low} to {high}"),
            (Value::Number(low), _) if low.as_f64() != Some(0.0) => {
                format!("number, at least {low}")
            }
            _ => "number".to_owned(),
        },
        other => other.to_owned(),
    }
}

/// What is said of a value, with the default that the schema alone has.
fn told(schema: &Value) -> String {
    let mut text = description(schema);
    let default = &schema["default"];
    let is_empty = match default {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    if !is_empty && !text.contains("Default:") {
        let _ = write!(text, " Default: `{default}`.");
    }
    text
}

/// The description on one line.
fn description(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn short(name: &str) -> &str {
    name.strip_suffix("Spec").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_kinds_is_what_is_generated() {
        let written = include_str!("../../../../docs/resources.md");
        assert!(
            written == page(None),
            "docs/resources.md is not what is generated; run `just reference`"
        );
    }
}
