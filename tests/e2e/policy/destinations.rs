//! Attacks on where a connection goes and in whose name, numbered as in the project's list of
//! threats.

use std::{fs, sync::Arc};

use countersign_config::model::Unmatched;
use countersign_tests::{
    client::{Ask, Failure},
    fake::TokenRequest,
    world::{Options, World},
};
use http::StatusCode;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints,
};
use rstest::rstest;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::harness::site::{HOST, Site, get, soon};

/// What the proxy answers to CONNECT, and the record.
async fn connect(site: &mut Site, target: &str) -> anyhow::Result<(String, serde_json::Value)> {
    let client = site.client();
    let tunnel = client.tunnel(Ask::Http11, target, None);
    let answer = match soon("an answer", tunnel).await? {
        Ok(_) => "HTTP/1.1 200".to_owned(),
        Err(Failure::Connect(error)) => error.to_string(),
        Err(other) => anyhow::bail!("{other}"),
    };
    Ok((answer, site.record().await?))
}

/// Even where the operator lets loopback addresses be dialled.
#[rstest]
#[case::the_listener(false)]
#[case::the_admin_port(true)]
#[tokio::test]
async fn t30_the_proxys_own_ports_are_no_target(
    #[case] admin: bool,
    #[values("127.0.0.1", "[::ffff:127.0.0.1]")] host: &str,
) -> anyhow::Result<()> {
    let mut site = Site::with(Options::default(), |_, gateway| {
        gateway.unmatched = Unmatched::Tunnel;
        gateway.upstream.allow_addresses = vec!["127.0.0.0/8".parse()?, "::/0".parse()?];
        Ok(())
    })
    .await?;
    let own = if admin {
        site.gateway.admin().expect("there is an admin endpoint")
    } else {
        site.gateway.address()
    };
    let (answer, record) = connect(&mut site, &format!("{host}:{}", own.port())).await?;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(record["reason"], "upstream_address", "{record}");
    // The near miss: any other port of this machine.
    let other = TcpListener::bind("127.0.0.1:0").await?;
    let target = format!("127.0.0.1:{}", other.local_addr()?.port());
    let tunnel = site.client().tunnel(Ask::Http11, &target, None).await;
    assert!(tunnel.is_ok(), "{target} may be dialled");
    Ok(())
}

/// A name that reaches the port by another way than CONNECT.
#[tokio::test]
async fn t30_absolute_requests_to_the_admin_port_are_refused() -> anyhow::Result<()> {
    let mut site = Site::with(Options::default(), |_, gateway| {
        gateway.unmatched = Unmatched::Tunnel;
        gateway.upstream.allow_addresses = vec!["127.0.0.0/8".parse()?];
        Ok(())
    })
    .await?;
    let admin = site.gateway.admin().expect("there is an admin endpoint");
    let mut request = get("/metrics");
    *request.uri_mut() = format!("http://{admin}/metrics").parse()?;
    let answer = site.client().send_absolute(request).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(site.record().await?["reason"], "upstream_address");
    Ok(())
}

#[rstest]
#[case::the_wildcard_itself("wss*.slack.com:443", "HTTP/1.1 400 ", "authority_invalid")]
#[case::another_wildcard("*.slack.com:443", "HTTP/1.1 400 ", "authority_invalid")]
#[case::deeper("wss-primary.evil.slack.com:443", "HTTP/1.1 403 ", "host_unmatched")]
#[case::suffixed(
    "wss-primary.slack.com.evil.test:443",
    "HTTP/1.1 403 ",
    "host_unmatched"
)]
#[case::prefixed("wss-primary.notslack.com:443", "HTTP/1.1 403 ", "host_unmatched")]
#[tokio::test]
async fn t33_no_certificate_is_made_for_a_name_beyond_the_wildcard(
    #[case] target: &str,
    #[case] expected: &str,
    #[case] reason: &str,
) -> anyhow::Result<()> {
    let mut site = Site::start().await?;
    let (answer, record) = connect(&mut site, target).await?;
    assert!(answer.starts_with(expected), "{answer}");
    assert_eq!(record["reason"], reason, "{record}");
    // The near miss gets one, for its exact name.
    let stream = site.client().tls_stream("wss-primary.slack.com").await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let has = |text: &[u8]| chain[0].windows(text.len()).any(|window| window == text);
    assert!(has(b"wss-primary.slack.com"));
    assert!(!has(b"wss*") && !has(b"*.slack"), "a leaf with a wildcard");
    Ok(())
}

/// An upstream whose authority may only vouch for names below `constraint` shows a certificate for
/// `*.example.test`, which covers the API and much else (RUSTSEC-2026-0099).
#[rstest]
#[case::beside_the_constraint("other.example.test", 502)]
#[case::within_it("example.test", 200)]
#[tokio::test]
async fn t33_a_wildcard_certificate_does_not_evade_its_authoritys_constraint(
    #[case] constraint: &str,
    #[case] status: u16,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut chain = None;
    let mut site = Site::with(Options::default(), |world, gateway| {
        let (root, config) = constrained(constraint)?;
        trust(world, &root)?;
        chain = Some(config);
        let host = countersign_config::host::Host::parse(HOST)?;
        gateway.upstream.resolve.insert((host, 443), address);
        Ok(())
    })
    .await?;
    let config = chain.expect("the site was made");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not believe us is what the test waits for.
            drop(answer_once(stream, Arc::clone(&config)).await);
        }
    });
    let answer = site.client().send(get("/some")).await?;
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    let record = site.record().await?;
    let expected = if status == 200 {
        "permitted"
    } else {
        "upstream_certificate"
    };
    assert_eq!(record["reason"], expected, "{record}");
    Ok(())
}

async fn answer_once(stream: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
    let mut stream = TlsAcceptor::from(config).accept(stream).await?;
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn trust(world: &World, root: &str) -> anyhow::Result<()> {
    let path = world.directory().join("upstream-roots.pem");
    let roots = fs::read_to_string(&path)? + root;
    Ok(fs::write(path, roots)?)
}

/// A root, PEM, and a server whose certificate for `*.example.test` comes from an intermediate
/// below it that is constrained to one name.
fn constrained(constraint: &str) -> anyhow::Result<(String, Arc<ServerConfig>)> {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let root = CertifiedIssuer::self_signed(authority("Constraining Root"), KeyPair::generate()?)?;
    let mut params = authority("Constrained Intermediate");
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(constraint.to_owned())],
        excluded_subtrees: Vec::new(),
    });
    let key = KeyPair::generate()?;
    let intermediate = params.signed_by(&key, &root)?;
    let issuer = Issuer::from_params(&params, &key);
    let leaf_key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec!["*.example.test".to_owned()])?;
    let leaf = leaf.signed_by(&leaf_key, &issuer)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone(), intermediate.der().clone()],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der())),
        )?;
    Ok((root.pem(), Arc::new(config)))
}

/// A gateway in the pod: what comes in at its listener is the pod's, whatever token it shows.
async fn sidecar(own: &TokenRequest) -> anyhow::Result<Site> {
    Site::with(Options::default(), |world, gateway| {
        world.write_secret("pod-token", &world.issuer.mint(own))?;
        let file = world.secret_directory().join("pod-token");
        gateway.listeners[0].own_token_file = Some(file);
        Ok(())
    })
    .await
}

fn of_pod(service_account: &str, pod: &str) -> TokenRequest {
    let mut request = TokenRequest::new("qa", service_account);
    request.pod = Some((pod.to_owned(), format!("uid-of-{pod}")));
    request
}

#[rstest]
#[case::another_service_account(of_pod("release-bot", "nightly-1"))]
#[case::another_pod_of_the_same(of_pod("nightly-dashboard", "nightly-2"))]
#[tokio::test]
async fn t41_another_pods_token_has_no_business_at_this_pods_relay(
    #[case] other: TokenRequest,
) -> anyhow::Result<()> {
    let own = of_pod("nightly-dashboard", "nightly-1");
    let mut site = sidecar(&own).await?;
    let bring = |site: &Site, request: &TokenRequest| {
        let token = site.world.issuer.mint(request);
        site.gateway.client(&site.world).bearer(&token)
    };
    let Err(Failure::Refused(answer)) = bring(&site, &other).send(get("/some")).await else {
        anyhow::bail!("another pod's token was not refused");
    };
    assert_eq!(answer.status, StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    let record = site.record().await?;
    assert_eq!(record["reason"], "identity_invalid", "{record}");
    assert_eq!(site.api.accepted_connections(), 0);
    // The near misses: the pod's own, another of its own, and none at all.
    let none = site.gateway.client(&site.world);
    for client in [bring(&site, &own), none] {
        let answer = client.send(get("/some")).await?;
        assert_eq!(answer.text(), "GET /some");
        let record = site.record().await?;
        assert_eq!(record["caller"]["proof"], "own-token", "{record}");
        assert_eq!(record["caller"]["pod"], "nightly-1", "{record}");
    }
    Ok(())
}
