//! Bad tokens by the hundred: they cost their sender time, and others nothing.

use countersign_tests::fake::TokenRequest;
use serde_json::json;

use crate::{
    harness::site::{HOST, Site},
    identity::issuers::absolute,
};

/// A token of its own under another's signature.
fn forged(site: &Site, number: usize) -> String {
    let issuer = &site.world.issuer;
    let mut claims = issuer.claims(&TokenRequest::new("qa", "nightly-dashboard"));
    claims["jti"] = json!(format!("forged-{number}"));
    let token = issuer.sign(&issuer.header(), &claims);
    let (message, _) = token.rsplit_once('.').expect("three parts");
    let (_, signature) = site.token.rsplit_once('.').expect("three parts");
    format!("{message}.{signature}")
}

#[tokio::test]
async fn t59_bad_tokens_from_an_address_lock_nobody_out_who_shares_it() -> anyhow::Result<()> {
    let mut site = Site::start().await?;
    let uri = format!("https://{HOST}/some");
    for number in 0..300 {
        let answer = absolute(&site, &forged(&site, number), &uri).await?;
        assert!(answer.starts_with("HTTP/1.1 407 "), "{answer}");
        let record = site.record().await?;
        assert_eq!(record["reason"], "identity_invalid", "{record}");
    }
    // Neither has been seen before; both come from the same address as all the others.
    for token in [
        site.token.clone(),
        site.world.token("qa", "nightly-dashboard"),
    ] {
        let answer = absolute(&site, &token, &uri).await?;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(site.record().await?["outcome"], "permitted");
    }
    Ok(())
}
