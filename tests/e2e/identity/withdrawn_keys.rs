//! A signing key that its issuer withdraws, as when it has leaked: whatever rests on it ends, without
//! a review by an API server and without waiting for the token's end.

use std::time::Duration;

use countersign_config::model::JwksSource;
use countersign_core::clock::Clock;
use countersign_tests::{
    client::Session,
    fake::{KeyKind, Protocol},
    world::Options,
};
use http::StatusCode;
use rstest::rstest;

use crate::{
    harness::site::{HOST, Site, UNMATCHED, get, soon},
    identity::mtls::{Mesh, PATH},
    policy::reauthorization::{check, tunnel, tunnelling, websocket},
};

/// The issuer signs with another key from now on, and publishes the old one no longer.
fn withdraw(site: &Site) -> anyhow::Result<()> {
    site.world.issuer.rotate(KeyKind::Ec);
    site.world.issuer.forget_old_keys();
    Ok(site.world.issuer.write_jwks(&keys(site))?)
}

/// The issuer has one key more.
fn add(site: &Site) -> anyhow::Result<()> {
    site.world.issuer.rotate(KeyKind::Ec);
    Ok(site.world.issuer.write_jwks(&keys(site))?)
}

fn keys(site: &Site) -> std::path::PathBuf {
    site.world.directory().join("jwks.json")
}

/// Asks until it is refused; nothing else announces that the keys were looked at.
async fn until_refused(site: &mut Site, session: &mut Session) -> anyhow::Result<()> {
    loop {
        let answer = session.send(get("/some")).await?;
        let record = site.record().await?;
        if answer.status == StatusCode::OK {
            assert_eq!(record["outcome"], "permitted", "{record}");
            continue;
        }
        assert_eq!(answer.status, 407);
        check(&record, "identity_key_withdrawn", "caller");
        return Ok(());
    }
}

#[rstest]
#[tokio::test]
async fn t66_requests_of_an_open_connection_are_refused_and_it_is_closed(
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
    #[values(false, true)] reviewed: bool,
) -> anyhow::Result<()> {
    let options = Options {
        token_review: reviewed,
        ..Options::default()
    };
    let mut site = Site::with(options, |_, _| Ok(())).await?;
    let client = site.client().over(protocol);
    let mut session = client.open(HOST).await?;
    assert_eq!(session.send(get("/some")).await?.text(), "GET /some");
    site.record().await?;
    withdraw(&site)?;
    soon("a refusal", until_refused(&mut site, &mut session)).await??;
    let closed = soon("the end", session.send(get("/more"))).await?;
    assert!(closed.is_err(), "the connection should be closed");
    // The token opens no other; one by the new key does.
    assert!(client.open(HOST).await.is_err());
    assert_eq!(site.record().await?["reason"], "identity_key_withdrawn");
    site.token = site.world.token("qa", "nightly-dashboard");
    assert_eq!(site.client().send(get("/well")).await?.text(), "GET /well");
    Ok(())
}

#[tokio::test]
async fn t66_a_websocket_is_closed_with_its_reason() -> anyhow::Result<()> {
    let mut site = Site::start().await?;
    let mut socket = websocket(site.client()).await?;
    add(&site)?;
    socket.echo(b"another key changes nothing").await?;
    withdraw(&site)?;
    socket.ended().await?;
    let record = site.record().await?;
    check(&record, "identity_key_withdrawn", "caller");
    assert_eq!(record["target"]["protocol"], "websocket");
    Ok(())
}

#[tokio::test]
async fn t66_a_tunnel_is_closed_with_its_reason() -> anyhow::Result<()> {
    let mut site = tunnelling(Clock::system()).await?;
    let mut tunnel = tunnel(&site).await?;
    add(&site)?;
    tunnel.echo(b"another key changes nothing").await?;
    withdraw(&site)?;
    tunnel.ended().await?;
    let record = site.record().await?;
    check(&record, "identity_key_withdrawn", "caller");
    assert_eq!(record["target"]["authority"], format!("{UNMATCHED}:443"));
    Ok(())
}

/// A caller by token and certificate rests on both.
#[tokio::test]
async fn t66_a_certificate_does_not_make_up_for_a_withdrawn_key() -> anyhow::Result<()> {
    let mut mesh = Mesh::start().await;
    let token = mesh.world.token("qa", "nightly-dashboard");
    let svid = mesh.domain.svid(PATH);
    let mut connection = mesh.client(Some(&svid)).open().await?;
    assert!(connection.ask(Some(&token)).await?.0.is_success());
    mesh.gateway.decisions().next().await;
    mesh.world.issuer.rotate(KeyKind::Ec);
    mesh.world.issuer.forget_old_keys();
    let keys = mesh.world.directory().join("jwks.json");
    mesh.world.issuer.write_jwks(&keys)?;
    let refused = async {
        while connection.ask(Some(&token)).await?.0.is_success() {
            mesh.gateway.decisions().next().await;
        }
        anyhow::Ok(mesh.gateway.decisions().next().await)
    };
    let record = soon("a refusal", refused).await??;
    check(&record, "identity_key_withdrawn", "caller");
    // The certificate alone stands.
    let (status, body) = mesh.client(Some(&svid)).ask(None).await?;
    assert!(status.is_success(), "{body}");
    Ok(())
}

/// Keys by URL are looked at in the background too, with nobody asking.
#[tokio::test]
async fn t66_a_url_of_keys_is_looked_at_without_traffic() -> anyhow::Result<()> {
    let mut site = Site::with(Options::default(), |world, gateway| {
        gateway.issuers[0].jwks = JwksSource::Url {
            url: world.issuer.jwks_url(),
            ca_file: Some(world.directory().join("upstream-roots.pem")),
        };
        Ok(())
    })
    .await?;
    let mut socket = websocket(site.client()).await?;
    site.world.issuer.rotate(KeyKind::Ec);
    site.world.issuer.forget_old_keys();
    // The time between two looks passes at once; what happens then happens over real sockets.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(30)).await;
    tokio::time::resume();
    socket.ended().await?;
    check(&site.record().await?, "identity_key_withdrawn", "caller");
    Ok(())
}
