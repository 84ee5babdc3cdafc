//! Reads a type from a [`Node`] tree in one pass and collects every structural mistake.
//!
//! serde stops at the first error, so it must never see one. The deserializer of a node checks
//! beforehand what its type cannot accept (another form, a number out of range, an unknown, missing or
//! duplicate key), reports it, and supplies a default. A value for which anything was reported is never
//! returned.

mod default;
mod reader;

use std::fmt;

use serde::{
    Deserialize,
    de::{Expected, Unexpected},
};

use super::{Findings, Key, Node, Source};
use reader::{Place, Reader};

/// Reads a `T`; `None` if anything about it had to be reported.
pub(crate) fn read<'de, T: Deserialize<'de>>(
    source: &Source,
    key: Option<&Key>,
    node: &'de Node,
    findings: &Findings,
) -> Option<T> {
    let before = findings.count();
    let reader = Reader {
        source,
        key: key.map(Place::of_key),
        node,
        findings,
    };
    let value = T::deserialize(reader).ok()?;
    (findings.count() == before).then_some(value)
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// It was already reported, at the innermost place.
    Reported,
    /// A required key is missing.
    Missing(&'static str),
    /// Anything else; does not repeat the value.
    Wrong {
        code: &'static str,
        message: String,
        remedy: String,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported => f.write_str("reported"),
            Self::Missing(key) => write!(f, "`{key}` is missing"),
            Self::Wrong { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for ReadError {}

impl ReadError {
    fn form(expected: &str, found: &str, remedy: impl Into<String>) -> Self {
        Self::Wrong {
            code: "wrong-type",
            message: format!("expected {expected}, found {found}"),
            remedy: remedy.into(),
        }
    }
}

impl serde::de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Wrong {
            code: "bad-value",
            message: message.to_string(),
            remedy: "see `countersign schema` for what is allowed here".to_owned(),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        // Not `found` itself, which may quote a secret.
        let found = match found {
            Unexpected::Bool(_) => "true or false",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
            Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Bytes(_) => "a text",
            Unexpected::Unit | Unexpected::Option => "nothing",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a mapping",
            _ => "something else",
        };
        Self::form(
            &expected.to_string(),
            found,
            "write it in the expected form",
        )
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Wrong {
            code: "bad-value",
            message: format!("the value is out of range: expected {expected}"),
            remedy: "write a value in this range".to_owned(),
        }
    }

    fn unknown_variant(written: &str, expected: &'static [&'static str]) -> Self {
        Self::Wrong {
            code: "unknown-value",
            message: format!("unknown value `{written}`"),
            remedy: did_you_mean(written, expected.iter().copied()),
        }
    }

    fn unknown_field(written: &str, expected: &'static [&'static str]) -> Self {
        Self::Wrong {
            code: "unknown-key",
            message: format!("unknown key `{written}`"),
            remedy: did_you_mean(written, expected.iter().copied()),
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
}

/// The remedy for an unknown name: the closest known one, or all of them.
pub(crate) fn did_you_mean<'n>(written: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(close) = closest(written, known.iter().copied()) {
        return format!("did you mean `{close}`?");
    }
    match known.as_slice() {
        [] => "remove it; nothing is allowed here".to_owned(),
        [only] => format!("the only known one is `{only}`"),
        several => format!("the known ones are {}", listed(several)),
    }
}

/// The known name that is spelled almost like this one.
pub fn closest<'n>(written: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    /// Longer names are not typing errors.
    const LONGEST: usize = 256;
    let length = written.chars().count();
    if length > LONGEST {
        return None;
    }
    let bound = (length / 3).clamp(1, 3);
    let lower = written.to_lowercase();
    known
        .into_iter()
        // Names of another length differ too much, and there may be many.
        .filter(|name| name.chars().count().abs_diff(length) <= bound)
        .map(|name| {
            let distance = strsim::damerau_levenshtein(&lower, &name.to_lowercase());
            (distance, name)
        })
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn listed(names: &[&str]) -> String {
    const MOST: usize = 12;
    let shown: Vec<String> = names.iter().take(MOST).map(|n| format!("`{n}`")).collect();
    let more = if names.len() > MOST {
        " and others"
    } else {
        ""
    };
    format!("{}{more}", shown.join(", "))
}
