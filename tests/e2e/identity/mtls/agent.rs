//! A trust domain whose bundle comes from the SPIFFE Workload API.

use countersign_tests::fake::WorkloadApi;

use super::*;
use crate::harness::until;

/// A mesh whose gateway asks an agent, which is there if the test started it before.
async fn mesh(socket: &std::path::Path) -> Mesh {
    let socket = socket.to_owned();
    Mesh::with(Clock::system(), |gateway| {
        gateway.trust_domains[0].bundle = BundleSource::WorkloadApi(socket);
    })
    .await
}

async fn asks(mesh: &Mesh, pair: &Pair) -> bool {
    let asked = mesh.client(Some(pair)).ask(None).await;
    asked.is_ok_and(|(status, _)| status.is_success())
}

async fn is_up(mesh: &Mesh, up: u8) -> bool {
    let metrics = mesh.bed.ask_admin("/metrics").await;
    let (_, metrics) = metrics.unwrap_or_default();
    metrics.lines().any(|line| {
        line.starts_with("countersign_workload_api_up{") && line.ends_with(&format!(" {up}"))
    })
}

#[tokio::test]
async fn bundles_come_from_the_agent_and_stay_when_it_is_away() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("agent.sock");
    let agent = WorkloadApi::start(&socket)?;
    // The mesh makes the trust domain; the agent learns of it when the gateway is there.
    let mut mesh = mesh(&socket).await;
    let svid = mesh.domain.svid(PATH);
    assert!(!asks(&mesh, &svid).await, "nobody has vouched for it");
    let record = mesh.bed.record().await?;
    assert_eq!(record["reason"], "identity_keys_unavailable", "{record}");
    assert_eq!(record["blame"], "platform", "{record}");
    assert!(
        record["detail"].to_string().contains("Workload API"),
        "{record}"
    );
    assert!(is_up(&mesh, 0).await);

    agent.give(&[(DOMAIN, &[&mesh.domain.der()])]);
    until("the bundle is taken", async || asks(&mesh, &svid).await).await?;
    assert!(is_up(&mesh, 1).await);
    assert_eq!(agent.streams(), 1);
    let mut open = mesh.client(Some(&svid)).open().await?;
    assert!(open.ask(None).await?.0.is_success());

    // Its root rotates, over the stream that is open.
    let next = TrustDomain::new(DOMAIN, Clock::system());
    let renewed = next.svid(PATH);
    assert!(!asks(&mesh, &renewed).await);
    agent.give(&[(DOMAIN, &[&mesh.domain.der(), &next.der()])]);
    until("the next root is trusted", async || {
        asks(&mesh, &renewed).await
    })
    .await?;
    agent.give(&[(DOMAIN, &[&next.der()]), ("other.example.com", &[])]);
    until("the old root is withdrawn", async || {
        !asks(&mesh, &svid).await
    })
    .await?;
    assert_eq!(
        open.ask(None).await?.0,
        407,
        "an open connection is withdrawn too"
    );
    assert_eq!(agent.streams(), 1);

    drop(agent);
    until("its absence is told", async || is_up(&mesh, 0).await).await?;
    assert!(asks(&mesh, &renewed).await, "the last good bundle stays");
    let agent = WorkloadApi::start(&socket)?;
    agent.give(&[("other.example.com", &[])]);
    until("a domain it does not name is not vouched for", async || {
        !asks(&mesh, &renewed).await
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_gateway_starts_without_the_agent_and_waits_for_it() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("agent.sock");
    let mesh = mesh(&socket).await;
    let svid = mesh.domain.svid(PATH);
    assert!(!asks(&mesh, &svid).await);
    // A token is judged all the same.
    let token = mesh.bed.env.token("qa", "nightly-dashboard");
    let (status, body) = mesh.client(None).ask(Some(&token)).await?;
    assert!(status.is_success(), "{body}");
    let agent = WorkloadApi::start(&socket)?;
    agent.give(&[(DOMAIN, &[&mesh.domain.der()])]);
    until("the bundle is taken", async || asks(&mesh, &svid).await).await?;
    Ok(())
}
