//! Reasons that no other test provokes.

use std::{fs, process::Command, time::Duration};

use countersign_tests::{
    client::read_head,
    environment::{DASHBOARD, Environment},
    fake::Protocol,
    gateway::Gateway,
    process, provoked, skipped,
};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::harness::{HOST, TestBed, get, soon};

#[tokio::test]
async fn a_secret_of_a_vault_that_is_not_configured_is_unsupported() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .policy(|policy| {
            policy.credential("example")["static"] = json!({
                "token": {"vault": {"mount": "secret", "path": "qa/example", "key": "token"}},
            });
        })
        .start()
        .await?;
    assert_eq!(bed.client().send(get("/some")).await?.status, 503);
    bed.refused("credential_unsupported").await?;
    Ok(())
}

/// A connection to everybody is one that no machine lets out.
#[tokio::test]
async fn a_network_that_lets_nothing_out_is_the_platforms() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .resolve(HOST, 443, "255.255.255.255:443".parse()?)
        .start()
        .await?;
    assert_eq!(bed.client().send(get("/some")).await?.status, 502);
    bed.refused("network_unreachable").await?;
    Ok(())
}

#[tokio::test]
async fn connections_that_are_all_busy_are_the_gateways() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .limits(|limits| {
            limits.upstream_connections = 1;
            limits.connect_timeout = Duration::from_millis(200);
        })
        .start()
        .await?;
    bed.api.speak(Protocol::Http1);
    let mut busy = bed.client().over(Protocol::Http1).tls_stream(HOST).await?;
    let head = format!("POST /echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\nx");
    busy.write_all(head.as_bytes()).await?;
    // The API has begun to answer.
    soon("an answer", read_head(&mut busy)).await??;
    assert_eq!(bed.client().send(get("/some")).await?.status, 503);
    bed.recorded("overloaded").await?;
    Ok(())
}

/// A target at a host that the environment has no address for.
fn far(host: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1alpha1
kind: TargetService
metadata: {{ name: far }}
spec: {{ hosts: [{host}], routes: [{{ paths: [\"/**\"] }}] }}
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: {{ name: far, namespace: qa }}
spec:
  owner: qa@example.com
  workloads: [{DASHBOARD}]
  target: far
  allow: [{{ methods: [GET], paths: [\"/**\"] }}]
"
    )
}

#[tokio::test]
async fn a_name_that_is_nobodys_is_the_upstreams() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    // A name that no server need be asked for (RFC 6761).
    env.write_yaml("far.yaml", &far("api.invalid"))?;
    let mut gateway = Gateway::start(&env).await?;
    let token = env.token("qa", DASHBOARD);
    let mut request = get("/some");
    *request.uri_mut() = "https://api.invalid/some".parse()?;
    let answer = gateway.client(&env).bearer(&token).send(request).await?;
    assert_eq!(answer.status, 502, "{}", answer.text());
    let record = soon("a record", gateway.decisions().next()).await?;
    assert_eq!(record["reason"], "upstream_resolve", "{record}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn name_servers_that_are_away_are_the_platforms() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    env.write_yaml("far.yaml", &far("api.example.test"))?;
    let file = |name: &str| env.directory().join(name);
    // Nobody listens there.
    fs::write(
        file("resolv.conf"),
        "nameserver 127.9.9.9\noptions timeout:1 attempts:1\n",
    )?;
    let inside = "mount --bind \"$1\" /etc/resolv.conf || exit 99
        shift; exec \"$@\"";
    let ended = Command::new("unshare")
        .args(["--mount", "sh", "-c", inside, "sh"])
        .arg(file("resolv.conf"))
        .arg(process::binary()?)
        .args(["exec", "--config"])
        .arg(env.gateway_yaml())
        .args(["--as", "qa/nightly-dashboard", "--decisions"])
        .arg(file("of-exec.jsonl"))
        .args(["--", "curl", "-sS", "https://api.example.test/some"])
        .output()?;
    let told = String::from_utf8_lossy(&ended.stderr);
    if ended.status.code() == Some(99) || told.contains("unshare failed") {
        skipped("name servers that are away: a mount namespace cannot be made here");
        return Ok(());
    }
    let log = fs::read_to_string(file("of-exec.jsonl"))?;
    assert!(
        log.contains("\"reason\":\"resolver_unavailable\""),
        "{log}\n{told}"
    );
    provoked::note_text(&log);
    Ok(())
}
