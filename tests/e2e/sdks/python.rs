//! Python's clients reach Slack and Qase without a secret.

use rstest::rstest;
use serde_json::json;

use crate::harness::support::Stage;

#[rstest]
#[case::sync("slack_sync.py", "C0SYNC", "from slack_sdk")]
#[case::asynchronous("slack_async.py", "C0ASYNC", "from slack_sdk on aiohttp")]
#[tokio::test(flavor = "multi_thread")]
async fn slack_sdk_posts_reads_uploads_and_calls_the_webhook(
    #[case] script: &str,
    #[case] channel: &str,
    #[case] hooked: &str,
) {
    let stage = Stage::start().await;
    let Some(outcome) = stage.python(script).await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    let slack = &stage.world.slack;
    assert_eq!(printed["posted"]["ok"], true, "{printed}");
    assert_eq!(printed["history"]["messages"][0]["text"], "2 of 14 failed");
    assert_eq!(printed["uploaded"]["files"][0]["size"], 19);
    assert_eq!(printed["webhook"], json!({"status": 200, "body": "ok"}));
    assert_eq!(slack.messages(channel), ["2 of 14 failed"]);
    assert_eq!(slack.completed_files(), [("report.txt".to_owned(), 19)]);
    assert_eq!(slack.messages("webhook"), [hooked]);
    stage.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn qase_api_client_reads_and_writes_and_is_refused_in_qases_own_way() {
    let stage = Stage::start().await;
    let Some(outcome) = stage.python("qase_api.py").await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    assert_eq!(
        printed["runs"],
        json!(["Nightly: checkout", "Nightly: login"])
    );
    assert_eq!(printed["results"], 3);
    assert_eq!(printed["defects"], json!(["Total is off by one"]));
    assert_eq!(
        (&printed["created"], &printed["result"]),
        (&json!(true), &json!(true))
    );
    // Policy allows no DELETE; the refusal is an exception at once, and Qase hears nothing of it.
    assert_eq!(
        printed["deleted"],
        json!({"exception": "ForbiddenException", "status": 403})
    );
    let received = stage.world.qase.received().of_pods();
    assert!(
        received
            .iter()
            .all(|request| request.method != http::Method::DELETE)
    );
    assert_eq!(received.len(), 5);
    stage.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_needs_no_credential_at_all() {
    let stage = Stage::start().await;
    let Some(outcome) = stage.python("plain_requests.py").await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    assert_eq!(printed["posted"]["ok"], true, "{printed}");
    assert_eq!(printed["runs"]["result"]["total"], 2);
    assert_eq!(printed["webhook"], json!({"status": 200, "body": "ok"}));
    stage.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn httpx_has_its_dummies_replaced_in_headers_and_form() {
    let stage = Stage::start().await;
    let Some(outcome) = stage.python("plain_httpx.py").await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    assert_eq!(printed["posted"]["ok"], true, "{printed}");
    assert_eq!(
        printed["posted"]["message"]["text"],
        "2 of 14 failed & more"
    );
    assert_eq!(printed["defects"]["result"]["count"], 1);
    let posted = &stage.world.slack.received().at("/api/chat.postMessage")[0];
    assert_eq!(posted.body, "channel=C0HTTPX&text=2+of+14+failed+%26+more");
    stage.check_received();
}

/// The default of `slack_sdk` before 3.28.
#[tokio::test(flavor = "multi_thread")]
async fn slack_sdk_posts_at_www_slack_com() {
    let stage = Stage::start().await;
    let written = stage
        .world
        .policy_directory()
        .join("nightly-dashboard.yaml");
    let written = std::fs::read_to_string(written).expect("the world's policy");
    let www = written.replace("hosts: [slack.com]", "hosts: [www.slack.com]");
    stage
        .world
        .write_policy("nightly-dashboard.yaml", &www)
        .expect("it can be written");
    assert!(stage.gateway.reloader().reload().is_ok());
    let Some(outcome) = stage.python("slack_www.py").await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    assert_eq!(printed["posted"]["ok"], true, "{printed}");
    assert_eq!(stage.world.slack.messages("C0WWW"), ["2 of 14 failed"]);
    let all = stage.world.slack.received().all();
    assert!(all.iter().all(|request| request.host == "www.slack.com"));
    stage.check_received();
}
