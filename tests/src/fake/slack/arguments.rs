//! A method's arguments: from the query, a form or a JSON body.

use serde_json::Value;

use crate::fake::Received;

/// The arguments of one call. A later place wins: query, then body.
pub(super) struct Arguments(Vec<(String, String)>);

impl Arguments {
    pub(super) fn of(received: &Received) -> Self {
        let mut fields = received.query_fields();
        fields.extend(received.form());
        if received.media_type() == "application/json"
            && let Some(Value::Object(members)) = received.json()
        {
            fields.extend(members.into_iter().map(|(name, value)| match value {
                Value::String(text) => (name, text),
                other => (name, other.to_string()),
            }));
        }
        if let Some(fields_of_form) = multipart_fields(received) {
            fields.extend(fields_of_form);
        }
        Self(fields)
    }

    /// An argument that is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find_map(|(key, value)| (key == name && !value.is_empty()).then_some(value.as_str()))
    }

    /// A number; an error if it is something else.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, &'static str> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| "invalid_arguments"),
        }
    }
}

/// The plain fields of a small multipart form, whose sizes the server counted already.
fn multipart_fields(received: &Received) -> Option<Vec<(String, String)>> {
    let parts = received.parts.as_ref()?;
    let text = String::from_utf8_lossy(&received.body);
    let mut rest = &*text;
    let mut fields = Vec::new();
    for part in parts {
        let start = rest.find("\r\n\r\n")? + 4;
        let end = start + usize::try_from(part.length).ok()?;
        let content = rest.get(start..end)?;
        if part.filename.is_none() {
            fields.push((part.name.clone(), content.to_owned()));
        }
        rest = &rest[end..];
    }
    Some(fields)
}
