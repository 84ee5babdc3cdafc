//! Whether an answer says that a credential failed, in the way its target declares: by status, by
//! members of a JSON body, or by a bare code.
//!
//! Pure: it is shown the first bytes of a body, as they came, and says what is certain by now.
//! Whoever asks decides how long an answer is worth being held for that.

mod encoding;
mod members;
#[cfg(test)]
mod tests;

pub use encoding::Encoding;

use std::borrow::Cow;

use countersign_config::model::{AuthFailure, AuthFailureAction, Route, Target};
use http::{HeaderMap, Response, header};

use members::Progress;

/// The longest bare code that is looked for, in bytes, with the white space around it.
const LONGEST_TEXT: usize = 256;

/// What is certain of an answer by now.
#[derive(Debug, Clone, Copy)]
pub enum Verdict<'t> {
    /// It does not say that a credential failed.
    Fine,
    /// It says so, by this rule.
    Failed(&'t AuthFailure),
    /// What is still to come decides.
    Open {
        /// Whether it may yet turn out to be a failure that can be recovered from.
        recoverable: bool,
    },
}

/// What the head of an answer says about how it can be read.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    status: u16,
    /// `None` where the body is not to be looked into, or cannot be.
    encoding: Option<Encoding>,
    kind: Kind,
    /// The most of a decoded body that is looked at, in bytes.
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Text,
    Other,
}

/// How far a rule has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Out,
    Open,
    Holds,
}

impl Seen {
    /// Looks at the head of an answer that came by this route.
    pub fn of<B>(route: &Route, response: &Response<B>, limit: usize) -> Self {
        let headers = response.headers();
        Self {
            status: response.status().as_u16(),
            encoding: route.inspect_body.then(|| Encoding::of(headers)).flatten(),
            kind: kind(headers),
            limit,
        }
    }

    /// Whether the status is one of failure.
    pub fn status_failed(self) -> bool {
        self.status >= 400
    }

    /// Whether the body may be read for what went wrong: it is JSON or a text, and not a file.
    pub fn is_readable(self) -> bool {
        self.encoding.is_some() && self.kind != Kind::Other
    }

    /// Whether the body says of itself that it is JSON.
    pub fn is_json(self) -> bool {
        self.kind == Kind::Json
    }

    /// The first bytes of the body in clear; nothing where it may not be looked into.
    pub fn decode(self, body: &[u8]) -> Cow<'_, [u8]> {
        match self.encoding {
            Some(encoding) => encoding.decode(body, self.limit).bytes,
            None => Cow::Borrowed(&[]),
        }
    }

    /// What is certain, given the first bytes of the body as they came. `ended` says that nothing
    /// follows.
    ///
    /// Rules are judged in their order: the first that holds counts, once all before it are out.
    pub fn judge<'t>(self, target: &'t Target, body: &[u8], ended: bool) -> Verdict<'t> {
        if target.auth_failure.is_empty() {
            return Verdict::Fine;
        }
        let (body, ended) = self.content(target, body, ended);
        let mut rules = target
            .auth_failure
            .iter()
            .map(|rule| (rule, self.standing(rule, &body, ended)))
            .skip_while(|(_, standing)| *standing == Standing::Out);
        match rules.next() {
            None => Verdict::Fine,
            Some((rule, Standing::Holds)) => Verdict::Failed(rule),
            Some((rule, _)) => Verdict::Open {
                recoverable: is_recoverable(rule)
                    || rules
                        .any(|(rule, standing)| standing != Standing::Out && is_recoverable(rule)),
            },
        }
    }

    /// The body in clear, as far as it is needed, and whether nothing of it follows that would be
    /// looked at.
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

    fn standing(self, rule: &AuthFailure, body: &[u8], ended: bool) -> Standing {
        if !rule.status.is_empty() && !rule.status.contains(&self.status) {
            return Standing::Out;
        }
        if !rule.json.is_empty() {
            return match self.kind {
                Kind::Json if self.encoding.is_some() => json(rule, body, ended),
                Kind::Json | Kind::Text | Kind::Other => Standing::Out,
            };
        }
        if !rule.text.is_empty() {
            return match self.kind {
                Kind::Text if self.encoding.is_some() => text(&rule.text, body, ended),
                Kind::Json | Kind::Text | Kind::Other => Standing::Out,
            };
        }
        Standing::Holds
    }
}

/// Whether something can be done about a failure of this kind while the request waits.
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

/// All members must be there, each with one of its values.
fn json(rule: &AuthFailure, body: &[u8], ended: bool) -> Standing {
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
        _ if out => Standing::Out,
        _ if all => Standing::Holds,
        Progress::Open if !ended => Standing::Open,
        Progress::Open | Progress::Closed | Progress::NotAnObject => Standing::Out,
    }
}

/// The whole body must be one of these.
fn text(codes: &[String], body: &[u8], ended: bool) -> Standing {
    if body.len() > LONGEST_TEXT {
        return Standing::Out;
    }
    let said = body.trim_ascii();
    let is = |code: &String| code.as_bytes() == said;
    let may_become = |code: &String| code.as_bytes().starts_with(said);
    match ended {
        true if codes.iter().any(is) => Standing::Holds,
        false if codes.iter().any(may_become) => Standing::Open,
        true | false => Standing::Out,
    }
}
