//! What is known of a token that proves no caller.

use serde_json::{Value, json};

use super::*;
use crate::Unproven;

async fn refused(claims: &Value) -> Unproven {
    let gateway = WithFile::new(&[&RSA]);
    let token = RSA.token(&json!({ "alg": "RS256", "kid": "rsa-1" }), claims);
    let proof = Proof::ServiceAccountToken;
    let refused = gateway
        .identifier
        .by_token(&token, proof)
        .await
        .unwrap_err();
    // A bad token that is remembered says the same.
    let again = gateway.identifier.by_token(&token, proof).await;
    assert_eq!(again.unwrap_err(), refused);
    refused
}

#[tokio::test]
async fn a_signed_token_says_whose_it_is() {
    let audiences = ["a", "b", "c", "d", "e"];
    let unproven = refused(&claims_with("aud", Some(json!(audiences)))).await;
    assert_eq!(kind(unproven.error()), "WrongAudience");
    assert!(unproven.is_final());
    let claims = unproven.claims().unwrap();
    assert_eq!(&*claims.issuer, "prod-eu");
    assert_eq!(claims.namespace.as_deref(), Some("qa"));
    assert_eq!(claims.service_account.as_deref(), Some("nightly-dashboard"));
    assert!(claims.pod.is_some() && claims.token_id.is_some());
    // Bounded.
    assert_eq!(
        claims
            .audiences
            .iter()
            .map(|name| &**name)
            .collect::<Vec<_>>(),
        &audiences[..4]
    );
    let unproven = refused(&claims_with("jti", Some(json!(["no", "text"])))).await;
    assert_eq!(unproven.claims().unwrap().token_id, None);
    let mut long = claims_with("jti", Some(json!("x".repeat(5000))));
    long["aud"] = json!("another");
    let unproven = refused(&long).await;
    assert_eq!(
        unproven.claims().unwrap().token_id.as_ref().unwrap().len(),
        253
    );
}

#[tokio::test]
async fn what_is_not_a_service_accounts_is_shown_as_it_is() {
    let unproven = refused(&claims_with("sub", Some(json!("system:node:node-1")))).await;
    assert!(unproven.is_final());
    let claims = unproven.claims().unwrap();
    assert_eq!(claims.subject.as_deref(), Some("system:node:node-1"));
    assert_eq!((&claims.namespace, &claims.service_account), (&None, &None));
}

/// Anybody could have written what these say.
#[tokio::test]
async fn a_token_that_nobody_signed_says_nothing() {
    let gateway = WithFile::new(&[&RSA]);
    let header = |kid: &str| json!({ "alg": "RS256", "kid": kid });
    let claims = claims_with("aud", Some(json!("another")));
    let elsewhere = claims_with("iss", Some(json!("https://elsewhere.example")));
    for token in [
        OTHER_RSA.token(&header("rsa-1"), &claims),
        RSA.token(&header("unknown"), &claims),
        RSA.token(&header("rsa-1"), &elsewhere),
        Secret::new("nonsense".to_owned()),
    ] {
        let proof = Proof::ServiceAccountToken;
        let unproven = gateway
            .identifier
            .by_token(&token, proof)
            .await
            .unwrap_err();
        assert_eq!(unproven.claims(), None, "{unproven}");
        assert!(!unproven.is_final(), "{unproven}");
    }
}

/// It was good when the gateway first saw it.
#[tokio::test]
async fn a_known_token_that_expires_says_whose_it_is() {
    let gateway = WithFile::new(&[&RSA]);
    let token = RSA.good_token();
    let caller = gateway.by(&token).await.unwrap();
    gateway.clock.set(caller.expires_at());
    let proof = Proof::ServiceAccountToken;
    let unproven = gateway
        .identifier
        .by_token(&token, proof)
        .await
        .unwrap_err();
    assert_eq!(kind(unproven.error()), "Expired");
    assert!(unproven.is_final());
    let claims = unproven.claims().unwrap();
    assert_eq!(claims.facts(), *caller.facts());
    assert_eq!(*claims.audiences, ["countersign".into()]);
}

/// Whoever has the key can sign anything.
#[tokio::test(start_paused = true)]
async fn a_known_token_whose_key_is_withdrawn_says_nothing() {
    let gateway = WithFile::new(&[&RSA, &P256]);
    let token = RSA.good_token();
    let caller = gateway.by(&token).await.unwrap();
    gateway.write(&jwks(&[&P256]).to_string());
    gateway.identifier.withdrawn(&caller).await;
    let proof = Proof::ServiceAccountToken;
    let unproven = gateway
        .identifier
        .by_token(&token, proof)
        .await
        .unwrap_err();
    assert_eq!(kind(unproven.error()), "KeyWithdrawn");
    assert_eq!(unproven.claims(), None);
    assert!(!unproven.is_final());
}
