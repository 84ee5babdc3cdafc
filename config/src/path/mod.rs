//! Paths that were proven canonical, and the patterns that match them.
//!
//! A path is checked as it will be sent and never repaired. A path that a server might read differently
//! is refused (THREATS 46).

mod pattern;
#[cfg(test)]
mod tests;

pub use pattern::PathPatterns;

use http::uri::PathAndQuery;

/// The path of a request, proven to mean the same to us and to any server.
///
/// It starts with `/` and consists of the characters that RFC 3986 allows in a path, without `;`. It has
/// no empty, `.` or `..` segment; a trailing `/` is allowed. Percent-escapes are complete, have
/// upper-case digits and are necessary: none encodes an unreserved character. None encodes `\`, `;`, `/`
/// (but for a server that keeps it, see [`EncodedSlash`]), a control character, or (`%2541`) the start of another escape. Escapes above ASCII are valid
/// UTF-8, so that no overlong form of any of these passes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CanonicalPath(PathAndQuery);

/// Whether a segment of a path may have a slash in it, percent-encoded as `%2F`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncodedSlash {
    /// No: a server might take it for a separator.
    #[default]
    Refuse,
    /// Yes, as part of an id: the server never takes it for a separator, and neither do patterns. What is
    /// between two of them, or at an end of the segment, is not empty, `.` or `..`.
    Keep,
}

/// Why a path is not canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path is not canonical: {0}")]
pub struct PathProblem(pub &'static str);

/// The problem of a path that only [`EncodedSlash::Keep`] allows.
const ENCODED_SLASH: PathProblem = PathProblem(
    "a `/` is percent-encoded (`%2F`); a TargetService whose API has ids with slashes says `encodedSlash: keep`",
);

impl PathProblem {
    /// Whether the path has an encoded slash, which some targets allow.
    pub fn is_encoded_slash(self) -> bool {
        self == ENCODED_SLASH
    }
}

impl CanonicalPath {
    /// Checks the path of `target`; nothing is repaired. The query is kept as it is.
    pub fn check(target: &PathAndQuery) -> Result<Self, PathProblem> {
        Self::check_with(target, EncodedSlash::Refuse)
    }

    /// The same for a server that treats encoded slashes like this.
    pub fn check_with(target: &PathAndQuery, slashes: EncodedSlash) -> Result<Self, PathProblem> {
        check_path(target.path(), Wildcards::Literal, slashes)?;
        Ok(Self(target.clone()))
    }

    /// The path, without the query.
    pub fn as_str(&self) -> &str {
        self.0.path()
    }

    /// The query, raw, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.0.query()
    }

    /// Path and query as they are sent on.
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.0
    }
}

/// A slash in a segment; with lower-case digits it is not canonical.
const ESCAPED_SLASH: &str = "%2F";

/// How `*` is treated in the text that is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wildcards {
    /// A character like any other.
    Literal,
    /// A wildcard. A segment such as `.*` might match `..`, but no canonical path has that one.
    Allowed,
}

fn check_path(path: &str, wildcards: Wildcards, slashes: EncodedSlash) -> Result<(), PathProblem> {
    let rest = path
        .strip_prefix('/')
        .ok_or(PathProblem("it does not start with `/`"))?;
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err(PathProblem("it has an empty segment"));
        }
        match slashes {
            EncodedSlash::Refuse => check_segment(segment, wildcards)?,
            EncodedSlash::Keep => check_parts(segment, wildcards)?,
        }
    }
    Ok(())
}

/// Checks a segment that may have slashes in it.
fn check_parts(segment: &str, wildcards: Wildcards) -> Result<(), PathProblem> {
    let is_whole = !segment.contains(ESCAPED_SLASH);
    for part in segment.split(ESCAPED_SLASH) {
        if !is_whole && matches!(part, "" | "." | "..") {
            return Err(PathProblem(
                "what is beside an encoded slash is empty, `.` or `..`",
            ));
        }
        check_segment(part, wildcards)?;
    }
    Ok(())
}

#[inline]
fn check_segment(segment: &str, wildcards: Wildcards) -> Result<(), PathProblem> {
    if segment == "." || segment == ".." {
        return Err(PathProblem("it has a `.` or `..` segment"));
    }
    let mut rest = segment.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = match byte {
            b'%' => skip_escape(rest)?,
            b'*' if wildcards == Wildcards::Allowed => behind,
            _ if is_plain(byte) => behind,
            b';' => return Err(PathProblem("it has a `;`")),
            b'\\' => return Err(PathProblem("it has a `\\`")),
            _ => return Err(PathProblem("a character must be percent-encoded")),
        };
    }
    Ok(())
}

/// RFC 3986 `pchar` but for `%` and `;`.
fn is_plain(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,=:@".contains(&byte)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Checks the escapes of the character at the start of `text`; returns the rest.
fn skip_escape(text: &[u8]) -> Result<&[u8], PathProblem> {
    const NOT_UTF8: PathProblem = PathProblem("its percent-escapes are not UTF-8");
    let (first, mut rest) = escaped_byte(text)?;
    if first < 0x80 {
        check_escaped_ascii(first, rest)?;
        return Ok(rest);
    }
    let length = match first {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return Err(NOT_UTF8),
    };
    let mut bytes = [first, 0, 0, 0];
    for slot in &mut bytes[1..length] {
        if !rest.starts_with(b"%") {
            return Err(NOT_UTF8);
        }
        (*slot, rest) = escaped_byte(rest)?;
    }
    let decoded = std::str::from_utf8(&bytes[..length]).map_err(|_| NOT_UTF8)?;
    if decoded.chars().any(char::is_control) {
        return Err(PathProblem("a control character is percent-encoded"));
    }
    Ok(rest)
}

fn check_escaped_ascii(byte: u8, behind: &[u8]) -> Result<(), PathProblem> {
    match byte {
        b'/' => Err(ENCODED_SLASH),
        b'\\' | b';' => Err(PathProblem("`\\` or `;` is percent-encoded")),
        _ if byte.is_ascii_control() => Err(PathProblem("a control character is percent-encoded")),
        _ if is_unreserved(byte) => Err(PathProblem("a character is percent-encoded without need")),
        b'%' if matches!(behind, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()) => {
            Err(PathProblem("it is percent-encoded twice"))
        }
        _ => Ok(()),
    }
}

/// The byte of the escape at the start of `text`, and the rest.
fn escaped_byte(text: &[u8]) -> Result<(u8, &[u8]), PathProblem> {
    let [b'%', high, low, rest @ ..] = text else {
        return Err(PathProblem("a percent-escape is broken"));
    };
    Ok((digit(*high)? << 4 | digit(*low)?, rest))
}

fn digit(byte: u8) -> Result<u8, PathProblem> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        b'a'..=b'f' => Err(PathProblem("a percent-escape has lower-case digits")),
        _ => Err(PathProblem("a percent-escape is broken")),
    }
}
