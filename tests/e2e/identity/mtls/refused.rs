//! Threat 43 over real connections: the client gets an alert, the operator a record.

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyUsagePurpose, SanType};
use rustls::{AlertDescription, HandshakeKind};
use tokio::io::AsyncReadExt;

use super::*;
use crate::harness::until;

type Change = fn(&mut CertificateParams);

fn uris(params: &mut CertificateParams, ids: &[&str]) {
    let uri = |id: &&str| SanType::URI((*id).try_into().expect("ASCII"));
    params.subject_alt_names = ids.iter().map(uri).collect();
}

/// What is wrong, hours left, whether the trust domain itself signs, alert, reason, detail.
const TABLE: &[(Change, i64, bool, AlertDescription, &str, &str)] = &[
    (
        |params| uris(params, &[ID, "spiffe://prod.example.com/other"]),
        1,
        true,
        AlertDescription::UnsupportedCertificate,
        "identity_invalid",
        "2 URI SANs",
    ),
    (
        |params| uris(params, &[]),
        1,
        true,
        AlertDescription::UnsupportedCertificate,
        "identity_invalid",
        "0 URI SANs",
    ),
    (
        |params| {
            uris(params, &[ID]);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        },
        1,
        true,
        AlertDescription::UnsupportedCertificate,
        "identity_invalid",
        "CA",
    ),
    (
        |params| {
            uris(params, &[ID]);
            params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        },
        1,
        true,
        AlertDescription::UnsupportedCertificate,
        "identity_invalid",
        "keyCertSign",
    ),
    (
        |params| uris(params, &["spiffe://elsewhere.example.com/x"]),
        1,
        true,
        AlertDescription::UnknownCA,
        "identity_issuer_unknown",
        "which is not configured; the nearest that is configured is",
    ),
    (
        |params| uris(params, &[ID]),
        -1,
        true,
        AlertDescription::CertificateExpired,
        "identity_expired",
        "expired at",
    ),
    (
        |params| uris(params, &[ID]),
        1,
        false,
        AlertDescription::UnknownCA,
        "identity_invalid",
        "no root in the bundle",
    ),
];

#[tokio::test]
async fn t43_a_bad_certificate_gets_an_alert_and_a_record() -> anyhow::Result<()> {
    let mut mesh = Mesh::start().await;
    let stranger = TrustDomain::new(DOMAIN, Clock::system());
    for (change, left, ours, alert, reason, detail) in TABLE {
        let issuer = if *ours { &mesh.domain } else { &stranger };
        let pair = issuer.issue(hours(*left), change);
        let mut stream = mesh.client(Some(&pair)).tls().await?;
        let error = stream.read_u8().await.unwrap_err();
        let told = error.get_ref().and_then(|error| error.downcast_ref());
        assert_eq!(told, Some(&rustls::Error::AlertReceived(*alert)), "{error}");
        let record = mesh.bed.record().await?;
        assert_eq!(record["reason"], *reason, "{record}");
        let text = record.to_string();
        assert!(text.contains(detail), "{text}");
    }
    assert_eq!(mesh.bed.env.slack.received().count(), 0);
    // The near miss: the same client with a good one.
    let good = mesh.domain.svid(PATH);
    assert!(mesh.client(Some(&good)).ask(None).await?.0.is_success());
    Ok(())
}

fn start() -> Timestamp {
    "2026-11-23T05:10:00Z".parse().expect("a time")
}

#[tokio::test]
async fn t43_requests_after_the_end_of_the_certificate_are_refused() -> anyhow::Result<()> {
    let clock = Clock::manual(start());
    let mut mesh = Mesh::at(clock.clone()).await;
    let client = mesh.client(Some(&mesh.domain.svid(PATH)));
    let mut connection = client.open().await?;
    assert!(connection.ask(None).await?.0.is_success());
    assert_eq!(mesh.bed.record().await?["reason"], "permitted");

    clock.set(start() + hours(1));
    let (status, _) = connection.ask(None).await?;
    assert_eq!(status, 407);
    let record = mesh.bed.record().await?;
    assert_eq!(record["reason"], "identity_expired", "{record}");
    assert!(connection.ask(None).await.is_err(), "it should be closed");

    // A resumed session shows no certificate again, and is checked all the same.
    let stream = client.tls().await?;
    let resumed = stream.get_ref().1.handshake_kind();
    assert_eq!(resumed, Some(HandshakeKind::Resumed));
    let record = mesh.bed.record().await?;
    assert_eq!(record["reason"], "identity_expired", "{record}");
    Ok(())
}

#[tokio::test]
async fn t43_an_idle_connection_ends_with_its_certificate() -> anyhow::Result<()> {
    let clock = Clock::manual(start());
    let mesh = Mesh::at(clock.clone()).await;
    let client = mesh.client(Some(&mesh.domain.svid(PATH)));
    let mut connection = client.open().await?;
    assert!(connection.ask(None).await?.0.is_success());
    clock.pass(start() + hours(1));
    // It would rest for five minutes, and nothing announces its end.
    until("its end", async || connection.0.is_closed()).await
}
