//! What is final is told so that no SDK tries again, and its user sees the product, a sentence, whom to ask
//! and the record.

use std::path::Path;

use countersign_tests::{
    environment::DASHBOARD_FILE,
    fake::{Misbehaviour, TokenRequest},
    resources::{Resource, Resources},
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    harness::{Outcome, TestBed, until},
    identity::told_inside::other_audience,
};

/// More than any call takes that is not made again.
const AT_ONCE: f64 = 5.0;

/// No uploads, and a header at Slack that an alias of is refused.
async fn bed() -> anyhow::Result<TestBed> {
    let bed = TestBed::start().await?;
    let mut slack = Resources::from([Resource::extended_target("slack")]);
    slack.target("slack")["routes"] = json!([{
        "host": "slack.com",
        "paths": ["/api/chat.postMessage"],
        "attach": {"slot": "bot", "header": "Authorization", "value": "Bearer {token}"},
        "strip": {"formFields": ["token"], "headers": ["X-Api-Key"]},
    }]);
    bed.env.write_policy("slack.yaml", slack)?;
    let no_uploads = |policy: &mut Resources| {
        let access = policy.access("dashboard-posts-to-slack");
        if let Some(rules) = access["allow"].as_array_mut() {
            rules.retain(|rule| rule["hosts"] != json!(["files.slack.com"]));
        }
    };
    bed.env.edit_policy(DASHBOARD_FILE, no_uploads)?;
    bed.reload()?;
    Ok(bed)
}

/// How a call ends for its user, and how many requests it takes.
struct Expected {
    call: &'static str,
    reason: &'static str,
    told: &'static str,
    requests: usize,
}

const fn call(call: &'static str, reason: &'static str, told: &'static str) -> Expected {
    Expected {
        call,
        reason,
        told,
        requests: 1,
    }
}

/// Everything is said: the product, a sentence, whom to ask.
const ALL: &str = "Ask qa-platform@example.com. (";

/// An upload asks for a place first.
const fn upload(name: &'static str, told: &'static str) -> Expected {
    Expected {
        requests: 2,
        ..call(name, "request_not_allowed", told)
    }
}

#[rustfmt::skip]
const SLACK_SDK: &[Expected] = &[
    call("slack_sdk path_denied", "path_denied", ALL),
    call("slack_sdk request_not_allowed", "request_not_allowed", ALL),
    call("slack_sdk form_unreadable", "form_unreadable", ALL),
    call("slack_sdk path_not_canonical", "path_not_canonical", ALL),
    call("slack_sdk method_override", "method_override", ALL),
    call("slack_sdk path_override", "path_override", ALL),
    call("slack_sdk header_alias", "header_alias", ALL),
    call("slack_sdk plaintext_refused", "plaintext_refused", ALL),
    upload("slack_sdk upload", ALL),
    call("slack_sdk webhook", "request_not_allowed", ALL),
    call("requests request_not_allowed", "request_not_allowed", ALL),
    call("requests webhook", "request_not_allowed", ALL),
    call("requests download", "request_not_allowed", ALL),
    call("requests head", "request_not_allowed", "403"),
    call("urllib request_not_allowed", "request_not_allowed", ALL),
];

#[rustfmt::skip]
const WEB_API_7: &[Expected] = &[
    call("web-api 7 path_denied", "path_denied", ALL),
    call("web-api 7 request_not_allowed", "request_not_allowed", ALL),
    call("web-api 7 form_unreadable", "form_unreadable", ALL),
    call("web-api 7 path_not_canonical", "path_not_canonical", ALL),
    call("web-api 7 method_override", "method_override", ALL),
    call("web-api 7 path_override", "path_override", ALL),
    call("web-api 7 header_alias", "header_alias", ALL),
    // It shows the body of no upload.
    upload("web-api 7 upload", "Retry header did not contain a valid timeout"),
];

#[rustfmt::skip]
const WEB_API_8: &[Expected] = &[
    call("web-api 8 path_denied", "path_denied", ALL),
    call("web-api 8 request_not_allowed", "request_not_allowed", ALL),
    call("web-api 8 form_unreadable", "form_unreadable", ALL),
    call("web-api 8 path_not_canonical", "path_not_canonical", ALL),
    call("web-api 8 method_override", "method_override", ALL),
    call("web-api 8 path_override", "path_override", ALL),
    call("web-api 8 header_alias", "header_alias", ALL),
    upload("web-api 8 upload", "Retry header did not contain a valid timeout"),
    call("undici request_not_allowed", "request_not_allowed", ALL),
    call("undici webhook", "request_not_allowed", ALL),
];

#[rustfmt::skip]
const QASE_API_CLIENT: &[Expected] = &[
    call("qase-api-client request_not_allowed", "request_not_allowed", ALL),
    call("qase-api-client path_not_canonical", "path_not_canonical", ALL),
    call("qase-api-client method_override", "method_override", ALL),
];

#[rustfmt::skip]
const QASEIO: &[Expected] = &[
    call("qaseio request_not_allowed", "request_not_allowed", ALL),
    call("qaseio path_not_canonical", "path_not_canonical", ALL),
    call("qaseio method_override", "method_override", ALL),
];

async fn run(bed: &TestBed, script: &str) -> Option<Outcome> {
    if Path::new(script)
        .extension()
        .is_some_and(|kind| kind == "py")
    {
        bed.python(script).await
    } else {
        bed.node(script).await
    }
}

#[rstest]
#[case::slack_sdk("refused_slack.py", SLACK_SDK)]
#[case::web_api_7("refused_web_api_7.mjs", WEB_API_7)]
#[case::web_api_8("refused_web_api_8.mjs", WEB_API_8)]
#[case::qase_api_client("refused_qase.py", QASE_API_CLIENT)]
#[case::qaseio("refused_qase.mjs", QASEIO)]
#[tokio::test(flavor = "multi_thread")]
async fn no_sdk_tries_again_what_is_final(#[case] script: &str, #[case] expected: &[Expected]) {
    let mut bed = bed().await.unwrap();
    let Some(outcome) = run(&bed, script).await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    let calls = printed.as_array().unwrap();
    assert_eq!(calls.len(), expected.len(), "{printed}");
    for (seen, expected) in calls.iter().zip(expected) {
        assert_eq!(seen["call"], expected.call);
        let told = seen["told"].as_str().unwrap();
        let seconds = seen["seconds"].as_f64().unwrap();
        println!(
            "| {} | {} | {seconds:.2} s |",
            expected.call,
            one_line(told)
        );
        let mut last = Value::Null;
        for _ in 0..expected.requests {
            last = bed.record().await.unwrap();
        }
        assert_eq!(last["reason"], expected.reason, "{}: {last}", expected.call);
        assert!(told.contains(expected.told), "{}: {told}", expected.call);
        if expected.told == ALL {
            for part in [
                "Countersign: ",
                last["id"].as_str().unwrap(),
                expected.reason,
            ] {
                assert!(told.contains(part), "{}: {told}", expected.call);
            }
        }
        assert!(seconds < AT_ONCE, "{}: {seconds} s", expected.call);
        assert!(
            !told.starts_with("succeeded: {"),
            "{}: {told}",
            expected.call
        );
    }
    let requests: usize = expected.iter().map(|call| call.requests).sum();
    let records = bed.gateway.stop().await.unwrap();
    assert_eq!(records.len(), requests, "it tried again: {records:?}");
}

/// The pod's token is refused for good. At CONNECT they would try for minutes, and then say "fetch failed".
#[rstest]
#[case::slack_sdk("refused_slack.py", SLACK_SDK)]
#[case::web_api_7("refused_web_api_7.mjs", WEB_API_7)]
#[case::web_api_8("refused_web_api_8.mjs", WEB_API_8)]
#[case::qase_api_client("refused_qase.py", QASE_API_CLIENT)]
#[case::qaseio("refused_qase.mjs", QASEIO)]
#[tokio::test(flavor = "multi_thread")]
async fn no_sdk_tries_again_with_a_token_that_is_refused_for_good(
    #[case] script: &str,
    #[case] expected: &[Expected],
) {
    let mut bed = TestBed::start().await.unwrap();
    bed.token = other_audience(&bed.env, &TokenRequest::new("qa", "nightly-dashboard"));
    let Some(outcome) = run(&bed, script).await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    let calls = printed.as_array().unwrap();
    assert_eq!(calls.len(), expected.len(), "{printed}");
    for (seen, expected) in calls.iter().zip(expected) {
        let told = seen["told"].as_str().unwrap();
        let record = bed.recorded("identity_audience").await.unwrap();
        println!(
            "| {} | {} | {} s |",
            expected.call,
            one_line(told),
            seen["seconds"]
        );
        // HEAD has no body.
        if expected.told == "403" {
            assert!(told.contains("403"), "{told}");
            continue;
        }
        let id = record["id"].as_str().unwrap();
        let whole = format!("{ALL}identity_audience, {id})");
        assert!(told.contains(&whole), "{}: {told}", expected.call);
    }
    let records = bed.gateway.stop().await.unwrap();
    assert_eq!(records.len(), calls.len(), "it tried again: {records:?}");
}

/// As if it called Slack itself: `slack_sdk` repeats what met a closed connection, and no 502.
#[tokio::test(flavor = "multi_thread")]
async fn slack_sdk_repeats_a_call_whose_connection_slack_closed() {
    let bed = TestBed::start().await.unwrap();
    bed.env
        .slack
        .misbehave(Some(Misbehaviour::ResetAfterRequest));
    let mends = async {
        // The probe's connection, and that of the first attempt.
        let slack = &bed.env.slack;
        let server = slack.server();
        let two = async || server.accepted_connections() >= 2 && server.open_connections() == 0;
        until("two connections that are closed", two).await.unwrap();
        slack.misbehave(None);
    };
    let (outcome, ()) = tokio::join!(bed.python("slack_once.py"), mends);
    let Some(outcome) = outcome else { return };
    let printed = outcome.succeeded().printed;
    assert_eq!(printed["posted"]["ok"], true, "{printed}");
    assert_eq!(bed.env.slack.messages("C0ONCE"), ["hello"]);
    let records = bed.gateway.stop().await.unwrap();
    let reasons: Vec<_> = records.iter().map(|record| &record["reason"]).collect();
    assert_eq!(reasons, ["upstream_broken", "permitted"], "{records:?}");
}

/// How many uploads a client sends: three sizes each.
#[rstest]
#[case::python("refused_uploads.py", 8)]
#[case::node("refused_uploads.mjs", 4)]
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upload_is_told_why(#[case] script: &str, #[case] clients: usize) {
    let mut bed = TestBed::start().await.unwrap();
    let Some(outcome) = run(&bed, script).await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    let calls = printed.as_array().unwrap();
    assert_eq!(calls.len(), 3 * clients, "{printed}");
    for seen in calls {
        let told = seen["told"].as_str().unwrap();
        let record = bed.record().await.unwrap();
        let (id, reason) = (
            record["id"].as_str().unwrap(),
            record["reason"].as_str().unwrap(),
        );
        let whole = format!("({reason}, {id})");
        println!(
            "| {} | {} | {} s |",
            seen["call"], seen["size"], seen["seconds"]
        );
        assert!(told.contains(&whole), "{}: {told}", seen["call"]);
        assert_eq!(record["outcome"], "refused", "{record}");
    }
    let records = bed.gateway.stop().await.unwrap();
    assert_eq!(records.len(), calls.len(), "it tried again: {records:?}");
}

/// curl awaits `100 Continue` before it sends more than a mebibyte.
#[rstest]
#[case::http1("--http1.1", "")]
#[case::http1_without_expect("--http1.1", "Expect:")]
#[case::http1_chunked("--http1.1", "Transfer-Encoding: chunked")]
#[case::http2("--http2", "")]
#[tokio::test(flavor = "multi_thread")]
async fn curl_is_told_why_its_upload_was_refused(
    #[case] version: &str,
    #[case] header: &str,
    #[values(300_000, 1 << 20, 32 << 20)] size: usize,
) {
    let mut bed = TestBed::start().await.unwrap();
    let body = bed.env.directory().join("body");
    std::fs::write(&body, vec![b'x'; size]).unwrap();
    let mut command = tokio::process::Command::new("curl");
    command.args(["--silent", "--show-error", version]);
    if !header.is_empty() {
        command.args(["-H", header]);
    }
    command.arg("--data-binary");
    command.arg(format!("@{}", body.display()));
    command.arg("https://slack.com/api/chat.delete");
    let printed = bed.run(command).await.succeeded().printed;
    let record = bed.record().await.unwrap();
    assert_eq!(
        printed["error"], "request_not_allowed",
        "{printed} {record}"
    );
    assert_eq!(record["reason"], "request_not_allowed", "{record}");
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}
