//! The trust store for Java of a CA in a directory.

#[cfg(test)]
mod tests;

use anyhow::Context as _;
use countersign_controller::trust;
use countersign_gateway::ca::{Ca, system_roots};

/// The system's roots and the interception root, PKCS#12.
pub(super) fn pkcs12(ca: &Ca, password: &str) -> anyhow::Result<Vec<u8>> {
    let root = ca.root().context("the root is not known")?;
    trust::pkcs12(&system_roots()?, &[&root], password).map_err(anyhow::Error::msg)
}
