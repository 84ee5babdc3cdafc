//! An API's own rate limit is known to all workloads that share the credential.

use http::StatusCode;
use serde_json::json;

use super::{HOST, How, RejectingApi, get, start};
use crate::harness::TestBed;

#[tokio::test]
async fn a_429_keeps_all_workloads_of_the_credential_back() -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.api.set(How::Limited("30"));
    let first = bed.client().send(get("/a")).await?;
    assert_eq!(first.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(first.json()["error"], "ratelimited");
    let record = bed.record().await?;
    assert_eq!(record["reason"], "api_rate_limited", "{record}");
    assert_eq!(record["outcome"], "failed");
    bed.api.set(How::Plain);
    let other = bed.client_of("other");
    let refused = other.send(get("/a")).await?;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.json()["error"], "upstream_rate_limited");
    let wait: u64 = refused.header("retry-after").unwrap_or_default().parse()?;
    assert!((1..=30).contains(&wait), "{wait}");
    let record = bed.record().await?;
    assert_eq!(record["reason"], "upstream_rate_limited", "{record}");
    assert_eq!(record["outcome"], "refused");
    assert_eq!(bed.api.received().count(), 1);
    // This API limits each path on its own.
    assert_eq!(other.send(get("/b")).await?.json()["ok"], true);
    Ok(())
}

#[tokio::test]
async fn a_policy_lets_requests_wait_for_the_end_of_a_limit() -> anyhow::Result<()> {
    let mut bed = TestBed::with_api(RejectingApi::new())
        .policy(|policy| {
            policy.access("uses-rejects")["conditions"] = json!({"waitForRateLimit": "3s"});
        })
        .start()
        .await?;
    bed.api.set(How::Limited("1"));
    let mut session = bed.client().open(HOST).await?;
    let began = tokio::time::Instant::now();
    session.send(get("/a")).await?;
    bed.api.set(How::Plain);
    assert_eq!(session.send(get("/a")).await?.json()["ok"], true);
    assert!(began.elapsed() >= std::time::Duration::from_secs(1));
    bed.api.set(How::Limited("30"));
    session.send(get("/a")).await?;
    // Longer than policy lets it wait.
    assert_eq!(
        session.send(get("/a")).await?.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(bed.api.received().count(), 3);
    bed.record().await?;
    Ok(())
}
