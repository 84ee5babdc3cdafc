//! The TLS configuration that all intercepted hosts share.

use std::sync::Arc;

use countersign_config::host::Host;
use countersign_core::ciphers;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCertUsingSni},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use super::{CaError, resumption::HostTicketer};

/// A TLS configuration without a certificate, and the tickets that all hosts' sessions share.
pub(super) struct ServerTemplate {
    config: ServerConfig,
    ticketer: Arc<dyn ProducesTickets>,
}

impl ServerTemplate {
    /// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, sessions resumed by ticket.
    pub(super) fn new() -> Result<Self, CaError> {
        let mut config = ServerConfig::builder_with_provider(ciphers::provider())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        // Most clients prefer AES-256, usually without a reason.
        config.ignore_client_order = true;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets keep the session at the client, so it takes no memory here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // One instead of rustls' two: SDKs keep one connection, and each ticket costs an encryption.
        config.send_tls13_tickets = 1;
        // Early data can be replayed, and these requests carry credentials.
        config.max_early_data_size = 0;
        Ok(Self {
            config,
            ticketer: Ticketer::new()?,
        })
    }

    /// The configuration that serves `host`, whatever name the client asks for.
    pub(super) fn serve(&self, host: &Host, key: CertifiedKey) -> ServerConfig {
        let mut config = self.config.clone();
        config.cert_resolver = Arc::new(SingleCertAndKey::from(key));
        config.ticketer = Arc::new(HostTicketer::new(Arc::clone(&self.ticketer), host));
        config
    }
}
