//! What the answer to a probe says.

use countersign_config::model::{AuthFailureAction, Target};
use countersign_core::redact::redact;
use countersign_credential::{Issued, health::Finding};
use countersign_upstream::{
    detect::{Seen, Verdict},
    forward::UpstreamBody,
};
use http::Response;
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};

use crate::pipeline::ApiError;

/// The longest text that is shown, in characters.
const LONGEST: usize = 100;

/// What came of a probe.
pub(super) struct Told {
    pub(super) finding: Finding,
    /// Whose credential it is.
    pub(super) shows: Vec<(String, String)>,
}

impl Told {
    pub(super) fn unknown(why: &str) -> Self {
        Self {
            finding: Finding::Unknown(redact(why).into_owned()),
            shows: Vec::new(),
        }
    }
}

/// Reads the answer, `limit` bytes of it at most.
pub(super) async fn read(
    target: &Target,
    shows: &[String],
    seen: Seen,
    response: Response<UpstreamBody>,
    issued: &Issued,
    limit: usize,
) -> Told {
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
            Some(Err(error)) => return Told::unknown(&error.to_string()),
        }
    }
    let said = || {
        let error = ApiError::read(seen, &read)?;
        Some(error.without(Some(issued)).code)
    };
    let finding = match seen.judge(target, &read, ended) {
        Verdict::Failed(rule) => match rule.then {
            AuthFailureAction::RefreshAndReplay | AuthFailureAction::RereadSource => {
                Finding::Rejected(said())
            }
            AuthFailureAction::Report => Finding::Insufficient(said()),
        },
        Verdict::Open { .. } => Finding::Unknown("the answer is too long to be judged".to_owned()),
        // The API failed otherwise, which says nothing about the credential.
        Verdict::Fine if !status.is_success() => {
            Finding::Unknown(format!("the API answered {}", status.as_u16()))
        }
        Verdict::Fine => match said() {
            Some(code) => Finding::Unknown(format!("the API answered `{code}`")),
            None => Finding::Works,
        },
    };
    let shows = match finding {
        Finding::Works => shown(&seen.decode(&read), shows, issued),
        Finding::Rejected(_) | Finding::Insufficient(_) | Finding::Unknown(_) => Vec::new(),
    };
    Told { finding, shows }
}

/// The members that say whose credential it is, without what looks like one.
fn shown(body: &[u8], wanted: &[String], issued: &Issued) -> Vec<(String, String)> {
    // An answer that is no such object shows nothing.
    let members: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &String| {
        let text = members.get(name)?.as_str()?;
        let text = text.replace(issued.secret().expose(), "[redacted]");
        let text: String = redact(&text).chars().take(LONGEST).collect();
        Some((name.clone(), text))
    };
    wanted.iter().filter_map(text).collect()
}
