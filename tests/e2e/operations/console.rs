//! The console of a real gateway, in a real browser, on a morning on which something failed.
//!
//! `COUNTERSIGN_KEEP_PAGES=DIR` keeps the screenshots there, to look at.

mod bad_input;
mod morning;

use std::{fs, path::Path, process::Stdio};

use countersign_core::clock::Clock;
use countersign_tests::{
    environment::{DASHBOARD, Environment, Options},
    process::Process,
    resources::Resource,
    skipped,
};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

use self::morning::{FLAKY_TESTS, Morning, RELEASE_NOTES};
use crate::harness::{auth_test, chosen, soon, tests_directory, until};

/// What opens the console.
const TOKEN: &str = "console-1f0e9d8c7b6a5f4e3d2c1b0a99887766";

/// The file of the resources that these tests change.
const FILE: &str = "morning.yaml";

/// A gateway whose console asks for a token.
pub(super) struct MorningBed {
    pub(super) env: Environment,
    pub(super) gateway: Process,
}

impl MorningBed {
    async fn start() -> anyhow::Result<Self> {
        let token_file = "    console: { tokenFile: {root}/secrets/console }\n";
        let env = Environment::with(Options {
            extra: token_file.to_owned(),
            ..Options::default()
        })
        .await?;
        let root = env.directory().display().to_string();
        env.edit_gateway("{root}/secrets/console", &format!("{root}/secrets/console"))?;
        env.write_secret("console", TOKEN)?;
        env.write_policy(FILE, resources("/v1/run/*"))?;
        // As an earlier process of the gateway has left it.
        fs::write(env.decision_log(), Morning::log(Clock::system().now()))?;
        Ok(Self {
            gateway: Process::start(&env, None).await?,
            env,
        })
    }

    /// What is answered to a request with these lines in its head, which are ended here.
    pub(super) async fn ask(&self, lines: &[&str]) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.gateway.admin_address()).await?;
        let head = format!("{}\r\n\r\n", lines.join("\r\n"));
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        soon("the console", stream.read_to_end(&mut answer)).await??;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// A page for whoever has the token.
    pub(super) async fn page(&self, path: &str) -> anyhow::Result<String> {
        let request = format!("GET {path} HTTP/1.1");
        let token = format!("authorization: Bearer {TOKEN}");
        self.ask(&[&request, "host: 127.0.0.1", &token]).await
    }

    async fn revision(&self) -> anyhow::Result<String> {
        let answer = self.gateway.admin("/readyz").await?;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let ready: Value = serde_json::from_str(body)?;
        Ok(ready["revision"].as_str().unwrap_or_default().to_owned())
    }

    /// Another revision, which is in force when this returns.
    async fn change(&self, path: &str) -> anyhow::Result<()> {
        let before = self.revision().await?;
        self.env.write_policy(FILE, resources(path))?;
        self.gateway.signal("HUP").await?;
        until("the new revision", async || {
            self.revision().await.is_ok_and(|now| now != before)
        })
        .await
    }
}

/// Two more workloads, one of which reads from Qase at this path.
fn resources(path: &str) -> [Resource; 4] {
    let release = format!("{RELEASE_NOTES}-posts");
    let flaky = format!("{FLAKY_TESTS}-read");
    [
        Resource::workload(RELEASE_NOTES).with("purpose", json!("Posts what a release has fixed")),
        Resource::workload(FLAKY_TESTS).with("environment", json!("production")),
        Resource::access(&release, RELEASE_NOTES, "slack")
            .credential_named("slack-bot")
            .allow(json!({"methods": ["POST"], "paths": ["/api/chat.postMessage"]})),
        Resource::access(&flaky, FLAKY_TESTS, "qase")
            .credential_named("qase-reader")
            .allow(json!({"methods": ["GET"], "paths": [path]})),
    ]
}

/// A refusal of the real gateway: its id.
async fn refused(bed: &MorningBed) -> anyhow::Result<String> {
    let client = bed
        .gateway
        .client()
        .bearer(&bed.env.token("qa", FLAKY_TESTS));
    let asked = http::Request::get("https://api.qase.io/v1/run/DEMO")
        .body(http_body_util::Full::default())?;
    let answer = client.send(asked).await?;
    assert_ne!(answer.status, StatusCode::OK);
    let mut id = None;
    until("the record of the refusal", async || {
        let records = bed.env.decisions().unwrap_or_default();
        let refused = records
            .iter()
            .rfind(|one| one["reason"] == "request_not_allowed" && one["target"]["name"] == "qase");
        id = refused
            .and_then(|one| one["id"].as_str())
            .map(str::to_owned);
        id.is_some()
    })
    .await?;
    Ok(id.unwrap_or_default())
}

/// A gateway with a morning behind it, and the id of one refusal.
async fn morning() -> anyhow::Result<(MorningBed, String)> {
    let bed = MorningBed::start().await?;
    let client = bed.gateway.client().bearer(&bed.env.token("qa", DASHBOARD));
    assert_eq!(client.send(auth_test()).await?.status, StatusCode::OK);
    bed.change("/v1/result/*").await?;
    let id = refused(&bed).await?;
    Ok((bed, id))
}

#[tokio::test]
async fn a_browser_sees_what_failed_and_why() -> anyhow::Result<()> {
    let chromium = chosen("COUNTERSIGN_TEST_CHROMIUM", Path::new("/usr/bin/chromium"));
    let node = chosen("COUNTERSIGN_TEST_NODE", Path::new("/usr/bin/node"));
    let packages = tests_directory().join("clients/node/node_modules/playwright-core");
    let (Some(chromium), Some(node)) = (chromium, node) else {
        return Ok(());
    };
    if !packages.is_dir() {
        skipped("clients/node has no playwright-core; run tests/run");
        return Ok(());
    }
    let (bed, id) = morning().await?;
    let mut command = Command::new(node);
    command
        .arg(tests_directory().join("clients/node/console.mjs"))
        .env("CONSOLE", format!("http://{}", bed.gateway.admin_address()))
        .env("TOKEN", TOKEN)
        .env("RECORD", &id)
        .env("CHROMIUM", chromium)
        .env(
            "KEEP",
            std::env::var_os("COUNTERSIGN_KEEP_PAGES").unwrap_or_default(),
        )
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // Four views of a dozen pages; on a busy machine the browser takes its time.
    let output = tokio::time::timeout(std::time::Duration::from_mins(5), command.output());
    let output = output.await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let found: Value = serde_json::from_slice(&output.stdout)?;
    judge(&found);
    Ok(())
}

/// What the browser found.
fn judge(found: &Value) {
    for nothing in ["axe", "overflow", "errors"] {
        assert_eq!(found[nothing], json!([]), "{nothing}: {found:#}");
    }
    for (name, status) in found["statuses"].as_object().into_iter().flatten() {
        let expected = if name == "missing" { 404 } else { 200 };
        assert_eq!(*status, expected, "{name}");
    }
    let checks = &found["checks"];
    let has = |name: &str, part: &str| {
        let text = checks[name].as_str().unwrap_or_default();
        assert!(text.contains(part), "{part} is not in {name}: {text}");
    };
    has("headline", "go on");
    let actions = checks["actions"].to_string();
    assert!(actions.contains("dashboard-posts-to-slack"), "{actions}");
    has("story", "ended here");
    has("story", "would have to cover /v1/run/DEMO");
    has("story", "ask qa-platform@example.com");
    has("diff", &format!("qa/{FLAKY_TESTS}"));
    has("diff", "/v1/result/*");
    has("skip", "Skip to");
    has("skipped", "main");
    assert_ne!(checks["outline"], "none", "the focus is seen");
    assert_eq!(checks["stops"], json!([true, true, true, true]));
    assert_eq!(
        (&checks["live"], &checks["paused"]),
        (&json!(200), &json!(0))
    );
}

/// What the first screen says at six in the morning, without a browser.
#[tokio::test]
async fn the_first_screen_says_whose_fault_it_is_and_what_to_do() -> anyhow::Result<()> {
    let (bed, id) = morning().await?;
    let page = bed.page("/console").await?;
    for part in [
        "HTTP/1.1 200",
        "causes of failures go on",
        "your access, not your code",
        "slack.com/api/chat.update",
        "revision",
        "qa/slack-bot",
        "still failing",
        "over since",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let mut said = page;
    for path in [
        "/console/failures",
        "/console/requests",
        &format!("/console/request?id={id}"),
        "/console/workloads",
        "/console/workload?name=qa/nightly-dashboard",
        "/console/credentials",
        "/console/credential?name=qa/slack-bot",
        "/console/revisions",
        "/console/review",
    ] {
        let page = bed.page(path).await?;
        assert!(page.starts_with("HTTP/1.1 200"), "{path}: {page}");
        said.push_str(&page);
    }
    for secret in bed.env.secrets() {
        assert!(!said.contains(&secret), "a secret is in a page");
    }
    assert!(
        !said.contains(TOKEN),
        "the console's own token is in a page"
    );
    let log = bed.gateway.printed();
    assert!(
        !log.contains(TOKEN),
        "the console's own token is in the log"
    );
    Ok(())
}
