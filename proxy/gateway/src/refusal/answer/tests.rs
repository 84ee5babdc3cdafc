use std::sync::Arc;

use countersign_config::model::{RefusalShape, RefusalShapes};
use countersign_core::{destination::Authority, reason::Reason};
use http::uri::PathAndQuery;
use rstest::rstest;

use super::*;
use crate::observe::{Record, TargetPart, fixture};

const OWNER: &str = "qa-platform@example.com";

/// A record of a request to `https://slack.com/a`.
fn record(method: &str) -> Record {
    let (recorder, _) = fixture::recorder();
    let mut record = recorder.open();
    record.target = Some(TargetPart {
        name: None,
        authority: Authority::with_port("slack.com:443").unwrap(),
        method: Some(method.parse().unwrap()),
        path: Some(PathAndQuery::from_static("/a").into()),
        protocol: "h2",
    });
    record
}

/// A refusal at an API whose errors have this shape.
fn refusal(reason: Reason, status: u16, content_type: &str, body: Value) -> Refusal {
    let mut target = fixture::target();
    let usual = RefusalShape {
        status,
        content_type: content_type.to_owned(),
        body,
    };
    target.refusal = Some(RefusalShapes {
        usual,
        at: Vec::new(),
    });
    let mut refusal = Refusal::new(reason, "for the operator").at(&Arc::new(target));
    refusal.workload = Some(Arc::new(fixture::workload()));
    refusal
}

fn slacks(reason: Reason) -> Refusal {
    let body = json!({"ok": false, "error": "{reason}", "messages": ["[ERROR] {explanation}"]});
    refusal(reason, 200, "application/json", body)
}

fn json_of(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

/// The rule, for all reasons: what is final is told as the API tells its errors.
#[test]
fn what_is_final_is_told_in_the_apis_language_and_nothing_else() {
    let record = record("POST");
    for reason in Reason::ALL {
        let facts = reason.facts();
        let response = answer(&slacks(*reason), &record);
        let body = json_of(&response);
        let told = match facts.language {
            Language::Api => (200, "error"),
            Language::ApiBody => (facts.status, "error"),
            Language::Http => (facts.status, "reason"),
        };
        assert_eq!(response.status().as_u16(), told.0, "{}", facts.code);
        assert_eq!(body[told.1], facts.code, "{body}");
        // Whoever reads it learns the product, a sentence, whom to ask, and the record.
        let line = format!(
            "Countersign: {} Ask {OWNER}. ({}, {})",
            facts.caller, facts.code, record.id
        );
        assert!(body.to_string().contains(&line), "{body}");
        assert!(!body.to_string().contains("for the operator"), "{body}");
    }
}

/// `@slack/web-api` retries every status of these for half an hour.
#[test]
fn no_refusal_of_what_a_person_must_change_may_be_retried() {
    let may_pass = |reason: &&Reason| {
        let facts = reason.facts();
        let at_the_door = facts.code.starts_with("identity_") || facts.status == 407;
        let no_request = [
            "authority_",
            "client_tls",
            "early_data",
            "tunnel_",
            "protocol_",
            "host_",
            "own_certificate",
        ];
        let broken = ["request_malformed", "head_too_large"].contains(&facts.code)
            || no_request.iter().any(|begin| facts.code.starts_with(begin));
        let passes = [408, 429, 499, 500, 502, 503, 504].contains(&facts.status);
        let changed = **reason == Reason::AccessChanged;
        at_the_door || broken || passes || changed
    };
    let told_as_http = |reason: &&Reason| reason.facts().language == Language::Http;
    let retried: Vec<_> = Reason::ALL
        .iter()
        .filter(told_as_http)
        .filter(|reason| !may_pass(reason))
        .map(|reason| reason.facts().code)
        .collect();
    assert_eq!(retried, [""; 0]);
}

#[rstest]
#[case::no_body("HEAD", 403)]
#[case::opens_a_tunnel("CONNECT", 403)]
#[case::shows_the_request("TRACE", 403)]
#[case::in_other_case("trAck", 403)]
#[case::get("GET", 200)]
#[case::options("OPTIONS", 200)]
fn a_2xx_is_only_said_where_its_body_is_read(#[case] method: &str, #[case] status: u16) {
    let response = answer(&slacks(Reason::RequestNotAllowed), &record(method));
    assert_eq!(response.status().as_u16(), status);
}

#[test]
fn an_error_status_is_the_apis_own_whatever_the_method() {
    let body = json!({"status": false, "errorMessage": "{message}"});
    let refusal = refusal(Reason::PathNotCanonical, 403, "application/json", body);
    let response = answer(&refusal, &record("HEAD"));
    assert_eq!(response.status().as_u16(), 403);
}

#[rstest]
#[case::json(
    "application/json",
    r#""a {x} Ask: qa-platform@example.com, path_denied}""#
)]
#[case::text(
    "text/plain; charset=utf-8",
    "a {x} Ask: qa-platform@example.com, path_denied}"
)]
fn a_text_is_sent_as_it_is_unless_it_is_json(#[case] content_type: &str, #[case] expected: &str) {
    let body = json!("a {x} Ask: {owner}, {reason}}");
    let response = answer(
        &refusal(Reason::PathDenied, 403, content_type, body),
        &record("GET"),
    );
    assert_eq!(response.body(), expected);
    assert_eq!(response.headers()[CONTENT_TYPE], content_type);
}

#[test]
fn an_owner_is_a_text_and_nothing_is_filled_into_it() {
    let mut refusal = slacks(Reason::PathDenied);
    let mut workload = fixture::workload();
    workload.owner = "{id} \"x\", {reason}\r\nX: y".into();
    let owner = workload.owner.clone();
    refusal.workload = Some(Arc::new(workload));
    let response = answer(&refusal, &record("GET"));
    let told = json_of(&response)["messages"][0]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(told.contains(&owner), "{told}");
    assert!(!response.headers().contains_key("x"));
}

#[test]
fn a_stranger_is_told_of_no_owner() {
    let (recorder, _) = fixture::recorder();
    let record = recorder.open();
    let response = connect_answer(&Refusal::new(Reason::IdentityMissing, "x"), &record);
    let body = json_of(&response);
    assert_eq!(body["owner"], Value::Null);
    assert!(!body.to_string().contains("Ask"), "{body}");
    assert_eq!(
        response
            .headers()
            .get_all(PROXY_AUTHENTICATE)
            .iter()
            .count(),
        2
    );
}
