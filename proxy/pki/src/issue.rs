//! What all certificates of ours have in common.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};

use super::{PkiError, names::Names, validity::Validity};

/// The organisation in the subject of every certificate of ours.
const ORGANIZATION: &str = "Countersign";

/// What a certificate will say, before it is signed.
#[derive(Debug, Clone)]
pub struct Template(CertificateParams);

impl Template {
    /// A root, which signs intermediates only.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn root(name: &str, validity: Validity) -> Result<Self, PkiError> {
        let mut params = authority(name, validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        Ok(Self(params))
    }

    /// An intermediate, which signs leaves of TLS servers with these names only.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn intermediate(name: &str, names: &Names, validity: Validity) -> Result<Self, PkiError> {
        let mut params = authority(name, validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        // Verifiers apply this to leaves too: no client certificates, no code signing.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.name_constraints = Some(names.constraints());
        params.use_authority_key_identifier_extension = true;
        Ok(Self(params))
    }

    /// A TLS server's.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn leaf(
        common_name: Option<&str>,
        names: Vec<SanType>,
        validity: Validity,
    ) -> Result<Self, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name);
        params.serial_number = Some(random_serial()?);
        params.subject_alt_names = names;
        // Set explicitly, because rcgen writes a subject key identifier only then.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        validity.apply(&mut params);
        Ok(Self(params))
    }

    /// What rcgen signs.
    pub const fn params(&self) -> &CertificateParams {
        &self.0
    }

    /// What rcgen signs.
    pub fn into_params(self) -> CertificateParams {
        self.0
    }
}

fn authority(name: &str, validity: Validity) -> Result<CertificateParams, PkiError> {
    let serial = random_serial()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(Some(&format!("{name} {}", tag(&serial))));
    params.serial_number = Some(serial);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity.apply(&mut params);
    Ok(params)
}

/// A random serial number of 128 bits; RFC 5280 allows positive ones of up to 160.
///
/// # Errors
/// When there are no random numbers.
fn random_serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| PkiError::Random)?;
    // Always positive and of full length.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// `O=Countersign, CN=common_name`.
pub(super) fn subject(common_name: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, ORGANIZATION);
    if let Some(common_name) = common_name {
        name.push(DnType::CommonName, common_name);
    }
    name
}

/// A word that makes the subject of each CA certificate unique, for verifiers that look up issuers by name.
fn tag(serial: &SerialNumber) -> String {
    use std::fmt::Write;
    serial
        .as_ref()
        .iter()
        .take(4)
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String does not fail");
            text
        })
}
