//! Key and value, version 2, in a real `OpenBao` that is killed and started again.

use std::time::Duration;

use countersign_tests::openbao::OpenBao;

use super::*;
use crate::harness::pass;

/// What a gateway's policy must grant.
const READ: &str = r#"path "secret/data/qase" { capabilities = ["read"] }"#;

/// How the gateway reaches it, by a token with that policy.
pub(super) async fn reach(env: &Environment, bao: &OpenBao, policy: &str) -> anyhow::Result<()> {
    let root = env.directory();
    fs::write(root.join("vault-roots.pem"), bao.ca_pem())?;
    fs::write(root.join("vault-token"), bao.token(policy, "24h").await?)?;
    let (root, url) = (root.display(), bao.url());
    Ok(env.extend_gateway(&format!(
        "  vault:\n    address: \"{url}\"\n    caFile: {root}/vault-roots.pem\n    \
             auth: {{ tokenFile: {root}/vault-token }}"
    ))?)
}

/// `None` where there is no `OpenBao`.
async fn start(max_age: Option<&str>) -> anyhow::Result<Option<(TestBed, OpenBao)>> {
    let env = environment().await?;
    let Some(bao) = OpenBao::start(&env.authority).await? else {
        return Ok(None);
    };
    bao.write_secret("qase", json!({"token": env.qase.token()}))
        .await?;
    lies_in(&env, &json!({"vault": {"path": "qase", "key": "token"}}))?;
    if let Some(max_age) = max_age {
        edit_credential(&env, |credential| credential["maxAge"] = json!(max_age))?;
    }
    reach(&env, &bao, READ).await?;
    Ok(Some((TestBed::over(env).await?, bao)))
}

#[tokio::test]
async fn what_is_written_is_noticed_and_what_is_deleted_is_withdrawn() -> anyhow::Result<()> {
    let Some((mut bed, bao)) = start(None).await? else {
        return Ok(());
    };
    assert_eq!(bed.reads_runs().await?["credential"]["generation"], 1);

    // One that the API rejects is asked for again at once.
    let token = bed.env.qase.replace_token();
    bao.write_secret("qase", json!({"token": token})).await?;
    let record = bed.reads_runs().await?;
    assert_eq!(record["credential"]["generation"], 2, "{record}");
    assert_eq!(record["upstream"]["replayed"], true, "{record}");

    // Any other is noticed within half a minute.
    bao.delete("secret/data/qase").await?;
    pass(Duration::from_secs(31)).await;
    let (_, record) = bed.read_runs().await?;
    assert_eq!(record["reason"], "credential_missing", "{record}");
    assert!(detail(&record).contains("was deleted at"), "{record}");
    let undelete = json!({"versions": [2]});
    bao.write("secret/undelete/qase", undelete).await?;
    pass(Duration::from_secs(2)).await;
    assert!(is_good(&bed.reads_runs().await?));

    bao.write_secret("qase", json!({"tokens": token})).await?;
    pass(Duration::from_secs(31)).await;
    let (_, record) = bed.read_runs().await?;
    let detail = detail(&record);
    assert!(
        detail.contains("has no text field `token`; its fields are `tokens`"),
        "{detail}"
    );
    assert!(!detail.contains(&token));
    Ok(())
}

/// It is down for a while: traffic goes on while the credential is valid, is refused then, and
/// recovers by itself.
#[tokio::test]
async fn an_outage_is_bridged_while_the_credential_is_valid() -> anyhow::Result<()> {
    let Some((mut bed, mut bao)) = start(Some("10m")).await? else {
        return Ok(());
    };
    assert!(is_good(&bed.reads_runs().await?));
    bao.kill().await?;
    // Nobody has asked Vault since: nothing is known to be wrong.
    assert!(is_good(&bed.reads_runs().await?));
    pass(Duration::from_secs(31)).await;
    let mut bridged = 0;
    for _ in 0..20 {
        let record = bed.reads_runs().await?;
        assert!(is_stale(&record), "{record}");
        bridged += 1;
    }

    let clock = bed.env.clock.clone();
    clock.pass(clock.now() + jiff::SignedDuration::from_mins(10));
    let (status, record) = bed.read_runs().await?;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let reason = "credential_source_unavailable";
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["blame"], "platform");
    assert!(detail(&record).contains("cannot be reached"), "{record}");

    bao.restart().await?;
    let recovered = bed.reads_until(is_good).await?;
    countersign_tests::shown(&format!(
        "OpenBao killed: {bridged} requests bridged, then refused as {reason}; after its restart: {}",
        recovered["outcome"]
    ));
    Ok(())
}

#[tokio::test]
async fn a_seal_a_missing_right_and_a_missing_mount_are_told_apart() -> anyhow::Result<()> {
    let Some((mut bed, bao)) = start(None).await? else {
        return Ok(());
    };
    bao.seal().await?;
    let (_, record) = bed.read_runs().await?;
    let reason = "credential_source_unavailable";
    assert_eq!(record["reason"], reason, "{record}");
    assert!(detail(&record).contains("unseal it"), "{record}");
    bao.unseal().await?;
    bed.reads_until(is_good).await?;

    let policy = r#"path "secret/data/other" { capabilities = ["read"] }"#;
    let other = bao.token(policy, "1h").await?;
    fs::write(bed.env.directory().join("vault-token"), other)?;
    // One that has just been started says that too.
    pass(Duration::from_secs(31)).await;
    assert!(is_stale(&bed.read_runs().await?.1));
    pass(Duration::from_secs(31)).await;
    let (_, record) = bed.read_runs().await?;
    assert_eq!(record["reason"], "credential_refused", "{record}");
    assert!(
        detail(&record).contains(r#"path "secret/data/qase" { capabilities = ["read"] }"#),
        "{record}"
    );
    Ok(())
}
