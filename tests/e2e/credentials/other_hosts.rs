//! An API's other names: the same routes hold there, and each credential stays with its own.

use countersign_tests::{fake::Slack, gateway::Gateway, world::World};
use http::StatusCode;
use rstest::rstest;

use crate::credentials::destinations::{client, post};

/// Slack under its other names, as the operator permits them.
const NAMES: &str = r#"
apiVersion: countersign.dev/v1alpha1
kind: TargetService
metadata: { name: slack }
spec: { extends: slack, hosts: [acme.slack.com] }
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: slack-user, namespace: qa }
spec: { target: slack, static: { token: { file: {secrets}/slack-user } } }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: names, namespace: qa }
spec:
  owner: qa-platform@example.com
  workloads: [nightly-dashboard]
  target: slack
  credentials: { bot: slack-bot, user: slack-user }
  allow:
    - { hosts: [www.slack.com, api.slack.com, acme.slack.com], paths: ["/api/*", "/scim/**"] }
"#;

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
    let world = World::start().await?;
    let secrets = world.secret_directory().display().to_string();
    world.write_policy("names.yaml", &NAMES.replace("{secrets}", &secrets))?;
    let mut gateway = Gateway::start(&world).await?;
    let sent = post(&client(&gateway, &world), url).await;
    let token = match expected {
        "bot" => world.slack.bot_token(),
        "user" => world.slack.user_token(),
        reason => {
            let record = gateway.decisions().next().await;
            assert_eq!(record["reason"], reason, "{record}");
            assert_eq!(world.slack.received().count(), 0);
            return Ok(());
        }
    };
    let answer = sent?;
    assert_ne!(answer.json()["ok"], false, "{answer:?}");
    assert_eq!(answer.status, StatusCode::OK);
    let last = world.slack.received().all().pop().expect("it arrived");
    assert!(url.contains(&last.host), "{last:?}");
    assert_eq!(
        last.header_values("authorization"),
        [format!("Bearer {token}")]
    );
    // Whatever was asked besides went to the same host.
    let all = world.slack.received().all();
    assert!(
        all.iter().all(|request| request.host == last.host),
        "{all:?}"
    );
    Ok(())
}

/// `GovSlack`'s token is no business of Slack's.
const GOV: &str = r#"
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: gov-bot, namespace: qa }
spec:
  target: slack-gov
  slackRotation:
    clientId: "{client}"
    clientSecret: { file: {secrets}/gov-client-secret }
    refreshToken: { file: {secrets}/gov-refresh-token }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: gov, namespace: qa }
spec:
  owner: qa-platform@example.com
  workloads: [nightly-dashboard]
  target: slack-gov
  credential: gov-bot
  allow:
    - { hosts: [slack-gov.com], methods: [POST], paths: ["/api/chat.postMessage"] }
"#;

#[tokio::test]
async fn t75_gov_slack_has_its_own_token_from_its_own_host() -> anyhow::Result<()> {
    let world = World::start().await?;
    let gov = Slack::start_gov(&world.authority, world.clock.clone()).await?;
    let app = gov.rotating_app();
    world.write_secret("gov-client-secret", &app.client_secret)?;
    world.write_secret("gov-refresh-token", &app.refresh_token)?;
    let secrets = world.secret_directory().display().to_string();
    let policy = GOV
        .replace("{client}", &app.client_id)
        .replace("{secrets}", &secrets);
    world.write_policy("gov.yaml", &policy)?;
    let gateway = Gateway::start_with(&world, |gateway| {
        for host in gov.hosts() {
            let host = countersign_config::host::Host::parse(host).expect("a host");
            gateway.upstream.resolve.insert((host, 443), gov.address());
        }
    })
    .await?;
    let client = client(&gateway, &world);
    let answer = post(&client, "https://slack-gov.com/api/chat.postMessage").await?;
    assert_eq!(answer.json()["ok"], true, "{answer:?}");
    assert_eq!(gov.messages("C0"), ["private"]);
    assert_eq!(gov.refreshes(), 1);
    assert_eq!(
        world.slack.received().count(),
        0,
        "nothing of it went to Slack"
    );
    // The near misses: the other Slack's policy is for the other Slack.
    post(&client, "https://slack-gov.com/api/auth.revoke").await?;
    post(&client, "https://slack-gov.com/api/auth.test").await?;
    assert_eq!(gov.messages("C0").len(), 1);
    Ok(())
}
