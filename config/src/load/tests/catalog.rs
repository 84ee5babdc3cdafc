//! The targets that ship: what each request gets there.

use http::uri::PathAndQuery;
use rstest::rstest;

use super::{catalog, outline};
use crate::{
    host::Host,
    model::{AuthFailure, AuthFailureAction, AuthFailureBlame, Place, RateLimitScope, Target},
    path::CanonicalPath,
    yaml::Findings,
};

fn target(name: &str) -> std::sync::Arc<Target> {
    let findings = Findings::default();
    let documents = super::parse(&catalog(), &findings);
    let parts = crate::validate::resources(&documents, None, &findings);
    assert_eq!(outline(&findings.into_problems()), [""; 0]);
    let found = parts
        .targets
        .iter()
        .find(|target| target.name.name() == name);
    found.unwrap().clone()
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
        let on_web_api = route
            .host
            .as_ref()
            .is_some_and(|host| host.to_string() == "slack.com");
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
fn each_api_refuses_in_its_own_language_and_says_how_credentials_fail() {
    let slack = target("slack");
    let refusal = slack.refusal.as_ref().unwrap();
    assert_eq!(
        (refusal.status, &refusal.body),
        (
            200,
            &serde_json::json!({ "ok": false, "error": "{reason}" })
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
    // The bytes of files are never looked into, whatever they are labelled.
    for route in slack.routes.iter().filter(|route| route.deny.is_none()) {
        let files = route
            .host
            .as_ref()
            .is_some_and(|host| host.to_string() == "files.slack.com");
        assert_eq!(route.inspect_body, !files);
    }
    assert_eq!(slack.rate_limit, RateLimitScope::Path);

    let qase = target("qase");
    let refusal = qase.refusal.as_ref().unwrap();
    assert_eq!(
        (refusal.status, &refusal.body),
        (
            403,
            &serde_json::json!({ "status": false, "errorMessage": "{message}" })
        )
    );
    assert_eq!(qase.auth_failure[0].status, [401]);
    assert_eq!(qase.rate_limit, RateLimitScope::Credential);
    assert!(qase.probe.is_some());
}
