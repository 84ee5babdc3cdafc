//! `explain` and the running gateway must say the same of every request: one table drives both.

use bytes::Bytes;
use countersign_config::{
    load,
    path::CanonicalPath,
    policy::{CallerFacts, Decision, PolicySet, RequestFacts},
};
use countersign_core::{clock::Clock, destination::Authority, reason::Reason};
use countersign_tests::{
    environment::{DASHBOARD, DASHBOARD_FILE, Environment},
    resources::{Resource, Resources},
};
use http::{Method, Request, Uri};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::json;

use crate::harness::TestBed;

/// Who, when, what, and the reason it must be refused for (`None`: permitted).
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
);

const RELEASE: &str = "release-bot";
const STRANGER: &str = "stranger";
/// A Monday in Berlin, within the policy's window, and outside of it.
const IN: &str = "2026-11-23T05:10:00Z";
const OUT: &str = "2026-11-23T06:00:00Z";
const LAST: &str = "2026-11-23T05:44:59Z";
const END: &str = "2026-11-23T05:45:00Z";
const SUNDAY: &str = "2026-11-22T05:10:00Z";
const SUMMER: &str = "2027-05-03T04:10:00Z";
const EXPIRED: &str = "2027-06-30T04:10:00Z";

const NOT_ALLOWED: Option<&str> = Some("request_not_allowed");
const OUTSIDE: Option<&str> = Some("outside_schedule");

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // Qase: method and path, the window, the condition.
    (DASHBOARD, IN, "GET", "https://api.qase.io/v1/run/DEMO", None),
    (DASHBOARD, IN, "GET", "https://api.qase.io/v1/run/DEMO?limit=100", None),
    (DASHBOARD, IN, "GET", "https://api.qase.io/v1/run/DEMO?limit=101", Some("condition_false")),
    (DASHBOARD, IN, "GET", "https://api.qase.io/v1/run/DEMO?limit=ten", Some("condition_error")),
    (DASHBOARD, IN, "GET", "https://api.qase.io/v1/run/DEMO?limit=1&limit=900", Some("condition_error")),
    (DASHBOARD, IN, "GET", "https://api.qase.io/v1/run/DEMO?%6cimit=900", Some("condition_false")),
    (DASHBOARD, IN, "GET", "https://api.qase.io/v1/result/DEMO?run=1%2C2", None),
    (DASHBOARD, IN, "GET", "https://api.qase.io/v1/defect/DEMO", None),
    (DASHBOARD, IN, "GET", "https://api.qase.io/v1/run", NOT_ALLOWED),
    (DASHBOARD, IN, "GET", "https://api.qase.io/v1/run/", NOT_ALLOWED),
    (DASHBOARD, IN, "GET", "https://api.qase.io/v1/run/DEMO/1", NOT_ALLOWED),
    (DASHBOARD, IN, "GET", "https://api.qase.io/v1/runs/DEMO", NOT_ALLOWED),
    (DASHBOARD, IN, "GET", "https://api.qase.io/V1/run/DEMO", Some("no_route")),
    (DASHBOARD, IN, "GET", "https://api.qase.io/v2/run/DEMO", NOT_ALLOWED),
    (DASHBOARD, IN, "POST", "https://api.qase.io/v1/run/DEMO", NOT_ALLOWED),
    (DASHBOARD, IN, "DELETE", "https://api.qase.io/v1/run/DEMO", NOT_ALLOWED),
    (DASHBOARD, IN, "HEAD", "https://api.qase.io/v1/run/DEMO", NOT_ALLOWED),
    (DASHBOARD, IN, "GET", "https://api-eu.qase.io/v1/run/DEMO", None),
    (DASHBOARD, OUT, "GET", "https://api.qase.io/v1/run/DEMO", OUTSIDE),
    (DASHBOARD, LAST, "GET", "https://api.qase.io/v1/run/DEMO", None),
    (DASHBOARD, END, "GET", "https://api.qase.io/v1/run/DEMO", OUTSIDE),
    (DASHBOARD, SUNDAY, "GET", "https://api.qase.io/v1/run/DEMO", OUTSIDE),
    (DASHBOARD, SUMMER, "GET", "https://api.qase.io/v1/run/DEMO", None),
    (DASHBOARD, "2027-05-03T05:10:00Z", "GET", "https://api.qase.io/v1/run/DEMO", OUTSIDE),
    (DASHBOARD, EXPIRED, "GET", "https://api.qase.io/v1/run/DEMO", Some("policy_expired")),
    // Slack: the observed policy, denied paths, hosts within the target.
    (DASHBOARD, IN, "POST", "https://slack.com/api/chat.postMessage", None),
    (DASHBOARD, OUT, "POST", "https://slack.com/api/chat.postMessage", None),
    (DASHBOARD, IN, "GET", "https://slack.com/api/chat.postMessage", NOT_ALLOWED),
    (DASHBOARD, IN, "POST", "https://slack.com/api/chat.delete", NOT_ALLOWED),
    (DASHBOARD, IN, "POST", "https://slack.com/api/oauth.v2.access", Some("path_denied")),
    (DASHBOARD, IN, "POST", "https://slack.com/API/OAuth.v2.access", Some("path_denied")),
    (DASHBOARD, IN, "POST", "https://slack.com/api/auth.revoke", Some("path_denied")),
    (DASHBOARD, IN, "POST", "https://slack.com/oauth/authorize", Some("no_route")),
    (DASHBOARD, IN, "POST", "https://slack.com/api/apps.connections.open", Some("slot_not_granted")),
    (DASHBOARD, IN, "POST", "https://files.slack.com/upload/v1/abc/def", None),
    (DASHBOARD, IN, "POST", "https://files.slack.com/api/chat.postMessage", NOT_ALLOWED),
    (DASHBOARD, IN, "GET", "https://files.slack.com/files-pri/T1-F1/a.txt", NOT_ALLOWED),
    // Other callers.
    (RELEASE, IN, "POST", "https://slack.com/api/chat.postMessage", None),
    (RELEASE, IN, "POST", "https://slack.com/api/chat.delete", None),
    (RELEASE, IN, "POST", "https://slack.com/api/auth.revoke", Some("path_denied")),
    (RELEASE, IN, "GET", "https://api.qase.io/v1/run/DEMO", Some("target_not_granted")),
    (STRANGER, IN, "GET", "https://api.qase.io/v1/run/DEMO", Some("workload_unknown")),
    (STRANGER, IN, "POST", "https://slack.com/api/chat.postMessage", Some("workload_unknown")),
    // Hosts that are none of ours, and one that is only nearly.
    (DASHBOARD, IN, "GET", "https://example.com/", Some("host_unmatched")),
    (DASHBOARD, IN, "POST", "https://notslack.com/api/chat.postMessage", Some("host_unmatched")),
    (DASHBOARD, IN, "POST", "https://slack.com.evil.test/api/chat.postMessage", Some("host_unmatched")),
    (DASHBOARD, IN, "POST", "https://hooks-slack.com/api/chat.postMessage", Some("host_unmatched")),
    (DASHBOARD, IN, "POST", "https://SLACK.com/api/chat.postMessage", None),
];

fn resources() -> Resources {
    let to_slack = |name: &str, workload: &str| {
        Resource::access(name, workload, "slack").credential_named("slack-bot")
    };
    let posts =
        |host: &str, paths: &[&str]| json!({"hosts": [host], "methods": ["POST"], "paths": paths});
    let reads = json!({
        "methods": ["GET"],
        "paths": ["/v1/run/*", "/v1/result/*", "/v1/defect/*"],
    });
    let conditions = json!({
        "schedule": {"cron": "0 6 * * MON-FRI", "duration": "45m", "timeZone": "Europe/Berlin"},
        "notAfter": "2027-06-30T00:00:00Z",
        "when": "!has(request.query.limit) || int(request.query.limit) <= 100",
    });
    Resources::from([
        Resource::workload(DASHBOARD),
        Resource::workload(RELEASE).with("match", json!([{"serviceAccount": RELEASE}])),
        Resource::credential("qase-reader", "qase").token_file("qase"),
        Resource::credential("slack-bot", "slack").token_file("slack-bot"),
        Resource::access("dashboard-reads-qase", DASHBOARD, "qase")
            .credential_named("qase-reader")
            .allow(reads)
            .with("conditions", conditions),
        to_slack("dashboard-posts-to-slack", DASHBOARD)
            .allow(posts("slack.com", &["/api/chat.postMessage", "/api/a*"]))
            .allow(posts("files.slack.com", &["/upload/v1/**"])),
        to_slack("release-is-observed", RELEASE)
            .with("mode", json!("observe"))
            .allow(posts("slack.com", &["/api/chat.postMessage"])),
    ])
}

#[tokio::test]
async fn explain_and_the_gateway_agree_on_every_request() -> anyhow::Result<()> {
    let clock = Clock::manual(SUNDAY.parse()?);
    let mut bed = TestBed::builder()
        .clock(&clock)
        .prepare(|env, _| Ok(env.write_policy(DASHBOARD_FILE, resources())?))
        .start()
        .await?;
    let loaded = load::resources(&[bed.env.policy_directory()]).expect("the policy is usable");

    assert!(
        TABLE.len() >= 40,
        "the issue of this test is a table of at least 40 requests"
    );
    let mut wrong = Vec::new();
    // In the order of time: certificates, like tokens, are not valid before they were made.
    let mut rows: Vec<(Timestamp, &Row)> = Vec::new();
    for row in TABLE {
        rows.push((row.1.parse()?, row));
    }
    rows.sort_by_key(|(at, _)| *at);
    for (at, row) in rows {
        let (account, _, method, url, expected) = *row;
        clock.set(at);
        let explained = explain(&loaded.policies, account, at, method, url);
        let decided = ask(&mut bed, account, method, url).await?;
        if explained.as_deref() != expected || decided.as_deref() != expected {
            wrong.push(format!(
                "{row:?}: explain {explained:?}, gateway {decided:?}"
            ));
        }
    }
    bed.gateway.stop().await?;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The reason that `explain` refuses the request for.
fn explain(
    policies: &PolicySet,
    account: &str,
    at: Timestamp,
    method: &str,
    url: &str,
) -> Option<String> {
    let caller = CallerFacts {
        cluster: Some("prod-eu".into()),
        namespace: Some("qa".into()),
        service_account: Some(account.into()),
        ..CallerFacts::default()
    };
    let url: Uri = url.parse().expect("the table has valid URLs");
    let written = url
        .authority()
        .expect("the table has absolute URLs")
        .as_str();
    let authority = Authority::with_default_port(written, 443).expect("the table has valid hosts");
    let path = url.path_and_query().expect("the table has paths");
    let path = CanonicalPath::check(path).expect("the table has canonical paths");
    let method = Method::from_bytes(method.as_bytes()).expect("the table has valid methods");
    let request = RequestFacts {
        host: authority.host(),
        port: authority.port(),
        method: &method,
        path: &path,
    };
    let reason = match policies.explain(&caller, &request, at).decision {
        Decision::Permit(_) => return None,
        Decision::Deny(denial) => countersign_authorize::reason(denial.reason),
        Decision::Unmatched => Reason::HostUnmatched,
    };
    Some(reason.facts().code.to_owned())
}

/// How many of the pods' requests were sent on.
fn sent(env: &Environment) -> usize {
    env.slack.received().of_pods().len() + env.qase.received().of_pods().len()
}

/// The reason that the gateway records for refusing the request; what the caller sees must agree.
async fn ask(
    bed: &mut TestBed,
    account: &str,
    method: &str,
    url: &str,
) -> anyhow::Result<Option<String>> {
    let before = sent(&bed.env);
    let client = bed.client_of(account);
    let request = Request::builder().method(method).uri(url);
    let answer = client.send(request.body(Full::new(Bytes::new()))?).await;
    let record = bed.record().await?;
    let after = sent(&bed.env);
    match record["outcome"].as_str() {
        Some("permitted") => {
            assert_eq!(after, before + 1, "permitted, but not sent: {record}");
            assert!(answer?.header("proxy-status").is_none());
            Ok(None)
        }
        Some("refused") => {
            assert_eq!(after, before, "refused, but sent: {record}");
            if let Ok(answer) = answer {
                let told = answer
                    .header("proxy-status")
                    .expect("refusals have Proxy-Status");
                assert!(
                    told.contains(record["reason"].as_str().unwrap_or("?")),
                    "{told}"
                );
            }
            Ok(record["reason"].as_str().map(str::to_owned))
        }
        other => anyhow::bail!("{other:?}: {record}"),
    }
}
