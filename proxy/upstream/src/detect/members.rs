//! The top-level members of a JSON object that may be incomplete.
//!
//! A parser needs the whole document; this one works with the bytes so far, and skips nested values. It
//! checks only what it needs to find the members, whose values are then parsed by the caller.

/// The state of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// More members may follow.
    Open,
    /// It ended.
    Closed,
    /// It is not an object.
    NotAnObject,
}

/// Calls back for every complete top-level member, with its name and value as they are written.
pub(super) fn top_level<'j>(
    json: &'j [u8],
    mut member: impl FnMut(&'j [u8], &'j [u8]),
) -> Progress {
    let mut at = blank(json, 0);
    match json.get(at) {
        None => return Progress::Open,
        Some(b'{') => at = blank(json, at + 1),
        Some(_) => return Progress::NotAnObject,
    }
    loop {
        match json.get(at) {
            None => return Progress::Open,
            Some(b'}') => return Progress::Closed,
            Some(b'"') => {}
            Some(_) => return Progress::NotAnObject,
        }
        let Some(end) = string(json, at) else {
            return Progress::Open;
        };
        let name = &json[at..end];
        at = blank(json, end);
        match json.get(at) {
            None => return Progress::Open,
            Some(b':') => at = blank(json, at + 1),
            Some(_) => return Progress::NotAnObject,
        }
        let Some(end) = value(json, at) else {
            return Progress::Open;
        };
        if end == at {
            return Progress::NotAnObject;
        }
        member(name, &json[at..end]);
        at = blank(json, end);
        match json.get(at) {
            None => return Progress::Open,
            Some(b',') => at = blank(json, at + 1),
            Some(b'}') => return Progress::Closed,
            Some(_) => return Progress::NotAnObject,
        }
    }
}

/// Whether a member's written name is this one.
pub(super) fn is_named(written: &[u8], name: &str) -> bool {
    let inner = written
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    match inner {
        Some(inner) if !inner.contains(&b'\\') => inner == name.as_bytes(),
        Some(_) => serde_json::from_slice::<String>(written).is_ok_and(|text| text == name),
        None => false,
    }
}

fn blank(json: &[u8], mut at: usize) -> usize {
    while json.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// The end of the string that begins here.
fn string(json: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The end of the value that begins here, if it is certain.
fn value(json: &[u8], at: usize) -> Option<usize> {
    match json.get(at)? {
        b'"' => string(json, at),
        b'{' | b'[' => nested(json, at),
        _ => scalar(json, at),
    }
}

fn nested(json: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match json.get(at)? {
            b'"' => {
                at = string(json, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// A number may continue in the next piece; `true`, `false` and `null` may not.
fn scalar(json: &[u8], at: usize) -> Option<usize> {
    let rest = &json[at..];
    for word in [b"true".as_slice(), b"false", b"null"] {
        if rest.starts_with(word) {
            return Some(at + word.len());
        }
    }
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b",}]:\"".contains(byte);
    Some(at + rest.iter().position(ends)?)
}
