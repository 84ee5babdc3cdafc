//! Its other names, whose token a method takes, and what is no incoming webhook at hooks.slack.com.

use super::*;

#[rstest]
#[case("slack.com", "ok")]
#[case("www.slack.com", "ok")]
#[case("api.slack.com", "ok")]
#[case("acme.slack.com", "ok")]
#[tokio::test]
async fn the_web_api_is_the_same_at_every_name(#[case] host: &str, #[case] expected: &str) {
    let bench = Bench::start().await;
    let request = post(&format!("https://{host}/api/auth.test"));
    let request = request.header(AUTHORIZATION, format!("Bearer {}", bench.slack.bot_token()));
    let answer = bench.send(with(request, "")).await.json();
    assert_eq!(answer[expected], true, "{answer}");
}

#[rstest]
#[case("search.messages")]
#[case("users.setPhoto")]
#[case("users.profile.set")]
#[case("reminders.add")]
#[case("stars.list")]
#[case("dnd.setSnooze")]
#[case("admin.users.list")]
#[tokio::test]
async fn some_methods_refuse_a_bots_token(#[case] method: &str) {
    let bench = Bench::start().await;
    let error = |answer: Value| answer["error"].clone();
    let [bot, user, app] = [
        bench.slack.bot_token(),
        bench.slack.user_token(),
        bench.slack.app_token(),
    ];
    let refused = "not_allowed_token_type";
    assert_eq!(error(bench.call(method, &bot, "").await), refused);
    assert_eq!(error(bench.call(method, &app, "").await), refused);
    assert_eq!(bench.call(method, &user, "").await["ok"], true);
    assert_eq!(error(bench.call(method, DUMMY, "").await), "invalid_auth");
}

#[tokio::test]
async fn revoking_a_bots_token_deactivates_the_bot() {
    let bench = Bench::start().await;
    assert!(bench.slack.bot_is_active());
    let user = bench.slack.user_token();
    assert_eq!(bench.call("auth.revoke", &user, "").await["revoked"], true);
    assert!(bench.slack.bot_is_active());
    let app = bench.slack.rotating_app();
    let bot = bench.slack.bot_token();
    assert_eq!(bench.call("auth.revoke", &bot, "").await["revoked"], true);
    assert!(!bench.slack.bot_is_active());
    // Whatever other token the bot has.
    let form = format!(
        "grant_type=refresh_token&refresh_token={}",
        app.refresh_token
    );
    let proof = base64::Engine::encode(
        &base64::prelude::BASE64_STANDARD,
        format!("{}:{}", app.client_id, app.client_secret),
    );
    let request = post("https://slack.com/api/oauth.v2.access")
        .header(AUTHORIZATION, format!("Basic {proof}"))
        .header("content-type", "application/x-www-form-urlencoded");
    let pair = bench.send(with(request, &form)).await.json();
    let access = pair["access_token"].as_str().unwrap();
    assert_eq!(
        bench.call("auth.test", access, "").await["error"],
        "account_inactive"
    );
}

#[rstest]
#[case::commands("commands", true, "response")]
#[case::actions("actions", true, "response")]
#[case::another_ticket("commands", false, "response")]
#[tokio::test]
async fn a_response_url_is_a_ticket_of_its_own(
    #[case] kind: &str,
    #[case] right: bool,
    #[case] channel: &str,
) {
    let bench = Bench::start().await;
    let mut path = bench.slack.response_path(kind);
    if !right {
        path.push('x');
    }
    let request =
        post(&format!("https://hooks.slack.com{path}")).header("content-type", "application/json");
    let answer = bench.send(with(request, r#"{"text":"private"}"#)).await;
    assert_eq!(answer.status.is_success(), right);
    let said = if right { vec!["private"] } else { Vec::new() };
    assert_eq!(bench.slack.messages(channel), said);
    assert!(bench.slack.messages("webhook").is_empty());
}

#[tokio::test]
async fn a_workflow_starts_by_its_own_path_alone() {
    let bench = Bench::start().await;
    for (path, started) in [
        (bench.slack.trigger_path(), true),
        ("/triggers/T9TK3CUKW/4711/guess".to_owned(), false),
        (
            bench.slack.webhook_path().replace("services", "triggers"),
            false,
        ),
    ] {
        let request = post(&format!("https://hooks.slack.com{path}"))
            .header("content-type", "application/json");
        let answer = bench.send(with(request, r#"{"text":"go"}"#)).await;
        assert_eq!(answer.status.is_success(), started, "{path}");
    }
    assert_eq!(bench.slack.messages("trigger"), ["started"]);
    assert!(bench.slack.messages("webhook").is_empty());
}

#[tokio::test]
async fn gov_slack_shares_nothing_with_the_other() {
    let clock = Clock::manual("2026-11-23T05:10:00Z".parse().unwrap());
    let authority = Authority::default();
    let gov = Slack::start_gov(&authority, clock.clone()).await.unwrap();
    let other = Slack::start(&authority, clock).await.unwrap();
    let client = Client::direct(gov.address(), gov.ca_pem());
    for (token, ok) in [(gov.bot_token(), true), (other.bot_token(), false)] {
        let request = post("https://slack-gov.com/api/auth.test")
            .header(AUTHORIZATION, format!("Bearer {token}"));
        let answer = client.send(with(request, "")).await.unwrap();
        assert_eq!(answer.json()["ok"], ok);
    }
}
