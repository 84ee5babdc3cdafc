//! The error that an API reports in a response, with the credential removed from it.

use std::borrow::Cow;

use countersign_core::redact::REDACTED;
use countersign_credential::Issued;
use countersign_upstream::detect::ResponseMeta;
use serde::Deserialize;

/// The shortest secret that is searched for in a response, in bytes: a shorter one would be found by
/// chance.
pub(crate) const SHORTEST_SECRET: usize = 8;

/// The longest error code that is recorded, in bytes.
const LONGEST: usize = 160;

/// The error in a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// The API's error code, or its message where it has no code.
    pub(crate) code: String,
    /// The scopes that the API needs, and those that the credential has.
    pub(crate) needed: Option<(String, String)>,
}

impl ApiError {
    /// Removes the credential that the request carried, in case the API returned it.
    pub(crate) fn without(self, issued: Option<&Issued>) -> Self {
        let Some(issued) = issued else {
            return self;
        };
        Self {
            code: redact(issued, self.code),
            needed: self
                .needed
                .map(|(needed, provided)| (redact(issued, needed), redact(issued, provided))),
        }
    }

    /// Reads it from a whole body, as it arrived.
    pub(crate) fn read(meta: ResponseMeta, body: &[u8]) -> Option<Self> {
        let body = meta.decode(body);
        if body.is_empty() {
            return None;
        }
        match serde_json::from_slice::<Shape<'_>>(&body) {
            Ok(shape) => shape.error(meta.status_failed()),
            Err(_) if meta.status_failed() => code(&body).map(|code| Self {
                code: shortened(&code),
                needed: None,
            }),
            Err(_) => None,
        }
    }
}

/// A text without the credential.
fn redact(issued: &Issued, text: String) -> String {
    let secret = issued.secret().expose();
    if secret.len() >= SHORTEST_SECRET && text.contains(secret) {
        text.replace(secret, REDACTED)
    } else {
        text
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

/// The members in which the known APIs, and RFC 9457, report errors.
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

/// A string; a value of any other type is not an error code.
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
