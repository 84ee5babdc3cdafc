//! Checks that a text holds a root that can issue, before anything is signed.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::certificate::X509Certificate;

use super::{key::CaKey, validity::Validity};

/// A root that can issue: its certificate is a root's, its key belongs to it, and its signature is right.
#[derive(Debug)]
pub struct ParsedRoot {
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    /// When it is valid; that is not checked.
    pub validity: Validity,
    /// Its key.
    pub key: CaKey,
}

impl ParsedRoot {
    /// Parses certificate and key, PEM.
    ///
    /// # Errors
    /// What is wrong, as a sentence without its end.
    pub fn of_pem(contents: &[u8]) -> Result<Self, &'static str> {
        let (certificate, validity, key) = root(contents)?;
        Ok(Self {
            certificate,
            validity,
            key,
        })
    }
}

fn root(contents: &[u8]) -> Result<(CertificateDer<'static>, Validity, CaKey), &'static str> {
    let certificate = only(
        CertificateDer::pem_slice_iter(contents),
        "it does not hold exactly one certificate",
    )?;
    let key = only(
        PrivateKeyDer::pem_slice_iter(contents),
        "it does not hold exactly one private key (PKCS#8)",
    )?;
    let (rest, parsed) = x509_parser::parse_x509_certificate(&certificate)
        .map_err(|_malformed| "the certificate cannot be read")?;
    if !rest.is_empty() {
        return Err("something stands behind the certificate");
    }
    let validity = Validity::of(&parsed).ok_or("the certificate's dates are out of range")?;
    check_authority(&parsed)?;
    check_signature(&parsed)?;
    let key = KeyPair::from_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
        .map_err(|_malformed| "the private key is not a P-256 key")?;
    if key.subject_public_key_info() != parsed.public_key().raw {
        return Err("the private key does not belong to the certificate");
    }
    Ok((certificate, validity, key.into()))
}

/// The single item of an iterator of PEM blocks.
fn only<T, E>(
    mut blocks: impl Iterator<Item = Result<T, E>>,
    not_one: &'static str,
) -> Result<T, &'static str> {
    match (blocks.next(), blocks.next()) {
        (Some(Ok(block)), None) => Ok(block),
        (Some(Err(_)), _) | (_, Some(Err(_))) => {
            Err("it is cut off or a PEM block in it is broken")
        }
        (None, _) | (Some(Ok(_)), Some(Ok(_))) => Err(not_one),
    }
}

/// It must be a root that may sign an intermediate.
fn check_authority(certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
    if certificate.subject() != certificate.issuer() {
        return Err("the certificate is not a root: another one issued it");
    }
    let constraints = certificate
        .basic_constraints()
        .map_err(|_malformed| "the certificate's basic constraints cannot be read")?
        .ok_or("the certificate is not a CA's")?
        .value;
    if !constraints.ca {
        return Err("the certificate is not a CA's");
    }
    if constraints.path_len_constraint == Some(0) {
        return Err("the certificate's path length leaves no room for an intermediate");
    }
    let usage = certificate
        .key_usage()
        .map_err(|_malformed| "the certificate's key usage cannot be read")?
        .ok_or("the certificate has no key usage")?
        .value;
    if !usage.key_cert_sign() {
        return Err("the certificate's key may not sign certificates");
    }
    Ok(())
}

/// Detects a flipped bit anywhere in the certificate.
fn check_signature(certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    let key = &certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
        .verify(
            certificate.tbs_certificate.as_ref(),
            &certificate.signature_value.data,
        )
        .map_err(|_unspecified| "the certificate's signature is not its own key's (P-256)")
}
