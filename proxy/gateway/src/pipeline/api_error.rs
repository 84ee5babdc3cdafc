//! What the API itself says went wrong, read from a copy of the answer's first bytes while it
//! streams by. Nothing is held back for it.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use countersign_config::model::Target;
use countersign_core::budget::{Charge, Purse};
use countersign_credential::Issued;
use countersign_upstream::detect::Seen;
use serde::Deserialize;

use super::echo;

/// The longest error code that is recorded, in bytes.
const LONGEST: usize = 160;

/// The beginning of an answer that may name an error.
pub(super) struct Excerpt {
    /// The first piece, as it came.
    first: Bytes,
    /// What came after it. It is copied: a reference to a few bytes would keep the whole buffer that
    /// they were read into.
    rest: Vec<u8>,
    room: usize,
    charge: Charge,
}

/// What an answer says went wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// The API's error code, or its message where it has no code.
    pub(crate) code: String,
    /// What the credential would have to have, and what it has.
    pub(super) needed: Option<(String, String)>,
}

impl Excerpt {
    /// Watches an answer if it can tell of an error: a failing status with a text, or JSON from an
    /// API that tells failure with status 200.
    pub(super) fn wanted(
        target: &Target,
        seen: Seen,
        limit: usize,
        purse: &Arc<Purse>,
    ) -> Option<Self> {
        let says_so_in_json = target.auth_failure.iter().any(|rule| !rule.json.is_empty());
        let wanted = (seen.is_json() && says_so_in_json) || seen.status_failed();
        (wanted && seen.is_readable()).then(|| Self {
            first: Bytes::new(),
            rest: Vec::new(),
            room: limit,
            charge: purse.charge(),
        })
    }

    /// Keeps a piece; what does not fit, or for which there is no memory, ends the excerpt, and the
    /// answer is then too long to be an error.
    pub(super) fn take(&mut self, data: &Bytes) {
        let held = self.first.len() + 2 * (self.rest.len() + data.len());
        if data.len() > self.room || self.charge.set(held).is_err() {
            self.room = 0;
            self.first = Bytes::new();
            self.rest = Vec::new();
            return;
        }
        self.room -= data.len();
        if self.first.is_empty() {
            self.first = data.clone();
        } else {
            self.rest.extend_from_slice(data);
        }
    }

    /// What was seen of it, as it came; nothing if it was too long.
    pub(super) fn body(&self) -> Cow<'_, [u8]> {
        if self.rest.is_empty() {
            Cow::Borrowed(&self.first)
        } else {
            Cow::Owned([&self.first, self.rest.as_slice()].concat())
        }
    }
}

impl ApiError {
    /// The same without the credential that the request carried, should the API have sent it back.
    pub(crate) fn without(self, issued: Option<&Issued>) -> Self {
        let Some(issued) = issued else {
            return self;
        };
        Self {
            code: echo::redact(issued, self.code),
            needed: self.needed.map(|(needed, provided)| {
                (echo::redact(issued, needed), echo::redact(issued, provided))
            }),
        }
    }

    /// Reads it from a whole body, as it came.
    pub(crate) fn read(seen: Seen, body: &[u8]) -> Option<Self> {
        let body = seen.decode(body);
        if body.is_empty() {
            return None;
        }
        match serde_json::from_slice::<Shape<'_>>(&body) {
            Ok(shape) => shape.error(seen.status_failed()),
            Err(_) if seen.status_failed() => code(&body).map(|code| Self {
                code: shortened(&code),
                needed: None,
            }),
            Err(_) => None,
        }
    }
}

fn shortened(text: &str) -> String {
    let end = text
        .char_indices()
        .map(|(at, _)| at)
        .nth(LONGEST)
        .unwrap_or(text.len());
    text[..end].to_owned()
}

/// The members in which the APIs we know, and RFC 9457, say what went wrong.
#[derive(Deserialize)]
struct Shape<'b> {
    ok: Option<bool>,
    #[serde(borrow)]
    error: Option<Text<'b>>,
    #[serde(borrow, rename = "errorMessage")]
    error_message: Option<Text<'b>>,
    #[serde(borrow)]
    message: Option<Text<'b>>,
    #[serde(borrow)]
    title: Option<Text<'b>>,
    #[serde(borrow)]
    needed: Option<Text<'b>>,
    #[serde(borrow)]
    provided: Option<Text<'b>>,
}

/// A string; anything else in its place is no error code.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text<'b> {
    #[serde(borrow)]
    String(Cow<'b, str>),
    Other(serde::de::IgnoredAny),
}

impl Text<'_> {
    fn shortened(&self) -> Option<String> {
        match self {
            Self::String(text) => Some(shortened(text)),
            Self::Other(_) => None,
        }
    }
}

impl Shape<'_> {
    fn error(&self, status_failed: bool) -> Option<ApiError> {
        if self.ok == Some(true) || (self.ok.is_none() && !status_failed) {
            return None;
        }
        let code = [&self.error, &self.error_message, &self.message, &self.title]
            .into_iter()
            .flatten()
            .find_map(Text::shortened)?;
        let text = |member: &Option<Text<'_>>| member.as_ref().and_then(Text::shortened);
        let needed = text(&self.needed).zip(Some(text(&self.provided).unwrap_or_default()));
        Some(ApiError { code, needed })
    }
}

/// A plain-text answer that is a bare code, as Slack's webhooks give it (`no_service`).
fn code(body: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_code = !text.is_empty()
        && text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_code.then_some(Cow::Borrowed(text))
}
