//! The built-in targets: how each request is handled.

use std::sync::Arc;

use http::uri::PathAndQuery;
use rstest::rstest;

use super::{catalog, outline};
use crate::{
    host::{Host, HostPattern},
    model::{
        AuthFailure, AuthFailureAction, AuthFailureBlame, Place, RateLimitScope, Target,
        TransportFaults,
    },
    path::CanonicalPath,
    yaml::Findings,
};

fn target(name: &str) -> Arc<Target> {
    let all = all();
    let found = all.iter().find(|target| target.name.name() == name);
    found.unwrap().clone()
}

fn all() -> Vec<Arc<Target>> {
    let findings = Findings::default();
    let catalog = catalog();
    let documents = super::parse(&catalog, &findings);
    let parts = crate::validate::resources(
        &documents,
        &crate::setting::Setting::default(),
        false,
        &findings,
    );
    assert_eq!(outline(&findings.into_problems()), [""; 0]);
    parts.into_resources(String::new()).targets
}

/// What the first matching route does: `deny`, `none`, or `slot place`; `-` without a route.
fn outcome(target: &Target, host: &str, path: &str) -> String {
    let host = Host::parse(host).unwrap();
    if !target.hosts.iter().any(|pattern| pattern.matches(&host)) {
        return "not a host".to_owned();
    }
    let path = CanonicalPath::check(&path.parse::<PathAndQuery>().unwrap()).unwrap();
    let route = target.routes.iter().find(|route| {
        route
            .host
            .as_ref()
            .is_none_or(|pattern| pattern.matches(&host))
            && route.paths.matches(&path)
    });
    let Some(route) = route else {
        return "-".to_owned();
    };
    match (&route.deny, &route.attach) {
        (Some(_), _) => "deny".to_owned(),
        (None, None) => "none".to_owned(),
        (None, Some(attach)) => match &attach.place {
            Place::Header { name, value } => format!("{} {name}: {}", attach.slot, value.before)
                .trim()
                .to_owned(),
            Place::Query { name, .. } => format!("{} ?{name}", attach.slot),
            Place::Path { .. } => format!("{} path", attach.slot),
        },
    }
}

#[rstest]
#[case("slack.com", "/api/chat.postMessage", "bot authorization: Bearer")]
#[case(
    "slack.com",
    "/api/files.getUploadURLExternal",
    "bot authorization: Bearer"
)]
#[case("slack.com", "/api/apps.connections.open", "app authorization: Bearer")]
#[case(
    "slack.com",
    "/api/apps.event.authorizations.list",
    "app authorization: Bearer"
)]
#[case("slack.com", "/api/oauth.v2.access", "deny")]
#[case("slack.com", "/api/OAuth.V2.Access", "deny")]
#[case("slack.com", "/api/oauth.v2.exchange", "deny")]
#[case("slack.com", "/api/openid.connect.token", "deny")]
#[case("slack.com", "/api/tooling.tokens.rotate", "deny")]
#[case("slack.com", "/api/auth.revoke", "deny")]
#[case("slack.com", "/api/auth.revoke/", "deny")]
#[case("slack.com", "/api/auth.revoke/x", "-")]
#[case("slack.com", "/api/auth.test", "bot authorization: Bearer")]
#[case("slack.com", "/api/apps.uninstall", "deny")]
#[case("slack.com", "/api/apps.manifest.create", "deny")]
#[case("slack.com", "/api/apps.auth.external.get", "deny")]
#[case("slack.com", "/oauth/v2/authorize", "-")]
#[case("slack.com", "/", "-")]
#[case("api.slack.com", "/scim/v1/Users", "user authorization: Bearer")]
#[case("api.slack.com", "/audit/v1/logs", "user authorization: Bearer")]
#[case("api.slack.com", "/methods", "-")]
#[case("hooks.slack.com", "/services/countersign/alerts", "webhook path")]
#[case("hooks.slack.com", "/workflows/T0/A0/1/x", "webhook path")]
#[case("hooks.slack.com", "/triggers/T0/1/x", "webhook path")]
#[case("hooks.slack.com", "/commands/T0/1/x", "none")]
#[case("hooks.slack.com", "/actions/T0/1/x", "none")]
#[case("hooks.slack.com", "/app-actions/T0/1/x", "none")]
#[case("hooks.slack.com", "/app/T0/1/x", "none")]
#[case("hooks.slack.com", "/servicesx/T0", "deny")]
#[case("hooks.slack.com", "/Services/T0", "deny")]
#[case("hooks.slack.com", "/", "deny")]
#[case("hooks.slack.com", "/api/chat.postMessage", "deny")]
#[case("slack.com", "/services/T0/B0/x", "-")]
#[case("www.slack.com", "/api/chat.postMessage", "bot authorization: Bearer")]
#[case("www.slack.com", "/api/auth.revoke", "deny")]
#[case(
    "www.slack.com",
    "/api/apps.connections.open",
    "app authorization: Bearer"
)]
#[case("www.slack.com", "/intl/de-de/", "-")]
#[case("api.slack.com", "/api/chat.postMessage", "bot authorization: Bearer")]
#[case("api.slack.com", "/api/oauth.v2.access", "deny")]
#[case("api.slack.com", "/api/search.messages", "user authorization: Bearer")]
#[case("slack.com", "/api/search.messages", "user authorization: Bearer")]
#[case("slack.com", "/api/searchx.messages", "bot authorization: Bearer")]
#[case(
    "slack.com",
    "/api/assistant.search.context",
    "bot authorization: Bearer"
)]
#[case("slack.com", "/api/users.setPhoto", "user authorization: Bearer")]
#[case("slack.com", "/api/users.profile.set", "user authorization: Bearer")]
#[case("slack.com", "/api/users.profile.get", "bot authorization: Bearer")]
#[case("slack.com", "/api/reminders.add", "user authorization: Bearer")]
#[case("slack.com", "/api/stars.list", "user authorization: Bearer")]
#[case("slack.com", "/api/dnd.setSnooze", "user authorization: Bearer")]
#[case("slack.com", "/api/dnd.info", "bot authorization: Bearer")]
#[case("slack.com", "/api/admin.users.list", "user authorization: Bearer")]
#[case("slack.com", "/api/admin.apps.uninstall", "deny")]
#[case("slack.com", "/scim/v1/Users", "-")]
#[case("acme.slack.com", "/api/chat.postMessage", "not a host")]
#[case("files.slack.com", "/api/auth.revoke", "deny")]
#[case("files.slack.com", "/upload/v1/ABC", "none")]
#[case(
    "files.slack.com",
    "/files-pri/T0-F0/a.txt",
    "bot authorization: Bearer"
)]
#[case("wss.slack.com", "/link/", "none")]
#[case("wss-primary.slack.com", "/link/", "none")]
#[case("edgeapi.slack.com", "/x", "not a host")]
#[case("notslack.com", "/api/chat.postMessage", "not a host")]
#[case("slack.com.evil.test", "/api/chat.postMessage", "not a host")]
fn slack(#[case] host: &str, #[case] path: &str, #[case] expected: &str) {
    assert_eq!(outcome(&target("slack"), host, path), expected);
}

#[rstest]
#[case("slack-gov.com", "/api/chat.postMessage", "bot authorization: Bearer")]
#[case("slack-gov.com", "/api/auth.revoke", "deny")]
#[case(
    "www.slack-gov.com",
    "/api/chat.postMessage",
    "bot authorization: Bearer"
)]
#[case("api.slack-gov.com", "/scim/v1/Users", "user authorization: Bearer")]
#[case("hooks.slack-gov.com", "/services/T0/B0/x", "webhook path")]
#[case("hooks.slack-gov.com", "/commands/T0/1/x", "none")]
#[case("files.slack-gov.com", "/upload/v1/ABC", "none")]
#[case("wss-primary.slack-gov.com", "/link/", "none")]
#[case("slack.com", "/api/chat.postMessage", "not a host")]
#[case("hooks.slack.com", "/services/T0/B0/x", "not a host")]
#[case("notslack-gov.com", "/api/chat.postMessage", "not a host")]
#[case("slack-gov.com.evil.test", "/api/chat.postMessage", "not a host")]
fn gov_slack(#[case] host: &str, #[case] path: &str, #[case] expected: &str) {
    assert_eq!(outcome(&target("slack-gov"), host, path), expected);
}

/// A workspace's own name is the operator's to add.
#[rstest]
#[case("acme.slack.com", "/api/chat.postMessage", "bot authorization: Bearer")]
#[case("acme.slack.com", "/api/search.all", "user authorization: Bearer")]
#[case("acme.slack.com", "/api/auth.revoke", "deny")]
#[case("acme.slack.com", "/archives/C0", "-")]
#[case("acme.slack.com", "/services/T0/B0/x", "-")]
#[case("evil.slack.com", "/api/chat.postMessage", "not a host")]
#[case("x.acme.slack.com", "/api/chat.postMessage", "not a host")]
#[case("acme.slack.com.evil.test", "/api/chat.postMessage", "not a host")]
fn a_workspaces_own_name(#[case] host: &str, #[case] path: &str, #[case] expected: &str) {
    let text = super::several::target("slack", "extends: slack\n  hosts: [acme.slack.com]");
    let loaded = super::load_texts(&[&text], None).unwrap();
    let all = loaded.policies.targets();
    let slack = all.iter().find(|target| target.name.name() == "slack");
    assert_eq!(outcome(slack.unwrap(), host, path), expected);
}

#[test]
fn no_two_targets_of_the_catalog_share_a_host() {
    let all = all();
    for (index, one) in all.iter().enumerate() {
        for other in &all[index + 1..] {
            let shared = one.hosts.iter().find(|host| {
                let overlaps = |theirs: &HostPattern| theirs.overlaps(host);
                other.hosts.iter().any(overlaps)
            });
            assert_eq!(shared, None, "{} and {}", one.name, other.name);
        }
    }
}

/// A secret that is a path replaces the request's. What that is for, the route must say.
#[test]
fn every_route_that_rewrites_a_path_says_which() {
    for target in all() {
        for route in &target.routes {
            let attach = route.attach.as_ref().map(|attach| &attach.place);
            if let Some(Place::Path { .. }) = attach {
                assert!(route.host.is_some(), "{}: {route:?}", target.name);
                assert_eq!(route.paths.written().len(), 1, "{}: {route:?}", target.name);
                assert!(route.paths.written()[0].ends_with("/**"));
            }
        }
    }
}

/// A probe goes to the host of whoever waits, and puts on the credential that the route there does.
#[test]
fn probes_fit_only_where_the_api_answers() {
    let fits = |name: &str, host: &str| {
        let target = target(name);
        let probe = target.probe.as_ref().unwrap();
        probe.fits(&target, &Host::parse(host).unwrap(), 443)
    };
    for (name, host) in [
        ("slack", "slack.com"),
        ("slack", "www.slack.com"),
        ("slack", "api.slack.com"),
        ("slack-gov", "slack-gov.com"),
        ("qase", "api.qase.io"),
        ("qase", "api-eu.qase.io"),
    ] {
        assert!(fits(name, host), "{host}");
    }
    for (name, host) in [
        ("slack", "files.slack.com"),
        ("slack", "hooks.slack.com"),
        ("slack", "wss.slack.com"),
        ("slack", "wss-primary.slack.com"),
        ("slack", "slack-gov.com"),
        ("slack", "acme.slack.com"),
        ("slack-gov", "slack.com"),
        ("qase", "app.qase.io"),
        ("qase", "api-acme.qase.io"),
    ] {
        assert!(!fits(name, host), "{host}");
    }
}

#[rstest]
#[case("api.qase.io", "/v1/run/DEMO", "token token:")]
#[case("api-eu.qase.io", "/v2/DEMO/run/1/results", "token token:")]
#[case("api.qase.io", "/", "-")]
#[case("app.qase.io", "/v1/run/DEMO", "not a host")]
fn qase(#[case] host: &str, #[case] path: &str, #[case] expected: &str) {
    assert_eq!(outcome(&target("qase"), host, path), expected);
}

#[test]
fn what_the_caller_sent_for_a_credential_does_not_go_on() {
    let slack = target("slack");
    for route in slack.routes.iter().filter(|route| route.deny.is_none()) {
        let on_web_api = route.host.is_none();
        assert_eq!(route.strip.form_fields == ["token"], on_web_api);
        assert!(route.strip.headers.iter().any(|name| name == "cookie"));
        // Either it is set by us, or it is stripped.
        let sets = matches!(
            route.attach.as_ref().map(|attach| &attach.place),
            Some(Place::Header { name, .. }) if name == "authorization"
        );
        let strips = route
            .strip
            .headers
            .iter()
            .any(|name| name == "authorization");
        assert!(sets != strips, "{route:?}");
    }
    let qase = target("qase");
    assert!(qase.routes.iter().all(|route| {
        route
            .strip
            .headers
            .iter()
            .any(|name| name == "authorization")
    }));
}

#[test]
fn slack_refuses_in_its_own_language_and_says_how_credentials_fail() {
    let slack = target("slack");
    let refusal = slack.refusal.as_ref().unwrap();
    assert_eq!(
        (refusal.usual.status, &refusal.usual.body),
        (
            200,
            &serde_json::json!({
                "ok": false,
                "error": "{reason}",
                "response_metadata": { "messages": ["[ERROR] {explanation}"] },
            })
        )
    );
    let action = |code: &str| {
        let failure = slack.auth_failure.iter().find(|failure| {
            failure
                .json
                .iter()
                .any(|(key, values)| key == "error" && values.contains(&code.into()))
        });
        failure.map(|failure| failure.then)
    };
    assert_eq!(
        action("token_expired"),
        Some(AuthFailureAction::RefreshAndReplay)
    );
    assert_eq!(
        action("token_revoked"),
        Some(AuthFailureAction::RereadSource)
    );
    assert_eq!(action("missing_scope"), Some(AuthFailureAction::Report));
    assert_eq!(action("not_authed"), Some(AuthFailureAction::Report));
    // These may come after the API has acted, so that nothing is sent again for them.
    for transient in [
        "internal_error",
        "fatal_error",
        "service_unavailable",
        "request_timeout",
        "team_added_to_org",
    ] {
        assert_eq!(action(transient), None);
    }
    for rule in &slack.auth_failure {
        let unseen = rule
            .json
            .iter()
            .any(|(_, codes)| codes.contains(&"not_authed".into()));
        assert_eq!(rule.blame == AuthFailureBlame::Gateway, unseen);
    }
    let webhooks = |rule: &&AuthFailure| rule.text.iter().any(|code| code == "no_service");
    let webhooks = slack.auth_failure.iter().find(webhooks).unwrap();
    assert_eq!(webhooks.then, AuthFailureAction::RereadSource);
    // The bytes of files are never inspected, whatever their content type.
    for route in slack.routes.iter().filter(|route| route.deny.is_none()) {
        let files = route
            .host
            .as_ref()
            .is_some_and(|host| host.to_string() == "files.slack.com");
        assert_eq!(route.inspect_body, !files);
    }
    assert_eq!(slack.rate_limit, RateLimitScope::Path);
    assert_eq!(slack.transport_faults, TransportFaults::Close);
}

#[test]
fn qase_refuses_in_its_own_language_and_says_how_credentials_fail() {
    let qase = target("qase");
    let refusal = qase.refusal.as_ref().unwrap();
    assert_eq!(
        (refusal.usual.status, &refusal.usual.body),
        (
            403,
            &serde_json::json!({ "status": false, "errorMessage": "{explanation}" })
        )
    );
    assert_eq!(qase.auth_failure[0].status, [401]);
    assert_eq!(qase.rate_limit, RateLimitScope::Credential);
    assert_eq!(qase.transport_faults, TransportFaults::Status);
    assert!(qase.probe.is_some());
}

/// Only the Web API reports errors with a 200.
#[rstest]
#[case("slack.com", Some("/api/chat.postMessage"), 200, true)]
#[case("slack.com", None, 200, true)]
#[case("www.slack.com", Some("/api/chat.postMessage"), 200, true)]
#[case("api.slack.com", Some("/api/chat.postMessage"), 200, true)]
#[case("api.slack.com", Some("/scim/v1/Users"), 403, true)]
#[case("api.slack.com", Some("/audit/v1/logs"), 403, true)]
#[case("files.slack.com", Some("/upload/v1/AbC"), 429, false)]
#[case("files.slack.com", Some("/files-pri/T1-F1/report.txt"), 403, false)]
#[case("files.slack.com", None, 403, false)]
#[case("hooks.slack.com", Some("/services/T1/B1/x"), 403, false)]
#[case("hooks.slack.com", None, 403, false)]
#[case("wss-primary.slack.com", Some("/link/"), 403, false)]
fn slack_refuses_at_each_host_as_that_one_does(
    #[case] host: &str,
    #[case] path: Option<&str>,
    #[case] status: u16,
    #[case] json: bool,
    #[values(("slack", "slack.com"), ("slack-gov", "slack-gov.com"))] (name, domain): (&str, &str),
) {
    let target = target(name);
    let host = Host::parse(&host.replace("slack.com", domain)).unwrap();
    let path = path.map(|path| CanonicalPath::check(&path.parse().unwrap()).unwrap());
    let shape = target.refusal.as_ref().unwrap().of(&host, path.as_ref());
    assert_eq!((shape.status, shape.is_json()), (status, json));
    assert!(shape.body.to_string().contains("{explanation}"));
}
