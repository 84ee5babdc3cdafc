//! Hosts that are not decrypted, from clients that know of no proxy.

use countersign_config::{host::Host, model::Transparency};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

use super::{
    namespace::{self, entered},
    steered::{NETWORK, PATIENCE, REDIRECT, SNI, STRANGER, Steered, from_app, hello, say},
};

const PINNED: &str = "
apiVersion: countersign.dev/v1alpha1
kind: TargetService
metadata: { name: pinned }
spec: { hosts: [stranger.test], ports: [7007], intercept: false }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: dashboard-calls-pinned, namespace: qa }
spec:
  owner: qa-platform@example.com
  workloads: [nightly-dashboard]
  target: pinned
  allow: [{ hosts: [stranger.test] }]
";

#[tokio::test]
async fn a_host_that_is_not_decrypted_is_carried_by_policy() -> anyhow::Result<()> {
    if !entered(
        module_path!(),
        "a_host_that_is_not_decrypted_is_carried_by_policy",
    ) {
        return Ok(());
    }
    namespace::run(NETWORK);
    namespace::run(REDIRECT);
    let elsewhere = TcpListener::bind("127.0.0.1:0").await?;
    let address = elsewhere.local_addr()?;
    let name = (Host::parse("stranger.test")?, 7007);
    let mut steered = Steered::start_with(Transparency::Redirect, |gateway| {
        gateway.upstream.resolve.insert(name, address);
    })
    .await?;
    steered.world.write_policy("pinned.yaml", PINNED)?;
    steered.gateway.reloader().reload()?;
    let words = hello(&[(0, SNI)]);
    let mut app = from_app(STRANGER).await?;
    app.write_all(&words).await?;
    let (mut accepted, _) = timeout(PATIENCE, elsewhere.accept()).await??;
    let mut heard = vec![0; words.len()];
    timeout(PATIENCE, accepted.read_exact(&mut heard)).await??;
    assert_eq!(heard, words, "no byte may be lost");
    drop((app, accepted));
    let record = steered.record().await?;
    assert_eq!(record["outcome"], "tunnelled", "{record}");
    assert_eq!(record["policy"]["name"], "qa/dashboard-calls-pinned");
    // Without the policy it is refused, in the language of TLS.
    steered.world.remove_policy("pinned.yaml")?;
    steered.gateway.reloader().reload()?;
    let mut app = from_app(STRANGER).await?;
    let answer = say(&mut app, &words).await?;
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49]);
    assert_eq!(steered.record().await?["reason"], "host_unmatched");
    Ok(())
}

/// `slack.com` in SNI.
const SLACK_SNI: &[u8] = b"\0\x0c\0\0\x09slack.com";

#[tokio::test]
async fn t68_a_governed_name_at_another_port_is_not_tunnelled() -> anyhow::Result<()> {
    if !entered(
        module_path!(),
        "t68_a_governed_name_at_another_port_is_not_tunnelled",
    ) {
        return Ok(());
    }
    namespace::run(NETWORK);
    namespace::run(REDIRECT);
    let mut steered = Steered::tunnelling_with(|_| {}).await?;
    let mut app = from_app(STRANGER).await?;
    let answer = say(&mut app, &hello(&[(0, SLACK_SNI)])).await?;
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49]);
    assert_eq!(steered.record().await?["reason"], "governed_elsewhere");
    Ok(())
}
