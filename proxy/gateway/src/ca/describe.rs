//! Describes a CA's certificates to people.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use countersign_core::files;
use countersign_pki::{Validity, fingerprint};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::extensions::{GeneralName, GeneralSubtree};

use super::{CaError, store};

/// The fields of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSummary {
    /// The subject's distinguished name.
    pub subject: String,
    /// SHA-256 of the certificate, upper case hex with colons.
    pub sha256: String,
    /// The first moment of its validity.
    pub not_before: Timestamp,
    /// The last moment of its validity.
    pub not_after: Timestamp,
    /// The names it may issue for; empty where it is not constrained.
    pub permitted: Vec<String>,
    /// The names it may not issue for.
    pub excluded: Vec<String>,
}

/// The root in `directory`, and the intermediate issued last, if any was.
pub fn describe(
    directory: &Path,
) -> Result<(CertificateSummary, Option<CertificateSummary>), CaError> {
    let root = directory.join(store::ROOT_FILE);
    let root = summary_of_file(&root)?.ok_or(CaError::Missing(root))?;
    let intermediate = summary_of_file(&directory.join(store::INTERMEDIATE_FILE))?;
    Ok((root, intermediate))
}

fn summary_of_file(path: &Path) -> Result<Option<CertificateSummary>, CaError> {
    let contents = match files::read_now(path) {
        Ok(contents) => zeroize::Zeroizing::new(contents),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(store::io_error("read", path, source)),
    };
    let damaged = |reason| CaError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let certificate = CertificateDer::from_pem_slice(&contents)
        .map_err(|_malformed| damaged("it holds no certificate"))?;
    summarise(&certificate).map(Some).map_err(damaged)
}

fn summarise(certificate: &CertificateDer<'_>) -> Result<CertificateSummary, &'static str> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_malformed| "the certificate cannot be read")?;
    let validity = Validity::of(&parsed).ok_or("the certificate's dates are out of range")?;
    let constraints = parsed
        .name_constraints()
        .map_err(|_malformed| "the name constraints cannot be read")?
        .map(|extension| extension.value);
    let names = |subtrees: Option<&Vec<GeneralSubtree<'_>>>| -> Vec<String> {
        subtrees
            .into_iter()
            .flatten()
            .map(|subtree| name(&subtree.base))
            .collect()
    };
    Ok(CertificateSummary {
        subject: parsed.subject().to_string(),
        sha256: fingerprint(certificate),
        not_before: validity.not_before,
        not_after: validity.not_after,
        permitted: names(constraints.and_then(|both| both.permitted_subtrees.as_ref())),
        excluded: names(constraints.and_then(|both| both.excluded_subtrees.as_ref())),
    })
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName("") => "any DNS name".to_owned(),
        GeneralName::DNSName(name) => format!("{name} and below"),
        GeneralName::IPAddress(bytes) => network(bytes),
        other => other.to_string(),
    }
}

/// An address and a mask, as `address/prefix`.
fn network(bytes: &[u8]) -> String {
    let (address, mask) = bytes.split_at(bytes.len() / 2);
    let prefix: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let address = <[u8; 4]>::try_from(address)
        .map(|octets| IpAddr::from(Ipv4Addr::from(octets)))
        .or_else(|_not_v4| {
            <[u8; 16]>::try_from(address).map(|octets| IpAddr::from(Ipv6Addr::from(octets)))
        });
    match address {
        Ok(address) => format!("{address}/{prefix}"),
        Err(_neither) => "an address range that cannot be read".to_owned(),
    }
}
