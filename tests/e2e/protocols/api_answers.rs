//! An API that answers, but not well: the client gets its answer, and the record says who is at fault.

use countersign_tests::{fake::Protocol, resources::Resource};
use rstest::rstest;
use serde_json::json;

use crate::harness::{EXAMPLE, HOST, TestBed, UNMATCHED, get};

#[rstest]
#[case(500, "failed", "upstream_error", Some("upstream"))]
#[case(501, "failed", "upstream_error", Some("upstream"))]
#[case(502, "failed", "upstream_error", Some("upstream"))]
#[case(503, "failed", "upstream_error", Some("upstream"))]
#[case(504, "failed", "upstream_error", Some("upstream"))]
#[case(599, "failed", "upstream_error", Some("upstream"))]
#[case(429, "failed", "api_rate_limited", Some("caller"))]
#[case(401, "failed", "credential_rejected", Some("operator"))]
#[case(400, "permitted", "permitted", None)]
#[case(403, "permitted", "permitted", None)]
#[case(404, "permitted", "permitted", None)]
#[case(201, "permitted", "permitted", None)]
#[tokio::test]
async fn the_status_of_an_api_is_told_and_counted(
    #[case] status: u16,
    #[case] outcome: &str,
    #[case] reason: &str,
    #[case] blame: Option<&str>,
    #[values(Protocol::Http1, Protocol::Http2)] client: Protocol,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let mut session = bed.client().over(client).open(HOST).await?;
    let answer = session.send(get(&format!("/says/{status}"))).await?;
    // Passed on as it came.
    assert_eq!(answer.status.as_u16(), status);
    assert_eq!(answer.json()["error"], "as_asked");
    assert_eq!(answer.header("proxy-status"), None);
    let record = bed.record().await?;
    assert_eq!(record["outcome"], outcome, "{record}");
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["blame"].as_str(), blame, "{record}");
    assert_eq!(record["upstream"]["status"], status);
    assert_eq!(record["workload"]["name"], "qa/nightly-dashboard");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert_eq!(
        detail.contains(&status.to_string()),
        blame.is_some(),
        "{record}"
    );
    let series = format!(
        "countersign_requests_total{{outcome=\"{outcome}\",reason=\"{reason}\",target=\"example\",policy=\"qa/{EXAMPLE}\"}} "
    );
    assert_eq!(bed.metric(&series).await?, Some(1));
    // The connection lives on.
    if status != 429 {
        assert_eq!(session.send(get("/well")).await?.text(), "GET /well");
        assert_eq!(bed.record().await?["outcome"], "permitted");
    }
    Ok(())
}

#[tokio::test]
async fn a_429_says_who_shares_the_credential() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .policy(|policy| {
            policy.push(Resource::workload("other"));
            policy.push(
                Resource::access("other-uses-example", "other", "example")
                    .credential_named("example")
                    .allow(json!({"methods": ["GET"], "paths": ["/**"]})),
            );
        })
        .start()
        .await?;
    bed.client().send(get("/says/429")).await?;
    let told = bed.recorded("api_rate_limited").await?;
    // Meanwhile the gateway refuses by itself.
    bed.client_of("other").send(get("/well")).await?;
    let kept_back = bed.recorded("upstream_rate_limited").await?;
    for record in [told, kept_back] {
        let detail = record["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("2 workloads share"), "{detail}");
        assert!(detail.contains("qa/nightly-dashboard ("), "{detail}");
        assert!(detail.contains("qa/other ("), "{detail}");
    }
    Ok(())
}

#[tokio::test]
async fn a_429_to_the_only_workload_says_so() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    bed.client().send(get("/says/429")).await?;
    let record = bed.recorded("api_rate_limited").await?;
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("no other workload uses"), "{detail}");
    assert!(detail.contains("Retry-After: 7"), "{detail}");
    Ok(())
}

#[rstest]
#[case(503, "upstream_error", "upstream")]
#[case(429, "api_rate_limited", "caller")]
#[case(401, "tunnelled", "")]
#[tokio::test]
async fn a_host_that_no_target_has_can_fail_too(
    #[case] status: u16,
    #[case] reason: &str,
    #[case] blame: &str,
) -> anyhow::Result<()> {
    let mut bed = TestBed::builder().tunnel_unmatched().start().await?;
    let uri = format!("https://{UNMATCHED}/says/{status}");
    let answer = bed.absolute(&bed.token, &uri).await?;
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    let record = bed.recorded(reason).await?;
    assert_eq!(
        record["blame"].as_str().unwrap_or_default(),
        blame,
        "{record}"
    );
    assert_eq!(record["upstream"]["status"], status);
    Ok(())
}
