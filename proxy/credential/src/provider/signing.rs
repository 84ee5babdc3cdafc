//! Signs JSON Web Tokens (RFC 7519).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_config::model::{Credential, SigningAlgorithm, SigningKey};
use countersign_core::secret::Secret;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::Value;

use crate::{CredentialError, ProviderContext, source::Form};

/// Signs claims with a key that is read each time, so that a replaced key is used at once.
pub(super) async fn sign(
    claims: &Value,
    key: &SigningKey,
    credential: &Credential,
    context: &ProviderContext,
) -> Result<Secret, CredentialError> {
    let pem = context
        .sources
        .read_for(credential, &key.key, Form::Text)
        .await?
        .secret;
    let algorithm = algorithm(key.algorithm);
    let mut header = Header::new(algorithm);
    header.kid.clone_from(&key.key_id);
    let token = parse(&pem, key.algorithm)
        .and_then(|key| jsonwebtoken::encode(&header, claims, &key))
        // The cause is not shown: the parser's error could contain parts of the key.
        .map_err(|_| CredentialError::Unusable {
            what: match key.algorithm {
                SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 => {
                    "the signing key is not an RSA private key in PEM"
                }
                SigningAlgorithm::Es256 => {
                    "the signing key is not a P-256 private key in PEM (PKCS #8)"
                }
                SigningAlgorithm::EdDsa => {
                    "the signing key is not an Ed25519 private key in PEM (PKCS #8)"
                }
            },
        })?;
    Ok(Secret::new(token))
}

/// A unique `jti` that cannot be guessed.
pub(super) fn unique() -> Result<String, CredentialError> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| CredentialError::Unusable {
        what: "the system has no randomness for a token's `jti`",
    })?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

fn algorithm(algorithm: SigningAlgorithm) -> Algorithm {
    match algorithm {
        SigningAlgorithm::Rs256 => Algorithm::RS256,
        SigningAlgorithm::Ps256 => Algorithm::PS256,
        SigningAlgorithm::Es256 => Algorithm::ES256,
        SigningAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

fn parse(
    pem: &Secret,
    algorithm: SigningAlgorithm,
) -> Result<EncodingKey, jsonwebtoken::errors::Error> {
    let pem = pem.expose().as_bytes();
    match algorithm {
        SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 => EncodingKey::from_rsa_pem(pem),
        SigningAlgorithm::Es256 => EncodingKey::from_ec_pem(pem),
        SigningAlgorithm::EdDsa => EncodingKey::from_ed_pem(pem),
    }
}
