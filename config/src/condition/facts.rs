//! What a condition may look at, as CEL values.

use std::collections::HashMap;

use cel::{Value, objects::Key};
use jiff::Timestamp;
use percent_encoding::percent_decode;

use super::ConditionError;
use crate::policy::{CallerFacts, RequestFacts};

/// The longest query that is taken apart, in bytes.
const MAX_QUERY: usize = 8192;
/// The most fields of one.
const MAX_FIELDS: usize = 256;

type Fields = HashMap<Key, Value>;

pub(super) fn request(
    request: &RequestFacts<'_>,
    with_query: bool,
) -> Result<Value, ConditionError> {
    let mut fields = Fields::from([
        ("method".into(), request.method.as_str().into()),
        ("host".into(), request.host.to_string().into()),
        ("port".into(), Value::Int(request.port.into())),
        ("path".into(), request.path.as_str().into()),
    ]);
    if with_query {
        let query = query(request.path.query().unwrap_or_default())?;
        fields.insert("query".into(), query.into());
    }
    Ok(fields.into())
}

pub(super) fn caller(caller: &CallerFacts) -> Value {
    let mut fields = Fields::new();
    let mut put = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            fields.insert(name.into(), value.into());
        }
    };
    put("cluster", caller.cluster.as_deref());
    put("namespace", caller.namespace.as_deref());
    put("serviceAccount", caller.service_account.as_deref());
    put("spiffeId", caller.spiffe_id.as_deref());
    put("pod", caller.pod.as_deref());
    if let Some(pod) = &caller.kubernetes {
        put("cronJob", pod.cron_job.as_deref());
        let labels: Fields = pod
            .labels
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
            .collect();
        fields.insert("labels".into(), labels.into());
    }
    fields.into()
}

pub(super) fn timestamp(now: Timestamp) -> Result<Value, ConditionError> {
    // A sub-second part of a moment before 1970 is negative in jiff, never in chrono.
    let nanoseconds = now.subsec_nanosecond().rem_euclid(1_000_000_000);
    let seconds = now.as_second() - i64::from(now.subsec_nanosecond() < 0);
    u32::try_from(nanoseconds)
        .ok()
        .and_then(|nanoseconds| chrono::DateTime::from_timestamp(seconds, nanoseconds))
        .map(|moment| Value::Timestamp(moment.fixed_offset()))
        .ok_or_else(|| ConditionError::new("the time is out of range"))
}

/// The query's fields, decoded as in a form.
///
/// Servers differ in how they read a query, and a caller might use that to show us one thing and
/// the server another. So what is ambiguous is made to fail where a text is expected: a field
/// that repeats is a list (servers differ in which one counts), and a field in a spelling that
/// some servers fold (`limit[]`, `limit[0]` and, in PHP, a leading space and `.` for `_`) is
/// there under its own name, and as a list under the name it may be folded to. A `;`, which is
/// a separator to some, and control characters in a name are errors.
fn query(raw: &str) -> Result<Fields, ConditionError> {
    if raw.len() > MAX_QUERY {
        return Err(ConditionError::new("the query is longer than 8,192 bytes"));
    }
    if raw.contains(';') {
        return Err(ConditionError::new(
            "the query has a `;`, which some servers take for `&`",
        ));
    }
    let mut fields: HashMap<String, Field> = HashMap::new();
    let parts = raw.split('&').filter(|part| !part.is_empty());
    for (count, part) in parts.enumerate() {
        if count == MAX_FIELDS {
            return Err(ConditionError::new("the query has more than 256 fields"));
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        if name.chars().any(char::is_control) {
            return Err(ConditionError::new(
                "the name of a query field has a control character",
            ));
        }
        let folded = fold(&name);
        if folded != name {
            let field = fields.entry(folded).or_default();
            field.ambiguous = true;
            field.values.push(value.as_str().into());
        }
        fields.entry(name).or_default().values.push(value.into());
    }
    Ok(fields
        .into_iter()
        .map(|(name, field)| (name.into(), field.into_value()))
        .collect())
}

/// What was sent under one name.
#[derive(Default)]
struct Field {
    values: Vec<Value>,
    /// Whether some of it came under another spelling.
    ambiguous: bool,
}

impl Field {
    fn into_value(mut self) -> Value {
        if self.values.len() == 1
            && !self.ambiguous
            && let Some(only) = self.values.pop()
        {
            return only;
        }
        self.values.into()
    }
}

/// The name that lenient servers take this one for.
fn fold(name: &str) -> String {
    let base = name.trim_start();
    let base = base.find('[').map_or(base, |bracket| &base[..bracket]);
    base.replace(['.', ' '], "_")
}

fn decode(text: &str) -> Result<String, ConditionError> {
    let spaced = text.replace('+', " ");
    percent_decode(spaced.as_bytes())
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| ConditionError::new("the query is not UTF-8"))
}
