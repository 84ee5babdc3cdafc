//! The roots that clients trust, PEM.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;

use super::CaError;

/// One certificate, PEM (RFC 7468).
pub(super) fn pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = STANDARD.encode(certificate);
    let mut text = String::with_capacity(encoded.len() + encoded.len() / 64 + 64);
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// The system's roots and `root`, PEM.
pub(super) fn with_system_roots(root: &CertificateDer<'_>) -> Result<String, CaError> {
    let mut text: String = system_roots()?.iter().map(pem).collect();
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
