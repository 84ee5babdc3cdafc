//! What a token or a certificate names and is not configured here is found by reading the record.

use countersign_tests::fake::TokenRequest;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{TestBed, get};

const AKS: &str = "https://eastus.oic.prod-aks.azure.com/11111111-2222/33333333-4444/";

#[rstest]
#[case::aks_without_its_slash(
    "iss", json!(AKS.trim_end_matches('/')),
    "identity_issuer_unknown",
    "azure.com/11111111-2222/33333333-4444\", which is not configured; the nearest that is configured is \"https://eastus.oic.prod-aks.azure.com/11111111-2222/33333333-4444/\" (they differ only by the slash at the end)"
)]
#[case::another_audience(
    "aud", json!(["https://kubernetes.default.svc", "countersign-dev"]),
    "identity_audience",
    "for the audience \"https://kubernetes.default.svc\", \"countersign-dev\", not for the audience \"countersign\""
)]
#[case::another_key(
    "kid", json!("old-key"),
    "identity_invalid",
    "the key \"old-key\", which issuer prod-eu does not have in its key set; it has \""
)]
#[case::a_fast_clock(
    "iat", json!(3600),
    "identity_not_yet_valid",
    "and a clock that is 1m ahead is accepted: compare the clocks"
)]
#[case::a_name_that_hides(
    "iss", json!(format!("https://user:canary@x/\u{1b}[31m{}", "x".repeat(4000))),
    "identity_issuer_unknown",
    "[cut]\", which is not configured"
)]
#[tokio::test]
async fn the_record_names_what_differs(
    #[case] name: &str,
    #[case] value: Value,
    #[case] reason: &str,
    #[case] told: &str,
) -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .prepare(|env, gateway| {
            env.issuer.set_url(AKS);
            gateway.issuers[0].issuer = AKS.to_owned();
            Ok(())
        })
        .start()
        .await?;
    let request = TokenRequest::new("qa", "nightly-dashboard");
    let issuer = &bed.env.issuer;
    let (mut header, mut claims) = (issuer.header(), issuer.claims(&request));
    match name {
        "kid" => header[name] = value,
        // Seconds from now.
        "iat" => claims[name] = (bed.env.clock.now().as_second() + value.as_i64().unwrap()).into(),
        _ => claims[name] = value,
    }
    let token = issuer.sign(&header, &claims);
    // Told inside the tunnel, or at CONNECT.
    drop(bed.client_with(&token).send(get("/some")).await);
    let record = bed.recorded(reason).await?;
    let detail = record["detail"].as_str().expect("a detail");
    assert!(detail.contains(told), "{detail}");
    assert!(
        !detail.contains("canary") && detail.len() < 1000,
        "{detail}"
    );
    // The near miss: as the issuer issues it.
    let good = bed.client_with(&bed.env.token("qa", "nightly-dashboard"));
    assert_eq!(good.send(get("/well")).await?.text(), "GET /well");
    Ok(())
}

/// As the API server does.
#[tokio::test]
async fn a_token_of_a_clock_that_is_a_minute_ahead_is_accepted() -> anyhow::Result<()> {
    let mut bed = TestBed::builder().token_review().start().await?;
    let request = TokenRequest::new("qa", "nightly-dashboard");
    bed.env.api_server.add_pod(&request);
    let issuer = &bed.env.issuer;
    let mut claims = issuer.claims(&request);
    for claim in ["iat", "nbf", "exp"] {
        // Less than a minute, because time passes until it is checked.
        claims[claim] = json!(claims[claim].as_i64().expect("a time") + 55);
    }
    let token = issuer.sign(&issuer.header(), &claims);
    let answer = bed.client_with(&token).send(get("/some")).await?;
    assert_eq!(answer.text(), "GET /some");
    assert_eq!(bed.record().await?["outcome"], "permitted");
    Ok(())
}
