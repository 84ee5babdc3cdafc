//! How values end: idle, without a policy, with the gateway; and what is told of them meanwhile.

use countersign_tests::{
    fake::{Oauth, Proves},
    process,
    resources::secret_file,
};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Issued, start};
use crate::harness::{EXAMPLE, get, soon, until};

/// The file of the gateway's own secret.
const CLIENT_SECRET: &str = "client-secret";
const SECRET: &str = "client-secret-2f6a91";

async fn used_once(idle: &str) -> anyhow::Result<Issued> {
    let spec = json!({
        "tokenUrl": Oauth::token_url(),
        "revokeUrl": Oauth::revoke_url(),
        "client": {"id": "gate:way", "secret": secret_file(CLIENT_SECRET)},
    });
    let further = json!({"revokeWhenIdle": true, "idleAfter": idle});
    let bed = start(("oauth2ClientCredentials", spec), further).await?;
    bed.env.write_secret(CLIENT_SECRET, SECRET)?;
    bed.register(Proves::Basic(SECRET.to_owned()));
    let answer = bed.client().send(get("/report")).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let oauth = &bed.api.oauth;
    assert_eq!((oauth.good(), oauth.revocations()), (1, 0));
    Ok(bed)
}

async fn revoked(bed: &Issued) -> anyhow::Result<()> {
    until("the revocation", async || bed.api.oauth.revocations() > 0).await?;
    assert_eq!(bed.api.oauth.good(), 0);
    Ok(())
}

#[tokio::test]
async fn what_is_idle_is_revoked_at_its_issuer() -> anyhow::Result<()> {
    let bed = used_once("300ms").await?;
    revoked(&bed).await?;
    // And obtained anew when it is needed again.
    let answer = bed.client().send(get("/report")).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(bed.api.oauth.issued(), 2);
    Ok(())
}

#[tokio::test]
async fn what_no_policy_uses_any_more_is_revoked() -> anyhow::Result<()> {
    let bed = used_once("10m").await?;
    bed.edit_policy(|policy| policy.remove_access(EXAMPLE))?;
    revoked(&bed).await
}

#[tokio::test]
async fn at_the_gateways_end_its_credentials_are_revoked() -> anyhow::Result<()> {
    let bed = used_once("10m").await?;
    bed.gateway.stop().await?;
    let oauth = &bed.api.oauth;
    assert_eq!((oauth.good(), oauth.revocations()), (0, 1));
    Ok(())
}

#[tokio::test]
async fn t57_the_admin_endpoint_tells_how_credentials_stand_and_never_what_they_are()
-> anyhow::Result<()> {
    let bed = used_once("10m").await?;
    let (head, answer) = bed.ask_admin("/credentials").await?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    bed.check_silence(&[&head, &answer]);
    assert!(!answer.contains(SECRET));
    let told: Value = serde_json::from_str(&answer)?;
    let all = told["credentials"].as_array().cloned().unwrap_or_default();
    let example = all
        .iter()
        .find(|credential| credential["name"] == "qa/example");
    let example = example.expect("it is told of");
    assert_eq!(example["provider"], "oauth2ClientCredentials");
    assert_eq!(example["state"], "good");
    assert_eq!(example["generation"], 1);
    assert_eq!(example["last_error"], Value::Null);
    let left = example["expires_in_s"].as_u64();
    assert!(
        left.is_some_and(|left| (3_500..=3_600).contains(&left)),
        "{example}"
    );
    let unused = all
        .iter()
        .filter(|credential| credential["state"] == "unused");
    assert!(unused.count() > 0, "{told}");

    let command = tokio::process::Command::new(process::binary()?)
        .args(["credentials", "--admin", &bed.admin().to_string()])
        .output();
    let output = soon("the command", command).await??;
    let table = String::from_utf8(output.stdout)?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let row = table.lines().find(|line| line.contains("qa/example"));
    let row = row.unwrap_or_else(|| panic!("no row: {table}"));
    assert!(
        row.contains("oauth2ClientCredentials") && row.contains("good"),
        "{row}"
    );
    bed.check_silence(&[&table]);
    Ok(())
}
