//! Bad tokens by the hundred: they cost their sender time, and others nothing.

use countersign_tests::{client::Failure, fake::TokenRequest};
use rstest::rstest;
use serde_json::json;

use crate::{
    harness::{HOST, TestBed, get},
    identity::told_inside::other_audience,
};

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

/// To tell a refusal inside a tunnel takes a handshake, so an address can have no more of them than bad tokens. Beyond
/// that CONNECT is refused.
#[rstest]
#[case::each_time_another(true)]
#[case::always_the_same(false)]
#[tokio::test]
async fn t59_handshakes_to_tell_a_refusal_are_bounded_as_bad_tokens_are(
    #[case] fresh: bool,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let request = TokenRequest::new("qa", "nightly-dashboard");
    let mut token = other_audience(&bed.env, &request);
    let mut told = 0;
    let refused = loop {
        anyhow::ensure!(told < 1_000, "it is told without end");
        if fresh {
            token = other_audience(&bed.env, &request);
        }
        let answer = bed.client_with(&token).send(get("/some")).await;
        let record = bed.recorded("identity_audience").await?;
        assert_eq!(record["refused_token"]["namespace"], "qa", "{record}");
        match answer {
            Ok(answer) => assert_eq!(answer.status, 403, "{}", answer.text()),
            Err(Failure::Refused(answer)) => break answer,
            Err(other) => return Err(other.into()),
        }
        told += 1;
    };
    assert!(told > 10, "{told}");
    assert_eq!(refused.status, 407);
    // A good token from the same address is not kept out.
    let good = bed.env.token("qa", "nightly-dashboard");
    assert_eq!(
        bed.client_with(&good).send(get("/some")).await?.text(),
        "GET /some"
    );
    Ok(())
}
