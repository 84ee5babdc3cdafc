//! Evaluates the response to a probe.

use countersign_config::model::{AuthFailureAction, Target};
use countersign_core::redact::redact;
use countersign_credential::{Issued, health::Finding};
use countersign_upstream::{
    detect::{ResponseMeta, Verdict},
    forward::UpstreamBody,
};
use http::Response;
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};

use crate::api_error::ApiError;

/// The longest text in a status, in characters.
const LONGEST: usize = 100;

/// The result of a probe.
pub(super) struct ProbeResult {
    pub(super) finding: Finding,
    /// Members of the response that say whose credential it is.
    pub(super) shows: Vec<(String, String)>,
}

impl ProbeResult {
    pub(super) fn unknown(why: &str) -> Self {
        Self {
            finding: Finding::Unknown(redact(why).into_owned()),
            shows: Vec::new(),
        }
    }
}

/// Reads the response, at most `limit` bytes of it.
pub(super) async fn read(
    target: &Target,
    shows: &[String],
    meta: ResponseMeta,
    response: Response<UpstreamBody>,
    issued: &Issued,
    limit: usize,
) -> ProbeResult {
    let status = response.status();
    let mut body = response.into_body();
    let mut read = Vec::new();
    let mut ended = false;
    while read.len() < limit {
        match body.frame().await {
            None => {
                ended = true;
                break;
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    read.extend_from_slice(&data);
                }
            }
            Some(Err(error)) => return ProbeResult::unknown(&error.to_string()),
        }
    }
    let said = || {
        let error = ApiError::read(meta, &read)?;
        Some(error.without(Some(issued)).code)
    };
    let finding = match meta.evaluate(target, &read, ended) {
        Verdict::Failed(rule) => match rule.then {
            AuthFailureAction::RefreshAndReplay | AuthFailureAction::RereadSource => {
                Finding::Rejected(said())
            }
            AuthFailureAction::Report => Finding::Insufficient(said()),
        },
        Verdict::Open { .. } => Finding::Unknown("the answer is too long to be judged".to_owned()),
        // Another failure says nothing about the credential.
        Verdict::Fine if !status.is_success() => {
            Finding::Unknown(format!("the API answered {}", status.as_u16()))
        }
        Verdict::Fine => match said() {
            Some(code) => Finding::Unknown(format!("the API answered `{code}`")),
            None => Finding::Works,
        },
    };
    let shows = match finding {
        Finding::Works => shown(&meta.decode(&read), shows, issued),
        Finding::Rejected(_) | Finding::Insufficient(_) | Finding::Unknown(_) => Vec::new(),
    };
    ProbeResult { finding, shows }
}

/// The members that say whose credential it is, redacted.
fn shown(body: &[u8], wanted: &[String], issued: &Issued) -> Vec<(String, String)> {
    // Anything but a JSON object has no members.
    let members: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &String| {
        let text = members.get(name)?.as_str()?;
        let text = text.replace(issued.secret().expose(), "[redacted]");
        let text: String = redact(&text).chars().take(LONGEST).collect();
        Some((name.clone(), text))
    };
    wanted.iter().filter_map(text).collect()
}
