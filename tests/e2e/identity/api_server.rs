//! An API server that refuses the gateway itself: what is told is its own token, or all rights that are missing, and
//! never the pod.

use std::time::Duration;

use countersign_config::model::JwksSource;
use countersign_tests::{
    client::Failure,
    fake::{ClusterRight, TokenRequest},
};
use http::StatusCode;
use rstest::rstest;
use serde_json::Value;

use crate::harness::{TestBed, get};

/// A gateway whose issuer's keys are at the API server, which also reviews tokens.
async fn all_from_the_api_server() -> anyhow::Result<TestBed> {
    TestBed::builder()
        .token_review()
        .prepare(|env, gateway| {
            let issuer = &mut gateway.issuers[0];
            let review = issuer.token_review.as_mut().expect("it reviews tokens");
            review.cache_for = Duration::from_millis(200);
            issuer.jwks = JwksSource::Url {
                url: format!("{}/openid/v1/jwks", env.api_server.url()),
                ca_file: review.cluster.ca_file.clone(),
            };
            Ok(())
        })
        .start()
        .await
}

/// The record of a request that nobody could identify, for no fault of the pod's.
async fn refused(bed: &mut TestBed, reason: &str) -> anyhow::Result<String> {
    let Err(Failure::Refused(answer)) = bed.client().send(get("/some")).await else {
        anyhow::bail!("CONNECT was not refused");
    };
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let record = bed.recorded(reason).await?;
    assert_eq!(record["blame"], "platform", "{record}");
    Ok(record["detail"].as_str().expect("a detail").to_owned())
}

const USER: &str = "system:serviceaccount:countersign:countersign";
const REVIEW_RULE: &str =
    "{apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}";
const KEYS_RULE: &str = "{nonResourceURLs: [/openid/v1/jwks], verbs: [get]}";

#[rstest]
#[case::no_role(
    &[],
    "identity_keys_unavailable",
    "to get /openid/v1/jwks, nor to create tokenreviews.authentication.k8s.io; bind"
)]
#[case::no_keys(
    &[ClusterRight::ReviewTokens],
    "identity_keys_unavailable",
    "to get /openid/v1/jwks; bind"
)]
#[case::no_reviews(
    &[ClusterRight::ReadKeys],
    "identity_review_unavailable",
    "to create tokenreviews.authentication.k8s.io; bind"
)]
#[tokio::test]
async fn all_missing_rights_are_told_at_once(
    #[case] granted: &[ClusterRight],
    #[case] reason: &str,
    #[case] missing: &str,
) -> anyhow::Result<()> {
    let mut bed = all_from_the_api_server().await?;
    bed.env.api_server.set_cluster_rights(granted);
    let told = refused(&mut bed, reason).await?;
    assert!(told.contains(USER) && told.contains(missing), "{told}");
    // The whole role, which is the chart's.
    assert!(
        told.contains(REVIEW_RULE) && told.contains(KEYS_RULE),
        "{told}"
    );
    Ok(())
}

/// Without `tokenReview` the gateway has no token for it.
#[tokio::test]
async fn keys_of_an_api_server_need_a_token_and_that_is_said() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .prepare(|env, gateway| {
            gateway.issuers[0].jwks = JwksSource::Url {
                url: format!("{}/openid/v1/jwks", env.api_server.url()),
                ca_file: Some(env.directory().join("upstream-roots.pem")),
            };
            Ok(())
        })
        .start()
        .await?;
    let told = refused(&mut bed, "identity_keys_unavailable").await?;
    assert!(
        told.contains("set the issuer's `tokenReview` with the same `url`"),
        "{told}"
    );
    Ok(())
}

/// A role would not help.
#[rstest]
#[case::of_an_account_that_is_gone(None, "holds no service-account token")]
#[case::for_the_gateways_own_callers(
    Some("countersign"),
    "for the audience \"countersign\"; check that this service account still exists"
)]
#[tokio::test]
async fn a_token_that_is_not_accepted_is_not_told_as_a_missing_role(
    #[case] audience: Option<&str>,
    #[case] expected: &str,
) -> anyhow::Result<()> {
    let mut bed = all_from_the_api_server().await?;
    let own = match audience {
        None => "outdated".to_owned(),
        Some(audience) => {
            let mut request = TokenRequest::new("countersign", "countersign");
            request.audiences = vec![audience.to_owned()];
            bed.env.issuer.mint(&request)
        }
    };
    bed.env.write_secret("gateway-token", &own)?;
    let told = refused(&mut bed, "identity_keys_unavailable").await?;
    assert!(told.contains("(401), whatever its roles"), "{told}");
    assert!(
        told.contains(expected) && told.contains("gateway-token"),
        "{told}"
    );
    assert!(
        !told.contains("ClusterRole") && !told.contains(&own),
        "{told}"
    );
    Ok(())
}

/// A token of a cluster that has the same issuer and other keys, and what the API server says of it.
#[tokio::test]
async fn what_the_api_server_says_of_a_pods_token_is_recorded() -> anyhow::Result<()> {
    let mut bed = all_from_the_api_server().await?;
    let request = TokenRequest::new("qa", "nightly-dashboard");
    // Its pod was never there.
    let client = bed.client_with(&bed.env.issuer.mint(&request));
    assert_eq!(
        client.send(get("/some")).await?.status,
        StatusCode::FORBIDDEN
    );
    let record: Value = bed.recorded("identity_revoked").await?;
    let told = record["detail"].as_str().expect("a detail");
    assert!(
        told.contains("service account token has been invalidated]\" (its pod or service account"),
        "{told}"
    );
    Ok(())
}
