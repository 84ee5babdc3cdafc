use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, jwk::JwkSet};
use rstest::rstest;

use super::*;
use crate::client::Client;

fn validation(issuer: &Issuer) -> Validation {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.algorithms = vec![Algorithm::RS256, Algorithm::ES256];
    validation.set_audience(&["countersign"]);
    validation.set_issuer(&[issuer.url()]);
    validation.validate_nbf = true;
    validation.validate_exp = true;
    validation
}

/// Checks a token with a library that is not ours, by what was published.
fn check(issuer: &Issuer, token: &str) -> Result<Value, jsonwebtoken::errors::Error> {
    let set: JwkSet = serde_json::from_str(&issuer.jwks()).unwrap();
    let header = jsonwebtoken::decode_header(token)?;
    let jwk = set
        .find(&header.kid.unwrap())
        .expect("the key is published");
    let key = DecodingKey::from_jwk(jwk)?;
    let mut validation = validation(issuer);
    validation.algorithms = vec![header.alg];
    Ok(decode::<Value>(token, &key, &validation)?.claims)
}

async fn start() -> Issuer {
    Issuer::start(&Authority::default(), Clock::system())
        .await
        .unwrap()
}

#[rstest]
#[tokio::test]
async fn a_projected_token_is_good_and_says_who(
    #[values(KeyKind::Rsa, KeyKind::Ec)] kind: KeyKind,
) {
    let issuer = start().await;
    issuer.rotate(kind);
    let request = TokenRequest::new("qa", "nightly-dashboard");
    let claims = check(&issuer, &issuer.mint(&request)).unwrap();
    assert_eq!(claims["sub"], "system:serviceaccount:qa:nightly-dashboard");
    assert_eq!(claims["aud"], json!(["countersign"]));
    let bound = &claims["kubernetes.io"];
    assert_eq!(bound["namespace"], "qa");
    assert_eq!(bound["serviceaccount"]["name"], "nightly-dashboard");
    let (name, uid) = request.pod.unwrap();
    assert_eq!(bound["pod"], json!({"name": name, "uid": uid}));
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(life, 3600);
}

#[tokio::test]
async fn a_changed_token_is_not_good() {
    let issuer = start().await;
    let token = issuer.mint(&TokenRequest::new("qa", "nightly-dashboard"));
    let other = issuer.mint(&TokenRequest::new("qa", "other"));
    let signature = token.rsplit_once('.').unwrap().1;
    let (message, _) = other.rsplit_once('.').unwrap();
    assert!(check(&issuer, &format!("{message}.{signature}")).is_err());
    assert!(
        issuer
            .keys()
            .verify(&format!("{message}.{signature}"))
            .is_none()
    );
    assert!(issuer.keys().verify(&token).is_some());
}

#[tokio::test]
async fn old_keys_are_published_until_they_are_forgotten() {
    let issuer = start().await;
    let old = issuer.mint(&TokenRequest::new("qa", "nightly-dashboard"));
    let before = issuer.key_id();
    issuer.rotate(KeyKind::Ec);
    assert_ne!(issuer.key_id(), before);
    assert!(check(&issuer, &old).is_ok());
    issuer.forget_old_keys();
    assert!(!issuer.jwks().contains(&before));
    assert!(issuer.keys().verify(&old).is_none());
}

#[tokio::test]
async fn the_keys_are_served_over_https_by_address() {
    let issuer = start().await;
    let client = Client::direct(issuer.address(), issuer.ca_pem());
    let uri = format!("https://127.0.0.1{JWKS_PATH}");
    let answer = client
        .send(
            http::Request::get(uri)
                .body(http_body_util::Full::default())
                .unwrap(),
        )
        .await
        .unwrap();
    assert_eq!(
        answer.json(),
        serde_json::from_str::<Value>(&issuer.jwks()).unwrap()
    );
    assert_eq!(issuer.received().count(), 1);
}
