//! Certificate chains that would cost seconds to look at, towards every TLS client and server that
//! the gateway has.

use countersign_tests::fake::{Crowd, Misbehaviour, Pair};
use rstest::rstest;
use rustls::AlertDescription;
use tokio::io::AsyncReadExt as _;

use crate::{
    harness::{HOST, TestBed, UNMATCHED, get, until},
    identity::{
        mtls::{Mesh, PATH},
        tokens::reviewed,
    },
};

const MANY: &str = "the chain has 201 certificates, more than 6";

fn crowded(svid: &Pair, crowd: Crowd) -> Pair {
    Pair {
        certificate: format!("{}{}", svid.certificate, crowd.pem()),
        key: svid.key.clone(),
    }
}

#[rstest]
#[case(Crowd::Many, MANY)]
#[case(Crowd::Large, "bytes, more than 16384")]
#[case(
    Crowd::Alike,
    "the chain has 5 issuers with the same name, more than 2"
)]
#[tokio::test]
async fn t59_a_clients_chain_is_refused_before_a_path_is_looked_for(
    #[case] crowd: Crowd,
    #[case] detail: &str,
) -> anyhow::Result<()> {
    let mut mesh = Mesh::start().await;
    // Without the others it would be good; and its leaf is not parsed before they are counted.
    let good = mesh.domain.svid(PATH);
    let broken = mesh.domain.svid("/ns/qa/sa/nightly-dashboard?");
    for svid in [&good, &broken] {
        let client = mesh.client(Some(&crowded(svid, crowd)));
        let mut stream = client.tls().await?;
        let error = stream.read_u8().await.unwrap_err();
        let told = error.get_ref().and_then(|error| error.downcast_ref());
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateUnknown);
        assert_eq!(told, Some(&alert), "{error}");
        let record = mesh.bed.record().await?;
        assert_eq!(record["reason"], "identity_chain", "{record}");
        assert_eq!(record["blame"], "caller", "{record}");
        let text = record["detail"].as_str().unwrap_or_default();
        assert!(text.contains(detail), "{text}");
    }
    assert_eq!(mesh.bed.env.slack.received().count(), 0);
    Ok(())
}

#[tokio::test]
async fn t59_a_clients_chain_of_six_is_looked_at() -> anyhow::Result<()> {
    let mesh = Mesh::start().await;
    let svid = crowded(&mesh.domain.svid(PATH), Crowd::Most);
    let (status, body) = mesh.client(Some(&svid)).ask(None).await?;
    assert!(status.is_success(), "{body}");
    Ok(())
}

#[rstest]
#[case(Crowd::Many, MANY)]
#[case(Crowd::Large, "bytes, more than 16384")]
#[case(
    Crowd::Alike,
    "the chain has 5 issuers with the same name, more than 2"
)]
#[tokio::test]
async fn t59_an_upstreams_chain_is_refused_before_a_path_is_looked_for(
    #[case] crowd: Crowd,
    #[case] detail: &str,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    bed.api.misbehave(Some(Misbehaviour::Crowded(crowd)));
    let answer = bed.client().send(get("/some")).await?;
    assert_eq!(answer.status, 502);
    let record = bed.record().await?;
    assert_eq!(record["reason"], "upstream_chain", "{record}");
    assert_eq!(record["blame"], "upstream", "{record}");
    let text = record["detail"].as_str().unwrap_or_default();
    assert!(text.contains(detail), "{text}");
    assert_eq!(bed.api.received().count(), 0);
    // The near miss, and the next connection as it was before.
    for behaved in [Some(Misbehaviour::Crowded(Crowd::Most)), None] {
        bed.api.misbehave(behaved);
        let answer = bed.client().send(get("/well")).await?;
        assert_eq!(answer.text(), "GET /well");
    }
    Ok(())
}

/// A pod's own server, which it asks for by an absolute URI where unmatched hosts may pass.
#[tokio::test]
async fn t59_the_chain_of_a_server_that_no_target_names_is_bounded_too() -> anyhow::Result<()> {
    let mut bed = TestBed::builder().tunnel_unmatched().start().await?;
    bed.api.misbehave(Some(Misbehaviour::Crowded(Crowd::Many)));
    let uri = format!("https://{UNMATCHED}/some");
    let answer = bed.absolute(&bed.token, &uri).await?;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let record = bed.record().await?;
    assert_eq!(record["reason"], "upstream_chain", "{record}");
    Ok(())
}

/// Where the issuer's keys, the API server and their like are asked.
#[tokio::test]
async fn t59_the_chains_of_control_planes_are_bounded_too() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .keys_by_url()
        .prepare(|env, _| {
            let crowded = Misbehaviour::Crowded(Crowd::Many);
            env.issuer.misbehave(Some(crowded));
            Ok(())
        })
        .start()
        .await?;
    let refused = bed.client().send(get("/some")).await;
    assert!(refused.is_err(), "CONNECT should be refused");
    let record = bed.record().await?;
    assert_eq!(record["reason"], "identity_keys_unavailable", "{record}");
    let text = record["detail"].as_str().unwrap_or_default();
    assert!(text.contains(MANY), "{text}");
    // The near miss: the next look, a second later, finds a chain of six.
    let most = Misbehaviour::Crowded(Crowd::Most);
    bed.env.issuer.misbehave(Some(most));
    until("keys", async || {
        bed.client().send(get("/well")).await.is_ok()
    })
    .await
}

#[tokio::test]
async fn t59_the_chain_of_a_reviewing_api_server_is_bounded_too() -> anyhow::Result<()> {
    let mut bed = reviewed().await?;
    let crowded = Misbehaviour::Crowded(Crowd::Many);
    bed.env.api_server.misbehave(Some(crowded));
    let refused = bed.client().tls_stream(HOST).await;
    assert!(refused.is_err(), "CONNECT should be refused");
    let record = bed.record().await?;
    assert_eq!(record["reason"], "identity_review_unavailable", "{record}");
    let text = record["detail"].as_str().unwrap_or_default();
    assert!(text.contains(MANY), "{text}");
    Ok(())
}
