//! Bad tokens by the hundred: they cost their sender time, and others nothing.

use countersign_tests::fake::TokenRequest;
use serde_json::json;

use crate::harness::{HOST, TestBed};

/// A token of its own under another's signature.
fn forged(bed: &TestBed, number: usize) -> String {
    let issuer = &bed.env.issuer;
    let mut claims = issuer.claims(&TokenRequest::new("qa", "nightly-dashboard"));
    claims["jti"] = json!(format!("forged-{number}"));
    let token = issuer.sign(&issuer.header(), &claims);
    let (message, _) = token.rsplit_once('.').expect("three parts");
    let (_, signature) = bed.token.rsplit_once('.').expect("three parts");
    format!("{message}.{signature}")
}

#[tokio::test]
async fn t59_bad_tokens_from_an_address_lock_nobody_out_who_shares_it() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let uri = format!("https://{HOST}/some");
    for number in 0..300 {
        let answer = bed.absolute(&forged(&bed, number), &uri).await?;
        assert!(answer.starts_with("HTTP/1.1 407 "), "{answer}");
        let record = bed.record().await?;
        assert_eq!(record["reason"], "identity_invalid", "{record}");
    }
    // Neither has been seen before; both come from the same address as all the others.
    for token in [bed.token.clone(), bed.env.token("qa", "nightly-dashboard")] {
        let answer = bed.absolute(&token, &uri).await?;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(bed.record().await?["outcome"], "permitted");
    }
    Ok(())
}
