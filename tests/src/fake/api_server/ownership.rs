//! Who owns which field of an object after a write; and what an apply changes.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    failure::Failure,
    fields::{self, Manager, Paths},
    kinds::Kind,
    text,
};

/// The entries of `managedFields`, with their paths.
type Entries = Vec<(Manager, Paths)>;

fn entries(object: &Value) -> Entries {
    let list = object["metadata"]["managedFields"].as_array();
    let list = list.map(Vec::as_slice).unwrap_or_default().iter();
    let entry = |entry: &Value| {
        let operation = if entry["operation"] == "Apply" {
            "Apply"
        } else {
            "Update"
        };
        let manager = Manager {
            name: text(&entry["manager"]),
            api_version: text(&entry["apiVersion"]),
            operation,
            subresource: text(&entry["subresource"]),
            time: text(&entry["time"]),
        };
        (manager, fields::of_fields(&entry["fieldsV1"]))
    };
    list.map(entry).collect()
}

fn set_entries(object: &mut Value, entries: Entries) {
    let list = entries.into_iter().filter(|(_, paths)| !paths.is_empty());
    let list = list.map(|(manager, paths)| {
        let mut entry = json!({
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "time": manager.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields::to_fields(&paths),
        });
        if !manager.subresource.is_empty() {
            entry["subresource"] = manager.subresource.into();
        }
        entry
    });
    object["metadata"]["managedFields"] = list.collect();
}

fn is_same(one: &Manager, other: &Manager) -> bool {
    one.name == other.name
        && one.operation == other.operation
        && one.subresource == other.subresource
}

/// Records that a manager wrote an object other than by apply: it owns what changed.
pub(super) fn updated(kind: &Kind, before: Option<&Value>, after: &mut Value, manager: &Manager) {
    let mut entries = before.map(entries).unwrap_or_default();
    let none = Value::Null;
    let old = before.unwrap_or(&none);
    let now = fields::paths(kind, after, &manager.subresource);
    let changed: Paths = now
        .iter()
        .filter(|path| fields::at(old, path) != fields::at(after, path))
        .cloned()
        .collect();
    for (_, paths) in &mut entries {
        let object = &*after;
        paths.retain(|path| !changed.contains(path) && fields::at(object, path).is_some());
    }
    if !changed.is_empty() {
        match entries
            .iter_mut()
            .find(|(known, _)| is_same(known, manager))
        {
            Some((known, paths)) => {
                known.time.clone_from(&manager.time);
                paths.extend(changed);
            }
            None => entries.push((manager.clone(), changed)),
        }
    }
    set_entries(after, entries);
}

/// The object after an apply.
pub(super) fn applied(
    kind: &Kind,
    live: Option<&Value>,
    config: &Value,
    manager: &Manager,
    force: bool,
) -> Result<Value, Failure> {
    let mut entries = live.map(entries).unwrap_or_default();
    let wanted = fields::paths(kind, config, &manager.subresource);
    let mut result = live.cloned().unwrap_or_else(|| json!({}));
    let mut conflicts = Vec::new();
    for (other, owned) in &mut entries {
        if is_same(other, manager) {
            continue;
        }
        let lost: Vec<_> = owned
            .iter()
            .filter(|path| {
                let touches =
                    |mine: &&fields::Path| mine.starts_with(path) || path.starts_with(mine);
                wanted.iter().filter(touches).any(|mine| {
                    let shorter = if mine.len() < path.len() { mine } else { *path };
                    fields::at(&result, shorter) != fields::at(config, shorter)
                })
            })
            .cloned()
            .collect();
        for path in lost {
            owned.remove(&path);
            conflicts.push((other.clone(), fields::written(&path)));
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }
    // What it applied before and no longer does goes, unless others want it too.
    if let Some((_, before)) = entries.iter().find(|(known, _)| is_same(known, manager)) {
        let others: Paths = entries
            .iter()
            .filter(|(other, _)| !is_same(other, manager))
            .flat_map(|(_, paths)| paths.clone())
            .collect();
        let gone: Vec<_> = before.difference(&wanted).cloned().collect();
        for path in gone.iter().filter(|path| !others.contains(*path)) {
            fields::remove(&mut result, path);
        }
    }
    let mut config = config.clone();
    if manager.subresource == "status" {
        config = json!({"status": config["status"]});
    } else if let (true, Some(config)) = (kind.has("status"), config.as_object_mut()) {
        config.remove("status");
    }
    fields::merge(kind, &mut result, &config, &mut Vec::new());
    entries.retain(|(known, _)| !is_same(known, manager));
    entries.push((manager.clone(), wanted));
    set_entries(&mut result, entries);
    Ok(result)
}

fn conflict(conflicts: &[(Manager, String)]) -> Failure {
    let with = |(manager, _): &(Manager, String)| match manager.operation {
        "Apply" => format!("conflict with \"{}\"", manager.name),
        _ => format!(
            "conflict with \"{}\" using {}",
            manager.name, manager.api_version
        ),
    };
    let message = match conflicts {
        [one] => format!("Apply failed with 1 conflict: {}: {}", with(one), one.1),
        all => {
            let lines = all.iter().map(|one| format!("{}: {}", with(one), one.1));
            let lines = lines.collect::<Vec<_>>().join("\n- ");
            format!("Apply failed with {} conflicts: {lines}", all.len())
        }
    };
    let causes = conflicts
        .iter()
        .map(|one| json!({"reason": "FieldManagerConflict", "message": with(one), "field": one.1}));
    Failure::new(StatusCode::CONFLICT, "Conflict", &message)
        .with_details(json!({"causes": causes.collect::<Vec<_>>()}))
}
