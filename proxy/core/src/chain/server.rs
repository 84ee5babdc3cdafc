//! Verification of servers, with bounds on their chains.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
    client::{
        WantsClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Begins the configuration of a TLS client that trusts these roots; every client here uses it. Without
/// a root no server is trusted.
pub fn trusting(
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let verifier = Bounded {
        algorithms: provider.signature_verification_algorithms,
        paths: if roots.is_empty() {
            None
        } else {
            let paths = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            let paths = paths.build();
            Some(paths.map_err(|error| Error::General(error.to_string()))?)
        },
    };
    let builder = ClientConfig::builder_with_provider(provider);
    Ok(builder
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

/// The library's verifier, after the bounds.
#[derive(Debug)]
struct Bounded {
    algorithms: WebPkiSupportedAlgorithms,
    paths: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Bounded {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        super::bounded(leaf, rest).map_err(CertificateError::from)?;
        let paths = self.paths.as_ref();
        let paths = paths.ok_or(CertificateError::UnknownIssuer)?;
        paths.verify_server_cert(leaf, rest, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
