//! Key pairs of clients that sign: the private half as a PEM file has it, the public half to check
//! with, as an issuer would hold it.

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
        RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use base64::{Engine as _, prelude::*};
use serde_json::Value;

/// The algorithm of a signing pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignerKind {
    /// RSA of 2,048 bits, `RS256`.
    Rs256,
    /// RSA of 2,048 bits, `PS256`.
    Ps256,
    /// P-256, `ES256`.
    Es256,
    /// Ed25519, `EdDSA`.
    EdDsa,
}

impl SignerKind {
    /// The name in a JOSE header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// A key pair of somebody who signs.
#[derive(Clone)]
pub struct Signer {
    kind: SignerKind,
    pem: String,
    public: Vec<u8>,
}

impl Signer {
    /// A new pair.
    ///
    /// # Panics
    /// When the operating system has no randomness.
    pub fn new(kind: SignerKind) -> Self {
        const MADE: &str = "a key can be made";
        let (private, public) = match kind {
            SignerKind::Rs256 | SignerKind::Ps256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect(MADE);
                let der: Pkcs8V1Der<'_> = pair.as_der().expect(MADE);
                (der.as_ref().to_vec(), pair.public_key().as_ref().to_vec())
            }
            SignerKind::Es256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect(MADE);
                let der = pair.to_pkcs8v1().expect(MADE);
                (der.as_ref().to_vec(), pair.public_key().as_ref().to_vec())
            }
            SignerKind::EdDsa => {
                let pair = Ed25519KeyPair::generate().expect(MADE);
                let der = pair.to_pkcs8v1().expect(MADE);
                (der.as_ref().to_vec(), pair.public_key().as_ref().to_vec())
            }
        };
        let base64 = BASE64_STANDARD.encode(private);
        let lines: Vec<_> = base64
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        Self {
            kind,
            pem: format!(
                "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                lines.join("\n")
            ),
            public,
        }
    }

    /// The private key, as PEM (PKCS #8).
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Header and claims of a JWT that this pair has signed with its own algorithm.
    pub fn verify(&self, token: &str) -> Option<(Value, Value)> {
        let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header: Value = serde_json::from_slice(&decode(header)?).ok()?;
        if header["alg"] != self.kind.name() {
            return None;
        }
        let algorithm: &dyn VerificationAlgorithm = match self.kind {
            SignerKind::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            SignerKind::Ps256 => &RSA_PSS_2048_8192_SHA256,
            SignerKind::Es256 => &ECDSA_P256_SHA256_FIXED,
            SignerKind::EdDsa => &ED25519,
        };
        UnparsedPublicKey::new(algorithm, &self.public)
            .verify(message.as_bytes(), &decode(signature)?)
            .ok()?;
        let claims = serde_json::from_slice(&decode(claims)?).ok()?;
        Some((header, claims))
    }
}
