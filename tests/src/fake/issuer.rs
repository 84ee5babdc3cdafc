//! A stand-in for the part of a Kubernetes API server that issues projected service-account
//! tokens, and publishes the keys to check them with.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    },
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use countersign_core::clock::Clock;
use http::{Response, StatusCode};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{Api, Authority, Body, Exchange, StandIn, body};
use crate::random;

/// The names that a certificate of the cluster is for.
pub(super) const CLUSTER_NAMES: [&str; 4] = [
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
];

/// The path of the keys, as on a real API server.
pub(super) const JWKS_PATH: &str = "/openid/v1/jwks";

/// The `iss` of every token, unless a test sets another.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The kind of a signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA of 2,048 bits, `RS256`: what Kubernetes uses unless told otherwise.
    Rsa,
    /// P-256, `ES256`.
    Ec,
}

/// What a projected token is to say.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// The service account's namespace.
    pub namespace: String,
    /// The service account's name.
    pub service_account: String,
    /// The service account's uid.
    pub service_account_uid: String,
    /// The pod that it is bound to: name and uid.
    pub pod: Option<(String, String)>,
    /// The pod's node: name and uid.
    pub node: Option<(String, String)>,
    /// The audiences.
    pub audiences: Vec<String>,
    /// From now to `exp`; Kubernetes gives at least 600 s.
    pub lifetime: SignedDuration,
}

impl TokenRequest {
    /// A token for our audience that lives an hour, bound to a pod that is named after the
    /// service account.
    pub fn new(namespace: &str, service_account: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            service_account_uid: random::uuid(),
            pod: Some((
                format!("{service_account}-{}", random::hex::<3>()),
                random::uuid(),
            )),
            node: Some(("node-1".to_owned(), random::uuid())),
            audiences: vec!["countersign".to_owned()],
            lifetime: SignedDuration::from_hours(1),
        }
    }
}

/// A running issuer. Every start has new keys.
pub type Issuer = StandIn<IssuerApi>;

/// The keys, which it publishes to anyone, and what it says in tokens.
pub struct IssuerApi {
    keys: Arc<Keys>,
    clock: Clock,
    url: Mutex<String>,
}

impl Issuer {
    /// Starts it with one RSA key; it also publishes its keys over `https`.
    pub async fn start(authority: &Authority, clock: Clock) -> io::Result<Self> {
        let api = IssuerApi {
            keys: Arc::default(),
            clock,
            url: Mutex::new(ISSUER.to_owned()),
        };
        Self::serve_nameless(authority, &CLUSTER_NAMES, api).await
    }

    /// The URL of the keys, by address.
    pub fn jwks_url(&self) -> String {
        format!("https://{}{JWKS_PATH}", self.address())
    }
}

impl IssuerApi {
    /// The `iss` claim.
    pub fn url(&self) -> String {
        lock(&self.url).clone()
    }

    /// Sets the `iss` claim of tokens to come, for a second cluster.
    pub fn set_url(&self, url: &str) {
        url.clone_into(&mut lock(&self.url));
    }

    /// The keys as a JSON Web Key Set.
    pub fn jwks(&self) -> String {
        self.keys.jwks().to_string()
    }

    /// Writes the keys to a file.
    pub fn write_jwks(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.jwks())
    }

    /// Adds a new key, and signs with it from now on. The old ones stay published.
    pub fn rotate(&self, kind: KeyKind) {
        self.keys.add(kind);
    }

    /// Publishes only the newest key from now on.
    pub fn forget_old_keys(&self) {
        self.keys.forget_old();
    }

    /// The id of the key that signs now.
    pub fn key_id(&self) -> String {
        self.keys.newest().id.clone()
    }

    /// A projected token as the kubelet would write it into a pod.
    pub fn mint(&self, request: &TokenRequest) -> String {
        self.sign(&self.header(), &self.claims(request))
    }

    /// The header of a token.
    pub fn header(&self) -> Value {
        self.keys.newest().header()
    }

    /// The claims of a projected token.
    pub fn claims(&self, request: &TokenRequest) -> Value {
        let now = self.clock.now().as_second();
        let lifetime = request.lifetime.as_secs();
        let named = |(name, uid): &(String, String)| json!({"name": name, "uid": uid});
        let mut kubernetes = json!({
            "namespace": request.namespace,
            "serviceaccount": {
                "name": request.service_account,
                "uid": request.service_account_uid,
            },
            "warnafter": now + lifetime - 7,
        });
        if let Some(node) = &request.node {
            kubernetes["node"] = named(node);
        }
        if let Some(pod) = &request.pod {
            kubernetes["pod"] = named(pod);
        }
        json!({
            "iss": self.url(),
            "sub": format!(
                "system:serviceaccount:{}:{}",
                request.namespace, request.service_account
            ),
            "aud": request.audiences,
            "exp": now + lifetime,
            "iat": now,
            "nbf": now,
            "jti": random::uuid(),
            "kubernetes.io": kubernetes,
        })
    }

    /// Signs any header and any claims with the newest key, for tokens that lie.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        signed(&self.keys.newest(), header, claims)
    }

    pub(super) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn signed(key: &Key, header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = key.pair.sign(message.as_bytes());
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

impl Api for IssuerApi {
    async fn answer(&self, exchange: Exchange) -> Response<Body> {
        let received = exchange.read().await;
        if received.path == JWKS_PATH && received.method == http::Method::GET {
            body::json(StatusCode::OK, &self.keys.jwks())
        } else {
            body::text(StatusCode::NOT_FOUND, "not found\n")
        }
    }
}

/// All published keys, the newest last; never empty.
pub(super) struct Keys(Mutex<Vec<Arc<Key>>>);

struct Key {
    id: String,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Default for Keys {
    fn default() -> Self {
        Self(Mutex::new(vec![Arc::new(Key::new(KeyKind::Rsa))]))
    }
}

impl Keys {
    fn add(&self, kind: KeyKind) {
        lock(&self.0).push(Arc::new(Key::new(kind)));
    }

    fn forget_old(&self) {
        let mut keys = lock(&self.0);
        let old = keys.len() - 1;
        keys.drain(..old);
    }

    fn newest(&self) -> Arc<Key> {
        Arc::clone(lock(&self.0).last().expect("there is always a key"))
    }

    /// Signs claims with the newest key.
    pub(super) fn sign(&self, claims: &Value) -> String {
        let key = self.newest();
        signed(&key, &key.header(), claims)
    }

    pub(super) fn jwks(&self) -> Value {
        let keys: Vec<Value> = lock(&self.0).iter().map(|key| key.jwk()).collect();
        json!({"keys": keys})
    }

    /// Whether a token names one of the keys.
    pub(super) fn is_named_in(&self, token: &str) -> bool {
        let header = token.split('.').next().unwrap_or_default();
        let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
        let header: Value = serde_json::from_slice(&header).unwrap_or_default();
        lock(&self.0).iter().any(|key| header["kid"] == *key.id)
    }

    /// The claims of a token that one of the keys signed.
    pub(super) fn verify(&self, token: &str) -> Option<Value> {
        let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header: Value = serde_json::from_slice(&decode(header)?).ok()?;
        let key = lock(&self.0)
            .iter()
            .find(|key| header["kid"] == *key.id && header["alg"] == key.pair.algorithm())
            .cloned()?;
        key.pair
            .verifies(message.as_bytes(), &decode(signature)?)
            .then(|| serde_json::from_slice(&decode(claims)?).ok())?
    }
}

impl Key {
    fn header(&self) -> Value {
        json!({"alg": self.pair.algorithm(), "kid": self.id})
    }

    fn new(kind: KeyKind) -> Self {
        Self {
            id: BASE64_URL_SAFE_NO_PAD.encode(random::bytes::<32>()),
            pair: match kind {
                KeyKind::Rsa => {
                    Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key can be made"))
                }
                KeyKind::Ec => Pair::Ec(
                    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                        .expect("a key can be made"),
                ),
            },
        }
    }

    fn jwk(&self) -> Value {
        let number = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = json!({"use": "sig", "kid": self.id, "alg": self.pair.algorithm()});
        match &self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                jwk["kty"] = "RSA".into();
                jwk["n"] = number(public.modulus().big_endian_without_leading_zero()).into();
                jwk["e"] = number(public.exponent().big_endian_without_leading_zero()).into();
            }
            Pair::Ec(pair) => {
                // An uncompressed point: 4, x, y.
                let point = pair.public_key().as_ref();
                jwk["kty"] = "EC".into();
                jwk["crv"] = "P-256".into();
                jwk["x"] = number(&point[1..33]).into();
                jwk["y"] = number(&point[33..]).into();
            }
        }
        jwk
    }
}

impl Pair {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("the buffer has the modulus' length");
                signature
            }
            Self::Ec(pair) => pair
                .sign(&random, message)
                .expect("the random source works")
                .as_ref()
                .to_vec(),
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, public): (&dyn signature::VerificationAlgorithm, &[u8]) = match self {
            Self::Rsa(pair) => (&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref()),
            Self::Ec(pair) => (&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref()),
        };
        UnparsedPublicKey::new(algorithm, public)
            .verify(message, signature)
            .is_ok()
    }
}

#[cfg(test)]
mod tests;
