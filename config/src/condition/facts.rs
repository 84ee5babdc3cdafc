//! The values that a condition can read, as CEL values.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use cel::{Value, objects::Key};
use jiff::Timestamp;

use super::{ConditionError, bounds::Reads};
use crate::{
    facts::{CallerFacts, RequestFacts},
    fields::{decode, fold},
};

/// The longest query that is parsed, in bytes.
const MAX_QUERY: usize = 8192;
/// The most fields of a query.
const MAX_FIELDS: usize = 256;

type Fields = HashMap<Key, Value>;

pub(super) fn request(
    request: &RequestFacts<'_>,
    query_reads: Option<&Reads>,
) -> Result<Value, ConditionError> {
    let mut fields = Fields::from([
        ("method".into(), request.method.as_str().into()),
        ("host".into(), request.host.to_string().into()),
        ("port".into(), Value::Int(request.port.into())),
        ("path".into(), request.path.as_str().into()),
    ]);
    if let Some(reads) = query_reads {
        let query = query(request.path.query().unwrap_or_default(), reads)?;
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
    // The sub-second part of a time before 1970 is negative in jiff, never in chrono.
    let nanoseconds = now.subsec_nanosecond().rem_euclid(1_000_000_000);
    let seconds = now.as_second() - i64::from(now.subsec_nanosecond() < 0);
    u32::try_from(nanoseconds)
        .ok()
        .and_then(|nanoseconds| chrono::DateTime::from_timestamp(seconds, nanoseconds))
        .map(|moment| Value::Timestamp(moment.fixed_offset()))
        .ok_or_else(|| ConditionError::new("the time is out of range"))
}

/// The query's fields, decoded as in a form. If it is known which fields the expression reads, only
/// these.
///
/// Servers parse queries differently, and a caller could use this to show one value to us and another to
/// the server. A repeated field is a list, because servers differ in which one counts; a list fails
/// where a text is expected. A field that is read must have exactly the spelling that the expression
/// uses. Another spelling that some server takes for the same field ([`fold`]) is an error, and so is a
/// `;` before or after it, which some servers treat as a separator.
fn query(raw: &str, reads: &Reads) -> Result<Fields, ConditionError> {
    if raw.len() > MAX_QUERY {
        return Err(ConditionError::new("the query is longer than 8,192 bytes"));
    }
    let read: BTreeMap<Cow<'_, str>, &str> = reads
        .names
        .iter()
        .map(|name| (fold(name.as_bytes()), name.as_str()))
        .collect();
    let mut seen: HashMap<String, Field> = HashMap::new();
    let parts = raw.split('&').filter(|part| !part.is_empty());
    for (count, part) in parts.enumerate() {
        if count == MAX_FIELDS {
            return Err(ConditionError::new("the query has more than 256 fields"));
        }
        let names = part.split(';').map(|part| name_of(part));
        for (index, name) in names.enumerate() {
            let folded = fold(&name);
            if read.contains_key(&folded) && (index > 0 || part.contains(';')) {
                return Err(ambiguous(&folded, &read));
            }
        }
        let name = name_of(part);
        let folded = fold(&name);
        if !reads.any && !read.contains_key(&folded) {
            continue;
        }
        let (name, value) = (text(&name)?, text(&value_of(part))?);
        if read
            .get(&folded)
            .is_some_and(|_| !reads.names.contains(&name))
        {
            return Err(ambiguous(&folded, &read));
        }
        let field = seen.entry(folded.into_owned()).or_default();
        if field.name.get_or_insert_with(|| name.clone()) != &name {
            return Err(ambiguous_name());
        }
        field.values.push(value.into());
    }
    Ok(seen.into_values().filter_map(Field::into_entry).collect())
}

/// The values sent under one name.
#[derive(Default)]
struct Field {
    name: Option<String>,
    values: Vec<Value>,
}

impl Field {
    fn into_entry(mut self) -> Option<(Key, Value)> {
        let value = if self.values.len() == 1 {
            self.values.pop()?
        } else {
            self.values.into()
        };
        Some((self.name?.into(), value))
    }
}

/// The message has the policy's own spelling, never the request's.
fn ambiguous(folded: &str, read: &BTreeMap<Cow<'_, str>, &str>) -> ConditionError {
    match read.get(folded) {
        Some(name) => ConditionError(format!(
            "the query has `{name}` in a form that servers read differently"
        )),
        None => ambiguous_name(),
    }
}

fn ambiguous_name() -> ConditionError {
    ConditionError::new("the query has one field in several spellings")
}

fn name_of(part: &str) -> Cow<'_, [u8]> {
    decode(part.split('=').next().unwrap_or_default().as_bytes())
}

fn value_of(part: &str) -> Cow<'_, [u8]> {
    let value = part.split_once('=').map_or("", |(_, value)| value);
    decode(value.as_bytes())
}

fn text(decoded: &[u8]) -> Result<String, ConditionError> {
    String::from_utf8(decoded.to_vec()).map_err(|_| ConditionError::new("the query is not UTF-8"))
}
