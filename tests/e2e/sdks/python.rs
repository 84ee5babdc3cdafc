//! Python's clients reach Slack and Qase without a secret.

use countersign_tests::{environment::DASHBOARD_FILE, resources::Resources};
use rstest::rstest;
use serde_json::json;

use crate::harness::TestBed;

#[rstest]
#[case::sync("slack_sync.py", "C0SYNC", "from slack_sdk")]
#[case::asynchronous("slack_async.py", "C0ASYNC", "from slack_sdk on aiohttp")]
#[tokio::test(flavor = "multi_thread")]
async fn slack_sdk_posts_reads_uploads_and_calls_the_webhook(
    #[case] script: &str,
    #[case] channel: &str,
    #[case] hooked: &str,
) {
    let bed = TestBed::start().await.unwrap();
    let Some(outcome) = bed.python(script).await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    let slack = &bed.env.slack;
    assert_eq!(printed["posted"]["ok"], true, "{printed}");
    assert_eq!(printed["history"]["messages"][0]["text"], "2 of 14 failed");
    assert_eq!(printed["uploaded"]["files"][0]["size"], 19);
    assert_eq!(printed["webhook"], json!({"status": 200, "body": "ok"}));
    assert_eq!(slack.messages(channel), ["2 of 14 failed"]);
    assert_eq!(slack.completed_files(), [("report.txt".to_owned(), 19)]);
    assert_eq!(slack.messages("webhook"), [hooked]);
    bed.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn qase_api_client_reads_and_writes_and_is_refused_in_qases_own_way() {
    let bed = TestBed::start().await.unwrap();
    let Some(outcome) = bed.python("qase_api.py").await else {
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
    let received = bed.env.qase.received().of_pods();
    assert!(
        received
            .iter()
            .all(|request| request.method != http::Method::DELETE)
    );
    assert_eq!(received.len(), 5);
    bed.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_needs_no_credential_at_all() {
    let bed = TestBed::start().await.unwrap();
    let Some(outcome) = bed.python("plain_requests.py").await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    assert_eq!(printed["posted"]["ok"], true, "{printed}");
    assert_eq!(printed["runs"]["result"]["total"], 2);
    assert_eq!(printed["webhook"], json!({"status": 200, "body": "ok"}));
    bed.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn httpx_has_its_dummies_replaced_in_headers_and_form() {
    let bed = TestBed::start().await.unwrap();
    let Some(outcome) = bed.python("plain_httpx.py").await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    assert_eq!(printed["posted"]["ok"], true, "{printed}");
    assert_eq!(
        printed["posted"]["message"]["text"],
        "2 of 14 failed & more"
    );
    assert_eq!(printed["defects"]["result"]["count"], 1);
    let posted = &bed.env.slack.received().at("/api/chat.postMessage")[0];
    assert_eq!(posted.body, "channel=C0HTTPX&text=2+of+14+failed+%26+more");
    bed.check_received();
}

/// The default of `slack_sdk` before 3.28.
#[tokio::test(flavor = "multi_thread")]
async fn slack_sdk_posts_at_www_slack_com() {
    let bed = TestBed::start().await.unwrap();
    let www = |policy: &mut Resources| {
        let access = policy.access("dashboard-posts-to-slack");
        access["allow"][0]["hosts"] = json!(["www.slack.com"]);
    };
    bed.env.edit_policy(DASHBOARD_FILE, www).unwrap();
    bed.reload().unwrap();
    let Some(outcome) = bed.python("slack_www.py").await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    assert_eq!(printed["posted"]["ok"], true, "{printed}");
    assert_eq!(bed.env.slack.messages("C0WWW"), ["2 of 14 failed"]);
    let all = bed.env.slack.received().all();
    assert!(all.iter().all(|request| request.host == "www.slack.com"));
    bed.check_received();
}
