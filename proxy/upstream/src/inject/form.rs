//! `application/x-www-form-urlencoded`, field by field: removes fields and keeps all other bytes and their
//! order.

use countersign_config::fields::{decode, fold};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// RFC 3986 unreserved characters stay as they are.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The form without the fields that `remove` selects, by decoded and folded name.
///
/// A server may treat `;` as a separator too (as Python's did until 3.10), so a field that contains one is
/// also checked by what follows it.
pub fn without(form: &[u8], remove: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut kept = Vec::with_capacity(form.len());
    for field in form.split(|byte| *byte == b'&') {
        if names(field).any(|name| remove(&fold(&decode(name)))) {
            continue;
        }
        if !kept.is_empty() {
            kept.push(b'&');
        }
        kept.extend_from_slice(field);
    }
    kept
}

/// The names of all fields, as they are written.
pub fn all_names(form: &[u8]) -> impl Iterator<Item = &[u8]> {
    form.split(|byte| *byte == b'&').flat_map(names)
}

fn names(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let parts = field.split(|byte| *byte == b';');
    parts.map(|part| part.split(|byte| *byte == b'=').next().unwrap_or_default())
}

/// A name as [`without`] compares it.
pub fn folded(name: &str) -> String {
    fold(name.as_bytes()).into_owned()
}

/// Percent-encodes a name or value.
pub fn encode(text: &str) -> impl Iterator<Item = &str> {
    utf8_percent_encode(text, ENCODED)
}
