//! Detects whether a response reports a failed credential, in the way its target declares: by status, by
//! members of a JSON body, or by a bare code.
//!
//! Pure: it gets the first bytes of a body, as they arrived, and says what is certain so far. The caller
//! decides how long to hold a response for more.

mod encoding;
mod members;
#[cfg(test)]
mod tests;

pub use encoding::Encoding;

use std::borrow::Cow;

use countersign_config::model::{AuthFailure, AuthFailureAction, Route, Target};
use http::{HeaderMap, Response, header};

use members::Progress;

/// The longest bare code, in bytes, including the white space around it.
const LONGEST_TEXT: usize = 256;

/// What is certain of a response so far.
#[derive(Debug, Clone, Copy)]
pub enum Verdict<'t> {
    /// It does not report a failed credential.
    Fine,
    /// It reports one, by this rule.
    Failed(&'t AuthFailure),
    /// It depends on the bytes still to come.
    Open {
        /// Whether it may still be a failure that can be recovered from.
        recoverable: bool,
    },
}

/// What the head of a response says about reading its body.
#[derive(Debug, Clone, Copy)]
pub struct ResponseMeta {
    status: u16,
    /// `None` if the body must not, or cannot, be examined.
    encoding: Option<Encoding>,
    kind: Kind,
    /// The most decoded bytes that are examined.
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Text,
    Other,
}

/// Whether a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MatchState {
    Out,
    Open,
    Holds,
}

impl ResponseMeta {
    /// Reads the head of a response that came by this route.
    pub fn of<B>(route: &Route, response: &Response<B>, limit: usize) -> Self {
        let headers = response.headers();
        Self {
            status: response.status().as_u16(),
            encoding: route.inspect_body.then(|| Encoding::of(headers)).flatten(),
            kind: kind(headers),
            limit,
        }
    }

    /// Whether the status reports a failure.
    pub fn status_failed(self) -> bool {
        self.status >= 400
    }

    /// Whether the body may be searched for an error: it is JSON or a text, not a file.
    pub fn is_readable(self) -> bool {
        self.encoding.is_some() && self.kind != Kind::Other
    }

    /// Whether the content type is JSON.
    pub fn is_json(self) -> bool {
        self.kind == Kind::Json
    }

    /// The first decoded bytes of the body; none if it may not be examined.
    pub fn decode(self, body: &[u8]) -> Cow<'_, [u8]> {
        match self.encoding {
            Some(encoding) => encoding.decode(body, self.limit).bytes,
            None => Cow::Borrowed(&[]),
        }
    }

    /// What is certain, given the first bytes of the body as they arrived. `ended` says that the body is
    /// complete.
    ///
    /// Rules apply in their order: the first that matches counts, once all before it are excluded.
    pub fn evaluate<'t>(self, target: &'t Target, body: &[u8], ended: bool) -> Verdict<'t> {
        if target.auth_failure.is_empty() {
            return Verdict::Fine;
        }
        let (body, ended) = self.content(target, body, ended);
        let mut rules = target
            .auth_failure
            .iter()
            .map(|rule| (rule, self.state(rule, &body, ended)))
            .skip_while(|(_, state)| *state == MatchState::Out);
        match rules.next() {
            None => Verdict::Fine,
            Some((rule, MatchState::Holds)) => Verdict::Failed(rule),
            Some((rule, _)) => Verdict::Open {
                recoverable: is_recoverable(rule)
                    || rules.any(|(rule, state)| state != MatchState::Out && is_recoverable(rule)),
            },
        }
    }

    /// The decoded body, as far as it is needed, and whether it is complete as far as that.
    fn content<'b>(self, target: &Target, body: &'b [u8], ended: bool) -> (Cow<'b, [u8]>, bool) {
        let by_body = |rule: &AuthFailure| !rule.is_status_alone();
        let Some(encoding) = self.encoding else {
            return (Cow::Borrowed(&[]), true);
        };
        if body.is_empty() || !target.auth_failure.iter().any(by_body) {
            return (Cow::Borrowed(&[]), ended);
        }
        let decoded = encoding.decode(body, self.limit);
        (decoded.bytes, ended || decoded.too_long)
    }

    fn state(self, rule: &AuthFailure, body: &[u8], ended: bool) -> MatchState {
        if !rule.status.is_empty() && !rule.status.contains(&self.status) {
            return MatchState::Out;
        }
        if !rule.json.is_empty() {
            return match self.kind {
                Kind::Json if self.encoding.is_some() => json(rule, body, ended),
                Kind::Json | Kind::Text | Kind::Other => MatchState::Out,
            };
        }
        if !rule.text.is_empty() {
            return match self.kind {
                Kind::Text if self.encoding.is_some() => text(&rule.text, body, ended),
                Kind::Json | Kind::Text | Kind::Other => MatchState::Out,
            };
        }
        MatchState::Holds
    }
}

/// Whether a failure of this kind can be recovered from while the request waits.
fn is_recoverable(rule: &AuthFailure) -> bool {
    match rule.then {
        AuthFailureAction::RefreshAndReplay | AuthFailureAction::RereadSource => true,
        AuthFailureAction::Report => false,
    }
}

fn kind(headers: &HeaderMap) -> Kind {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Kind::Other;
    };
    let essence = value.as_bytes().split(|byte| *byte == b';').next();
    let essence = essence.unwrap_or_default().trim_ascii();
    let ends = |end: &[u8]| {
        essence.len() > end.len() && essence[essence.len() - end.len()..].eq_ignore_ascii_case(end)
    };
    if ends(b"/json") || ends(b"+json") {
        return Kind::Json;
    }
    let stream = essence.eq_ignore_ascii_case(b"text/event-stream");
    if essence.len() > 5 && essence[..5].eq_ignore_ascii_case(b"text/") && !stream {
        return Kind::Text;
    }
    Kind::Other
}

/// All members must be present, each with one of its values.
fn json(rule: &AuthFailure, body: &[u8], ended: bool) -> MatchState {
    let mut held = 0_u64;
    let mut out = rule.json.len() > 64;
    let progress = members::top_level(body, |name, value| {
        for (at, (wanted, values)) in rule.json.iter().enumerate().take(64) {
            if !members::is_named(name, wanted) {
                continue;
            }
            let value = serde_json::from_slice::<serde_json::Value>(value);
            match value {
                Ok(value) if values.contains(&value) => held |= 1 << at,
                Ok(_) | Err(_) => out = true,
            }
        }
    });
    let all = u32::try_from(rule.json.len()).is_ok_and(|all| held.count_ones() == all);
    match progress {
        _ if out => MatchState::Out,
        _ if all => MatchState::Holds,
        Progress::Open if !ended => MatchState::Open,
        Progress::Open | Progress::Closed | Progress::NotAnObject => MatchState::Out,
    }
}

/// The whole body must be one of these.
fn text(codes: &[String], body: &[u8], ended: bool) -> MatchState {
    if body.len() > LONGEST_TEXT {
        return MatchState::Out;
    }
    let said = body.trim_ascii();
    let is = |code: &String| code.as_bytes() == said;
    let may_become = |code: &String| code.as_bytes().starts_with(said);
    match ended {
        true if codes.iter().any(is) => MatchState::Holds,
        false if codes.iter().any(may_become) => MatchState::Open,
        true | false => MatchState::Out,
    }
}
