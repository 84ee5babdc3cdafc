//! An API's other names: the same routes hold there, and each credential stays with its own.

use countersign_tests::{
    environment::{DASHBOARD, Environment},
    fake::Slack,
    resources::{Resource, Resources, secret_file},
};
use http::StatusCode;
use rstest::rstest;
use serde_json::json;

use crate::{credentials::destinations::post, harness::TestBed};

/// Slack under its other names, as the operator permits them.
fn other_names() -> Resources {
    Resources::from([
        Resource::extended_target("slack").with("hosts", json!(["acme.slack.com"])),
        Resource::credential("slack-user", "slack").token_file("slack-user"),
        Resource::access("names", DASHBOARD, "slack")
            .with(
                "credentials",
                json!({"bot": "slack-bot", "user": "slack-user"}),
            )
            .allow(json!({
                "hosts": ["www.slack.com", "api.slack.com", "acme.slack.com"],
                "paths": ["/api/*", "/scim/**"],
            })),
    ])
}

#[rstest]
#[case("https://www.slack.com/api/auth.test", "bot")]
#[case("https://api.slack.com/api/auth.test", "bot")]
#[case("https://acme.slack.com/api/chat.postMessage", "bot")]
#[case("https://www.slack.com/api/search.messages", "user")]
#[case("https://acme.slack.com/api/users.setPhoto", "user")]
#[case("https://api.slack.com/api/reminders.add", "user")]
#[case("https://api.slack.com/scim/v1/Users", "user")]
#[case("https://www.slack.com/api/auth.revoke", "path_denied")]
#[case("https://acme.slack.com/api/AUTH.revoke", "path_denied")]
#[case("https://api.slack.com/api/oauth.v2.access", "path_denied")]
#[case("https://acme.slack.com/archives/C0", "no_route")]
#[case("https://www.slack.com/scim/v1/Users", "no_route")]
#[case("https://evil.slack.com/api/auth.test", "host_unmatched")]
#[case("https://slack.com/api/search.messages", "request_not_allowed")]
#[tokio::test]
async fn t75_slacks_other_names_get_what_slack_com_gets(
    #[case] url: &str,
    #[case] expected: &str,
) -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .prepare(|env, _| Ok(env.write_policy("names.yaml", other_names())?))
        .start()
        .await?;
    let sent = post(&bed.client(), url).await;
    let slack = &bed.env.slack;
    let token = match expected {
        "bot" => slack.bot_token(),
        "user" => slack.user_token(),
        reason => {
            bed.recorded(reason).await?;
            assert_eq!(bed.env.slack.received().count(), 0);
            return Ok(());
        }
    };
    let answer = sent?;
    assert_ne!(answer.json()["ok"], false, "{answer:?}");
    assert_eq!(answer.status, StatusCode::OK);
    let last = slack.received().all().pop().expect("it arrived");
    assert!(url.contains(&last.host), "{last:?}");
    assert_eq!(
        last.header_values("authorization"),
        [format!("Bearer {token}")]
    );
    // Whatever was asked besides went to the same host.
    let all = slack.received().all();
    assert!(
        all.iter().all(|request| request.host == last.host),
        "{all:?}"
    );
    Ok(())
}

/// `GovSlack`'s token is no business of Slack's.
fn gov(client_id: &str) -> Resources {
    let rotation = json!({
        "clientId": client_id,
        "clientSecret": secret_file("gov-client-secret"),
        "refreshToken": secret_file("gov-refresh-token"),
    });
    let posts = json!({
        "hosts": ["slack-gov.com"],
        "methods": ["POST"],
        "paths": ["/api/chat.postMessage"],
    });
    Resources::from([
        Resource::credential("gov-bot", "slack-gov").with("slackRotation", rotation),
        Resource::access("gov", DASHBOARD, "slack-gov")
            .credential_named("gov-bot")
            .allow(posts),
    ])
}

#[tokio::test]
async fn t75_gov_slack_has_its_own_token_from_its_own_host() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let slack = Slack::start_gov(&env.authority, env.clock.clone()).await?;
    let app = slack.rotating_app();
    env.write_secret("gov-client-secret", &app.client_secret)?;
    env.write_secret("gov-refresh-token", &app.refresh_token)?;
    env.write_policy("gov.yaml", gov(&app.client_id))?;
    let mut bed = TestBed::builder().within(env);
    for host in slack.hosts() {
        bed = bed.resolve(host, 443, slack.address());
    }
    let bed = bed.start().await?;
    let client = bed.client();
    let answer = post(&client, "https://slack-gov.com/api/chat.postMessage").await?;
    assert_eq!(answer.json()["ok"], true, "{answer:?}");
    assert_eq!(slack.messages("C0"), ["private"]);
    assert_eq!(slack.refreshes(), 1);
    assert_eq!(
        bed.env.slack.received().count(),
        0,
        "nothing of it went to Slack"
    );
    // The near misses: the other Slack's policy is for the other Slack.
    post(&client, "https://slack-gov.com/api/auth.revoke").await?;
    post(&client, "https://slack-gov.com/api/auth.test").await?;
    assert_eq!(slack.messages("C0").len(), 1);
    Ok(())
}
