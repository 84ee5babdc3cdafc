//! The check within the TLS handshake, so that a client with a bad certificate gets an alert.

use std::{cell::RefCell, sync::Arc};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{
        WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
    },
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{SvidError, TrustDomains};

tokio::task_local! {
    /// An alert has no room for the reason, and the library's error none beside the alert; so the
    /// handshake leaves it here for the record.
    static REFUSED: RefCell<Option<SvidError>>;
}

/// Runs a handshake; if a certificate was refused in it, tells why.
pub async fn observed<F: Future>(handshake: F) -> (F::Output, Option<SvidError>) {
    let run = async {
        let outcome = handshake.await;
        (outcome, REFUSED.with(RefCell::take))
    };
    REFUSED.scope(RefCell::new(None), run).await
}

pub(super) fn verifier(domains: Arc<TrustDomains>) -> Arc<dyn ClientCertVerifier> {
    Arc::new(SvidVerifier {
        domains,
        algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
    })
}

#[derive(Debug)]
struct SvidVerifier {
    domains: Arc<TrustDomains>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for SvidVerifier {
    /// A client may have a token instead.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hints: they would tell strangers which trust domains there are, and a workload has one
    /// certificate anyway.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    /// By our own clock, not by the library's.
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<_> = [leaf].into_iter().chain(rest).cloned().collect();
        match self.domains.check(&chain) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(error) => {
                let alert = error.alert();
                // Outside of `observed` nobody asks.
                let _unobserved = REFUSED.try_with(|refused| refused.replace(Some(error)));
                Err(Error::InvalidCertificate(alert))
            }
        }
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
