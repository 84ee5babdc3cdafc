//! How a target reports a failed credential, and the format of refusals.

use http::HeaderValue;

use super::{
    super::fields::{each, path_patterns},
    route::RouteChecks,
};
use crate::{
    model::{
        AuthFailure, AuthFailureAction, AuthFailureBlame, RefusalAt, RefusalShape, RefusalShapes,
    },
    resource::{
        AuthFailureBlameSpec, AuthFailureSpec, AuthFailureThen, RefusalAtSpec, RefusalSpec,
    },
    yaml::{Findings, Location},
};

pub(super) fn auth_failure(
    spec: &AuthFailureSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<AuthFailure> {
    if !spec.json.is_empty() && !spec.text.is_empty() {
        findings.error(
            &location.key_name("text"),
            "conflicting-keys",
            "a body is JSON or plain text, not both",
            "keep one of `json` and `text`",
        );
        return None;
    }
    if spec.status.is_empty() && spec.json.is_empty() && spec.text.is_empty() {
        findings.error(
            location,
            "missing-key",
            "this would treat every response as a failed credential",
            "add `status:`, `json:` or `text:`",
        );
        return None;
    }
    each(&spec.status, &location.key("status"), |status, location| {
        http_status(*status, location, findings)
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

fn http_status(status: u16, location: &Location<'_>, findings: &Findings) -> Option<u16> {
    if (200..=599).contains(&status) {
        return Some(status);
    }
    findings.error(
        location,
        "bad-status",
        "this is not the HTTP status of a response",
        "write a status from 200 to 599",
    );
    None
}

/// The formats of refusals. Their hosts and paths are checked as those of routes are.
pub(super) fn refusal(
    spec: &RefusalSpec,
    location: &Location<'_>,
    checks: &RouteChecks<'_>,
) -> Option<RefusalShapes> {
    let written = (spec.status, spec.content_type.as_deref(), &spec.body);
    let usual = shape(written, location, checks.findings);
    let at = each(&spec.at, &location.key("at"), |at, location| {
        refusal_at(at, location, checks)
    });
    Some(RefusalShapes {
        usual: usual?,
        at: at?,
    })
}

fn refusal_at(
    spec: &RefusalAtSpec,
    location: &Location<'_>,
    checks: &RouteChecks<'_>,
) -> Option<RefusalAt> {
    let host = match &spec.host {
        Some(host) => checks.host(host, &location.key("host")).map(Some),
        None => Some(None),
    };
    let paths = path_patterns(&spec.paths, false, &location.key("paths"), checks.findings);
    let written = (spec.status, spec.content_type.as_deref(), &spec.body);
    let shape = shape(written, location, checks.findings);
    Some(RefusalAt {
        host: host?,
        paths: paths?,
        shape: shape?,
    })
}

fn shape(
    (status, content_type, body): (u16, Option<&str>, &serde_json::Value),
    location: &Location<'_>,
    findings: &Findings,
) -> Option<RefusalShape> {
    let status = http_status(status, &location.key("status"), findings);
    let content_type = content_type.unwrap_or("application/json");
    if HeaderValue::from_str(content_type).is_err() {
        findings.error(
            &location.key("contentType"),
            "bad-header",
            "this is not valid in a header",
            "write a media type such as `application/json`",
        );
        return None;
    }
    Some(RefusalShape {
        status: status?,
        content_type: content_type.to_owned(),
        body: body.clone(),
    })
}
