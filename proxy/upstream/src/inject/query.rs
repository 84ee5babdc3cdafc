//! Query strings, field by field; all other bytes are kept.

use countersign_config::path::CanonicalPath;
use http::uri::PathAndQuery;

use super::form;

/// The path and query without the fields that `remove` selects, by decoded name.
pub(super) fn without(path: &CanonicalPath, remove: impl Fn(&str) -> bool) -> PathAndQuery {
    let Some(query) = path.query() else {
        return path.path_and_query().clone();
    };
    let kept = form::without(query.as_bytes(), remove);
    let kept = String::from_utf8_lossy(&kept);
    join(path.as_str(), &kept)
}

/// The target with one more query field; name and value are percent-encoded.
pub(super) fn with(target: &PathAndQuery, name: &str, value: &str) -> PathAndQuery {
    let mut query = target.query().unwrap_or_default().to_owned();
    if !query.is_empty() {
        query.push('&');
    }
    query.extend(form::encode(name));
    query.push('=');
    query.extend(form::encode(value));
    join(target.path(), &query)
}

/// Parts of a valid target, or percent-encoded ones, make a valid target.
fn join(path: &str, query: &str) -> PathAndQuery {
    let text = if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    };
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(text))
        .expect("parts of a valid target and percent-encoded text are a valid target")
}
