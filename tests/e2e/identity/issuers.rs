//! Two issuers, one subject: clusters that know nothing of each other name their service accounts
//! alike.

use countersign_config::model::{JwksSource, Unmatched};
use countersign_tests::fake::{Issuer, TokenRequest};

use crate::harness::{TestBed, UNMATCHED};

#[tokio::test]
async fn t73_two_issuers_with_one_subject_share_no_connection() -> anyhow::Result<()> {
    let mut other = None;
    let authority = countersign_tests::fake::Authority::default();
    let clock = countersign_core::clock::Clock::system();
    let second = Issuer::start(&authority, clock).await?;
    second.set_url("https://other-cluster.example");
    let mut bed = TestBed::builder()
        .prepare(|env, gateway| {
            let keys = env.directory().join("other-jwks.json");
            second.write_jwks(&keys)?;
            let mut issuer = gateway.issuers[0].clone();
            issuer.name = "prod-us".to_owned();
            issuer.issuer = second.url();
            issuer.jwks = JwksSource::File(keys);
            gateway.issuers.push(issuer);
            gateway.unmatched = Unmatched::Tunnel;
            let request = TokenRequest::new("qa", "nightly-dashboard");
            other = Some(second.mint(&request));
            Ok(())
        })
        .start()
        .await?;
    let other = other.expect("minted");
    let uri = format!("https://{UNMATCHED}/some");
    let own = bed.token.clone();
    // Who, and whether the connection upstream had served somebody before.
    for (token, issuer, reused) in [
        (&own, "prod-eu", false),
        (&other, "prod-us", false),
        (&own, "prod-eu", true),
        (&other, "prod-us", true),
    ] {
        let answer = bed.absolute(token, &uri).await?;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let record = bed.record().await?;
        assert_eq!(record["caller"]["issuer"], issuer, "{record}");
        assert_eq!(record["upstream"]["reused"], reused, "{record}");
    }
    assert_eq!(bed.api.server().accepted_connections(), 2);
    Ok(())
}
