//! What the API itself says went wrong, read from a copy of the answer's first bytes while it
//! streams by. Nothing is held back for it.

use std::borrow::Cow;

use bytes::Bytes;
use countersign_config::model::Target;
use http::{Response, header};
use serde::Deserialize;

/// The longest error code that is recorded, in bytes.
const LONGEST: usize = 160;

/// The beginning of an answer that may name an error.
pub(super) struct Excerpt {
    chunks: Vec<Bytes>,
    room: usize,
    status_failed: bool,
}

impl Excerpt {
    /// Watches an answer if it can tell of an error: a failing status with a text, or JSON from an
    /// API that tells failure with status 200.
    pub(super) fn wanted<B>(target: &Target, response: &Response<B>, limit: usize) -> Option<Self> {
        let status_failed =
            response.status().is_client_error() || response.status().is_server_error();
        let says_so_in_json = target.auth_failure.iter().any(|rule| !rule.json.is_empty());
        let headers = response.headers();
        let kind = headers.get(header::CONTENT_TYPE)?.as_bytes();
        let json = kind
            .windows(4)
            .any(|word| word.eq_ignore_ascii_case(b"json"));
        let text = kind.len() >= 5 && kind[..5].eq_ignore_ascii_case(b"text/");
        let wanted = (json && says_so_in_json) || (status_failed && (json || text));
        (wanted && !headers.contains_key(header::CONTENT_ENCODING)).then(|| Self {
            chunks: Vec::new(),
            room: limit,
            status_failed,
        })
    }

    /// Keeps a piece, by reference; what does not fit ends the excerpt, and the answer is then too
    /// long to be an error.
    pub(super) fn take(&mut self, data: &Bytes) {
        if data.len() > self.room {
            self.room = 0;
            self.chunks.clear();
            return;
        }
        self.room -= data.len();
        self.chunks.push(data.clone());
    }

    /// The API's error code, or its message where it has no code.
    pub(super) fn api_error(self) -> Option<String> {
        let body = match self.chunks.as_slice() {
            [] => return None,
            [one] => Cow::Borrowed(one.as_ref()),
            many => Cow::Owned(many.concat()),
        };
        let text = match serde_json::from_slice::<Shape<'_>>(&body) {
            Ok(shape) => shape.error(self.status_failed)?,
            Err(_) if self.status_failed => code(&body)?,
            Err(_) => return None,
        };
        let end = text
            .char_indices()
            .map(|(at, _)| at)
            .nth(LONGEST)
            .unwrap_or(text.len());
        Some(text[..end].to_owned())
    }
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
}

/// A string; anything else in its place is no error code.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text<'b> {
    #[serde(borrow)]
    String(Cow<'b, str>),
    Other(serde::de::IgnoredAny),
}

impl<'b> Shape<'b> {
    fn error(self, status_failed: bool) -> Option<Cow<'b, str>> {
        if self.ok == Some(true) || (self.ok.is_none() && !status_failed) {
            return None;
        }
        [self.error, self.error_message, self.message, self.title]
            .into_iter()
            .flatten()
            .find_map(|text| match text {
                Text::String(text) => Some(text),
                Text::Other(_) => None,
            })
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
