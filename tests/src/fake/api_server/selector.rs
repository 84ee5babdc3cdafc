//! Label and field selectors of lists and watches, as the API server reads them.

use serde_json::Value;

use super::{failure::Failure, kinds::Kind, request::Query};

/// What of a collection is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    labels: Vec<Term>,
    /// Field, whether it must be equal, value.
    fields: Vec<(String, bool, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    pub(super) fn of(query: &Query, kind: &Kind) -> Result<Self, Failure> {
        let labels = query.get("labelSelector").map(labels).transpose()?;
        let fields = query.get("fieldSelector").map(|text| fields(text, kind));
        Ok(Self {
            labels: labels.unwrap_or_default(),
            fields: fields.transpose()?.unwrap_or_default(),
        })
    }

    /// Of a `LabelSelector` in an object, such as a webhook's.
    pub(super) fn of_object(selector: &Value) -> Self {
        let empty = serde_json::Map::new();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let equal = selector["matchLabels"].as_object().unwrap_or(&empty);
        let mut terms: Vec<Term> = equal
            .iter()
            .map(|(key, value)| Term::In(key.clone(), vec![text(value)]))
            .collect();
        for expression in selector["matchExpressions"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let key = text(&expression["key"]);
            let values = expression["values"].as_array().map(Vec::as_slice);
            let values = values.unwrap_or_default().iter().map(text).collect();
            terms.push(match expression["operator"].as_str().unwrap_or_default() {
                "In" => Term::In(key, values),
                "NotIn" => Term::NotIn(key, values),
                "Exists" => Term::Exists(key),
                _ => Term::Absent(key),
            });
        }
        Self {
            labels: terms,
            fields: Vec::new(),
        }
    }

    /// The same, of one object alone.
    pub(super) fn named(mut self, name: &str) -> Self {
        self.fields
            .push(("metadata.name".to_owned(), true, name.to_owned()));
        self
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = |key: &String| labels[key].as_str();
        let term = |term: &Term| match term {
            Term::In(key, values) => {
                label(key).is_some_and(|value| values.iter().any(|wanted| wanted == value))
            }
            Term::NotIn(key, values) => {
                label(key).is_none_or(|value| values.iter().all(|wanted| wanted != value))
            }
            Term::Exists(key) => label(key).is_some(),
            Term::Absent(key) => label(key).is_none(),
        };
        let field = |(path, equal, wanted): &(String, bool, String)| {
            let value = path.split('.').fold(object, |value, key| &value[key]);
            (value.as_str().unwrap_or_default() == wanted) == *equal
        };
        self.labels.iter().all(term) && self.fields.iter().all(field)
    }
}

fn labels(text: &str) -> Result<Vec<Term>, Failure> {
    let bad = || {
        let message = format!("unable to parse requirement: {text:?} is no label selector");
        Failure::bad_request(&message)
    };
    let list = |text: &str| -> Option<Vec<String>> {
        let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(
            inner
                .split(',')
                .map(|value| value.trim().to_owned())
                .collect(),
        )
    };
    let mut terms = Vec::new();
    for part in split_outside_parentheses(text) {
        let part = part.trim();
        let term = if let Some((key, values)) = part.split_once(" notin ") {
            Term::NotIn(key.trim().to_owned(), list(values).ok_or_else(bad)?)
        } else if let Some((key, values)) = part.split_once(" in ") {
            Term::In(key.trim().to_owned(), list(values).ok_or_else(bad)?)
        } else if let Some((key, value)) = part.split_once("!=") {
            Term::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()])
        } else if let Some((key, value)) = part.split_once('=') {
            let value = value.trim_start_matches('=').trim();
            Term::In(key.trim().to_owned(), vec![value.to_owned()])
        } else if let Some(key) = part.strip_prefix('!') {
            Term::Absent(key.trim().to_owned())
        } else if part.is_empty() || part.contains(' ') {
            return Err(bad());
        } else {
            Term::Exists(part.to_owned())
        };
        terms.push(term);
    }
    Ok(terms)
}

fn split_outside_parentheses(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_u32;
    for char in text.chars() {
        match char {
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(char);
        }
    }
    parts
}

/// The fields that each kind can be selected by, besides name and namespace.
fn selectable(kind: &Kind) -> Vec<String> {
    let known: &[&str] = match (kind.group.as_str(), kind.resource.as_str()) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "secrets") => &["type"],
        ("", "namespaces") => &["status.phase"],
        ("certificates.k8s.io", "certificatesigningrequests") => &["spec.signerName"],
        _ => &[],
    };
    let custom = kind.custom["selectableFields"].as_array();
    let custom = custom.map(Vec::as_slice).unwrap_or_default().iter();
    let custom = custom.filter_map(|field| field["jsonPath"].as_str());
    let custom = custom.map(|path| path.trim_start_matches('.').to_owned());
    let always = ["metadata.name", "metadata.namespace"];
    always
        .iter()
        .chain(known)
        .map(|&field| field.to_owned())
        .chain(custom)
        .collect()
}

fn fields(text: &str, kind: &Kind) -> Result<Vec<(String, bool, String)>, Failure> {
    let mut fields = Vec::new();
    for term in text.split(',') {
        let (field, equal, value) = if let Some((field, value)) = term.split_once("!=") {
            (field, false, value)
        } else if let Some((field, value)) = term.split_once('=') {
            (field, true, value.trim_start_matches('='))
        } else {
            let message = format!("invalid field selector: {term}");
            return Err(Failure::bad_request(&message));
        };
        if !selectable(kind).iter().any(|known| known == field) {
            let version = kind.api_version();
            let version = if kind.group.is_empty() {
                format!("/{version}")
            } else {
                version
            };
            let message = format!(
                "Unable to find \"{version}, Resource={}\" that match label selector \"\", field \
                 selector \"{text}\": field label not supported: {field}",
                kind.resource
            );
            return Err(Failure::bad_request(&message));
        }
        fields.push((field.to_owned(), equal, value.to_owned()));
    }
    Ok(fields)
}
