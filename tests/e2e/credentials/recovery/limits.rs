//! An API's own rate limit is known to all workloads that share the credential.

use http::StatusCode;

use super::{HOST, How, Scene, get};

#[tokio::test]
async fn a_429_keeps_all_workloads_of_the_credential_back() -> anyhow::Result<()> {
    let mut scene = Scene::start().await?;
    scene.set(How::Limited("30"));
    let first = scene.get("/a").await?;
    assert_eq!(first.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(first.json()["error"], "ratelimited");
    assert_eq!(scene.record().await?["outcome"], "permitted");
    scene.set(How::Plain);
    let token = scene.world.token("qa", "other");
    let other = scene.gateway.client(&scene.world).bearer(&token);
    let refused = other.send(get("/a")).await?;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.json()["error"], "upstream_rate_limited");
    let wait: u64 = refused.header("retry-after").unwrap_or_default().parse()?;
    assert!((1..=30).contains(&wait), "{wait}");
    let record = scene.record().await?;
    assert_eq!(record["reason"], "upstream_rate_limited", "{record}");
    assert_eq!(record["outcome"], "refused");
    assert_eq!(scene.calls(), 1);
    // This API limits each path on its own.
    assert_eq!(other.send(get("/b")).await?.json()["ok"], true);
    Ok(())
}

#[tokio::test]
async fn a_policy_lets_requests_wait_for_the_end_of_a_limit() -> anyhow::Result<()> {
    let waits = |policy: String| {
        policy.replace(
            "  credential: rejects\n",
            "  credential: rejects\n  conditions: { waitForRateLimit: 3s }\n",
        )
    };
    let mut scene = Scene::with(waits, |_| {}).await?;
    scene.set(How::Limited("1"));
    let mut session = scene.client().open(HOST).await?;
    let began = tokio::time::Instant::now();
    session.send(get("/a")).await?;
    scene.set(How::Plain);
    assert_eq!(session.send(get("/a")).await?.json()["ok"], true);
    assert!(began.elapsed() >= std::time::Duration::from_secs(1));
    scene.set(How::Limited("30"));
    session.send(get("/a")).await?;
    // Longer than policy lets it wait.
    assert_eq!(
        session.send(get("/a")).await?.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(scene.calls(), 3);
    scene.record().await?;
    Ok(())
}
