//! The trust store for Java, PKCS#12. No other part of Countersign writes or reads this format.

use rustls_pki_types::CertificateDer;

/// The name of the interception root in a trust store; those that are trusted beside it have a number.
#[cfg(feature = "pkcs12")]
const ALIAS: &str = "countersign";

/// The system's roots and ours. A trust store contains only public certificates; the password protects their
/// integrity, not a secret.
///
/// # Errors
/// When one of `ours` cannot be read, or the library refuses; in words.
#[cfg(feature = "pkcs12")]
pub fn pkcs12(
    system: &[CertificateDer<'_>],
    ours: &[&CertificateDer<'_>],
    password: &str,
) -> Result<Vec<u8>, String> {
    use p12_keystore::{Certificate, KeyStore, KeyStoreEntry};

    let mut store = KeyStore::new();
    for (number, certificate) in system.iter().enumerate() {
        match Certificate::from_der(certificate) {
            Ok(certificate) => store.add_entry(
                &format!("system-{number:03}"),
                KeyStoreEntry::Certificate(certificate),
            ),
            // Without this root the client only trusts less.
            Err(error) => tracing::warn!(%error, number, "a system root cannot be read; left out"),
        }
    }
    let mut add = |name: &str, root: &CertificateDer<'_>| {
        let root = Certificate::from_der(root);
        root.map(|root| store.add_entry(name, KeyStoreEntry::Certificate(root)))
    };
    let mut added = Ok(());
    for (number, root) in ours.iter().enumerate() {
        let name = match number {
            0 => ALIAS.to_owned(),
            number => format!("{ALIAS}-{number}"),
        };
        added = added.and_then(|()| add(&name, root));
    }
    let written = added.and_then(|()| store.writer(password).write());
    written.map_err(|error| format!("cannot write a PKCS#12 trust store: {error}"))
}

/// The one that is published, or none if this build has no such format.
#[cfg(feature = "pkcs12")]
pub(super) fn of_bundle(
    system: &[CertificateDer<'_>],
    ours: &[&CertificateDer<'_>],
) -> Option<Vec<u8>> {
    pkcs12(
        system,
        ours,
        countersign_core::environment::TRUST_STORE_PASSWORD,
    )
    .inspect_err(|error| tracing::error!("{error}"))
    .ok()
}

/// None: this build has no such format.
#[cfg(not(feature = "pkcs12"))]
pub(super) fn of_bundle(
    _system: &[CertificateDer<'_>],
    _ours: &[&CertificateDer<'_>],
) -> Option<Vec<u8>> {
    None
}
