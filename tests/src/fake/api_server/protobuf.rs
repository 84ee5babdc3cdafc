//! What kubectl sends in Kubernetes' own binary form: it does so with what `kubectl create` makes by itself. Only the
//! kinds that tests make so are read; the numbers of fields are those of the API's `generated.proto`.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, header::CONTENT_TYPE};
use serde_json::{Map, Value, json};

use crate::fake::Received;

pub(super) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";

/// How a field of a message is written in JSON.
enum Form {
    Text,
    Number,
    Truth,
    /// A map of texts.
    Texts,
    /// A map of bytes, which JSON has as base64.
    Bytes,
    /// A list of texts.
    List,
    Message(Fields),
}

/// The fields of a message: number, name, form.
type Fields = &'static [(u64, &'static str, Form)];

const METADATA: Fields = &[
    (1, "name", Form::Text),
    (2, "generateName", Form::Text),
    (3, "namespace", Form::Text),
    (11, "labels", Form::Texts),
    (12, "annotations", Form::Texts),
];

const NAMESPACE: Fields = &[(1, "metadata", Form::Message(METADATA))];

const SECRET: Fields = &[
    (1, "metadata", Form::Message(METADATA)),
    (2, "data", Form::Bytes),
    (3, "type", Form::Text),
    (4, "stringData", Form::Texts),
    (5, "immutable", Form::Truth),
];

const TOKEN_REQUEST: Fields = &[
    (1, "metadata", Form::Message(METADATA)),
    (
        2,
        "spec",
        Form::Message(&[
            (1, "audiences", Form::List),
            (
                3,
                "boundObjectRef",
                Form::Message(&[
                    (1, "kind", Form::Text),
                    (2, "apiVersion", Form::Text),
                    (3, "name", Form::Text),
                    (4, "uid", Form::Text),
                ]),
            ),
            (4, "expirationSeconds", Form::Number),
        ]),
    ),
];

const TYPE: Fields = &[(1, "apiVersion", Form::Text), (2, "kind", Form::Text)];

/// The same request in JSON, if it is in this form and of a known kind.
pub(super) fn as_json(received: Arc<Received>) -> Arc<Received> {
    let is_binary = received
        .header("content-type")
        .is_some_and(|it| it.starts_with(MEDIA_TYPE));
    match object(&received.body).filter(|_| is_binary) {
        None => received,
        Some(object) => {
            let mut received = Received::clone(&received);
            received.body = Bytes::from(object.to_string());
            let json = HeaderValue::from_static("application/json");
            received.headers.insert(CONTENT_TYPE, json);
            Arc::new(received)
        }
    }
}

fn object(body: &[u8]) -> Option<Value> {
    let envelope = parts(body.strip_prefix(MAGIC)?)?;
    let within = |wanted: u64| {
        envelope.iter().find_map(|(number, part)| match part {
            Part::Bytes(bytes) if *number == wanted => Some(*bytes),
            _ => None,
        })
    };
    let kind = message(&parts(within(1)?)?, TYPE)?;
    let fields = match kind["kind"].as_str()? {
        "Namespace" => NAMESPACE,
        "Secret" => SECRET,
        "TokenRequest" => TOKEN_REQUEST,
        _ => return None,
    };
    let mut object = message(&parts(within(2)?)?, fields)?;
    object["apiVersion"] = kind["apiVersion"].clone();
    object["kind"] = kind["kind"].clone();
    Some(object)
}

enum Part<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// Whether nothing is said: texts and messages that are not set are written, too.
fn is_unset(part: &Part<'_>) -> bool {
    match part {
        Part::Number(number) => *number == 0,
        Part::Bytes(bytes) => {
            parts(bytes).is_some_and(|parts| parts.iter().all(|(_, part)| is_unset(part)))
        }
    }
}

/// The fields of a message, by number.
fn parts(mut bytes: &[u8]) -> Option<Vec<(u64, Part<'_>)>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let key = number(&mut bytes)?;
        let part = match key & 7 {
            0 => Part::Number(number(&mut bytes)?),
            2 => {
                let length = usize::try_from(number(&mut bytes)?).ok()?;
                let (part, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Part::Bytes(part)
            }
            _ => return None,
        };
        parts.push((key >> 3, part));
    }
    Some(parts)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn message(parts: &[(u64, Part<'_>)], fields: Fields) -> Option<Value> {
    let mut object = Map::new();
    for (number, part) in parts {
        let known = fields.iter().find(|(known, ..)| known == number);
        let Some((_, name, form)) = known else {
            if is_unset(part) {
                continue;
            }
            return None;
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        match (form, part) {
            // Texts that are not set are written empty.
            (Form::Text, Part::Bytes([])) => {}
            (Form::Text, Part::Bytes(bytes)) => {
                object.insert((*name).to_owned(), text(bytes)?.into());
            }
            (Form::Number, Part::Number(value)) => {
                object.insert((*name).to_owned(), json!(value));
            }
            (Form::Truth, Part::Number(value)) => {
                object.insert((*name).to_owned(), json!(*value == 1));
            }
            (Form::List, Part::Bytes(bytes)) => {
                let list = object.entry(*name).or_insert_with(|| json!([]));
                list.as_array_mut()?.push(text(bytes)?.into());
            }
            (Form::Texts | Form::Bytes, Part::Bytes(bytes)) => {
                let mut entry = (String::new(), String::new());
                for (number, part) in self::parts(bytes)? {
                    match (number, part) {
                        (1, Part::Bytes(key)) => entry.0 = text(key)?,
                        (2, Part::Bytes(value)) if matches!(form, Form::Bytes) => {
                            entry.1 = BASE64_STANDARD.encode(value);
                        }
                        (2, Part::Bytes(value)) => entry.1 = text(value)?,
                        _ => return None,
                    }
                }
                let map = object.entry(*name).or_insert_with(|| json!({}));
                map.as_object_mut()?.insert(entry.0, entry.1.into());
            }
            (Form::Message(fields), Part::Bytes(bytes)) => {
                let inner = message(&self::parts(bytes)?, fields)?;
                object.insert((*name).to_owned(), inner);
            }
            _ => return None,
        }
    }
    Some(Value::Object(object))
}
