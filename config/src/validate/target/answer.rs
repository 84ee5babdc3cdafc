//! How a target answers: what a failed credential looks like, how to refuse, how to probe.

use std::str::FromStr;

use http::{HeaderValue, Uri};

use super::{
    super::fields::{duration, each, method},
    DEFAULT_PORT,
};
use crate::{
    host::{Host, HostPattern},
    model::{
        AuthFailure, AuthFailureAction, AuthFailureBlame, Probe, RefusalShape, Route, SlotName,
    },
    path::CanonicalPath,
    resource::{AuthFailureBlameSpec, AuthFailureSpec, AuthFailureThen, ProbeSpec, RefusalSpec},
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

pub(super) fn probe(
    spec: &ProbeSpec,
    hosts: Option<&[HostPattern]>,
    routes: Option<&[Route]>,
    spot: &Spot<'_>,
    findings: &Findings,
) -> Option<Probe> {
    let method = method(&spec.method, &spot.key("method"), findings);
    let every = match &spec.every {
        Some(text) => duration(text, &spot.key("every"), findings),
        None => Some(Probe::DEFAULT_EVERY),
    };
    let uri = Uri::from_str(&spec.url).ok();
    let uri = uri.as_ref().filter(|uri| uri.scheme_str() == Some("https"));
    let host = uri
        .and_then(Uri::host)
        .and_then(|host| Host::parse(host).ok());
    let path = uri
        .and_then(Uri::path_and_query)
        .and_then(|path| CanonicalPath::check(path).ok());
    let (Some(host), Some(path)) = (host, path) else {
        findings.error(
            &spot.key("url"),
            "bad-url",
            "this is not an https URL with a canonical path",
            "write a whole URL, such as `https://slack.com/api/auth.test`",
        );
        return None;
    };
    if !hosts?.iter().any(|pattern| pattern.matches(&host)) {
        findings.error(
            &spot.key("url"),
            "host-not-of-target",
            "the probe would take the credential to a host that is not the target's",
            "name a host that is among `hosts`",
        );
        return None;
    }
    let slot = slot_of_probe(&host, &path, routes?);
    if slot.is_none() {
        findings.error(
            spot,
            "probe-without-credential",
            "no credential would be put on the probe: the route it takes denies it or attaches none",
            "name a URL that a route with `attach` is for",
        );
    }
    Some(Probe {
        method: method?,
        port: uri.and_then(Uri::port_u16).unwrap_or(DEFAULT_PORT),
        host,
        path,
        slot: slot?,
        every: every?,
        shows: spec.shows.clone(),
    })
}

/// The slot whose credential is put on a probe, as on any request to the same place.
pub(super) fn slot_of_probe(
    host: &Host,
    path: &CanonicalPath,
    routes: &[Route],
) -> Option<SlotName> {
    let route = routes.iter().find(|route| route.is_for(host, path))?;
    let attach = route.attach.as_ref().filter(|_| route.deny.is_none())?;
    Some(SlotName::clone(&attach.slot))
}
