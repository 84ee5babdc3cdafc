//! The roots that clients trust, PEM.

use countersign_pki::pem;
use rustls_pki_types::CertificateDer;

use super::CaError;

/// The system's roots and `root`, PEM.
pub(super) fn with_system_roots(root: &CertificateDer<'_>) -> Result<String, CaError> {
    let mut text: String = system_roots()?.iter().map(|root| pem(root)).collect();
    text.push_str(&pem(root));
    Ok(text)
}

/// The system's root certificates; none at all is an error.
pub fn system_roots() -> Result<Vec<CertificateDer<'static>>, CaError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(CaError::SystemRoots(reasons.join("; ")));
    }
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's root certificates cannot be read; left out");
    }
    Ok(found.certs)
}
