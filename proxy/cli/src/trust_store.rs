//! The trust store for Java, PKCS#12. No other part of Countersign writes or reads this format.

#[cfg(test)]
mod tests;

use anyhow::Context as _;
use countersign_gateway::ca::{Ca, system_roots};
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry};

/// The name of the interception root in a trust store.
const ALIAS: &str = "countersign";

/// The system's roots and the interception root. A trust store contains only public certificates; the
/// password protects their integrity, not a secret.
pub(super) fn pkcs12(ca: &Ca, password: &str) -> anyhow::Result<Vec<u8>> {
    let mut store = KeyStore::new();
    for (number, certificate) in system_roots()?.iter().enumerate() {
        match Certificate::from_der(certificate) {
            Ok(certificate) => store.add_entry(
                &format!("system-{number:03}"),
                KeyStoreEntry::Certificate(certificate),
            ),
            // Without this root the client only trusts less.
            Err(error) => tracing::warn!(%error, number, "a system root cannot be read; left out"),
        }
    }
    let written = Certificate::from_der(ca.root()).and_then(|root| {
        store.add_entry(ALIAS, KeyStoreEntry::Certificate(root));
        store.writer(password).write()
    });
    written.context("cannot write a PKCS#12 trust store")
}
