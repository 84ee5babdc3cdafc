//! Wildcards cover what they say and nothing beyond: in a target's hosts, and in a certificate whose
//! authority is constrained.

use std::{fs, sync::Arc};

use countersign_tests::environment::Environment;
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

use crate::{
    harness::{HOST, TestBed, get},
    policy::connect,
};

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
    let mut bed = TestBed::start().await?;
    let (answer, record) = connect(&mut bed, target).await?;
    assert!(answer.starts_with(expected), "{answer}");
    assert_eq!(record["reason"], reason, "{record}");
    // The near miss gets one, for its exact name.
    let stream = bed.client().tls_stream("wss-primary.slack.com").await?;
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
    let mut bed = TestBed::builder()
        .prepare(|env, gateway| {
            let (root, config) = constrained(constraint)?;
            trust(env, &root)?;
            chain = Some(config);
            let host = countersign_config::host::Host::parse(HOST)?;
            gateway.upstream.resolve.insert((host, 443), address);
            Ok(())
        })
        .start()
        .await?;
    let config = chain.expect("the chain was made");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not believe us is what the test waits for.
            drop(answer_once(stream, Arc::clone(&config)).await);
        }
    });
    let answer = bed.client().send(get("/some")).await?;
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    let record = bed.record().await?;
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

fn trust(env: &Environment, root: &str) -> anyhow::Result<()> {
    let path = env.directory().join("upstream-roots.pem");
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
