//! Two issuers, one subject: clusters that know nothing of each other name their service accounts
//! alike.

use countersign_config::model::{JwksSource, Unmatched};
use countersign_tests::{
    client::converse,
    fake::{Issuer, TokenRequest},
    world::Options,
};
use tokio::net::TcpStream;

use crate::harness::site::{Site, UNMATCHED, soon};

/// What the proxy answers to a request in absolute form on a connection of its own.
pub(crate) async fn absolute(site: &Site, token: &str, uri: &str) -> anyhow::Result<String> {
    let host = uri.split('/').nth(2).unwrap_or_default();
    let head = format!(
        "GET {uri} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    );
    let mut stream = TcpStream::connect(site.gateway.address()).await?;
    soon("an answer", converse(&mut stream, head.as_bytes()))
        .await?
        .map_err(Into::into)
}

#[tokio::test]
async fn t73_two_issuers_with_one_subject_share_no_connection() -> anyhow::Result<()> {
    let mut other = None;
    let authority = countersign_tests::fake::Authority::default();
    let clock = countersign_core::clock::Clock::system();
    let second = Issuer::start(&authority, clock).await?;
    second.set_url("https://other-cluster.example");
    let mut site = Site::with(Options::default(), |world, gateway| {
        let keys = world.directory().join("other-jwks.json");
        second.write_jwks(&keys)?;
        let mut issuer = gateway.issuers[0].clone();
        issuer.name = "prod-us".to_owned();
        issuer.issuer = second.url();
        issuer.jwks = JwksSource::File(keys);
        gateway.issuers.push(issuer);
        gateway.unmatched = Unmatched::Tunnel;
        let request = TokenRequest::new("qa", "nightly-dashboard");
        other = Some(second.mint(&request));
        Ok(())
    })
    .await?;
    let other = other.expect("minted");
    let uri = format!("https://{UNMATCHED}/some");
    let own = site.token.clone();
    // Who, and whether the connection upstream had served somebody before.
    for (token, issuer, reused) in [
        (&own, "prod-eu", false),
        (&other, "prod-us", false),
        (&own, "prod-eu", true),
        (&other, "prod-us", true),
    ] {
        let answer = absolute(&site, token, &uri).await?;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let record = site.record().await?;
        assert_eq!(record["caller"]["issuer"], issuer, "{record}");
        assert_eq!(record["upstream"]["reused"], reused, "{record}");
    }
    assert_eq!(site.api.accepted_connections(), 2);
    Ok(())
}
