//! An issuer of tokens that exists as long as this process.

use anyhow::Context;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_core::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::subject::Subject;

/// The audience of its tokens.
pub(super) const AUDIENCE: &str = "countersign";

/// A P-256 key, and a name that no other issuer has.
pub(super) struct LocalIssuer {
    url: String,
    key_id: String,
    key: EncodingKey,
    public: Vec<u8>,
}

impl LocalIssuer {
    /// An issuer with a new key.
    pub(super) fn new() -> anyhow::Result<Self> {
        let pair = Zeroizing::new(KeyPair::generate().context("no key can be generated")?);
        Ok(Self {
            // `.invalid` is never a real domain (RFC 2606).
            url: format!("https://{}.exec.countersign.invalid", Uuid::now_v7()),
            key_id: Uuid::now_v7().to_string(),
            key: EncodingKey::from_ec_der(pair.serialized_der()),
            public: pair.public_key_raw().to_owned(),
        })
    }

    /// The `iss` claim of its tokens.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Its public key as a JWK set (RFC 7517).
    pub(super) fn jwks(&self) -> String {
        // An uncompressed point (SEC 1, 2.3.3): 4, x, y.
        let (x, y) = self.public[1..].split_at(32);
        let [x, y] = [x, y].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256",
            "kid": self.key_id, "x": x, "y": y,
        }]})
        .to_string()
    }

    /// A token for `subject`, in the form of a projected service-account token.
    pub(super) fn token(
        &self,
        subject: &Subject,
        now: Timestamp,
        life: SignedDuration,
    ) -> anyhow::Result<Secret> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        let now = now.as_second();
        let claims = json!({
            "iss": self.url,
            "sub": subject.claim(),
            "aud": [AUDIENCE],
            "iat": now,
            "nbf": now,
            "exp": now + life.as_secs(),
            "jti": Uuid::now_v7().to_string(),
            "kubernetes.io": {
                "namespace": subject.namespace,
                "serviceaccount": {"name": subject.service_account, "uid": Uuid::nil().to_string()},
            },
        });
        let token = jsonwebtoken::encode(&header, &claims, &self.key);
        Ok(Secret::new(token.context("the token cannot be signed")?))
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
    use serde_json::Value;

    use super::*;

    fn verify(token: &Secret, issuer: &LocalIssuer) -> jsonwebtoken::errors::Result<Value> {
        let set: JwkSet = serde_json::from_str(&issuer.jwks()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&["countersign"]);
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(&set.keys[0]).unwrap();
        jsonwebtoken::decode(token.expose(), &key, &validation).map(|token| token.claims)
    }

    #[test]
    fn its_own_keys_check_its_tokens_and_anothers_do_not() {
        let subject = Subject {
            cluster: "prod-eu".into(),
            namespace: "qa".into(),
            service_account: "dash".into(),
        };
        let issuer = LocalIssuer::new().unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let token = issuer
            .token(&subject, now, SignedDuration::from_hours(12))
            .unwrap();
        let claims = verify(&token, &issuer).unwrap();
        assert_eq!(claims["sub"], "system:serviceaccount:qa:dash");
        assert_eq!(claims["exp"], 1_800_000_000 + 12 * 3600);
        assert_eq!(claims["iss"], issuer.url());
        let other = LocalIssuer::new().unwrap();
        assert_ne!(issuer.url(), other.url());
        verify(&token, &other).unwrap_err();
    }
}
