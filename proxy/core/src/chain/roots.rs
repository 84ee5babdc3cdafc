//! The roots for servers' certificates.

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// The system's roots, and why some could not be read. Empty if there are none.
pub fn system() -> (RootCertStore, Vec<rustls_native_certs::Error>) {
    let mut store = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's root certificates cannot be read");
    }
    // Systems ship roots that webpki does not accept; the others still count.
    let (_, unusable) = store.add_parsable_certificates(system.certs);
    if unusable > 0 {
        tracing::debug!(
            unusable,
            "some of the system's root certificates are not usable"
        );
    }
    (store, system.errors)
}

/// The roots in a PEM file; `None` if it has none, or an unusable one, on which something may rely.
pub fn of_pem(pem: &[u8]) -> Option<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate.ok()?).ok()?;
    }
    (!store.is_empty()).then_some(store)
}
