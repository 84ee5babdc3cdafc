//! A gateway in the pod: what comes in at its listener is the pod's, and no other token has business
//! there.

use countersign_tests::fake::TokenRequest;
use http::StatusCode;
use rstest::rstest;

use crate::harness::{TestBed, get, post_message};

/// A gateway in the pod: what comes in at its listener is the pod's, whatever token it shows.
async fn sidecar(own: &TokenRequest) -> anyhow::Result<TestBed> {
    TestBed::builder()
        .prepare(|env, gateway| {
            env.write_secret("pod-token", &env.issuer.mint(own))?;
            let file = env.secret_directory().join("pod-token");
            gateway.listeners[0].own_token_file = Some(file);
            Ok(())
        })
        .start()
        .await
}

fn of_pod(service_account: &str, pod: &str) -> TokenRequest {
    let mut request = TokenRequest::new("qa", service_account);
    request.pod = Some((pod.to_owned(), format!("uid-of-{pod}")));
    request
}

#[rstest]
#[case::another_service_account(of_pod("release-bot", "nightly-1"))]
#[case::another_pod_of_the_same(of_pod("nightly-dashboard", "nightly-2"))]
#[tokio::test]
async fn t41_another_pods_token_has_no_business_at_this_pods_relay(
    #[case] other: TokenRequest,
) -> anyhow::Result<()> {
    let own = of_pod("nightly-dashboard", "nightly-1");
    let mut bed = sidecar(&own).await?;
    let bring = |bed: &TestBed, request: &TokenRequest| {
        let token = bed.env.issuer.mint(request);
        bed.client_with(&token)
    };
    let answer = bring(&bed, &other).send(get("/some")).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let record = bed.record().await?;
    assert_eq!(record["reason"], "identity_invalid", "{record}");
    let pod = other.pod.as_ref().map(|(name, _)| name.as_str());
    assert_eq!(record["refused_token"]["pod"].as_str(), pod, "{record}");
    assert_eq!(bed.api.server().accepted_connections(), 0);
    // The near misses: the pod's own, another of its own, and none at all.
    let none = bed.gateway.client(&bed.env);
    for client in [bring(&bed, &own), none] {
        let answer = client.send(get("/some")).await?;
        assert_eq!(answer.text(), "GET /some");
        let record = bed.record().await?;
        assert_eq!(record["caller"]["proof"], "own-token", "{record}");
        assert_eq!(record["caller"]["pod"], "nightly-1", "{record}");
    }
    Ok(())
}

/// The app can do nothing about it, and its API's client tells it.
#[tokio::test]
async fn a_sidecar_whose_own_token_is_refused_tells_its_app_inside() -> anyhow::Result<()> {
    let mut own = of_pod("nightly-dashboard", "nightly-1");
    own.audiences = vec!["another".to_owned()];
    let mut bed = sidecar(&own).await?;
    let client = bed.gateway.client(&bed.env);
    let answer = client.send(post_message("C0123456789", "hello")).await?;
    let record = bed.recorded("identity_audience").await?;
    assert_eq!(
        answer.json()["error"],
        "identity_audience",
        "{}",
        answer.text()
    );
    assert_eq!(record["refused_token"]["pod"], "nightly-1", "{record}");
    Ok(())
}
