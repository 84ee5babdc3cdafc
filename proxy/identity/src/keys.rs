//! A set of public keys (RFC 7517) and the signatures it can check.
//!
//! The key determines which algorithms may be used with it; the token only chooses among those.
//! Symmetric keys (`oct`) are never accepted, so no public key can be used as one.

mod jwk;

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_core::redact::quoted;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use self::jwk::{Jwk, ec, ed25519, rsa};
use super::{IdentifyError, nearest::listed};

/// The most keys in one set; issuers publish a few.
const MAX_KEYS: usize = 64;

/// The most keys with one name: each may have to be tried.
const MAX_OF_ONE_NAME: usize = 4;

/// The most names of keys that are shown.
const SHOWN_NAMES: usize = 4;

#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    skipped: Vec<SkippedKey>,
}

/// A key that cannot be used here. If a token names it, the fault is not the token's.
#[derive(Debug, PartialEq, Eq)]
struct SkippedKey {
    id: Option<String>,
    why: &'static str,
}

/// Identifies a key: the hash of its name, kind, use and parameters, whatever way they are written.
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
    #[error("it has no key that can check a signature of an allowed algorithm{}", because(*.0))]
    NoneUsable(Option<&'static str>),
}

/// Why a signature was not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureError {
    UnknownKey,
    /// The issuer has the key, but it cannot be used, for this reason.
    Unusable(&'static str),
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
        // RFC 9864 replaces the first by the second.
        "EdDSA" | "Ed25519" => Algorithm::EdDSA,
        _ => return None,
    })
}

/// Signature algorithms that an issuer may choose and that cannot be checked here.
pub(super) fn unsupported(name: &str) -> Option<&'static str> {
    const UNSUPPORTED: [&str; 6] = [
        "ES512",
        "ES256K",
        "Ed448",
        "ML-DSA-44",
        "ML-DSA-65",
        "ML-DSA-87",
    ];
    UNSUPPORTED.into_iter().find(|known| *known == name)
}

/// The names of the algorithms in [`allowed`], for a sentence.
pub(super) const ALLOWED: &str = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA";

/// A token of another algorithm.
pub(super) fn not_allowed(name: &str) -> IdentifyError {
    let detail = format!("it is {}, and may be {ALLOWED}", quoted(name));
    IdentifyError::AlgorithmNotAllowed(detail.into())
}

fn because(first: Option<&'static str>) -> String {
    first.map_or_else(String::new, |why| format!(" (of the first key: {why})"))
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
        let mut skipped = Vec::new();
        for key in document.keys.first {
            match Key::parse(key) {
                Ok(key) => keys.push(key),
                Err(key) => skipped.push(key),
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoneUsable(skipped.first().map(|key| key.why)));
        }
        let of_one_name = |id: &Option<String>| keys.iter().filter(|key| key.id == *id).count();
        let named = keys.iter().filter(|key| key.id.is_some());
        if named.map(|key| of_one_name(&key.id)).max() > Some(MAX_OF_ONE_NAME) {
            return Err(KeySetError::TooManyOfOneName);
        }
        Ok(Self { keys, skipped })
    }

    /// The key set of an issuer that has withdrawn all keys.
    pub(super) fn empty() -> Self {
        Self {
            keys: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Whether there is no key.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The names of its keys, for a sentence.
    pub(super) fn names(&self) -> String {
        if self.is_empty() {
            return "none".to_owned();
        }
        let names = self.keys.iter().map(|key| key.id.as_deref());
        let names: Vec<_> = names.map(Option::unwrap_or_default).collect();
        listed(names.into_iter(), SHOWN_NAMES)
    }

    /// Why the key of this name cannot be used here, if the set has it and that is so. A token that names none means
    /// the only one.
    pub(super) fn unusable(&self, id: Option<&str>) -> Option<&'static str> {
        if id.is_none() && !(self.keys.is_empty() && self.skipped.len() == 1) {
            return None;
        }
        let named = |key: &&SkippedKey| id.is_none() || key.id.as_deref() == id;
        self.skipped.iter().find(named).map(|key| key.why)
    }

    /// Whether this set has the key.
    pub(super) fn has(&self, key: Fingerprint) -> bool {
        self.keys.iter().any(|ours| ours.fingerprint == key)
    }

    /// Whether both have the same keys.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let fingerprints = |set: &Self| set.keys.iter().map(|key| key.fingerprint.0).collect();
        let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) = (fingerprints(self), fingerprints(other));
        ours == theirs && self.skipped == other.skipped
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
            self.keys
                .iter()
                .filter(named)
                .filter(|key| key.fits(algorithm))
        };
        if self.keys.iter().find(named).is_none() {
            let mut skipped = self.skipped.iter().filter(|key| key.id.as_deref() == id);
            let skipped = skipped.find(|_| id.is_some());
            return Err(skipped.map_or(SignatureError::UnknownKey, |key| {
                SignatureError::Unusable(key.why)
            }));
        }
        if id.is_none() && fitting().count() > 1 {
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
    fn parse(written: &RawValue) -> Result<Self, SkippedKey> {
        let jwk = super::from_json_object(written.get().as_bytes());
        let jwk: Jwk = jwk.ok_or(SkippedKey {
            id: None,
            why: "it is not a JWK",
        })?;
        let id = jwk.kid.clone();
        Self::of(jwk).map_err(|why| SkippedKey { id, why })
    }

    fn of(jwk: Jwk) -> Result<Self, &'static str> {
        if jwk.usage.as_ref().is_some_and(|usage| usage != "sig") {
            return Err("its `use` is not `sig`");
        }
        if jwk
            .key_ops
            .as_ref()
            .is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
        {
            return Err("its `key_ops` do not contain `verify`");
        }
        let (kind, parameters) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => (KeyKind::Rsa, rsa(&jwk)?),
            ("EC", Some("P-256")) => (KeyKind::P256, ec(32, &jwk)?),
            ("EC", Some("P-384")) => (KeyKind::P384, ec(48, &jwk)?),
            ("OKP", Some("Ed25519")) => (KeyKind::Ed25519, ed25519(&jwk)?),
            ("EC", Some("P-521")) => {
                return Err(
                    "its kind is P-521, for ES512, which is not supported here; RSA, P-256, P-384 and Ed25519 are",
                );
            }
            _ => return Err("its kind is not supported"),
        };
        let fingerprint = jwk.fingerprint(&parameters);
        parameters.check(kind)?;
        let public = parameters.public(kind)?;
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
