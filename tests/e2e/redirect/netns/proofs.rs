//! What the pod shows: a token that is wrong in one way or another, and a certificate.

use std::{ffi::OsStr, fs};

use countersign_tests::{
    environment::{DASHBOARD, DASHBOARD_FILE},
    fake::{Pair, TokenRequest},
    netns::{Options, Pod, TRUST_DOMAIN, TestBed, available},
};
use jiff::SignedDuration;
use serde_json::json;

use super::app;

const PATH: &str = "/ns/qa/sa/nightly-dashboard";
const POST: [&str; 6] = [
    "-sS",
    "https://slack.com/api/chat.postMessage",
    "-d",
    "channel=C0PROOF",
    "-d",
    "text=hi",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_told_in_the_log_by_the_probe_and_to_the_app() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let _gateway = bed.gateway(0).await?;
    let mut pod = Pod::start(&bed, &[0]).await?;
    let mut over = TokenRequest::new("qa", "nightly-dashboard");
    over.lifetime = SignedDuration::from_hours(-1);
    let over = bed.env.issuer.mint(&over);
    let file = pod.token_file();
    let cases = [
        (None, "does not exist", "relay-token-unusable"),
        (Some(""), "is empty", "relay-token-unusable"),
        (Some("two words"), "is not one line", "relay-token-unusable"),
        (
            Some(over.as_str()),
            "is not being renewed",
            "relay-token-expired",
        ),
    ];
    for (content, sentence, reason) in cases {
        match content {
            None => fs::remove_file(&file)?,
            Some(content) => fs::write(&file, content)?,
        }
        let shown = app(&pod, "curl", &POST, "").await;
        if content == Some(over.as_str()) {
            // It is sent on: the gateway knows whose token it is, and refuses it as Slack would.
            assert_eq!(shown.succeeded().json()["error"], "identity_expired");
        } else {
            shown.failed_with("internal error");
        }
        let readiness = pod.readiness()?;
        assert!(readiness.starts_with("HTTP/1.1 503"), "{readiness}");
        assert!(readiness.contains(sentence), "{readiness}");
        let logged = |printed: &str| {
            let line = |line: &&str| line.contains(reason) && line.contains(sentence);
            printed.lines().find(line).map(str::to_owned)
        };
        pod.relay_process()?.said(logged).await?;
    }
    // Of a token that the gateway does not believe the app hears that it is denied.
    fs::write(&file, "not.a.token")?;
    app(&pod, "curl", &POST, "")
        .await
        .failed_with("access denied");
    fs::write(&file, bed.env.token("qa", "nightly-dashboard"))?;
    let shown = app(&pod, "curl", &POST, "").await.succeeded();
    assert_eq!(shown.json()["ok"], true, "{shown:?}");
    let printed = pod.relay_process()?.printed();
    assert!(!printed.contains("eyJ"), "a token was printed");
    Ok(())
}

fn publish(pod: &Pod<'_>, pair: &Pair) -> anyhow::Result<()> {
    for (name, text) in [("svid.pem", &pair.certificate), ("svid-key.pem", &pair.key)] {
        let beside = pod.file("svid.new");
        fs::write(&beside, text)?;
        fs::rename(beside, pod.file(name))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_known_by_its_svid_alone() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options {
        spiffe: true,
        ..Options::default()
    })
    .await?;
    let id = format!("spiffe://{TRUST_DOMAIN}{PATH}");
    bed.env.edit_policy(DASHBOARD_FILE, |policy| {
        policy.workload(DASHBOARD)["match"] = json!([
            {"spiffeId": id},
            {"cluster": "prod-eu", "serviceAccount": DASHBOARD},
        ]);
    })?;
    let gateway = bed.gateway(0).await?;

    let mut pod = Pod::bare(&bed)?;
    fs::remove_file(pod.token_file())?;
    pod.redirect(&["--apply", "--check"]).await?.succeeded();
    publish(&pod, &bed.trust_domain.svid(PATH))?;
    let (certificate, key) = (pod.file("svid.pem"), pod.file("svid-key.pem"));
    let arguments: [&OsStr; 4] = [
        "--certificate".as_ref(),
        certificate.as_ref(),
        "--key".as_ref(),
        key.as_ref(),
    ];
    pod.relay(&[0], &arguments).await?;
    pod.ready().await?;
    let shown = app(&pod, "curl", &POST, "").await.succeeded();
    assert_eq!(shown.json()["ok"], true, "{shown:?}");
    let records = gateway.decisions(1).await?;
    assert_eq!(records[0]["caller"]["subject"], json!(id), "{}", records[0]);

    // Renewed: the next connection shows the new one. Gone: the log and the probe say so.
    publish(&pod, &bed.trust_domain.svid(PATH))?;
    app(&pod, "curl", &POST, "").await.succeeded();
    fs::remove_file(&certificate)?;
    let told = |printed: &str| printed.contains("svid.pem cannot be read").then_some(());
    pod.relay_process()?.said(told).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_a_wrong_certificate_is_told_and_not_believed() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let _gateway = bed.gateway(0).await?;
    let mut pod = Pod::bare(&bed)?;
    pod.redirect(&["--apply", "--check"]).await?.succeeded();
    // The gateway's is signed by another authority than this.
    let other = pod.file("other.pem");
    fs::write(&other, bed.env.authority.pem())?;
    pod.relay_trusting(&[0], &other, &[]).await?;
    app(&pod, "curl", &POST, "")
        .await
        .failed_with("internal error");
    let told = |printed: &str| {
        let line = |line: &&str| {
            line.contains("relay-gateway-unreachable")
                && line.contains("issued by a CA that is not in")
        };
        printed.lines().find(line).map(drop)
    };
    pod.relay_process()?.said(told).await?;
    assert!(pod.readiness()?.starts_with("HTTP/1.1 503"));

    fs::write(&other, "no PEM")?;
    let failed = pod.relay_trusting(&[0], &other, &[]).await;
    let said = failed.expect_err("it does not start").to_string();
    assert!(said.contains("holds no certificate"), "{said}");
    Ok(())
}
