//! Threat 66: a proof is valid only while the issuer has the key that signed it.

use countersign_core::bearer::Bearer as _;
use futures_util::FutureExt as _;
use rstest::rstest;

use super::*;

/// The sum of two bounds: checking a file, and reading it.
const NOTICED: Duration = Duration::from_secs(2);

async fn withdrawn(gateway: &WithFile, caller: &Arc<Caller>) -> Option<IdentifyError> {
    let withdrawn = gateway.identifier.withdrawn(caller);
    tokio::time::timeout(NOTICED, withdrawn).await.ok()
}

fn key_withdrawn() -> IdentifyError {
    IdentifyError::KeyWithdrawn {
        issuer: "prod-eu".into(),
    }
}

/// The key with one of its fields changed.
fn changed(field: &str, value: &str) -> Value {
    let mut jwk = RSA.jwk();
    jwk[field] = value.into();
    jwk
}

#[rstest]
#[case::replaced(json!({ "keys": [OTHER_RSA.jwk()] }))]
#[case::replaced_under_its_name(json!({ "keys": [changed("n", OTHER_RSA.jwk()["n"].as_str().unwrap())] }))]
#[case::all_withdrawn(json!({ "keys": [] }))]
#[case::none_of_use(json!({ "keys": [{ "kty": "AKP", "alg": "ML-DSA-44", "pub": "aaaa" }] }))]
#[case::renamed(json!({ "keys": [changed("kid", "rsa-9")] }))]
#[case::restricted(json!({ "keys": [changed("alg", "RS512")] }))]
#[case::not_for_signatures(json!({ "keys": [changed("use", "enc"), OTHER_RSA.jwk()] }))]
#[tokio::test(start_paused = true)]
async fn t66_what_rests_on_a_withdrawn_key_ends_without_a_request(#[case] keys: Value) {
    let gateway = WithFile::new(&[&RSA]);
    let token = RSA.good_token();
    let caller = gateway.by(&token).await.unwrap();
    gateway.write(&keys.to_string());
    assert_eq!(withdrawn(&gateway, &caller).await, Some(key_withdrawn()));
    // A request on a connection of the same caller, and a new connection with the same token.
    let confirmed = gateway.identifier.confirm(&caller).now_or_never();
    assert_eq!(confirmed, Some(Err(key_withdrawn())));
    assert_eq!(gateway.by(&token).await.unwrap_err(), key_withdrawn());
}

#[rstest]
#[case::the_same(json!({ "keys": [RSA.jwk(), OTHER_RSA.jwk()] }))]
#[case::in_another_order(json!({ "keys": [OTHER_RSA.jwk(), RSA.jwk()] }))]
#[case::without_the_other(json!({ "keys": [RSA.jwk()] }))]
#[case::with_one_more(json!({ "keys": [P256.jwk(), RSA.jwk(), OTHER_RSA.jwk()] }))]
#[case::half_written(json!("{"))]
#[case::no_object(json!([]))]
#[tokio::test(start_paused = true)]
async fn t66_what_rests_on_a_key_that_stays_goes_on(#[case] keys: Value) {
    let gateway = WithFile::new(&[&RSA, &OTHER_RSA]);
    let caller = gateway.by(&RSA.good_token()).await.unwrap();
    gateway.write(&keys.to_string());
    assert_eq!(withdrawn(&gateway, &caller).await, None);
    gateway.identifier.confirm(&caller).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn t66_a_key_that_comes_back_counts_again() {
    let gateway = WithFile::new(&[&RSA]);
    let token = RSA.good_token();
    let caller = gateway.by(&token).await.unwrap();
    gateway.write(&jwks(&[&OTHER_RSA]).to_string());
    assert_eq!(withdrawn(&gateway, &caller).await, Some(key_withdrawn()));
    gateway.write(&jwks(&[&RSA]).to_string());
    tokio::time::sleep(NOTICED).await;
    gateway.by(&token).await.unwrap();
}

/// A credential for one run (`tokenExchange`) is released with the key.
#[tokio::test(start_paused = true)]
async fn t66_a_run_is_over_with_its_key() {
    let gateway = WithFile::new(&[&RSA]);
    let caller = gateway.by(&RSA.good_token()).await.unwrap();
    let over = async || tokio::time::timeout(NOTICED, caller.over(&gateway.clock)).await;
    assert!(over().await.is_err(), "the key is there");
    gateway.write(&jwks(&[&OTHER_RSA]).to_string());
    over().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn t66_keys_serve_for_a_day_without_their_source() {
    let gateway = WithFile::new(&[&RSA]);
    let token = RSA.good_token();
    let caller = gateway.by(&token).await.unwrap();
    std::fs::remove_file(gateway.directory.path().join("jwks.json")).unwrap();
    let withdrawn = gateway.identifier.withdrawn(&caller);
    let nearly_a_day = Duration::from_secs(24 * 3600 - 2);
    let early = tokio::time::timeout(nearly_a_day, withdrawn).await;
    assert!(early.is_err(), "{early:?}");
    let withdrawn = gateway.identifier.withdrawn(&caller);
    let error = tokio::time::timeout(NOTICED * 2, withdrawn).await.unwrap();
    let unavailable =
        |error: &IdentifyError| matches!(error, IdentifyError::KeysUnavailable { .. });
    assert!(unavailable(&error), "{error:?}");
    let refused = gateway.by(&token).await.unwrap_err();
    assert!(unavailable(&refused), "{refused:?}");
    // And again as soon as the keys are available.
    gateway.write(&jwks(&[&RSA]).to_string());
    tokio::time::sleep(NOTICED).await;
    gateway.by(&token).await.unwrap();
}
