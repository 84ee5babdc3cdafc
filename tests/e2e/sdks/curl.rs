//! curl, without a credential, over HTTP/1.1 and HTTP/2, with a token in either form.

use countersign_tests::fake::Protocol;
use rstest::rstest;
use tokio::process::Command;

use crate::harness::support::{DUMMY_QASE, Outcome, Stage, WEBHOOK};

async fn curl(stage: &Stage, arguments: &[&str]) -> Option<Outcome> {
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
    Some(stage.run(command).await)
}

#[rstest]
#[case::http1("--http1.1", Protocol::Http1)]
#[case::http2("--http2", Protocol::Http2)]
#[tokio::test(flavor = "multi_thread")]
async fn curl_posts_a_message(#[case] version: &str, #[case] protocol: Protocol) {
    let stage = Stage::start().await;
    stage
        .world
        .slack
        .server()
        .set_only_http1(protocol == Protocol::Http1);
    let url = "https://slack.com/api/chat.postMessage";
    let data = ["-d", "channel=C0CURL", "-d", "text=hi"];
    let mut arguments = vec![version, url];
    arguments.extend(data);
    let Some(outcome) = curl(&stage, &arguments).await else {
        return;
    };
    assert_eq!(outcome.succeeded().printed["ok"], true);
    assert_eq!(stage.world.slack.messages("C0CURL"), ["hi"]);
    let received = stage.world.slack.received().all();
    assert_eq!(received[0].connection.protocol, protocol);
    stage.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_has_its_dummy_header_replaced() {
    let stage = Stage::start().await;
    let header = format!("tOKEN: {DUMMY_QASE}");
    let url = "https://api.qase.io/v1/run/DEMO?limit=2";
    let Some(outcome) = curl(&stage, &["-H", &header, url]).await else {
        return;
    };
    assert_eq!(outcome.succeeded().printed["result"]["count"], 2);
    stage.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_shows_its_token_as_bearer() {
    let stage = Stage::start().await;
    let proxy = format!("http://{}", stage.gateway.address());
    let header = format!("Proxy-Authorization: Bearer {}", stage.token);
    let arguments = [
        "--proxy",
        &proxy,
        "--proxy-header",
        &header,
        "--json",
        r#"{"text":"from curl"}"#,
        WEBHOOK,
    ];
    let Some(outcome) = curl(&stage, &arguments).await else {
        return;
    };
    outcome.succeeded();
    assert_eq!(stage.world.slack.messages("webhook"), ["from curl"]);
    stage.check_received();
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_without_a_token_gets_nowhere() {
    let stage = Stage::start().await;
    let proxy = format!("http://{}", stage.gateway.address());
    let arguments = [
        "--proxy",
        &proxy,
        "--fail",
        "https://slack.com/api/auth.test",
    ];
    let Some(outcome) = curl(&stage, &arguments).await else {
        return;
    };
    assert!(outcome.failed_with("407"), "{outcome:?}");
    assert_eq!(stage.world.slack.server().accepted_connections(), 0);
}
