//! How values end: idle, without a policy, with the gateway; and what is told of them meanwhile.

use countersign_tests::{fake::Proves, process, world::Options};
use http::StatusCode;
use serde_json::Value;

use super::Issued;
use crate::harness::site::{get, soon};

const OBTAINED: &str = "  oauth2ClientCredentials:
    tokenUrl: {token_url}
    revokeUrl: {revoke_url}
    client: { id: \"gate:way\", secret: { file: {secrets}/client-secret } }
  revokeWhenIdle: true
  idleAfter: {idle}
";

const SECRET: &str = "client-secret-2f6a91";

async fn used_once(idle: &str) -> anyhow::Result<Issued> {
    let issued = Issued::start(Options::default(), &OBTAINED.replace("{idle}", idle)).await?;
    issued.world.write_secret("client-secret", SECRET)?;
    issued.register(Proves::Basic(SECRET.to_owned()));
    let answer = issued.client().send(get("/report")).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!((issued.oauth.good(), issued.oauth.revocations()), (1, 0));
    Ok(issued)
}

async fn revoked(issued: &Issued) -> anyhow::Result<()> {
    soon("the revocation", async {
        while issued.oauth.revocations() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await?;
    assert_eq!(issued.oauth.good(), 0);
    Ok(())
}

#[tokio::test]
async fn what_is_idle_is_revoked_at_its_issuer() -> anyhow::Result<()> {
    let issued = used_once("300ms").await?;
    revoked(&issued).await?;
    // And obtained anew when it is needed again.
    let answer = issued.client().send(get("/report")).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(issued.oauth.issued(), 2);
    Ok(())
}

#[tokio::test]
async fn what_no_policy_uses_any_more_is_revoked() -> anyhow::Result<()> {
    let issued = used_once("10m").await?;
    let file = issued.world.policy_directory().join("example.yaml");
    let text = std::fs::read_to_string(file)?;
    let end = text.find("kind: AccessPolicy").expect("there is a policy");
    let without = &text[..text[..end].rfind("---").expect("documents are divided")];
    issued.world.write_policy("example.yaml", without)?;
    issued.gateway.reloader().reload()?;
    revoked(&issued).await
}

#[tokio::test]
async fn at_the_gateways_end_its_credentials_are_revoked() -> anyhow::Result<()> {
    let issued = used_once("10m").await?;
    let oauth = std::sync::Arc::clone(&issued.oauth);
    issued.gateway.stop().await?;
    assert_eq!((oauth.good(), oauth.revocations()), (0, 1));
    Ok(())
}

#[tokio::test]
async fn t57_the_admin_endpoint_tells_how_credentials_stand_and_never_what_they_are()
-> anyhow::Result<()> {
    let issued = used_once("10m").await?;
    let admin = issued.gateway.admin().expect("there is an admin endpoint");
    let answer = process::admin(admin, "/credentials").await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    issued.check_silence(&[&answer]);
    assert!(!answer.contains(SECRET));
    let told: Value = serde_json::from_str(body)?;
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
        .args(["credentials", "--admin", &admin.to_string()])
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
    issued.check_silence(&[&table]);
    Ok(())
}
