//! How a target answers: what a failed credential looks like, how to refuse.

use http::HeaderValue;

use super::super::fields::each;
use crate::{
    model::{AuthFailure, AuthFailureAction, AuthFailureBlame, RefusalShape},
    resource::{AuthFailureBlameSpec, AuthFailureSpec, AuthFailureThen, RefusalSpec},
    yaml::{Findings, Spot},
};

pub(super) fn auth_failure(
    spec: &AuthFailureSpec,
    spot: &Spot<'_>,
    findings: &Findings,
) -> Option<AuthFailure> {
    if !spec.json.is_empty() && !spec.text.is_empty() {
        findings.error(
            &spot.key_name("text"),
            "conflicting-keys",
            "a body is JSON or a bare text, not both",
            "keep one of `json` and `text`",
        );
        return None;
    }
    if spec.status.is_empty() && spec.json.is_empty() && spec.text.is_empty() {
        findings.error(
            spot,
            "missing-key",
            "this would take every answer for a failed credential",
            "add `status:`, `json:` or `text:`",
        );
        return None;
    }
    each(&spec.status, &spot.key("status"), |status, spot| {
        http_status(*status, spot, findings)
    })?;
    Some(AuthFailure {
        status: spec.status.clone(),
        json: spec
            .json
            .iter()
            .map(|(member, values)| {
                let values = match values {
                    serde_json::Value::Array(values) => values.clone(),
                    single => vec![single.clone()],
                };
                (member.clone(), values)
            })
            .collect(),
        text: spec.text.clone(),
        blame: match spec.blame {
            None | Some(AuthFailureBlameSpec::Operator) => AuthFailureBlame::Operator,
            Some(AuthFailureBlameSpec::Gateway) => AuthFailureBlame::Gateway,
        },
        then: match spec.then {
            AuthFailureThen::RefreshAndReplay => AuthFailureAction::RefreshAndReplay,
            AuthFailureThen::RereadSource => AuthFailureAction::RereadSource,
            AuthFailureThen::Report => AuthFailureAction::Report,
        },
    })
}

fn http_status(status: u16, spot: &Spot<'_>, findings: &Findings) -> Option<u16> {
    if (200..=599).contains(&status) {
        return Some(status);
    }
    findings.error(
        spot,
        "bad-status",
        "this is not the HTTP status of an answer",
        "write a status from 200 to 599",
    );
    None
}

pub(super) fn refusal(
    spec: &RefusalSpec,
    spot: &Spot<'_>,
    findings: &Findings,
) -> Option<RefusalShape> {
    let status = http_status(spec.status, &spot.key("status"), findings);
    let content_type = spec
        .content_type
        .clone()
        .unwrap_or_else(|| "application/json".to_owned());
    if HeaderValue::from_str(&content_type).is_err() {
        findings.error(
            &spot.key("contentType"),
            "bad-header",
            "this cannot stand in a header",
            "write a media type such as `application/json`",
        );
        return None;
    }
    Some(RefusalShape {
        status: status?,
        content_type,
        body: spec.body.clone(),
    })
}
