//! An object as the tree that the reader reads. It has no lines: every value is numbered in their place, and the
//! number of a finding gives its path.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::yaml::{Key, Node, Value};

/// The tree of a document.
pub(crate) fn to_node(document: &Json) -> Node {
    node(document, &mut 0)
}

fn node(value: &Json, last: &mut usize) -> Node {
    *last += 1;
    let line = *last;
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number
            .as_i64()
            .map(Value::Integer)
            .or_else(|| number.as_u64().map(Value::Unsigned))
            .unwrap_or_else(|| Value::Float(number.as_f64().unwrap_or_default())),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(|item| node(item, last)).collect()),
        Json::Object(members) => Value::Map(
            members
                .iter()
                .map(|(name, value)| {
                    let value = node(value, last);
                    let key = Key {
                        text: name.clone(),
                        line: value.line,
                        column: 1,
                        width: 1,
                    };
                    (key, value)
                })
                .collect(),
        ),
    };
    Node::new(value, line, 1, 1)
}

/// The path of the value with this number, such as `spec.allow[0].methods[1]`; empty for the whole document.
pub(crate) fn path_at(document: &Json, number: usize) -> String {
    let mut path = String::new();
    descend(document, number, &mut 0, &mut path);
    path
}

/// Whether the value, or one below it, has the number; then the path leads there.
fn descend(value: &Json, number: usize, last: &mut usize, path: &mut String) -> bool {
    *last += 1;
    if *last == number {
        return true;
    }
    let length = path.len();
    match value {
        Json::Array(items) => items.iter().enumerate().any(|(index, item)| {
            write!(path, "[{index}]").expect("a text takes everything");
            let found = descend(item, number, last, path);
            if !found {
                path.truncate(length);
            }
            found
        }),
        Json::Object(members) => members.iter().any(|(name, value)| {
            step(name, path);
            let found = descend(value, number, last, path);
            if !found {
                path.truncate(length);
            }
            found
        }),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}

/// A key, as `kubectl explain` and the API server's own messages write it.
fn step(name: &str, path: &mut String) {
    let is_plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if !is_plain {
        write!(path, "[{name:?}]").expect("a text takes everything");
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_number_leads_to_its_value() {
        let document = json!({ "spec": {
            "allow": [{ "methods": ["GET", "get"] }, {}],
            "labels": { "a/b": "c" },
        }});
        let tree = to_node(&document);
        let (_, spec) = tree.entry("spec").unwrap();
        let (_, allow) = spec.entry("allow").unwrap();
        let (key, methods) = allow.item(0).unwrap().entry("methods").unwrap();
        let path = |node: &Node| path_at(&document, node.line);
        assert_eq!(path(&tree), "");
        assert_eq!(path(methods.item(1).unwrap()), "spec.allow[0].methods[1]");
        assert_eq!(path_at(&document, key.line), "spec.allow[0].methods");
        assert_eq!(path(allow.item(1).unwrap()), "spec.allow[1]");
        let (_, labels) = spec.entry("labels").unwrap();
        assert_eq!(path(labels.entry("a/b").unwrap().1), "spec.labels[\"a/b\"]");
    }
}
