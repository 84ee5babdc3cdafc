//! The private key of the root or the intermediate.

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use zeroize::Zeroizing;

use super::CaError;

/// A CA's private key, whose serialised form is overwritten when it is dropped.
pub(super) struct CaKey(Zeroizing<KeyPair>);

impl CaKey {
    /// A new P-256 key.
    pub(super) fn generate() -> Result<Self, CaError> {
        Ok(KeyPair::generate()?.into())
    }
}

impl From<KeyPair> for CaKey {
    fn from(key: KeyPair) -> Self {
        Self(Zeroizing::new(key))
    }
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}
