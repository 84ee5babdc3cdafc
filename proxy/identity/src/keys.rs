//! A set of public keys (RFC 7517) and the signatures it can check.
//!
//! The key determines which algorithms may be used with it; the token only chooses among those.
//! Symmetric keys (`oct`) are never accepted, so no public key can be used as one.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The smallest RSA modulus, in bytes (RFC 7518, section 3.3: 2048 bits).
const MIN_RSA_BYTES: usize = 256;

/// The largest RSA modulus: the cryptography library accepts no larger one, and the cost of a check
/// grows with its square.
const MAX_RSA_BYTES: usize = 1024;

/// The most keys in one set; issuers publish a few.
const MAX_KEYS: usize = 64;

/// The most keys with one name: each may have to be tried.
const MAX_OF_ONE_NAME: usize = 4;

#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

/// Identifies a key: the hash of its name, kind, use and parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    kind: KeyKind,
    /// The only algorithm that the issuer allows for it.
    only: Option<Algorithm>,
    public: DecodingKey,
    fingerprint: Fingerprint,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// Why a document is not a usable key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("it is not a JWK set")]
    NotASet,
    #[error("it has more than 64 keys")]
    TooMany,
    #[error("it has more than 4 keys of one name")]
    TooManyOfOneName,
    #[error("it has no key that can check a signature of an allowed algorithm")]
    NoneUsable,
}

/// Why a signature was not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureError {
    UnknownKey,
    AlgorithmMismatch,
    BadSignature,
    /// The signature is not base64url.
    Malformed,
}

/// The algorithms that tokens may be signed with, by name (RFC 7518, RFC 8037). Others, such as `none`
/// and all symmetric ones, do not exist here.
pub(super) fn allowed(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

impl KeySet {
    /// Parses a JWK set. Keys that cannot be used here are skipped, as RFC 7517, section 5, requires; a
    /// set without any usable key is an error.
    pub(super) fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct RawKeySet<'d> {
            #[serde(borrow)]
            keys: RawKeys<'d>,
        }
        let document: RawKeySet<'_> =
            super::from_json_object(document).ok_or(KeySetError::NotASet)?;
        if document.keys.more {
            return Err(KeySetError::TooMany);
        }
        let mut keys = Vec::with_capacity(document.keys.first.len());
        for (index, key) in document.keys.first.into_iter().enumerate() {
            match Key::parse(key) {
                Ok(key) => keys.push(key),
                Err(reason) => tracing::debug!(index, reason, "a key of a JWK set is skipped"),
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoneUsable);
        }
        let of_one_name = |id: &Option<String>| keys.iter().filter(|key| key.id == *id).count();
        let named = keys.iter().filter(|key| key.id.is_some());
        if named.map(|key| of_one_name(&key.id)).max() > Some(MAX_OF_ONE_NAME) {
            return Err(KeySetError::TooManyOfOneName);
        }
        Ok(Self(keys))
    }

    /// The key set of an issuer that has withdrawn all keys.
    pub(super) fn empty() -> Self {
        Self(Vec::new())
    }

    /// Whether there is no key.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this set has the key.
    pub(super) fn has(&self, key: Fingerprint) -> bool {
        self.0.iter().any(|ours| ours.fingerprint == key)
    }

    /// Whether both have the same keys.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let fingerprints = |set: &Self| set.0.iter().map(|key| key.fingerprint.0).collect();
        let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) = (fingerprints(self), fingerprints(other));
        ours == theirs
    }

    /// Checks a signature and returns the key that verified it. A token that names no key is checked
    /// only if exactly one key fits its algorithm.
    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &str,
    ) -> Result<Fingerprint, SignatureError> {
        if URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Err(SignatureError::Malformed);
        }
        let named = |key: &&Key| id.is_none() || key.id.as_deref() == id;
        let fitting = || {
            self.0
                .iter()
                .filter(named)
                .filter(|key| key.fits(algorithm))
        };
        if id.is_none() && fitting().count() > 1 || self.0.iter().find(named).is_none() {
            return Err(SignatureError::UnknownKey);
        }
        if fitting().next().is_none() {
            return Err(SignatureError::AlgorithmMismatch);
        }
        // The library's error concerns the key's form; for the token it means the same.
        let good = |key: &Key| crypto::verify(signature, message, &key.public, algorithm);
        let by = fitting().find(|key| good(key).unwrap_or(false));
        by.map(|key| key.fingerprint)
            .ok_or(SignatureError::BadSignature)
    }
}

/// The most keys that a set may have, unparsed: a document of numbers or brackets is skipped without
/// building anything from it.
struct RawKeys<'d> {
    first: Vec<&'d RawValue>,
    more: bool,
}

impl<'de: 'd, 'd> Deserialize<'de> for RawKeys<'d> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = RawKeys<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of keys")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawKeys<'de>, A::Error> {
                let mut first = Vec::new();
                while first.len() < MAX_KEYS
                    && let Some(key) = list.next_element()?
                {
                    first.push(key);
                }
                let mut more = false;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    more = true;
                }
                Ok(RawKeys { first, more })
            }
        }

        deserializer.deserialize_seq(List)
    }
}

impl Key {
    fn parse(written: &RawValue) -> Result<Self, &'static str> {
        let jwk = super::from_json_object(written.get().as_bytes());
        let jwk: Jwk = jwk.ok_or("it is not a JWK")?;
        let fingerprint = jwk.fingerprint();
        if jwk.usage.is_some_and(|usage| usage != "sig") {
            return Err("its `use` is not `sig`");
        }
        if jwk
            .key_ops
            .is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
        {
            return Err("its `key_ops` do not contain `verify`");
        }
        let (kind, public) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => (KeyKind::Rsa, rsa(jwk.n.as_deref(), jwk.e.as_deref())?),
            ("EC", Some("P-256")) => (KeyKind::P256, ec(32, jwk.x, jwk.y)?),
            ("EC", Some("P-384")) => (KeyKind::P384, ec(48, jwk.x, jwk.y)?),
            ("OKP", Some("Ed25519")) => (KeyKind::Ed25519, ed25519(jwk.x)?),
            _ => return Err("its kind is not supported"),
        };
        let only = match &jwk.alg {
            None => None,
            Some(name) => Some(allowed(name).ok_or("its `alg` is not allowed")?),
        };
        if only.is_some_and(|only| !kind.fits(only)) {
            return Err("its `alg` does not fit its kind");
        }
        Ok(Self {
            id: jwk.kid,
            kind,
            only,
            public,
            fingerprint,
        })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.kind.fits(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }
}

impl KeyKind {
    fn fits(self, algorithm: Algorithm) -> bool {
        match self {
            Self::Rsa => matches!(
                algorithm,
                Algorithm::RS256
                    | Algorithm::RS384
                    | Algorithm::RS512
                    | Algorithm::PS256
                    | Algorithm::PS384
                    | Algorithm::PS512
            ),
            Self::P256 => algorithm == Algorithm::ES256,
            Self::P384 => algorithm == Algorithm::ES384,
            Self::Ed25519 => algorithm == Algorithm::EdDSA,
        }
    }
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    fn fingerprint(&self) -> Fingerprint {
        let mut hash = digest::Context::new(&digest::SHA256);
        let fields = [
            &self.kid, &self.alg, &self.crv, &self.n, &self.e, &self.x, &self.y,
        ];
        for field in [&Some(self.kty.clone())].into_iter().chain(fields) {
            // Absent and empty must differ, and fields must not run together.
            let field = field.as_deref();
            let length = field.map_or(u64::MAX, |field| field.len() as u64);
            hash.update(&length.to_be_bytes());
            hash.update(field.unwrap_or_default().as_bytes());
        }
        let hash = hash.finish();
        Fingerprint(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

fn rsa(modulus: Option<&str>, exponent: Option<&str>) -> Result<DecodingKey, &'static str> {
    let modulus = bytes(modulus)?;
    let exponent = bytes(exponent)?;
    let leading_zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let length = modulus.len() - leading_zeros;
    if length < MIN_RSA_BYTES {
        return Err("its modulus is shorter than 2048 bits");
    }
    if length > MAX_RSA_BYTES {
        return Err("its modulus is longer than 8192 bits");
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

fn ec(length: usize, x: Option<String>, y: Option<String>) -> Result<DecodingKey, &'static str> {
    let (Some(x), Some(y)) = (x, y) else {
        return Err("a parameter is missing");
    };
    if bytes(Some(&x))?.len() != length || bytes(Some(&y))?.len() != length {
        return Err("its point is not on its curve");
    }
    DecodingKey::from_ec_components(&x, &y).map_err(|_| "its point cannot be used")
}

fn ed25519(x: Option<String>) -> Result<DecodingKey, &'static str> {
    let x = x.ok_or("a parameter is missing")?;
    if bytes(Some(&x))?.len() != 32 {
        return Err("its point is not on its curve");
    }
    DecodingKey::from_ed_components(&x).map_err(|_| "its point cannot be used")
}

fn bytes(parameter: Option<&str>) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD
        .decode(parameter.ok_or("a parameter is missing")?)
        .map_err(|_| "a parameter is not base64url")
}
