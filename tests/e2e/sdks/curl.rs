//! curl, without a credential, over HTTP/1.1 and HTTP/2, with a token in either form.

use countersign_tests::fake::Protocol;
use rstest::rstest;
use tokio::process::Command;

use crate::harness::{DUMMY_QASE, Outcome, TestBed, WEBHOOK};

async fn curl(bed: &TestBed, arguments: &[&str]) -> Option<Outcome> {
    if Command::new("curl")
        .arg("--version")
        .output()
        .await
        .is_err()
    {
        countersign_tests::skipped("curl is not there; run tests/run");
        return None;
    }
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error"]).args(arguments);
    Some(bed.run(command).await)
}

#[rstest]
#[case::http1("--http1.1", Protocol::Http1)]
#[case::http2("--http2", Protocol::Http2)]
#[tokio::test(flavor = "multi_thread")]
async fn curl_posts_a_message(#[case] version: &str, #[case] protocol: Protocol) {
    let bed = TestBed::start().await.unwrap();
    bed.env.slack.speak(protocol);
    let url = "https://slack.com/api/chat.postMessage";
    let data = ["-d", "channel=C0CURL", "-d", "text=hi"];
    let mut arguments = vec![version, url];
    arguments.extend(data);
    let Some(outcome) = curl(&bed, &arguments).await else {
        return;
    };
    assert_eq!(outcome.succeeded().printed["ok"], true);
    assert_eq!(bed.env.slack.messages("C0CURL"), ["hi"]);
    let received = bed.env.slack.received().all();
    assert_eq!(received[0].connection.protocol, protocol);
    bed.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_has_its_dummy_header_replaced() {
    let bed = TestBed::start().await.unwrap();
    let header = format!("tOKEN: {DUMMY_QASE}");
    let url = "https://api.qase.io/v1/run/DEMO?limit=2";
    let Some(outcome) = curl(&bed, &["-H", &header, url]).await else {
        return;
    };
    assert_eq!(outcome.succeeded().printed["result"]["count"], 2);
    bed.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_shows_its_token_as_bearer() {
    let bed = TestBed::start().await.unwrap();
    let proxy = format!("http://{}", bed.gateway.address());
    let header = format!("Proxy-Authorization: Bearer {}", bed.token);
    let arguments = [
        "--proxy",
        &proxy,
        "--proxy-header",
        &header,
        "--json",
        r#"{"text":"from curl"}"#,
        WEBHOOK,
    ];
    let Some(outcome) = curl(&bed, &arguments).await else {
        return;
    };
    outcome.succeeded();
    assert_eq!(bed.env.slack.messages("webhook"), ["from curl"]);
    bed.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_without_a_token_gets_nowhere() {
    let bed = TestBed::start().await.unwrap();
    let proxy = format!("http://{}", bed.gateway.address());
    let arguments = [
        "--proxy",
        &proxy,
        "--fail",
        "https://slack.com/api/auth.test",
    ];
    let Some(outcome) = curl(&bed, &arguments).await else {
        return;
    };
    assert!(outcome.failed_with("407"), "{outcome:?}");
    assert_eq!(bed.env.slack.server().accepted_connections(), 0);
}
