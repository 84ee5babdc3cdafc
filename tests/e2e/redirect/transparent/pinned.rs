//! Hosts that are not decrypted, from clients that know of no proxy.

use countersign_config::model::Transparency;
use countersign_tests::{
    environment::DASHBOARD,
    resources::{Resource, Resources},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    namespace::entered,
    steered::{REDIRECT, SNI, STRANGER, from_app, hello, say, transparent, tunnelling},
};
use crate::harness::soon;

/// A host that is not decrypted, and the right to call it.
fn pinned() -> Resources {
    Resources::from([
        Resource::target("pinned", &["stranger.test"])
            .with("ports", json!([7007]))
            .with("intercept", json!(false)),
        Resource::access("dashboard-calls-pinned", DASHBOARD, "pinned")
            .allow(json!({"hosts": ["stranger.test"]})),
    ])
}

#[tokio::test]
async fn a_host_that_is_not_decrypted_is_carried_by_policy() -> anyhow::Result<()> {
    if !entered(
        module_path!(),
        "a_host_that_is_not_decrypted_is_carried_by_policy",
        REDIRECT,
    ) {
        return Ok(());
    }
    let elsewhere = TcpListener::bind("127.0.0.1:0").await?;
    let address = elsewhere.local_addr()?;
    let mut bed = transparent(Transparency::Redirect)
        .resolve("stranger.test", 7007, address)
        .start()
        .await?;
    bed.env.write_policy("pinned.yaml", pinned())?;
    bed.reload()?;
    let words = hello(&[(0, SNI)]);
    let mut app = from_app(STRANGER).await?;
    app.write_all(&words).await?;
    let (mut accepted, _) = soon("bytes", elsewhere.accept()).await??;
    let mut heard = vec![0; words.len()];
    soon("bytes", accepted.read_exact(&mut heard)).await??;
    assert_eq!(heard, words, "no byte may be lost");
    drop((app, accepted));
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "tunnelled", "{record}");
    assert_eq!(record["policy"]["name"], "qa/dashboard-calls-pinned");
    // Without the policy it is refused, in the language of TLS.
    bed.env.remove_policy("pinned.yaml")?;
    bed.reload()?;
    let mut app = from_app(STRANGER).await?;
    let answer = say(&mut app, &words).await?;
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49]);
    assert_eq!(bed.record().await?["reason"], "host_unmatched");
    Ok(())
}

/// `slack.com` in SNI.
const SLACK_SNI: &[u8] = b"\0\x0c\0\0\x09slack.com";

#[tokio::test]
async fn t68_a_governed_name_at_another_port_is_not_tunnelled() -> anyhow::Result<()> {
    if !entered(
        module_path!(),
        "t68_a_governed_name_at_another_port_is_not_tunnelled",
        REDIRECT,
    ) {
        return Ok(());
    }
    let mut bed = tunnelling().start().await?;
    let mut app = from_app(STRANGER).await?;
    let answer = say(&mut app, &hello(&[(0, SLACK_SNI)])).await?;
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49]);
    assert_eq!(bed.record().await?["reason"], "governed_elsewhere");
    Ok(())
}
