//! The rules of the X.509-SVID standard for a leaf (sections 2, 4 and 5.2).

use countersign_config::spiffe::SpiffeId;
use jiff::Timestamp;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, KeyUsage, ParsedExtension, SubjectAlternativeName, X509Extension},
    oid_registry::{
        OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_KEY_USAGE, OID_X509_EXT_SUBJECT_ALT_NAME, Oid,
    },
    prelude::FromDer,
    time::ASN1Time,
};

use super::SvidError;

/// The content of a leaf, not yet verified.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) id: SpiffeId,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// Lower-case hexadecimal, two digits per byte.
    pub(super) serial: Box<str>,
}

impl Leaf {
    pub(super) fn parse(der: &[u8]) -> Result<Self, SvidError> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| SvidError::Unreadable)?;
        if !rest.is_empty() {
            return Err(SvidError::Unreadable);
        }
        check_authority(&certificate)?;
        check_key_usage(&certificate)?;
        let validity = certificate.validity();
        Ok(Self {
            id: spiffe_id(&certificate)?,
            not_before: timestamp(validity.not_before),
            not_after: timestamp(validity.not_after),
            serial: hex(&certificate.serial.to_bytes_be()),
        })
    }
}

fn check_authority(certificate: &X509Certificate<'_>) -> Result<(), SvidError> {
    match extension(certificate, &OID_X509_EXT_BASIC_CONSTRAINTS)? {
        Some(ParsedExtension::BasicConstraints(constraints)) if constraints.ca => {
            Err(SvidError::Authority)
        }
        Some(ParsedExtension::BasicConstraints(_)) | None => Ok(()),
        Some(_) => Err(SvidError::Unreadable),
    }
}

fn check_key_usage(certificate: &X509Certificate<'_>) -> Result<(), SvidError> {
    let usage: &KeyUsage = match extension(certificate, &OID_X509_EXT_KEY_USAGE)? {
        Some(ParsedExtension::KeyUsage(usage)) => usage,
        Some(_) => return Err(SvidError::Unreadable),
        None => return Err(SvidError::NoKeyUsage),
    };
    if usage.key_cert_sign() {
        return Err(SvidError::SigningKeyUsage("keyCertSign"));
    }
    if usage.crl_sign() {
        return Err(SvidError::SigningKeyUsage("cRLSign"));
    }
    if !usage.digital_signature() {
        return Err(SvidError::NoDigitalSignature);
    }
    Ok(())
}

/// Other kinds of names may be present beside the one URI; they are ignored.
fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let names: &SubjectAlternativeName<'_> =
        match extension(certificate, &OID_X509_EXT_SUBJECT_ALT_NAME)? {
            Some(ParsedExtension::SubjectAlternativeName(names)) => names,
            Some(_) => return Err(SvidError::Unreadable),
            None => return Err(SvidError::UriNames(0)),
        };
    let mut uris = Vec::new();
    for name in &names.general_names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            // It might be a second URI that we cannot read.
            GeneralName::Invalid(..) => return Err(SvidError::Unreadable),
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::DNSName(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_) => {}
        }
    }
    match uris[..] {
        [uri] => Ok(SpiffeId::parse(uri)?),
        _ => Err(SvidError::UriNames(uris.len())),
    }
}

fn extension<'c>(
    certificate: &'c X509Certificate<'_>,
    oid: &Oid<'_>,
) -> Result<Option<&'c ParsedExtension<'c>>, SvidError> {
    let found = certificate.get_extension_unique(oid);
    let found = found.map_err(|_| SvidError::Unreadable)?;
    Ok(found.map(X509Extension::parsed_extension))
}

/// The only times out of range are those at the very end of the year 9999, which mean "never" in RFC
/// 5280 (section 4.1.2.5).
fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX)
}

fn hex(bytes: &[u8]) -> Box<str> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
    digits.map(char::from).collect::<String>().into()
}
