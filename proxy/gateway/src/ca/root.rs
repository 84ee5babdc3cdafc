//! The root, which clients trust for ten years. It signs intermediates only.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::{CaError, bundle, key::CaKey, parse, store, validity::Validity};

const LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// The organisation in the subject of every certificate of ours.
pub(super) const ORGANIZATION: &str = "Countersign";

/// The root's certificate, and where its key lies.
pub(super) struct Root {
    path: PathBuf,
    certificate: CertificateDer<'static>,
    validity: Validity,
}

impl Root {
    /// The root in `directory`, made now if there is none.
    pub(super) fn load_or_create(directory: &Path, now: Timestamp) -> Result<Self, CaError> {
        let path = directory.join(store::ROOT_FILE);
        if store::read_private(&path)?.is_none() {
            // Another process may have made it first; read what is there.
            store::create(&path, generate(now)?.as_bytes())?;
        }
        Self::load(directory, now)
    }

    /// The root in `directory`.
    pub(super) fn load(directory: &Path, now: Timestamp) -> Result<Self, CaError> {
        store::check_directory(directory)?;
        let path = directory.join(store::ROOT_FILE);
        let (certificate, validity, _key) = read(&path)?;
        if !validity.covers(now) {
            return Err(CaError::Expired {
                path,
                not_before: validity.not_before,
                not_after: validity.not_after,
            });
        }
        Ok(Self {
            path,
            certificate,
            validity,
        })
    }

    /// The certificate, DER.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The file with its certificate and key.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its validity.
    pub(super) fn validity(&self) -> Validity {
        self.validity
    }

    /// An issuer, with the key read from its file; drop it soon.
    pub(super) fn issuer(&self) -> Result<Issuer<'static, CaKey>, CaError> {
        let (certificate, _validity, key) = read(&self.path)?;
        if certificate != self.certificate {
            return Err(CaError::RootChanged(self.path.clone()));
        }
        Ok(Issuer::from_ca_cert_der(&certificate, key)?)
    }
}

/// A random serial number of 128 bits; RFC 5280 allows positive ones of up to 160.
pub(super) fn random_serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| CaError::Random)?;
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
pub(super) fn tag(serial: &SerialNumber) -> String {
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

/// A new root's certificate and key, PEM.
fn generate(now: Timestamp) -> Result<Zeroizing<String>, CaError> {
    let key = Zeroizing::new(KeyPair::generate()?);
    let serial = random_serial()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(Some(&format!("Countersign root {}", tag(&serial))));
    params.serial_number = Some(serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Validity::starting(now, LIFE).apply(&mut params);
    let certificate = params.self_signed(&*key)?;
    let key = Zeroizing::new(key.serialize_pem());
    Ok(Zeroizing::new(bundle::pem(certificate.der()) + &key))
}

fn read(path: &Path) -> Result<(CertificateDer<'static>, Validity, CaKey), CaError> {
    let contents = store::read_private(path)?.ok_or_else(|| CaError::Missing(path.to_owned()))?;
    parse::root(&contents).map_err(|reason| CaError::Damaged {
        path: path.to_owned(),
        reason,
    })
}
