//! How a credential is obtained: the valid forms, and one mistake each, with its line.

use rstest::rstest;

use super::{BASE, load_texts, outline, problems};
use crate::model::Provider;

/// The base, with this provider for its credential; the text begins at line 15.
fn obtained(by: &str) -> String {
    let fixed = "  static:\n    token: { file: /run/secrets/slack/bot }\n";
    assert_eq!(BASE.matches(fixed).count(), 1);
    BASE.replacen(fixed, by, 1)
}

const CLIENT: &str = "    client: { id: gateway, secret: { file: /run/a } }\n";
const KEY: &str = "    key: { privateKey: { file: /run/a } }\n";

#[rstest]
#[case::basic("  basic: { username: bot, password: { file: /run/a } }\n")]
#[case::client_credentials(&format!(
    "  oauth2ClientCredentials:\n    tokenUrl: https://login.example.com/token\n{CLIENT}    \
     scopes: [a:read, b]\n    audience: x\n"
))]
#[case::client_by_post(
    "  oauth2ClientCredentials:\n    tokenUrl: https://login.example.com/token\n    client: { id: a, \
     secret: { file: /run/a }, secretBy: post }\n"
)]
#[case::client_by_key(
    "  oauth2ClientCredentials:\n    tokenUrl: https://login.example.com/token\n    client: { id: a, \
     key: { privateKey: { file: /run/a }, keyId: k1, algorithm: ES256 } }\n"
)]
#[case::exchange(
    "  tokenExchange: { tokenUrl: https://login.example.com/token, resource: https://a }\n"
)]
#[case::minted(&format!("  jwt:\n    issuer: us\n    lifetime: 2m\n    claims: {{ tenant: 7 }}\n{KEY}"))]
#[case::grant(&format!(
    "  jwt:\n    issuer: us\n{KEY}    grant: {{ tokenUrl: https://login.example.com/token }}\n"
))]
#[case::revoked_when_idle(&format!(
    "  revokeWhenIdle: true\n  idleAfter: 2m\n  oauth2ClientCredentials:\n    tokenUrl: \
     https://login.example.com/token\n    revokeUrl: https://login.example.com/revoke\n{CLIENT}"
))]
fn is_right(#[case] by: &str) {
    assert_eq!(outline(&problems(&obtained(by))), [""; 0]);
}

#[rstest]
#[case::nothing("", &["13: missing-key"])]
#[case::two(
    "  static: { token: { file: /run/a } }\n  basic: { username: bot, password: { file: /run/a } }\n",
    &["16: conflicting-keys"]
)]
#[case::colon("  basic: { username: \"a:b\", password: { file: /run/a } }\n", &["15: bad-name"])]
#[case::no_user("  basic: { username: \" \", password: { file: /run/a } }\n", &["15: empty-value"])]
#[case::inline_password("  basic:\n    username: bot\n    password: hunter2\n", &["17: inline-secret"])]
#[case::clear_http(
    &format!("  oauth2ClientCredentials:\n    tokenUrl: http://login.example.com/token\n{CLIENT}"),
    &["16: bad-url"]
)]
#[case::user_in_url(
    &format!("  oauth2ClientCredentials:\n    tokenUrl: https://a:b@login.example.com/\n{CLIENT}"),
    &["16: bad-url"]
)]
#[case::clear_revocation(
    "  tokenExchange:\n    tokenUrl: https://login.example.com/token\n    revokeUrl: http://a\n",
    &["17: bad-url"]
)]
#[case::no_client(
    "  oauth2ClientCredentials:\n    tokenUrl: https://login.example.com/token\n",
    &["15: missing-key"]
)]
#[case::no_proof(
    "  tokenExchange:\n    tokenUrl: https://login.example.com/token\n    client: { id: a }\n",
    &["17: conflicting-keys"]
)]
#[case::two_proofs(
    "  tokenExchange:\n    tokenUrl: https://login.example.com/token\n    client:\n      id: a\n      \
     secret: { file: /run/a }\n      key: { privateKey: { file: /run/a } }\n",
    &["17: conflicting-keys"]
)]
#[case::inline_client_secret(
    "  oauth2ClientCredentials:\n    tokenUrl: https://login.example.com/token\n    client:\n      id: a\n      \
     secret: hunter2\n",
    &["19: inline-secret"]
)]
#[case::two_scopes_in_one(
    &format!("  oauth2ClientCredentials:\n    tokenUrl: https://l.example.com/\n{CLIENT}    scopes: [\"a b\"]\n"),
    &["18: bad-scope"]
)]
#[case::unknown_algorithm(
    "  jwt:\n    issuer: us\n    key: { privateKey: { file: /run/a }, algorithm: HS256 }\n",
    &["17: unknown-value"]
)]
#[case::long_life(&format!("  jwt:\n    issuer: us\n    lifetime: 61m\n{KEY}"), &["17: bad-duration"])]
#[case::short_life(&format!("  jwt:\n    issuer: us\n    lifetime: 119s\n{KEY}"), &["17: bad-duration"])]
#[case::claim_of_ours(&format!("  jwt:\n    issuer: us\n    claims: {{ exp: 7 }}\n{KEY}"), &["17: bad-claim"])]
#[case::handed_in_twice(
    &format!(
        "  jwt:\n    issuer: us\n{KEY}    grant: {{ tokenUrl: https://l.example.com/ }}\n    \
         installation: {{ url: https://api.github.com/x }}\n"
    ),
    &["19: conflicting-keys"]
)]
#[case::nothing_to_revoke(
    "  static: { token: { file: /run/a } }\n  revokeWhenIdle: true\n",
    &["16: not-revocable"]
)]
#[case::nowhere_to_revoke(
    &format!("  oauth2ClientCredentials:\n    tokenUrl: https://l.example.com/\n{CLIENT}  revokeWhenIdle: true\n"),
    &["18: not-revocable"]
)]
#[case::idle_at_once("  static: { token: { file: /run/a } }\n  idleAfter: 0s\n", &["16: bad-duration"])]
fn is_an_error(#[case] by: &str, #[case] expected: &[&str]) {
    let text = obtained(by);
    let found = problems(&text);
    let own: Vec<_> = outline(&found)
        .into_iter()
        .filter(|line| !line.ends_with("dangling-reference"))
        .collect();
    assert_eq!(own, expected, "{found}");
    assert!(!found.to_string().contains("hunter2"), "a value was told");
    for problem in &found.0 {
        assert!(!problem.remedy.is_empty(), "{problem:?}");
    }
    assert!(load_texts(&[&text], None).is_err(), "it is no mere warning");
}

const ROTATION: &str = "  slackRotation: { clientId: \"1.2\", clientSecret: { file: /run/a }, refreshToken: { file: \
                        /run/b } }\n";

/// `auth.revoke` with a bot token deactivates the bot.
#[rstest]
#[case::bot("credential: bot", true, true)]
#[case::bot_by_slot("credentials: { bot: bot }", true, true)]
#[case::webhook("credentials: { bot: bot, webhook: bot }", true, true)]
#[case::user("credentials: { user: bot }", true, false)]
#[case::user_for_all("credentials: { bot: bot, user: bot }", true, false)]
#[case::kept("credential: bot", false, false)]
fn a_rotating_token_is_revoked_if_it_is_a_users(
    #[case] filled: &str,
    #[case] revoked: bool,
    #[case] refused: bool,
) {
    let by = format!("{ROTATION}  revokeWhenIdle: {revoked}\n");
    let text = obtained(&by).replacen("credential: bot", filled, 1);
    // A method for user tokens, if only that slot is filled.
    let text = if filled.contains("{ user") {
        text.replacen("/api/chat.postMessage", "/api/search.messages", 1)
    } else {
        text
    };
    let found = problems(&text);
    let codes: Vec<_> = found.0.iter().map(|problem| problem.code).collect();
    assert_eq!(codes.contains(&"revokes-bot"), refused, "{found}");
    assert_eq!(load_texts(&[&text], None).is_err(), refused, "{found}");
}

#[rstest]
#[case("slack", "slack.com")]
#[case("slack-gov", "slack-gov.com")]
fn a_token_rotates_at_its_own_slack(#[case] target: &str, #[case] expected: &str) {
    let text = obtained(ROTATION)
        .replace("target: slack", &format!("target: {target}"))
        .replace("hosts: [slack.com]", &format!("hosts: [{expected}]"));
    let loaded = load_texts(&[&text], None).unwrap();
    let provider = &loaded.policies.credentials()[0].provider;
    let Provider::SlackRotation { host, .. } = provider else {
        panic!("{provider:?}");
    };
    assert_eq!(host.to_string(), expected);
}
