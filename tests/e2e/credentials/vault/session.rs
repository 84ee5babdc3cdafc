//! Sessions: logged in for, renewed, ended by others.

use jiff::SignedDuration;

use super::*;
use crate::harness::until;

const READ: &str = r#"path "secret/data/*" { capabilities = ["read"] }"#;

/// What `OpenBao` knows of all tokens that were logged in for.
async fn sessions(bao: &OpenBao) -> Vec<Value> {
    let listed = bao
        .read("auth/token/accessors?list=true")
        .await
        .expect("a list");
    let mut sessions = Vec::new();
    for accessor in listed["data"]["keys"].as_array().expect("keys") {
        let looked = bao
            .write("auth/token/lookup-accessor", json!({"accessor": accessor}))
            .await
            .expect("a token");
        if looked["data"]["path"] == "auth/kubernetes/login" {
            sessions.push(looked["data"].clone());
        }
    }
    sessions
}

async fn revoke(bao: &OpenBao, session: &Value) {
    let accessor = json!({"accessor": session["accessor"]});
    bao.write("auth/token/revoke-accessor", accessor)
        .await
        .expect("revoked");
}

#[tokio::test]
async fn a_login_is_shared_and_made_anew_when_it_was_revoked() {
    let Some(stand) = Stand::with_slack_token().await else {
        return;
    };
    let (vault, _issuer) = stand.by_login(READ, json!({"token_ttl": "1h"})).await;
    let reads = (0..20).map(|_| {
        let vault = Arc::clone(&vault);
        tokio::spawn(async move { token_at(&vault, "slack").await })
    });
    for read in reads.collect::<Vec<_>>() {
        assert_eq!(read.await.unwrap().as_deref(), Ok("one"));
    }
    let first = sessions(&stand.bao).await;
    assert_eq!(first.len(), 1, "one login for all");
    assert_eq!(vault.login_number(), 1);

    revoke(&stand.bao, &first[0]).await;
    assert_eq!(token_at(&vault, "slack").await.as_deref(), Ok("one"));
    assert_eq!(vault.login_number(), 2);

    // A refusal of policy is none of the session's fault, and costs no login.
    let denied = vault.read("other", "x").await.unwrap_err();
    assert!(matches!(denied, VaultError::Denied { .. }), "{denied}");
    assert_eq!(vault.login_number(), 2);
    assert_eq!(sessions(&stand.bao).await.len(), 1);
}

#[tokio::test]
async fn a_session_is_renewed_ahead_of_its_end_and_then_replaced() {
    let Some(stand) = Stand::with_slack_token().await else {
        return;
    };
    let (vault, _issuer) = stand.by_login(READ, json!({"token_ttl": "90s"})).await;
    assert_eq!(token_at(&vault, "slack").await.as_deref(), Ok("one"));
    let first = sessions(&stand.bao).await;
    assert!(first[0]["last_renewal"].is_null());

    // Two thirds of its life later, by the gateway's clock.
    stand
        .clock
        .pass(stand.clock.now() + SignedDuration::from_secs(61));
    let renewed = async || !sessions(&stand.bao).await[0]["last_renewal"].is_null();
    until("the session is renewed", renewed).await.unwrap();
    assert_eq!(vault.login_number(), 1);

    // A renewal that is refused is a login, before anyone asks for a secret.
    revoke(&stand.bao, &first[0]).await;
    stand
        .clock
        .pass(stand.clock.now() + SignedDuration::from_secs(61));
    until("there is another session", async || {
        vault.login_number() == 2
    })
    .await
    .unwrap();
    assert_eq!(token_at(&vault, "slack").await.as_deref(), Ok("one"));
    assert_eq!(vault.login_number(), 2);
}

#[tokio::test]
async fn a_login_that_is_refused_says_what_to_compare() {
    let Some(stand) = Stand::start().await else {
        return;
    };
    let (vault, issuer) = stand.by_login(READ, json!({})).await;
    let mut stranger = TokenRequest::new("countersign", "gateway");
    stranger.audiences = vec!["someone-else".into()];
    let token = issuer.mint(&stranger);
    stand.write("token", &token);
    let error = vault.read("secret", "slack").await.unwrap_err();
    let sentence = error.to_string();
    assert!(
        matches!(error, VaultError::LoginRefused { .. }) && sentence.contains("audience"),
        "{sentence}"
    );
    assert!(!sentence.contains(&token), "{sentence}");
    std::fs::remove_file(stand.file("token")).unwrap();
    // The refusal is remembered for a second; another client has none to remember.
    let auth = VaultAuth::Kubernetes {
        role: "countersign".into(),
        mount: "kubernetes".into(),
        token_file: stand.file("token"),
    };
    let other = Vault::new(&stand.server(auth), stand.clock.clone());
    let error = other.read("secret", "slack").await.unwrap_err();
    assert!(matches!(error, VaultError::OwnToken(_)), "{error}");
}

#[tokio::test]
async fn a_token_in_a_file_is_read_again_and_renewed() {
    let Some(stand) = Stand::with_slack_token().await else {
        return;
    };
    let first = stand.bao.token(READ, "90s").await.unwrap();
    let vault = stand.by_token(&first);
    assert_eq!(token_at(&vault, "slack").await.as_deref(), Ok("one"));
    let looked = async |token: &str| {
        let looked = stand
            .bao
            .write("auth/token/lookup", json!({"token": token}))
            .await;
        looked.unwrap()["data"].clone()
    };
    stand
        .clock
        .pass(stand.clock.now() + SignedDuration::from_secs(61));
    let renewed = async || !looked(&first).await["last_renewal"].is_null();
    until("the token is renewed", renewed).await.unwrap();

    let revoked = json!({"token": first});
    stand.bao.write("auth/token/revoke", revoked).await.unwrap();
    let ended = vault.read("secret", "slack").await.unwrap_err();
    assert!(matches!(ended, VaultError::TokenEnded { .. }), "{ended}");
    let second = stand.bao.token(READ, "1h").await.unwrap();
    // The refusal is remembered for a second, by tokio's clock.
    stand.write("token", &second);
    until("the new token is used", async || {
        token_at(&vault, "slack").await.is_ok()
    })
    .await
    .unwrap();
}
