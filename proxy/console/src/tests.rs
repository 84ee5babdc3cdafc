mod login;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::ConnectInfo,
    http::{HeaderMap, Request, StatusCode},
};
use countersign_config::{load, model::Governance, policy::PolicySet};
use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};
use std::{fs, net::SocketAddr, path::PathBuf};
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::*;

const NOW: &str = "2026-11-23T06:00:00Z";
const TOKEN: &str = "a-token-of-more-than-twenty-characters";

const RESOURCES: &str = r#"
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: nightly, namespace: qa }
spec: { owner: qa@example.com, match: [{ serviceAccount: nightly }] }
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: slack-bot, namespace: qa }
spec: { target: slack, static: { token: { file: /run/secrets/slack } } }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: posts, namespace: qa }
spec:
  owner: qa@example.com
  workloads: [nightly]
  target: slack
  credential: slack-bot
  allow: [{ methods: [POST], paths: ["/api/chat.postMessage"] }]
"#;

struct Fixed {
    policies: PolicySet,
    records: Vec<u8>,
    logs: Vec<PathBuf>,
    revisions: Option<PathBuf>,
    _directory: TempDir,
}

impl Source for Fixed {
    fn name(&self) -> String {
        "main".to_owned()
    }

    fn policies(&self, see: &mut dyn FnMut(&PolicySet)) {
        see(&self.policies);
    }

    fn credentials(&self) -> Value {
        json!({"credentials": [{"name": "qa/slack-bot", "provider": "static", "state": "failed", "sources": ["the file /run/secrets/slack"],
            "last_error": "the API rejects it <b>", "last_error_s": 60}]})
    }

    fn readiness(&self) -> Value {
        json!({"ready": true, "revision": "41d07e", "reload_error": "a.yaml:3: no"})
    }

    fn records(&self) -> Vec<u8> {
        self.records.clone()
    }

    fn logs(&self) -> Vec<PathBuf> {
        self.logs.clone()
    }

    fn revisions(&self) -> Option<PathBuf> {
        self.revisions.clone()
    }

    fn last_use(&self) -> Option<PathBuf> {
        None
    }

    fn governance(&self) -> Option<Governance> {
        None
    }
}

fn record(number: u32, path: &str) -> String {
    format!(
        r#"{{"schema":"countersign.decision/v1","time":"2026-11-23T05:{number:02}:00Z","id":"0194f3c1-2a44-7000-8000-0000000000{number:02}","outcome":"refused","reason":"request_not_allowed","blame":"policy","caller":{{"proof":"service-account-token","client":"10.0.0.7:4711"}},"workload":{{"name":"qa/nightly","owner":"qa@example.com"}},"target":{{"name":"slack","authority":"slack.com:443","method":"POST","path":"{path}"}},"nearest":{{"policy":"qa/posts","rule":0,"mismatches":[{{"what":"paths","expected":"/api/chat.postMessage","actual":"{path}"}}]}}}}"#
    ) + "\n"
}

fn console(settings: model::Console, records: &str) -> Router<()> {
    console_with(settings, records, None)
}

fn console_with(settings: model::Console, records: &str, revisions: Option<PathBuf>) -> Router<()> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), RESOURCES).unwrap();
    let loaded = load::resources(&[directory.path()]).unwrap();
    let source = Fixed {
        policies: loaded.policies,
        records: records.as_bytes().to_vec(),
        logs: Vec::new(),
        revisions,
        _directory: directory,
    };
    let now: Timestamp = NOW.parse().unwrap();
    router(Arc::new(source), settings, Clock::manual(now))
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

fn request(method: &str, path: &str) -> http::request::Builder {
    let client: SocketAddr = "127.0.0.1:50000".parse().unwrap();
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1:9901")
        .extension(ConnectInfo(client))
}

async fn send(console: &Router<()>, request: Request<Body>) -> Answer {
    let answer = console.clone().oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = to_bytes(body, 16 << 20).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}

async fn get(console: &Router<()>, path: &str) -> Answer {
    send(console, request("GET", path).body(Body::empty()).unwrap()).await
}

fn failing() -> String {
    (10..20)
        .map(|number| record(number, "/api/users.list"))
        .collect()
}

#[rstest]
#[case::overview("/console", "1 cause of failures goes on")]
#[case::overview_with_a_slash("/console/", "users.list")]
#[case::what_to_do("/console", "your access, not your code")]
#[case::its_credentials("/console", "the API rejects it &#60;b&#62;")]
#[case::the_gateway("/console", "New resources were not taken: a.yaml:3: no")]
#[case::failures("/console/failures", "qa/nightly")]
#[case::requests(
    "/console/requests",
    "/console/request?id=0194f3c1-2a44-7000-8000-000000000019"
)]
#[case::story(
    "/console/request?id=0194f3c1-2a44-7000-8000-000000000019",
    "ended here"
)]
#[case::why(
    "/console/request?id=0194f3c1-2a44-7000-8000-000000000019",
    "would have to cover /api/users.list"
)]
#[case::workloads("/console/workloads", "/console/workload?name=qa%2Fnightly")]
#[case::workload(
    "/console/workload?name=qa/nightly",
    "POST any host /api/chat.postMessage"
)]
#[case::who_can(
    "/console/who-can?method=post&url=https://slack.com/api/chat.postMessage",
    "1 workload may"
)]
#[case::who_can_not(
    "/console/who-can?method=GET&url=http://slack.com/",
    "The URL must start with https://"
)]
#[case::credentials("/console/credentials", "failing")]
#[case::credential("/console/credential?name=qa/slack-bot", "/run/secrets/slack")]
#[case::revisions("/console/revisions", "keeps no revisions")]
#[case::review("/console/review", "qa/nightly")]
#[tokio::test]
async fn each_page_answers(#[case] path: &str, #[case] expected: &str) {
    let console = console(model::Console::default(), &failing());
    let answer = get(&console, path).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.text.contains(expected), "{}", answer.text);
    assert!(answer.text.contains("<h1"), "{}", answer.text);
    assert!(!answer.text.contains("style="), "{}", answer.text);
}

#[tokio::test]
async fn revisions_that_cannot_be_read_are_told_beside_what_can_be_answered() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let revisions = Some(file.path().to_owned());
    let console = console_with(model::Console::default(), "", revisions);
    let path = "/console/who-can?method=post&url=https://slack.com/api/chat.postMessage";
    let text = get(&console, path).await.text;
    for part in ["1 workload may", "A kept revision cannot be read"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_quiet_morning_is_called_so() {
    let quiet = console(model::Console::default(), "");
    let answer = get(&quiet, "/console").await;
    assert!(
        answer.text.contains("No request in the last 24 hours"),
        "{}",
        answer.text
    );
    let fine = failing()
        .replace("\"refused\"", "\"permitted\"")
        .replace("request_not_allowed", "permitted");
    let fine = console(model::Console::default(), &fine);
    let answer = get(&fine, "/console").await;
    assert!(answer.text.contains("All is fine"), "{}", answer.text);
}

/// What others write into a request's path stays text.
#[tokio::test]
async fn foreign_text_is_neither_html_nor_direction() {
    let attack = "/<script>alert(1)</script>\\u202e";
    let records: String = (10..20).map(|number| record(number, attack)).collect();
    let console = console(model::Console::default(), &records);
    for path in [
        "/console",
        "/console/failures",
        "/console/requests",
        "/console/request?id=0194f3c1-2a44-7000-8000-000000000019",
        "/console/workload?name=qa/nightly",
        "/console/workload?name=%3Cscript%3Ealert(1)%3C/script%3E",
        "/console/who-can?method=%3Cscript%3E&url=%3Cscript%3Ealert(1)",
    ] {
        let text = get(&console, path).await.text;
        assert!(!text.contains("<script>"), "{path}: {text}");
        assert!(!text.contains('\u{202e}'), "{path}: {text}");
    }
}

#[rstest]
#[case::unknown_record(
    "/console/request?id=0194f3c1-2a44-7000-8000-000000000099",
    404,
    "countersign explain"
)]
#[case::no_id("/console/request?id=../../etc/passwd", 400, "UUID")]
#[case::none("/console/request", 400, "UUID")]
#[case::unknown_workload("/console/workload?name=qa/nobody", 404, "No Workload")]
#[case::unknown_credential("/console/credential?name=qa/nothing", 404, "No policy uses")]
#[case::unknown_revisions("/console/diff?from=a&to=b", 404, "not kept")]
#[case::no_page("/console/metrics", 404, "no such page")]
#[case::outside("/console/../metrics", 404, "no such page")]
#[case::encoded("/console/%2e%2e/metrics", 404, "no such page")]
#[tokio::test]
async fn what_is_not_there_is_said_with_a_remedy(
    #[case] path: &str,
    #[case] status: u16,
    #[case] expected: &str,
) {
    let console = console(model::Console::default(), &failing());
    let answer = get(&console, path).await;
    assert_eq!(answer.status, status, "{}", answer.text);
    assert!(answer.text.contains(expected), "{}", answer.text);
}

#[rstest]
#[case::v4("127.0.0.1:9901", 200)]
#[case::v6("[::1]:9901", 200)]
#[case::name("localhost:9901", 200)]
#[case::upper_case("LOCALHOST", 200)]
#[case::rebound("evil.example", 421)]
#[case::near_miss("localhost.evil.example", 421)]
#[case::user("localhost@evil.example", 421)]
#[case::other_address("10.0.0.1", 421)]
#[case::empty("", 421)]
#[tokio::test]
async fn a_foreign_host_is_turned_away(#[case] host: &str, #[case] status: u16) {
    let console = console(model::Console::default(), "");
    let mut asked = request("GET", "/console").body(Body::empty()).unwrap();
    asked.headers_mut().insert("host", host.parse().unwrap());
    let answer = send(&console, asked).await;
    assert_eq!(answer.status, status, "{}", answer.text);
}

#[rstest]
#[case("TRACE", "/console", 405)]
#[case("POST", "/console", 405)]
#[case("PUT", "/console/login", 405)]
#[case("DELETE", "/console/review", 405)]
#[case("TRACE", "/console/nothing", 405)]
#[case("OPTIONS", "/console", 405)]
#[case("HEAD", "/console", 200)]
#[tokio::test]
async fn it_only_shows(#[case] method: &str, #[case] path: &str, #[case] status: u16) {
    let console = console(model::Console::default(), "");
    let answer = send(&console, request(method, path).body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, status);
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.headers[name], value, "{name}");
    }
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self'; script-src 'self';"));
}

#[tokio::test]
async fn a_client_from_elsewhere_and_a_long_question_are_refused() {
    let console = console(model::Console::default(), "");
    let mut asked = request("GET", "/console").body(Body::empty()).unwrap();
    let client: SocketAddr = "10.0.0.7:50000".parse().unwrap();
    asked.extensions_mut().insert(ConnectInfo(client));
    let answer = send(&console, asked).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text.contains("kubectl port-forward"));
    let long = format!("/console/workload?name={}", "x".repeat(5_000));
    assert_eq!(get(&console, &long).await.status, 414);
}

/// Who asks for the same page at once gets the same one.
#[tokio::test]
async fn a_page_is_made_once_for_all_who_ask() {
    let console = console(model::Console::default(), &failing());
    let asked: Vec<_> = (0..32)
        .map(|_| {
            let console = console.clone();
            tokio::spawn(async move { get(&console, "/console").await.text })
        })
        .collect();
    let mut texts = Vec::new();
    for one in asked {
        texts.push(one.await.unwrap());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1);
}
