//! Field ownership: which manager of an object set which of its fields, in the form of `managedFields`,
//! and server-side apply.
//!
//! Ownership is of leaves. Lists that are known to be maps or sets are merged by item; all others are
//! owned whole.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::kinds::Kind;

/// A path of steps as `FieldsV1` writes them: `f:name`, `k:{"type":"Ready"}`, `v:"value"`.
pub(super) type Path = Vec<String>;
pub(super) type Paths = BTreeSet<Path>;

/// Who writes, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) api_version: String,
    /// `Apply` or `Update`.
    pub(super) operation: &'static str,
    pub(super) subresource: String,
    pub(super) time: String,
}

/// How the items of a list are told apart.
enum Items {
    Whole,
    Set,
    By(Vec<String>),
}

/// The parts of the metadata that belong to the server.
const SYSTEM: [&str; 10] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];

fn items(kind: &Kind, path: &[String]) -> Items {
    let last = path.last().map(String::as_str).unwrap_or_default();
    match last {
        "f:finalizers" => return Items::Set,
        "f:ownerReferences" => return Items::By(vec!["uid".to_owned()]),
        _ => {}
    }
    if kind.is_custom() {
        return in_schema(kind, path);
    }
    let by = |keys: &[&str]| Items::By(keys.iter().map(|&key| key.to_owned()).collect());
    match last {
        "f:conditions" => by(&["type"]),
        "f:containers" | "f:initContainers" | "f:ephemeralContainers" | "f:volumes" | "f:env" => {
            by(&["name"])
        }
        "f:ports" => by(&["containerPort", "protocol"]),
        "f:volumeMounts" => by(&["mountPath"]),
        "f:imagePullSecrets" | "f:webhooks" => by(&["name"]),
        _ => Items::Whole,
    }
}

fn in_schema(kind: &Kind, path: &[String]) -> Items {
    let mut schema = &kind.custom["schema"]["openAPIV3Schema"];
    for step in path {
        schema = match step.strip_prefix("f:") {
            Some(name) if !schema["properties"][name].is_null() => &schema["properties"][name],
            Some(_) => &schema["additionalProperties"],
            None => &schema["items"],
        };
    }
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Items::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array();
            let keys = keys.map(Vec::as_slice).unwrap_or_default().iter();
            Items::By(keys.map(super::text).collect())
        }
        _ => Items::Whole,
    }
}

fn key_step(item: &Value, keys: &[String]) -> String {
    let named: Map<String, Value> = keys
        .iter()
        .filter(|key| !item[key.as_str()].is_null())
        .map(|key| (key.clone(), item[key.as_str()].clone()))
        .collect();
    format!("k:{}", Value::Object(named))
}

/// The leaves of an object that can be owned: of its status alone, or of the rest.
pub(super) fn paths(kind: &Kind, object: &Value, subresource: &str) -> Paths {
    let mut found = Paths::new();
    let separate = kind.has("status");
    for (name, value) in object.as_object().into_iter().flatten() {
        let wanted = match name.as_str() {
            "apiVersion" | "kind" => false,
            "status" => !separate || subresource == "status",
            _ => subresource != "status",
        };
        if !wanted {
            continue;
        }
        if name == "metadata" {
            for (field, value) in value.as_object().into_iter().flatten() {
                if !SYSTEM.contains(&field.as_str()) {
                    let path = vec!["f:metadata".to_owned(), format!("f:{field}")];
                    collect(kind, value, path, &mut found);
                }
            }
        } else {
            collect(kind, value, vec![format!("f:{name}")], &mut found);
        }
    }
    found
}

fn collect(kind: &Kind, value: &Value, path: Path, found: &mut Paths) {
    let child = |step: String| {
        let mut path = path.clone();
        path.push(step);
        path
    };
    match value {
        Value::Null => {}
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                collect(kind, value, child(format!("f:{name}")), found);
            }
        }
        Value::Array(list) if !list.is_empty() => match items(kind, &path) {
            Items::Whole => {
                found.insert(path);
            }
            Items::Set => found.extend(list.iter().map(|item| child(format!("v:{item}")))),
            Items::By(keys) => {
                for item in list {
                    collect(kind, item, child(key_step(item, &keys)), found);
                }
            }
        },
        _ => {
            found.insert(path);
        }
    }
}

/// The value at a path.
pub(super) fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, step| {
        if let Some(name) = step.strip_prefix("f:") {
            return value.get(name);
        }
        let list = value.as_array()?;
        list.iter().find(|item| is_item(item, step))
    })
}

fn is_item(item: &Value, step: &str) -> bool {
    if let Some(text) = step.strip_prefix("v:") {
        return serde_json::from_str(text).is_ok_and(|value: Value| value == *item);
    }
    let keys: Value = serde_json::from_str(step.trim_start_matches("k:")).unwrap_or_default();
    let keys = keys.as_object();
    keys.is_some_and(|keys| keys.iter().all(|(key, value)| item[key] == *value))
}

/// Takes away what is at a path, and what is empty then.
pub(super) fn remove(object: &mut Value, path: &[String]) {
    let [step, rest @ ..] = path else {
        return;
    };
    let is_empty = |value: &Value| match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    if let (Some(name), Some(fields)) = (step.strip_prefix("f:"), object.as_object_mut()) {
        if let Some(value) = fields.get_mut(name) {
            remove(value, rest);
            if rest.is_empty() || is_empty(value) {
                fields.remove(name);
            }
        }
        return;
    }
    let Some(list) = object.as_array_mut() else {
        return;
    };
    let Some(index) = list.iter().position(|item| is_item(item, step)) else {
        return;
    };
    remove(&mut list[index], rest);
    // An item of which only the key is left is gone.
    let only_key = !rest.is_empty() && step.starts_with("k:") && {
        let keys: Value = serde_json::from_str(&step[2..]).unwrap_or_default();
        list[index] == keys
    };
    if rest.is_empty() || only_key || is_empty(&list[index]) {
        list.remove(index);
    }
}

/// Puts what is applied over what is there.
pub(super) fn merge(kind: &Kind, live: &mut Value, applied: &Value, path: &mut Path) {
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) => {
            for (name, value) in applied {
                path.push(format!("f:{name}"));
                merge(
                    kind,
                    live.entry(name.clone()).or_insert(Value::Null),
                    value,
                    path,
                );
                path.pop();
            }
        }
        (Value::Array(live), Value::Array(applied)) => match items(kind, path) {
            Items::Whole => live.clone_from(applied),
            Items::Set => {
                for item in applied {
                    if !live.contains(item) {
                        live.push(item.clone());
                    }
                }
            }
            Items::By(keys) => {
                for item in applied {
                    let step = key_step(item, &keys);
                    match live.iter_mut().find(|known| is_item(known, &step)) {
                        Some(known) => {
                            path.push(step);
                            merge(kind, known, item, path);
                            path.pop();
                        }
                        None => live.push(item.clone()),
                    }
                }
            }
        },
        (live, applied) => *live = applied.clone(),
    }
}

/// `FieldsV1` of a set of paths.
pub(super) fn to_fields(paths: &Paths) -> Value {
    let mut root = json!({});
    for path in paths {
        let mut at = &mut root;
        for step in path {
            if !at[step].is_object() {
                at[step] = json!({});
            }
            at = &mut at[step];
        }
    }
    root
}

/// The leaves of `FieldsV1`.
pub(super) fn of_fields(fields: &Value) -> Paths {
    fn walk(fields: &Value, path: &mut Path, found: &mut Paths) {
        let entries = fields.as_object().into_iter().flatten();
        let mut leaf = true;
        for (step, below) in entries.filter(|(step, _)| *step != ".") {
            leaf = false;
            path.push(step.clone());
            walk(below, path, found);
            path.pop();
        }
        if leaf && !path.is_empty() {
            found.insert(path.clone());
        }
    }
    let mut found = Paths::new();
    walk(fields, &mut Path::new(), &mut found);
    found
}

/// `.data.key`, `.status.conditions[type="Ready"]`: as conflicts name a field.
pub(super) fn written(path: &[String]) -> String {
    let mut text = String::new();
    for step in path {
        if let Some(name) = step.strip_prefix("f:") {
            text.push('.');
            text.push_str(name);
        } else if let Some(value) = step.strip_prefix("v:") {
            text = format!("{text}[={value}]");
        } else {
            let keys: Value = serde_json::from_str(&step[2..]).unwrap_or_default();
            let keys = keys.as_object().into_iter().flatten();
            let keys: Vec<String> = keys.map(|(key, value)| format!("{key}={value}")).collect();
            text = format!("{text}[{}]", keys.join(","));
        }
    }
    text
}
