//! A private key.

use std::fmt;

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::PkiError;

/// A private key, whose serialised form is overwritten when it is dropped.
pub struct CaKey(Zeroizing<KeyPair>);

impl CaKey {
    /// A new P-256 key.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn generate() -> Result<Self, PkiError> {
        Ok(KeyPair::generate()?.into())
    }

    /// PKCS#8, PEM.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// PKCS#8, DER. It is not overwritten: for libraries that take it and keep it.
    pub fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaKey")
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
