//! A JSON Web Token in compact form (RFC 7515, section 7.1): parsing and verification.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{
    IdentifyError, Unproven,
    claims::{ClaimRequirements, Claims, RawClaims},
    from_json_object,
    jwks::{Jwks, VerifiedKey},
    keys,
};

/// The longest accepted token, in bytes. Kubernetes' tokens have between one and two thousand.
pub(super) const MAX_TOKEN: usize = 16 * 1024;

/// The longest header, as base64, in bytes: it names an algorithm and a key.
const MAX_HEADER: usize = 2 * 1024;

/// A token whose form was checked, and nothing else yet.
pub(super) struct Unverified<'t> {
    message: &'t [u8],
    signature: &'t str,
    /// Or the name of one that cannot be checked here.
    algorithm: Result<Algorithm, &'static str>,
    key_id: Option<String>,
    claims: RawClaims,
}

/// The relevant fields. A key or the address of one (`jwk`, `jku`, `x5u`, `x5c`) is ignored: keys come
/// only from the configuration.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "there")]
    crit: bool,
}

/// An explicit `null` has the wrong type.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl<'t> Unverified<'t> {
    pub(super) fn parse(token: &'t str) -> Result<Self, IdentifyError> {
        const PARTS: IdentifyError = IdentifyError::Malformed("it is not a JWT of three parts");
        if token.len() > MAX_TOKEN {
            return Err(IdentifyError::Malformed("it is longer than 16 KiB"));
        }
        let (message, signature) = token.rsplit_once('.').ok_or(PARTS)?;
        let (header, payload) = message.split_once('.').ok_or(PARTS)?;
        if payload.contains('.') {
            return Err(PARTS);
        }
        if header.len() > MAX_HEADER {
            return Err(IdentifyError::Malformed("its header is longer than 2 KiB"));
        }
        let header: Header = from_json_object(&decode(header)?)
            .ok_or(IdentifyError::Malformed("its header is not a JOSE header"))?;
        let algorithm = match (keys::allowed(&header.alg), keys::unsupported(&header.alg)) {
            (Some(algorithm), _) => Ok(algorithm),
            (None, Some(name)) => Err(name),
            (None, None) => return Err(keys::not_allowed(&header.alg)),
        };
        // RFC 7515, section 4.1.11: critical extensions that are not understood must be refused, and we
        // understand none.
        if header.crit {
            return Err(IdentifyError::Malformed(
                "its header has critical extensions",
            ));
        }
        let claims = from_json_object(&decode(payload)?).ok_or(IdentifyError::Malformed(
            "its payload is not a JSON object with each claim once",
        ))?;
        Ok(Self {
            message: message.as_bytes(),
            signature,
            algorithm,
            key_id: header.kid,
            claims,
        })
    }

    /// The issuer that the token names.
    pub(super) fn issuer(&self) -> Result<&str, IdentifyError> {
        self.claims.unverified_issuer()
    }

    /// Checks signature and claims against one issuer. The error has the claims if the signature is good.
    pub(super) async fn verify(
        &self,
        jwks: &Arc<Jwks>,
        requirements: &ClaimRequirements,
        now: Timestamp,
    ) -> Result<(Claims, VerifiedKey), Unproven> {
        let id = self.key_id.as_deref();
        let algorithm = match self.algorithm {
            Ok(algorithm) => algorithm,
            Err(name) => return Err(jwks.cannot_check(id, name).await.into()),
        };
        let verified_key = jwks.verify(id, algorithm, self.message, self.signature);
        let verified_key = verified_key.await?;
        match self.claims.check(requirements, now) {
            Ok(claims) => Ok((claims, verified_key)),
            Err(error) => Err(Unproven::signed(error, self.claims.signed())),
        }
    }
}

fn decode(part: &str) -> Result<Vec<u8>, IdentifyError> {
    if part.ends_with('=') {
        return Err(IdentifyError::Malformed(
            "a part is padded with `=`, which a JWT is not (RFC 7515, section 2)",
        ));
    }
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| IdentifyError::Malformed("a part is not base64url"))
}
