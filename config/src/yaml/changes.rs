//! Which keys differ between two documents; not their values, which may be secret.

use std::collections::BTreeSet;

use super::{Document, Node, Value};

/// More keys than anybody reads.
const MOST: usize = 20;

/// The outermost keys whose values differ, such as `spec.upstream.roots`. What only looks different, such as
/// the order of keys or a comment, does not count.
pub(crate) fn keys(before: Option<&Document<'_>>, after: Option<&Document<'_>>) -> Vec<String> {
    let mut found = BTreeSet::new();
    match (before, after) {
        (Some(before), Some(after)) => compare("", &before.root, &after.root, &mut found),
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => {
            found.insert("all of it".to_owned());
        }
    }
    let more = found.len().saturating_sub(MOST);
    let mut keys: Vec<_> = found.into_iter().take(MOST).collect();
    if more > 0 {
        keys.push(format!("and {more} more"));
    }
    keys
}

fn compare(path: &str, before: &Node, after: &Node, found: &mut BTreeSet<String>) {
    match (&before.value, &after.value) {
        (Value::Map(one), Value::Map(other)) => {
            let names: BTreeSet<&str> = one
                .iter()
                .chain(other)
                .map(|(key, _)| key.text.as_str())
                .collect();
            for name in names {
                let path = match path {
                    "" => name.to_owned(),
                    outer => format!("{outer}.{name}"),
                };
                match (before.entry(name), after.entry(name)) {
                    (Some((_, one)), Some((_, other))) => compare(&path, one, other, found),
                    (None, None) => {}
                    (Some(_), None) | (None, Some(_)) => {
                        found.insert(path);
                    }
                }
            }
        }
        (Value::List(one), Value::List(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{path}[{index}]"), one, other, found);
            }
        }
        _ if same(&before.value, &after.value) => {}
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// Whether two values that hold no others are the same.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(one), Value::Bool(other)) => one == other,
        (Value::Integer(one), Value::Integer(other)) => one == other,
        (Value::Unsigned(one), Value::Unsigned(other)) => one == other,
        (Value::Float(one), Value::Float(other)) => one.total_cmp(other).is_eq(),
        (Value::Text(one), Value::Text(other)) => one == other,
        _ => false,
    }
}
