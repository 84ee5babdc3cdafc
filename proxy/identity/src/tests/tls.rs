//! The issuer's own TLS: only the configured roots count.

use std::net::SocketAddr;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer as Ca, KeyPair as CaKey};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A root and a server certificate for `127.0.0.1` issued by it.
struct Tls {
    root_pem: String,
    config: ServerConfig,
}

fn tls() -> Tls {
    let ca_key = CaKey::generate().unwrap();
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_pem = ca.self_signed(&ca_key).unwrap().pem();
    let ca = Ca::new(ca, ca_key);
    let key = CaKey::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    Tls { root_pem, config }
}

/// Serves `body` over TLS to clients that trust it.
async fn serve(config: ServerConfig, body: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // A client that does not trust us aborts; one test expects that.
            let Ok(mut stream) = acceptor.accept(socket).await else {
                continue;
            };
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /jwks HTTP/1.1\r\n"));
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    address
}

async fn by_keys_at(address: SocketAddr, roots: Option<&str>) -> Result<(), IdentifyError> {
    let directory = tempfile::tempdir().unwrap();
    let source = JwksSource::Url {
        url: format!("https://{address}/jwks"),
        ca_file: roots.map(|pem| write(directory.path(), "ca.crt", pem)),
    };
    let identifier = Identifier::new(&[issuer(source)], Clock::manual(now())).unwrap();
    let proof = Proof::ServiceAccountToken;
    let caller = identifier.by_token(&RSA.good_token(), proof).await;
    caller
        .map(|_| ())
        .map_err(|unproven| unproven.error().clone())
}

#[tokio::test]
async fn keys_come_over_tls_that_the_configured_roots_vouch_for() {
    let server = tls();
    let address = serve(server.config, jwks(&[&RSA]).to_string()).await;
    assert_eq!(by_keys_at(address, Some(&server.root_pem)).await, Ok(()));
    for roots in [Some(&*tls().root_pem), None] {
        let refused = by_keys_at(address, roots).await.unwrap_err();
        assert!(
            matches!(refused, IdentifyError::KeysUnavailable { .. }),
            "{refused:?}"
        );
        assert!(refused.to_string().contains("certificate"), "{refused}");
    }
}
