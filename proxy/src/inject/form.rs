//! `application/x-www-form-urlencoded`, field by field: removes fields and keeps every other byte
//! and the order of the fields.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

/// RFC 3986 unreserved characters stay as they are.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The form without the fields for which `remove` says so, by decoded name.
///
/// A server may take `;` for a separator too (as Python's did until 3.10), so a field that has
/// one is also judged by what follows it.
pub fn without(form: &[u8], remove: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut kept = Vec::with_capacity(form.len());
    for field in form.split(|byte| *byte == b'&') {
        if field
            .split(|byte| *byte == b';')
            .any(|part| remove(&name_of(part)))
        {
            continue;
        }
        if !kept.is_empty() {
            kept.push(b'&');
        }
        kept.extend_from_slice(field);
    }
    kept
}

/// Percent-encodes a name or value.
pub fn encode(text: &str) -> impl Iterator<Item = &str> {
    utf8_percent_encode(text, ENCODED)
}

/// The decoded name of a field. Names that servers take for the same are made the same: case is
/// kept, `+` is a space, surrounding white space and all from a NUL on are dropped as PHP does.
fn name_of(field: &[u8]) -> Cow<'_, str> {
    let raw = field.split(|byte| *byte == b'=').next().unwrap_or_default();
    if raw
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    {
        return String::from_utf8_lossy(raw);
    }
    let spaced: Vec<u8> = raw
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    let decoded: Vec<u8> = percent_decode(&spaced)
        .take_while(|byte| *byte != 0)
        .collect();
    Cow::Owned(String::from_utf8_lossy(&decoded).trim().to_owned())
}
