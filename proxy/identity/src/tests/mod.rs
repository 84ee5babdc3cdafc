//! An issuer of tokens, with keys made here and signatures by aws-lc-rs itself, so that the library
//! under test does not verify its own output.

mod bounds;
mod claim_tables;
mod freshness;
mod hanging;
mod key_sources;
mod reviews;
mod tls;
mod tokens;
mod unproven;

use std::{path::Path, sync::LazyLock, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_config::{
    model::{self, JwksSource},
    policy::CallerFacts,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

const ISS: &str = "https://kubernetes.default.svc.cluster.local";

static RSA: LazyLock<Key> = LazyLock::new(|| Key::rsa("rsa-1", KeySize::Rsa2048));
static OTHER_RSA: LazyLock<Key> = LazyLock::new(|| Key::rsa("rsa-2", KeySize::Rsa2048));
static P256: LazyLock<Key> = LazyLock::new(|| Key {
    id: "p256",
    pair: Pair::P256(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
});
static P384: LazyLock<Key> = LazyLock::new(|| Key {
    id: "p384",
    pair: Pair::P384(EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()),
});
static ED25519: LazyLock<Key> = LazyLock::new(|| Key {
    id: "ed25519",
    pair: Pair::Ed25519(Ed25519KeyPair::generate().unwrap()),
});

struct Key {
    id: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    fn rsa(id: &'static str, size: KeySize) -> Self {
        let pair = Pair::Rsa(Box::new(RsaKeyPair::generate(size).unwrap()));
        Self { id, pair }
    }

    fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                json!({
                    "kty": "RSA",
                    "n": encode(public.modulus().big_endian_without_leading_zero()),
                    "e": encode(public.exponent().big_endian_without_leading_zero()),
                })
            }
            Pair::P256(pair) => ec_jwk("P-256", 32, pair),
            Pair::P384(pair) => ec_jwk("P-384", 48, pair),
            Pair::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key()) })
            }
        };
        jwk["kid"] = self.id.into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// Signs by any algorithm the key can do, or by `HS256` with the public key as the secret.
    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match (&self.pair, algorithm) {
            (Pair::Rsa(pair), "HS256") => {
                let secret = pair.public_key().as_ref();
                let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
                aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
            }
            (Pair::Rsa(pair), algorithm) => {
                let padding: &dyn signature::RsaEncoding = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    other => panic!("no such RSA algorithm: {other}"),
                };
                let mut signed = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signed).unwrap();
                signed
            }
            (Pair::P256(pair) | Pair::P384(pair), _) => {
                pair.sign(&random, message).unwrap().as_ref().to_vec()
            }
            (Pair::Ed25519(pair), _) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with just these parts.
    fn token(&self, header: &Value, claims: &Value) -> Secret {
        self.token_of_text(header, &claims.to_string())
    }

    fn token_of_text(&self, header: &Value, claims: &str) -> Secret {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims));
        let algorithm = header["alg"].as_str().unwrap_or("RS256");
        let signed = encode(self.sign(algorithm, message.as_bytes()));
        Secret::new(format!("{message}.{signed}"))
    }

    /// A valid token, by RS256.
    fn good_token(&self) -> Secret {
        self.token(&json!({ "alg": "RS256", "kid": self.id }), &claims())
    }
}

fn ec_jwk(curve: &str, length: usize, pair: &EcdsaKeyPair) -> Value {
    let point = pair.public_key().as_ref();
    let (x, y) = point[1..].split_at(length);
    json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn jwks(keys: &[&Key]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
}

fn now() -> Timestamp {
    "2026-11-23T05:10:00Z".parse().unwrap()
}

/// The claims of a token issued a minute ago for ten minutes, as Kubernetes issues them.
fn claims() -> Value {
    let now = now().as_second();
    json!({
        "aud": ["countersign"],
        "exp": now + 540,
        "iat": now - 60,
        "nbf": now - 60,
        "iss": ISS,
        "jti": "7a357c9a-6b4f-4d0c-9d83-0d6f0f3c8c11",
        "sub": "system:serviceaccount:qa:nightly-dashboard",
        "kubernetes.io": {
            "namespace": "qa",
            "serviceaccount": { "name": "nightly-dashboard", "uid": "14ee3fa4" },
            "pod": { "name": "nightly-dashboard-29341-x8k2p", "uid": "08b1a6b4" },
            "node": { "name": "node-1", "uid": "2f6f1d33" },
            "warnafter": now + 480,
        },
    })
}

/// `claims` with one value at a path such as `kubernetes.io/pod/name` set, or taken away by
/// `None`.
fn claims_with(path: &str, value: Option<Value>) -> Value {
    let mut claims = claims();
    let (parents, last) = match path.rsplit_once('/') {
        Some((parents, last)) => (parents.split('/').collect(), last),
        None => (Vec::new(), path),
    };
    let mut parent = &mut claims;
    for name in parents {
        parent = &mut parent[name];
    }
    let parent = parent.as_object_mut().expect("the path leads to an object");
    match value {
        Some(value) => parent.insert(last.to_owned(), value),
        None => parent.remove(last),
    };
    claims
}

fn issuer(jwks: JwksSource) -> model::Issuer {
    model::Issuer {
        name: "prod-eu".into(),
        issuer: ISS.into(),
        audience: "countersign".into(),
        max_token_life: Duration::from_hours(24),
        jwks,
        token_review: None,
        pod_facts: None,
    }
}

/// An identifier whose one issuer has these keys in a file.
struct WithFile {
    identifier: Identifier,
    clock: Clock,
    directory: tempfile::TempDir,
}

impl WithFile {
    fn new(keys: &[&Key]) -> Self {
        Self::of_document(&jwks(keys).to_string())
    }

    fn of_document(document: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("jwks.json");
        std::fs::write(&file, document).unwrap();
        let clock = Clock::manual(now());
        let issuers = [issuer(JwksSource::File(file))];
        Self {
            identifier: Identifier::new(&issuers, clock.clone()).unwrap(),
            clock,
            directory,
        }
    }

    fn write(&self, document: &str) {
        std::fs::write(self.directory.path().join("jwks.json"), document).unwrap();
    }

    async fn by(&self, token: &Secret) -> Result<Arc<Caller>, IdentifyError> {
        let proof = Proof::ServiceAccountToken;
        let caller = self.identifier.by_token(token, proof).await;
        caller.map_err(|unproven| unproven.error().clone())
    }
}

/// The name of an error's variant, without what it tells.
fn kind(error: &IdentifyError) -> String {
    let debug = format!("{error:?}");
    debug
        .split([' ', '(', '{'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Advances tokio's clock while no real socket is waited for.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn write(directory: &Path, name: &str, content: &str) -> std::path::PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path
}
