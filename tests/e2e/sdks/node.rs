//! Node's clients reach Slack and Qase without a secret.
//!
//! Of these, only `qaseio` finds the proxy by `HTTPS_PROXY`; the others are told of it in their
//! own options. Without those they wait for transparent steering.

use rstest::rstest;
use serde_json::json;

use crate::harness::TestBed;

#[rstest]
#[case::seven("web_api_7.mjs", "C0WEB7")]
#[case::eight("web_api_8.mjs", "C0WEB8")]
#[tokio::test(flavor = "multi_thread")]
async fn web_api_posts_reads_and_uploads(#[case] script: &str, #[case] channel: &str) {
    let bed = TestBed::start().await.unwrap();
    let Some(outcome) = bed.node(script).await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    let slack = &bed.env.slack;
    assert_eq!(printed["posted"]["ok"], true, "{printed}");
    assert_eq!(printed["history"]["messages"][0]["text"], "2 of 14 failed");
    assert_eq!(printed["uploaded"]["ok"], true);
    assert_eq!(slack.messages(channel), ["2 of 14 failed"]);
    assert_eq!(slack.completed_files(), [("report.txt".to_owned(), 19)]);
    // The SDK sent its dummy in the form, too: the rest of the form is what it was.
    let posted = &slack.received().at("/api/chat.postMessage")[0];
    let mut form = posted.form();
    form.sort();
    let fields = [("channel", channel), ("text", "2 of 14 failed")];
    assert_eq!(
        form,
        fields.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    bed.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_mode_connects_and_acknowledges() {
    let bed = TestBed::start().await.unwrap();
    let Some(outcome) = bed.node("socket_mode.mjs").await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    let event = &printed["event"];
    assert_eq!(
        event["text"], "<@U0KRQLJ9H> is the build green?",
        "{printed}"
    );
    let acknowledged = bed.env.slack.acknowledged();
    assert_eq!(json!(acknowledged), json!([event["envelope"]]));
    bed.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn qaseio_reads_and_writes() {
    let bed = TestBed::start().await.unwrap();
    let Some(outcome) = bed.node("qase.mjs").await else {
        return;
    };
    let printed = outcome.succeeded().printed;
    assert_eq!(
        printed["runs"],
        json!(["Nightly: checkout", "Nightly: login"])
    );
    assert_eq!(printed["defects"], json!(["Total is off by one"]));
    assert_eq!(
        (&printed["created"], &printed["result"]),
        (&json!(true), &json!(true))
    );
    bed.check_received();
}
