//! Unmodified clients as child processes, and what must arrive of their requests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use countersign_gateway::ca::Ca;
use countersign_tests::{
    environment::Environment,
    fake::{Memory, Received, Slack},
};
use serde_json::Value;
use tokio::process::Command;

use super::TestBed;

/// What clients hold instead of secrets: they look like the real thing, as some SDKs want.
pub(crate) const DUMMY_BOT: &str = "xoxb-000000000000-0000000000000-countersigncountersign00";
/// As [`DUMMY_BOT`], for Socket Mode.
pub(crate) const DUMMY_APP: &str = "xapp-1-A0000000000-0000000000000-c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0";
/// As [`DUMMY_BOT`], for Qase.
pub(crate) const DUMMY_QASE: &str =
    "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0";
/// The webhook as the app knows it.
pub(crate) const WEBHOOK: &str = "https://hooks.slack.com/services/countersign/dashboard";

/// The longest that a client may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a client left.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What it printed, as JSON; null if it is none.
    pub(crate) printed: Value,
    stdout: String,
    stderr: String,
    success: bool,
}

impl Outcome {
    /// Fails the test if the client failed.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert!(
            self.success,
            "the client failed\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout, self.stderr
        );
        self
    }

    /// Whether the client failed and said this.
    pub(crate) fn failed_with(&self, text: &str) -> bool {
        !self.success && self.stderr.contains(text)
    }
}

impl TestBed {
    /// Runs a Python script of `clients/python`, or says that it cannot.
    pub(crate) async fn python(&self, script: &str) -> Option<Outcome> {
        Some(self.script(&python()?, "python", script).await)
    }

    /// Runs a Node script of `clients/node`, or says that it cannot.
    pub(crate) async fn node(&self, script: &str) -> Option<Outcome> {
        let packages = tests_directory().join("clients/node/node_modules");
        if !packages.is_dir() {
            countersign_tests::skipped("clients/node has no packages; run tests/run");
            return None;
        }
        let program = chosen("COUNTERSIGN_TEST_NODE", Path::new("/usr/bin/node"))?;
        Some(self.script(&program, "node", script).await)
    }

    async fn script(&self, program: &Path, language: &str, script: &str) -> Outcome {
        let path = tests_directory()
            .join("clients")
            .join(language)
            .join(script);
        let mut command = Command::new(program);
        command.arg(path);
        self.run(command).await
    }

    /// Runs a client with nothing but the gateway, its roots and dummies in its environment.
    pub(crate) async fn run(&self, mut command: Command) -> Outcome {
        let bundle = self.export_roots();
        let proxy = format!("http://x:{}@{}", self.token, self.gateway.address());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.env.directory())
            .env("HTTPS_PROXY", &proxy)
            .env("https_proxy", &proxy)
            .env(
                "NODE_EXTRA_CA_CERTS",
                bundle.with_file_name("client-root.pem"),
            )
            .env("SLACK_BOT_TOKEN", DUMMY_BOT)
            .env("SLACK_APP_TOKEN", DUMMY_APP)
            .env("SLACK_WEBHOOK_URL", WEBHOOK)
            .env("QASE_TOKEN", DUMMY_QASE)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
            command.env(name, &bundle);
        }
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .expect("the client ends in time")
            .expect("the client starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome {
            printed: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            success: output.status.success(),
        }
    }

    /// Writes the roots that clients trust, as `countersign ca` exports them; gives the bundle.
    fn export_roots(&self) -> PathBuf {
        let at = |name: &str| self.env.directory().join(name);
        let ca = Ca::open(&self.env.ca_directory(), self.env.clock.clone(), 1);
        let ca = ca.expect("there is a CA");
        let bundle = ca.bundle_pem().expect("the system has roots");
        fs::write(at("client-root.pem"), ca.root_pem()).expect("written");
        fs::write(at("client-bundle.pem"), bundle).expect("written");
        at("client-bundle.pem")
    }

    /// Checks what the stand-ins received.
    #[track_caller]
    pub(crate) fn check_received(&self) {
        check_received(&self.env, &[&self.token]);
    }
}

/// Checks what the stand-ins received: the real credential where it belongs, once and alone, and
/// nothing of what the client held (the dummies, and `more`).
#[track_caller]
pub(crate) fn check_received(env: &Environment, more: &[&str]) {
    let held = [&[DUMMY_BOT, DUMMY_APP, DUMMY_QASE], more].concat();
    let slack = env.slack.received();
    let qase = env.qase.received();
    let total = slack.count() + qase.count();
    assert_ne!(total, 0, "nothing arrived, so that nothing is proved");
    for memory in [slack, qase] {
        let found = memory.holding(&held);
        assert!(
            found.is_empty(),
            "a dummy or the pod's token arrived: {found:?}"
        );
        for request in memory.all() {
            assert!(
                !request.headers.contains_key("proxy-authorization"),
                "{request:?}"
            );
        }
    }
    check_slack(&env.slack, slack);
    for request in qase.all() {
        assert_eq!(request.header_values("token"), [env.qase.token()]);
        assert!(!request.headers.contains_key("authorization"));
    }
}

#[track_caller]
fn check_slack(slack: &Slack, memory: &Memory) {
    let bearer = |token: String| vec![format!("Bearer {token}")];
    for request in memory.all() {
        let expected = match credential_of(&request) {
            Expected::App => bearer(slack.app_token()),
            Expected::Bot => bearer(slack.bot_token()),
            Expected::None => Vec::new(),
            Expected::Path => {
                assert_eq!(request.path, slack.webhook_path());
                Vec::new()
            }
        };
        assert_eq!(
            request.header_values("authorization"),
            expected,
            "{request:?}"
        );
        let form = request.form();
        assert!(form.iter().all(|(name, _)| name != "token"), "{request:?}");
    }
}

enum Expected {
    App,
    Bot,
    Path,
    None,
}

fn credential_of(request: &Received) -> Expected {
    match (request.host.as_str(), request.path.as_str()) {
        ("slack.com", "/api/apps.connections.open") => Expected::App,
        ("slack.com" | "www.slack.com", _) => Expected::Bot,
        ("hooks.slack.com", _) => Expected::Path,
        ("files.slack.com", path) if path.starts_with("/files-pri/") => Expected::Bot,
        _ => Expected::None,
    }
}

/// The interpreter with the packages of `clients/python`, or nothing, said loudly.
pub(crate) fn python() -> Option<PathBuf> {
    let own = tests_directory().join(".venv/bin/python");
    chosen("COUNTERSIGN_TEST_PYTHON", &own)
}

/// The program that a variable names, or else the usual one; says so if there is none.
pub(crate) fn chosen(variable: &str, usual: &Path) -> Option<PathBuf> {
    let program = std::env::var_os(variable).map_or_else(|| usual.to_owned(), PathBuf::from);
    if program.exists() {
        return Some(program);
    }
    let missing = program.display();
    countersign_tests::skipped(&format!("{missing} is not there; run tests/run"));
    None
}

/// The folder of this crate.
pub(crate) fn tests_directory() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
