//! A signing key that its issuer withdraws, as when it has leaked: whatever rests on it ends, without
//! a review by an API server and without waiting for the token's end.

use std::time::Duration;

use countersign_core::clock::Clock;
use countersign_tests::{
    client::Session,
    fake::{KeyKind, Protocol},
};
use http::StatusCode;
use rstest::rstest;

use crate::{
    harness::{HOST, TestBed, UNMATCHED, get, pass, soon},
    identity::mtls::{Mesh, PATH},
    policy::reauthorization::{check, tunnel, tunnelling, websocket},
};

/// The issuer signs with another key from now on, and publishes the old one no longer.
fn withdraw(bed: &TestBed) -> anyhow::Result<()> {
    bed.env.issuer.rotate(KeyKind::Ec);
    bed.env.issuer.forget_old_keys();
    Ok(bed.env.issuer.write_jwks(&keys(bed))?)
}

/// The issuer has one key more.
fn add(bed: &TestBed) -> anyhow::Result<()> {
    bed.env.issuer.rotate(KeyKind::Ec);
    Ok(bed.env.issuer.write_jwks(&keys(bed))?)
}

fn keys(bed: &TestBed) -> std::path::PathBuf {
    bed.env.directory().join("jwks.json")
}

/// Asks until it is refused; nothing else announces that the keys were looked at.
async fn until_refused(bed: &mut TestBed, session: &mut Session) -> anyhow::Result<()> {
    loop {
        let answer = session.send(get("/some")).await?;
        let record = bed.record().await?;
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
    let builder = TestBed::builder();
    let builder = if reviewed {
        builder.token_review()
    } else {
        builder
    };
    let mut bed = builder.start().await?;
    let client = bed.client().over(protocol);
    let mut session = client.open(HOST).await?;
    assert_eq!(session.send(get("/some")).await?.text(), "GET /some");
    bed.record().await?;
    withdraw(&bed)?;
    soon("a refusal", until_refused(&mut bed, &mut session)).await??;
    let closed = soon("the end", session.send(get("/more"))).await?;
    assert!(closed.is_err(), "the connection should be closed");
    // The token opens no other; one by the new key does.
    assert!(client.open(HOST).await.is_err());
    assert_eq!(bed.record().await?["reason"], "identity_key_withdrawn");
    bed.token = bed.env.token("qa", "nightly-dashboard");
    assert_eq!(bed.client().send(get("/well")).await?.text(), "GET /well");
    Ok(())
}

#[tokio::test]
async fn t66_a_websocket_is_closed_with_its_reason() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let mut socket = websocket(bed.client()).await?;
    add(&bed)?;
    socket.echo(b"another key changes nothing").await?;
    withdraw(&bed)?;
    socket.ended().await?;
    let record = bed.record().await?;
    check(&record, "identity_key_withdrawn", "caller");
    assert_eq!(record["target"]["protocol"], "websocket");
    Ok(())
}

#[tokio::test]
async fn t66_a_tunnel_is_closed_with_its_reason() -> anyhow::Result<()> {
    let mut bed = tunnelling(Clock::system()).await?;
    let mut tunnel = tunnel(&bed).await?;
    add(&bed)?;
    tunnel.echo(b"another key changes nothing").await?;
    withdraw(&bed)?;
    tunnel.ended().await?;
    let record = bed.record().await?;
    check(&record, "identity_key_withdrawn", "caller");
    assert_eq!(record["target"]["authority"], format!("{UNMATCHED}:443"));
    Ok(())
}

/// A caller by token and certificate rests on both.
#[tokio::test]
async fn t66_a_certificate_does_not_make_up_for_a_withdrawn_key() -> anyhow::Result<()> {
    let mut mesh = Mesh::start().await;
    let token = mesh.bed.env.token("qa", "nightly-dashboard");
    let svid = mesh.domain.svid(PATH);
    let mut connection = mesh.client(Some(&svid)).open().await?;
    assert!(connection.ask(Some(&token)).await?.0.is_success());
    mesh.bed.record().await?;
    withdraw(&mesh.bed)?;
    let refused = async {
        while connection.ask(Some(&token)).await?.0.is_success() {
            mesh.bed.record().await?;
        }
        mesh.bed.record().await
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
    let mut bed = TestBed::builder().keys_by_url().start().await?;
    let mut socket = websocket(bed.client()).await?;
    bed.env.issuer.rotate(KeyKind::Ec);
    bed.env.issuer.forget_old_keys();
    // The time between two looks passes at once; what happens then happens over real sockets.
    pass(Duration::from_secs(30)).await;
    socket.ended().await?;
    check(&bed.record().await?, "identity_key_withdrawn", "caller");
    Ok(())
}
