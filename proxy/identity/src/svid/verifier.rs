//! The check during the TLS handshake, so that a client with a bad certificate gets an alert.

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

use super::{Svid, SvidError, TrustDomains};

tokio::task_local! {
    /// A TLS alert cannot carry the reason, nor can the library's error. So the handshake stores it here
    /// for the record. It stores an accepted certificate here too, because a check costs as much as the
    /// rest of the handshake.
    static VERDICT: RefCell<Option<Verdict>>;
}

type Verdict = Result<Svid, SvidError>;

/// Runs a handshake, and returns the result for the client certificate, if there was one.
pub(crate) async fn observed<F: Future>(handshake: F) -> (F::Output, Option<Verdict>) {
    let run = async {
        let outcome = handshake.await;
        (outcome, VERDICT.with(RefCell::take))
    };
    VERDICT.scope(RefCell::new(None), run).await
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

    /// No hints: they would reveal the trust domains to unidentified clients, and a workload has only
    /// one certificate anyway.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    /// With our own clock, not the library's.
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<_> = [leaf].into_iter().chain(rest).cloned().collect();
        let judged = self.domains.check(&chain);
        let verified = match &judged {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(error) => Err(Error::InvalidCertificate(error.alert())),
        };
        // Outside of `observed` nothing reads it.
        let _unobserved = VERDICT.try_with(|slot| slot.replace(Some(judged)));
        verified
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
