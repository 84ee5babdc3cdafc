//! Token rotation.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::SignedDuration;

use super::*;

async fn refresh(bench: &Bench, refresh_token: &str, secret: &str) -> Value {
    let app = bench.slack.rotating_app();
    let basic = BASE64_STANDARD.encode(format!("{}:{secret}", app.client_id));
    let request = post("https://slack.com/api/oauth.v2.access")
        .header(AUTHORIZATION, format!("Basic {basic}"))
        .header("content-type", "application/x-www-form-urlencoded");
    let form = format!("grant_type=refresh_token&refresh_token={refresh_token}");
    bench.send(with(request, &form)).await.json()
}

#[tokio::test]
async fn a_refresh_token_works_once_and_briefly_again() {
    let bench = Bench::start().await;
    let app = bench.slack.rotating_app();
    let seed = app.refresh_token.as_str();
    let wrong = refresh(&bench, seed, "wrong").await;
    assert_eq!(wrong["error"], "bad_client_secret");

    let first = refresh(&bench, seed, &app.client_secret).await;
    assert_eq!(first["expires_in"], 43200);
    let again = refresh(&bench, seed, &app.client_secret).await;
    assert_eq!(again["ok"], true, "within the grace period");
    let dead = refresh(
        &bench,
        first["refresh_token"].as_str().unwrap(),
        &app.client_secret,
    )
    .await;
    assert_eq!(
        dead["error"], "invalid_refresh_token",
        "the first of two pairs is dead"
    );

    bench
        .clock
        .set(bench.clock.now() + SignedDuration::from_secs(10));
    let late = refresh(&bench, seed, &app.client_secret).await;
    assert_eq!(late["error"], "invalid_refresh_token");
    assert_eq!(bench.slack.refreshes(), 2);
}

#[tokio::test]
async fn access_tokens_expire_and_only_two_live() {
    let bench = Bench::start().await;
    let app = bench.slack.rotating_app();
    let mut access = Vec::new();
    let mut token = app.refresh_token;
    for _ in 0..3 {
        let pair = refresh(&bench, &token, &app.client_secret).await;
        access.push(pair["access_token"].as_str().unwrap().to_owned());
        pair["refresh_token"]
            .as_str()
            .unwrap()
            .clone_into(&mut token);
    }
    assert_eq!(
        bench.call("auth.test", &access[0], "").await["error"],
        "token_revoked"
    );
    assert_eq!(bench.call("auth.test", &access[1], "").await["ok"], true);
    assert_eq!(bench.call("auth.test", &access[2], "").await["ok"], true);
    bench
        .clock
        .set(bench.clock.now() + SignedDuration::from_hours(12));
    assert_eq!(
        bench.call("auth.test", &access[2], "").await["error"],
        "token_expired"
    );
}

async fn exchange(bench: &Bench, token: &str) -> Value {
    let app = bench.slack.rotating_app();
    let basic = BASE64_STANDARD.encode(format!("{}:{}", app.client_id, app.client_secret));
    let request = post("https://slack.com/api/oauth.v2.exchange")
        .header(AUTHORIZATION, format!("Basic {basic}"))
        .header("content-type", "application/x-www-form-urlencoded");
    bench
        .send(with(request, &format!("token={token}")))
        .await
        .json()
}

#[tokio::test]
async fn a_long_lived_token_is_exchanged_once() {
    let bench = Bench::start().await;
    let app = bench.slack.rotating_app();
    let long_lived = bench.slack.bot_token();
    assert_eq!(exchange(&bench, DUMMY).await["error"], "invalid_token");
    let pair = exchange(&bench, &long_lived).await;
    let access = pair["access_token"].as_str().unwrap();
    assert_eq!(bench.call("auth.test", access, "").await["ok"], true);
    assert_eq!(
        bench.call("auth.test", &long_lived, "").await["error"],
        "token_revoked"
    );
    let again = exchange(&bench, &long_lived).await;
    assert_eq!(again["error"], "token_already_exchanged");
    let next = pair["refresh_token"].as_str().unwrap();
    assert_eq!(refresh(&bench, next, &app.client_secret).await["ok"], true);
}

#[tokio::test]
async fn revoking_an_access_token_ends_that_one_alone() {
    let bench = Bench::start().await;
    let app = bench.slack.rotating_app();
    let pair = refresh(&bench, &app.refresh_token, &app.client_secret).await;
    let access = pair["access_token"].as_str().unwrap();
    assert_eq!(bench.call("auth.revoke", access, "").await["revoked"], true);
    assert_eq!(
        bench.call("auth.test", access, "").await["error"],
        "token_revoked"
    );
    assert_eq!(bench.slack.living_access_tokens(), 0);
    let next = pair["refresh_token"].as_str().unwrap();
    assert_eq!(refresh(&bench, next, &app.client_secret).await["ok"], true);
    let seed = bench.slack.reinstall();
    assert_eq!(bench.slack.living_access_tokens(), 0);
    let dead = refresh(&bench, next, &app.client_secret).await;
    assert_eq!(dead["error"], "invalid_refresh_token");
    assert_eq!(refresh(&bench, &seed, &app.client_secret).await["ok"], true);
}
