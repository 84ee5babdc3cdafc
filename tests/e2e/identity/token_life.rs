//! Tokens that live for ever, or nearly: `identity.issuers[].maxTokenLife`.

use std::time::Duration;

use countersign_core::clock::Clock;
use countersign_tests::{environment::Environment, fake::TokenRequest};
use jiff::SignedDuration;
use rstest::rstest;

use crate::harness::{TestBed, get};

/// A token that lives so long, whose claims may be changed.
fn living(
    env: &Environment,
    life: SignedDuration,
    change: impl FnOnce(&mut serde_json::Value),
) -> String {
    let mut request = TokenRequest::new("qa", "nightly-dashboard");
    request.lifetime = life;
    let mut claims = env.issuer.claims(&request);
    change(&mut claims);
    env.issuer.sign(&env.issuer.header(), &claims)
}

#[rstest]
#[case::a_day(SignedDuration::from_hours(24), None, true)]
#[case::a_second_more(SignedDuration::from_secs(24 * 3600 + 1), None, false)]
#[case::ten_years(SignedDuration::from_hours(10 * 365 * 24), None, false)]
#[case::raised(SignedDuration::from_hours(48), Some(48), true)]
#[case::raised_and_more(SignedDuration::from_secs(48 * 3600 + 1), Some(48), false)]
#[case::lowered(SignedDuration::from_hours(2), Some(1), false)]
#[tokio::test]
async fn t66_a_token_that_lives_too_long_is_refused(
    #[case] life: SignedDuration,
    #[case] hours: Option<u64>,
    #[case] good: bool,
) -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .clock(&Clock::manual(Clock::system().now()))
        .gateway(|gateway| {
            if let Some(hours) = hours {
                gateway.issuers[0].max_token_life = Duration::from_hours(hours);
            }
        })
        .start()
        .await?;
    bed.token = living(&bed.env, life, |_| {});
    let answer = bed.client().send(get("/some")).await;
    let record = bed.record().await?;
    if good {
        assert_eq!(answer?.text(), "GET /some");
        assert_eq!(record["outcome"], "permitted", "{record}");
        return Ok(());
    }
    assert_eq!(answer?.status, 403);
    assert_eq!(record["reason"], "identity_too_long_lived", "{record}");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("longer than the issuer's maxTokenLife of"),
        "{detail}"
    );
    assert_eq!(bed.api.received().count(), 0);
    Ok(())
}

/// The tokens of Secrets of type `kubernetes.io/service-account-token` have no end at all.
#[tokio::test]
async fn t66_a_token_without_an_end_is_refused() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    bed.token = living(&bed.env, SignedDuration::from_hours(1), |claims| {
        let claims = claims.as_object_mut().expect("an object");
        for name in ["exp", "iat", "nbf"] {
            claims.remove(name);
        }
    });
    assert_eq!(bed.client().send(get("/some")).await?.status, 403);
    let record = bed.record().await?;
    assert_eq!(record["reason"], "identity_invalid", "{record}");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("`exp`"), "{detail}");
    Ok(())
}
