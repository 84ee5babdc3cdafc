//! The parameters of a key as issuers write them (RFC 7518, section 6).

use aws_lc_rs::{
    digest,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey},
};
use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD},
    },
};
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

use super::{Fingerprint, KeyKind};

/// The first byte of a point with both coordinates (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;

const NOT_A_KEY: &str = "its numbers are not those of a public key";

/// The smallest RSA modulus, in bytes (RFC 7518, section 3.3: 2048 bits).
const MIN_RSA_BYTES: usize = 256;

/// The largest RSA modulus: the cryptography library accepts no larger one, and the cost of a check
/// grows with its square.
const MAX_RSA_BYTES: usize = 1024;

/// Parameters of keys are read as issuers write them: with padding too, and with bits after the last byte.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[derive(Deserialize)]
pub(super) struct Jwk {
    pub(super) kty: String,
    pub(super) kid: Option<String>,
    #[serde(rename = "use")]
    pub(super) usage: Option<String>,
    pub(super) key_ops: Option<Vec<String>>,
    pub(super) alg: Option<String>,
    pub(super) crv: Option<String>,
    pub(super) n: Option<String>,
    pub(super) e: Option<String>,
    pub(super) x: Option<String>,
    pub(super) y: Option<String>,
}

impl Jwk {
    pub(super) fn fingerprint(&self, Parameters(first, second): &Parameters) -> Fingerprint {
        let mut hash = digest::Context::new(&digest::SHA256);
        let texts = [
            Some(&self.kty),
            self.kid.as_ref(),
            self.alg.as_ref(),
            self.crv.as_ref(),
        ];
        let texts = texts.map(|text| text.map(String::as_bytes));
        for field in texts.into_iter().chain([Some(&**first), Some(&**second)]) {
            // Absent and empty must differ, and fields must not run together.
            let length = field.map_or(u64::MAX, |field| field.len() as u64);
            hash.update(&length.to_be_bytes());
            hash.update(field.unwrap_or_default());
        }
        let hash = hash.finish();
        Fingerprint(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

/// The numbers of a public key: modulus and exponent, or the coordinates of its point. The second may be empty.
pub(super) struct Parameters(Vec<u8>, Vec<u8>);

impl Parameters {
    pub(super) fn public(&self, kind: KeyKind) -> Result<DecodingKey, &'static str> {
        let Self(first, second) = self;
        let encode = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
        let made = match kind {
            KeyKind::Rsa => Ok(DecodingKey::from_rsa_raw_components(first, second)),
            KeyKind::P256 | KeyKind::P384 => {
                DecodingKey::from_ec_components(&encode(first), &encode(second))
            }
            KeyKind::Ed25519 => DecodingKey::from_ed_components(&encode(first)),
        };
        made.map_err(|_| "its point cannot be used")
    }

    /// Whether the numbers are those of a key of this kind: a signature check alone would blame the token.
    pub(super) fn check(&self, kind: KeyKind) -> Result<(), &'static str> {
        let Self(first, second) = self;
        let point = || [&[UNCOMPRESSED], &**first, &**second].concat();
        let parsed = match kind {
            KeyKind::Rsa => {
                let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
                let fits = is_odd(first) && is_odd(second) && second[..] != [1];
                return fits.then_some(()).ok_or(NOT_A_KEY);
            }
            KeyKind::P256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point()),
            KeyKind::P384 => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point()),
            KeyKind::Ed25519 => ParsedPublicKey::new(&ED25519, first),
        };
        parsed.map(drop).map_err(|_| NOT_A_KEY)
    }
}

pub(super) fn rsa(jwk: &Jwk) -> Result<Parameters, &'static str> {
    let modulus = number(jwk.n.as_deref())?;
    if modulus.len() < MIN_RSA_BYTES {
        return Err("its modulus is shorter than 2048 bits");
    }
    if modulus.len() > MAX_RSA_BYTES {
        return Err("its modulus is longer than 8192 bits");
    }
    Ok(Parameters(modulus, number(jwk.e.as_deref())?))
}

pub(super) fn ec(length: usize, jwk: &Jwk) -> Result<Parameters, &'static str> {
    let coordinate = |parameter: Option<&str>| {
        let digits = number(parameter)?;
        let missing = length.checked_sub(digits.len());
        let mut whole = vec![0; missing.ok_or("its point is not on its curve")?];
        whole.extend(digits);
        Ok::<_, &'static str>(whole)
    };
    Ok(Parameters(
        coordinate(jwk.x.as_deref())?,
        coordinate(jwk.y.as_deref())?,
    ))
}

pub(super) fn ed25519(jwk: &Jwk) -> Result<Parameters, &'static str> {
    let point = bytes(jwk.x.as_deref())?;
    if point.len() != 32 {
        return Err("its point is not on its curve");
    }
    Ok(Parameters(point, Vec::new()))
}

/// A big-endian number without leading zeros. RFC 7518 says how many bytes it should have, but libraries write the
/// sign byte of their big integers too, or leave out zeros.
fn number(parameter: Option<&str>) -> Result<Vec<u8>, &'static str> {
    let mut digits = bytes(parameter)?;
    let zeros = digits.iter().take_while(|byte| **byte == 0).count();
    digits.drain(..zeros);
    Ok(digits)
}

fn bytes(parameter: Option<&str>) -> Result<Vec<u8>, &'static str> {
    LENIENT
        .decode(parameter.ok_or("a parameter is missing")?)
        .map_err(|_| "a parameter is not base64url")
}
