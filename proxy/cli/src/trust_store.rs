//! The trust store for Java of a CA in a directory.

#[cfg(test)]
mod tests;

use countersign_controller::trust;
use countersign_gateway::ca::{Ca, system_roots};

/// The system's roots and the interception root, PKCS#12.
pub(super) fn pkcs12(ca: &Ca, password: &str) -> anyhow::Result<Vec<u8>> {
    trust::pkcs12(&system_roots()?, &[ca.root()], password).map_err(anyhow::Error::msg)
}
