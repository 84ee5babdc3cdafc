//! Unmodified apps, with nothing set but whom to trust: what they do in a pod they do as on a
//! laptop with the real secrets.

use std::path::Path;

use countersign_tests::{
    fake::{Api, Body, Exchange, Server, file, text},
    netns::{GATEWAYS, GatewayProcess, Options, Pod, TestBed, available, run},
};
use http::{Response, StatusCode};
use rstest::rstest;
use serde_json::json;

use super::{TUNNEL, app, script};
use crate::harness::{DUMMY_QASE, check_received, python, tests_directory};

#[rstest]
#[case::v4("--ipv4")]
#[case::v6("--ipv6")]
#[tokio::test(flavor = "multi_thread")]
async fn curl_reaches_slack_over_both_families(#[case] family: &str) -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let gateway = bed.gateway(0).await?;
    let pod = Pod::start(&bed, &[0]).await?;
    let url = "https://slack.com/api/chat.postMessage";
    let arguments = [family, "-sS", url, "-d", "channel=C0CURL", "-d", "text=hi"];
    let shown = app(&pod, "curl", &arguments, "").await.succeeded();
    assert_eq!(shown.json()["ok"], true, "{shown:?}");
    assert_eq!(bed.env.slack.messages("C0CURL"), ["hi"]);
    // The name counts: where the app's own DNS says that Slack is, nobody is.
    let lie = ["--resolve", "slack.com:443:192.0.2.77", "-sS", url];
    let shown = app(&pod, "curl", &lie, "").await.succeeded();
    assert_eq!(shown.json()["error"], "channel_not_found", "{shown:?}");
    check_received(&bed.env, &[]);
    let records = gateway.decisions(2).await?;
    assert_eq!(
        records[0]["caller"]["subject"],
        json!("system:serviceaccount:qa:nightly-dashboard")
    );
    Ok(())
}

#[rstest]
#[case::python("python", "slack_sync.py", "C0SYNC")]
#[case::python_async("python", "slack_async.py", "C0ASYNC")]
#[case::node_7("node", "web_api_7.mjs", "C0WEB7")]
#[case::node_8("node", "web_api_8.mjs", "C0WEB8")]
#[tokio::test(flavor = "multi_thread")]
async fn slacks_sdks_post_read_and_upload(
    #[case] language: &str,
    #[case] name: &str,
    #[case] channel: &str,
) -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let _gateway = bed.gateway(0).await?;
    let pod = Pod::start(&bed, &[0]).await?;
    let Some(shown) = script(&pod, language, name).await else {
        return Ok(());
    };
    let printed = shown.succeeded().json();
    let slack = &bed.env.slack;
    assert_eq!(printed["posted"]["ok"], true, "{printed}");
    assert_eq!(printed["history"]["messages"][0]["text"], "2 of 14 failed");
    assert_eq!(slack.messages(channel), ["2 of 14 failed"]);
    assert_eq!(slack.completed_files(), [("report.txt".to_owned(), 19)]);
    check_received(&bed.env, &[]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_mode_connects_and_acknowledges() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let _gateway = bed.gateway(0).await?;
    let pod = Pod::start(&bed, &[0]).await?;
    let Some(shown) = script(&pod, "node", "socket_mode.mjs").await else {
        return Ok(());
    };
    let printed = shown.succeeded().json();
    let event = &printed["event"];
    assert_eq!(event["text"], "<@U0KRQLJ9H> is the build green?");
    let acknowledged = bed.env.slack.acknowledged();
    assert_eq!(json!(acknowledged), json!([event["envelope"]]));
    check_received(&bed.env, &[]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn qase_api_client_reads_and_writes() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let _gateway = bed.gateway(0).await?;
    let pod = Pod::start(&bed, &[0]).await?;
    let Some(shown) = script(&pod, "python", "qase_api.py").await else {
        return Ok(());
    };
    let printed = shown.succeeded().json();
    assert_eq!(
        printed["runs"],
        json!(["Nightly: checkout", "Nightly: login"])
    );
    assert_eq!(printed["created"], true);
    assert_eq!(printed["deleted"]["exception"], "ForbiddenException");
    check_received(&bed.env, &[]);
    Ok(())
}

/// It reads no variable for its roots, but a file of its package: the bundle is mounted over that,
/// as a pod would do it.
#[tokio::test(flavor = "multi_thread")]
async fn qase_pytest_reports_a_run() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let _gateway = bed.gateway(0).await?;
    let pod = Pod::start(&bed, &[0]).await?;
    let Some(python) = python() else {
        return Ok(());
    };
    let mut asked = pod.app(&python)?;
    asked.args(["-c", "import certifi; print(certifi.where())"]);
    let certifi = run(asked, "").await?.succeeded().stdout;
    pod.namespace()
        .mount(&pod.file("bundle.pem"), Path::new(certifi.trim()))?;

    let suite = tests_directory().join("clients/python/pytest_suite");
    let mut pytest = pod.app(&python)?;
    pytest
        .args(["-B", "-m", "pytest", "-p", "no:cacheprovider", "-q"])
        .arg(suite)
        .env("QASE_MODE", "testops")
        .env("QASE_TESTOPS_PROJECT", "DEMO")
        .env("QASE_TESTOPS_RUN_TITLE", "From qase-pytest")
        .env("QASE_TESTOPS_API_TOKEN", DUMMY_QASE);
    let shown = run(pytest, "").await?;
    // One of the suite's two tests fails, as it should.
    assert!(shown.stdout.contains("1 failed, 1 passed"), "{shown:?}");
    let qase = &bed.env.qase;
    assert_eq!((qase.runs(), qase.results()), (3, 5), "{shown:?}");
    assert_eq!(qase.active_runs(), [""; 0], "{shown:?}");
    check_received(&bed.env, &[]);
    Ok(())
}

/// A repository as files: git can clone from any web server.
struct Repository(std::path::PathBuf);

impl Api for Repository {
    async fn answer(&self, exchange: Exchange) -> Response<Body> {
        let received = exchange.read().await;
        let path = received.path.trim_start_matches('/');
        let known = !path.split('/').any(|part| part == "..");
        let found = tokio::fs::read(self.0.join(path)).await.ok();
        match found.filter(|_| known) {
            Some(bytes) => file(bytes),
            None => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_from_a_host_that_is_no_target() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(TUNNEL).await?;
    let gateway = bed.gateway(0).await?;
    let pod = Pod::start(&bed, &[0]).await?;
    let directory = tempfile::tempdir()?;
    let commands = "git init -q -b main work && cd work && echo hello >README && git add . && \
        git -c user.name=a -c user.email=a@example.com commit -qm first && cd .. && \
        git clone -q --bare work site.git && git -C site.git update-server-info";
    let made = std::process::Command::new("sh")
        .args(["-c", commands])
        .current_dir(&directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .status()?;
    assert!(made.success());
    let repository = Repository(directory.path().to_owned()).into();
    let server = Server::start(&bed.env.authority, &["git.test"], repository).await?;
    bed.internet.add_git(&bed.network.internet, &server)?;

    let mut clone = pod.app("git")?;
    clone.args(["clone", "-q", "https://git.test/site.git"]);
    run(clone, "").await?.succeeded();
    let readme = std::fs::read_to_string(pod.home().join("site/README"))?;
    assert_eq!(readme, "hello\n");
    for request in server.memory().all() {
        assert!(GATEWAYS[0].has(request.connection.peer.ip()));
    }
    tunnelled(&gateway, "git.test:443").await
}

#[rstest]
#[case::v4("203.0.113.99")]
#[case::v6("2001:db8::99")]
#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_neither_tls_nor_http_is_tunnelled_to_its_address(
    #[case] address: &str,
) -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(TUNNEL).await?;
    let gateway = bed.gateway(0).await?;
    let pod = Pod::start(&bed, &[0]).await?;
    let shown = app(&pod, "nc", &["-w", "20", address, "7007"], "EHLO app\r\n").await;
    let from = shown.stdout.trim().parse()?;
    assert!(GATEWAYS[0].has(from), "it came from {from}");
    let authority = if address.contains(':') {
        format!("[{address}]:7007")
    } else {
        format!("{address}:7007")
    };
    tunnelled(&gateway, &authority).await
}

async fn tunnelled(gateway: &GatewayProcess, authority: &str) -> anyhow::Result<()> {
    let records = gateway.decisions(1).await?;
    assert_eq!(records[0]["outcome"], "tunnelled", "{}", records[0]);
    assert_eq!(records[0]["target"]["authority"], authority);
    Ok(())
}

/// Without TLS the name in `Host` is judged, whatever address the app was given.
#[tokio::test(flavor = "multi_thread")]
async fn http_in_clear_is_judged_by_its_host() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(TUNNEL).await?;
    let gateway = bed.gateway(0).await?;
    let pod = Pod::start(&bed, &[0]).await?;
    let shown = app(&pod, "curl", &["-sS", "http://stranger.test/a?b=c"], "").await;
    let head = shown.succeeded().stdout.to_ascii_lowercase();
    assert!(head.starts_with("get /a?b=c http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: stranger.test\r\n"), "{head}");
    assert!(!head.contains("proxy-authorization"), "{head}");
    // The stranger would answer as Slack, and hear what is meant for Slack.
    let lie = [
        "-sS",
        "-w",
        "%{http_code}",
        "--resolve",
        "slack.com:80:203.0.113.99",
        "http://slack.com/api/auth.test",
    ];
    let shown = app(&pod, "curl", &lie, "").await.succeeded();
    let told = shown.stdout.contains(r#""error":"plaintext_refused""#);
    assert!(told && shown.stdout.ends_with("200"), "{shown:?}");
    let records = gateway.decisions(2).await?;
    assert_eq!(records[0]["target"]["authority"], "stranger.test:80");
    assert_eq!(records[1]["reason"], "plaintext_refused", "{}", records[1]);
    Ok(())
}
