//! Sessions are resumed, and only on the host they began with.

use rstest::rstest;
use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};

use super::*;

/// A client that speaks one version only and keeps its sessions.
fn client(fixture: &Fixture, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(fixture.ca.root_pem().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let time = Arc::new(ClockTime(fixture.clock.clone()));
    ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
        .into()
}

#[rstest]
fn a_session_is_resumed(#[values(&TLS12, &TLS13)] version: &'static SupportedProtocolVersion) {
    let fixture = Fixture::new(&["slack.com"]);
    let client = client(&fixture, version);
    let kind = || {
        let server = fixture.ca.leaf(&host("slack.com")).unwrap();
        handshake(Arc::clone(&client), server, "slack.com")
            .unwrap()
            .kind
    };
    assert_eq!(kind(), HandshakeKind::Full);
    assert_eq!(kind(), HandshakeKind::Resumed);
    // A new leaf does not end sessions: ticket keys are the CA's, not the leaf's.
    fixture.forward(SignedDuration::from_hours(20));
    assert_eq!(
        kind(),
        HandshakeKind::Full,
        "clients drop tickets after their lifetime"
    );
    constrain(&fixture.ca, &["slack.com", "api.qase.io"]).unwrap();
    assert_eq!(kind(), HandshakeKind::Resumed);
}

/// The client asks another host's server for the name of its session. rustls alone compares the
/// two names, which the client chose, and would resume; the certificate is never looked at.
#[rstest]
#[case::names("a.example.com", "b.example.com")]
#[case::one_the_beginning_of_the_other("a.example.co", "a.example.com")]
#[case::addresses_which_have_no_sni("192.0.2.7", "192.0.2.8")]
fn a_session_of_one_host_is_not_resumed_on_another(
    #[case] one: &str,
    #[case] other: &str,
    #[values(&TLS12, &TLS13)] version: &'static SupportedProtocolVersion,
) {
    let fixture = Fixture::new(&[one, other]);
    let client = client(&fixture, version);
    let server = |name| fixture.ca.leaf(&host(name)).unwrap();
    handshake(Arc::clone(&client), server(one), one).unwrap();
    let refused = handshake(Arc::clone(&client), server(other), one).unwrap_err();
    assert!(
        format!("{refused:?}").contains("NotValidForName"),
        "{refused:?}"
    );
}

#[test]
fn early_data_is_not_taken() {
    let fixture = Fixture::new(&["slack.com"]);
    let server = fixture.ca.leaf(&host("slack.com")).unwrap();
    assert_eq!(server.max_early_data_size, 0);
    assert_eq!(server.send_tls13_tickets, 1);
}
