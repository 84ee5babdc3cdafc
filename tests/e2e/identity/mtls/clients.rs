//! Unmodified clients with a client certificate for the proxy: curl, and Python's urllib3.

use std::process::Stdio;

use countersign_tests::resources::Resource;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use super::*;
use crate::harness::{python, soon, tests_directory};

impl Mesh {
    /// Puts an SVID where clients find it.
    fn give(&self, pair: &Pair) {
        fs::write(self.file("svid.pem"), &pair.certificate).expect("written");
        fs::write(self.file("svid.key"), &pair.key).expect("written");
        fs::write(self.file("root.pem"), self.bed.gateway.roots()).expect("written");
    }

    async fn curl(&self) -> std::process::Output {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "30"])
            .args(["--data", ""])
            .arg("--proxy")
            .arg(format!("https://{}", self.bed.gateway.address()));
        for (option, file) in [
            ("--proxy-cacert", "servers.pem"),
            ("--proxy-cert", "svid.pem"),
            ("--proxy-key", "svid.key"),
            ("--cacert", "root.pem"),
        ] {
            command.arg(option).arg(self.file(file));
        }
        command.arg("https://slack.com/api/auth.test");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .kill_on_drop(true);
        let output = soon("curl's end", command.output()).await;
        output
            .expect("curl ends in time")
            .expect("curl is installed")
    }
}

/// Who proves itself by a certificate alone has no token to exchange.
#[tokio::test]
async fn a_credential_of_the_callers_token_needs_one() -> anyhow::Result<()> {
    let mut mesh = Mesh::start().await;
    mesh.bed.env.edit_policy(DASHBOARD_FILE, |policy| {
        let credential = policy.credential("slack-bot");
        *credential = Resource::credential("slack-bot", "slack").with(
            "tokenExchange",
            json!({"tokenUrl": "https://sts.example.test/token"}),
        );
    })?;
    mesh.bed.reload()?;
    mesh.give(&mesh.domain.svid(PATH));
    let output = mesh.curl().await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("caller_token_missing"), "{output:?}");
    mesh.bed.recorded("caller_token_missing").await?;
    Ok(())
}

#[tokio::test]
async fn curl_proves_itself_by_certificate() -> anyhow::Result<()> {
    let mut mesh = Mesh::start().await;
    mesh.give(&mesh.domain.svid(PATH));
    let output = mesh.curl().await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\"ok\":true"), "{output:?}");
    let record = mesh.bed.record().await?;
    assert_eq!(record["caller"]["subject"], ID, "{record}");
    assert_eq!(record["target"]["authority"], "slack.com:443");

    // Renewed by the workload's agent.
    mesh.give(&mesh.domain.svid(PATH));
    assert!(mesh.curl().await.status.success());
    assert_eq!(mesh.bed.record().await?["reason"], "permitted");

    let stranger = TrustDomain::new(DOMAIN, Clock::system());
    mesh.give(&stranger.svid(PATH));
    let refused = mesh.curl().await;
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && told.contains("unknown ca"),
        "{told}"
    );
    mesh.bed.recorded("identity_invalid").await?;
    Ok(())
}

#[tokio::test]
async fn urllib3_proves_itself_by_certificate() -> anyhow::Result<()> {
    let Some(python) = python() else {
        return Ok(());
    };
    let mut mesh = Mesh::start().await;
    mesh.give(&mesh.domain.svid(PATH));
    let mut child = Command::new(python)
        .arg(tests_directory().join("clients/python/mtls_urllib3.py"))
        .env("PROXY", format!("https://{}", mesh.bed.gateway.address()))
        .env("PROXY_CA", mesh.file("servers.pem"))
        .env("PROXY_CERT", mesh.file("svid.pem"))
        .env("PROXY_KEY", mesh.file("svid.key"))
        .env("GATEWAY_ROOT", mesh.file("root.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut input = child.stdin.take().expect("piped");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut serials = Vec::new();
    for round in ["first", "renewed"] {
        input.write_all(format!("{round}\n").as_bytes()).await?;
        let line = soon("a line", lines.next_line()).await??;
        let printed: Value = serde_json::from_str(&line.expect("the script is alive"))?;
        assert_eq!(printed["answer"]["ok"], true, "{printed}");
        let record = mesh.bed.record().await?;
        assert_eq!(record["caller"]["subject"], ID, "{record}");
        serials.push(record["caller"]["token_id"].to_string());
        mesh.give(&mesh.domain.svid(PATH));
    }
    assert_ne!(serials[0], serials[1], "the renewed one was used");
    Ok(())
}
