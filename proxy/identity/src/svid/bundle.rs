//! The roots of one trust domain, from a file: PEM, or the SPIFFE bundle format (a JWK set, SPIFFE
//! Trust Domain and Bundle, section 4).

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use countersign_core::{certificate::Validity, files};
use jiff::Timestamp;
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use serde::Deserialize;

use super::ChainFault;
use crate::from_json_object;

/// The most roots in one bundle; during a rotation there are two or three.
const MAX_ROOTS: usize = 256;

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the bundle {} cannot be used: {fault}", file.display())]
pub struct BundleError {
    file: PathBuf,
    fault: BundleFault,
}

/// What is wrong with a bundle.
#[derive(Debug, thiserror::Error)]
pub(super) enum BundleFault {
    #[error("it cannot be read: {}", files::reason(.0))]
    Read(#[from] io::Error),
    #[error("it is neither PEM certificates nor a SPIFFE bundle")]
    NoBundle,
    #[error("it has more than 256 roots")]
    TooMany,
    #[error("its key {0} has the use `x509-svid`, but not exactly one certificate in `x5c`")]
    X5c(usize),
    #[error(
        "the certificate in `x5c` of its key {0} is not base64 (with padding, RFC 7517, section 4.7)"
    )]
    Base64(usize),
    #[error("its certificate {0} is not a usable root")]
    Root(usize),
    #[error("its roots cannot be used to verify certificates")]
    Verifier,
}

/// The roots, ready for use.
#[derive(Debug)]
pub(super) struct Bundle {
    /// `None` accepts no certificate: a SPIFFE bundle may have no X.509 authority.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// That of the root that ends last.
    pub(super) validity: Option<Validity>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

/// An authority. Those for other uses, such as `jwt-svid`, and those without a use are skipped, as the
/// standard requires.
#[derive(Deserialize)]
struct Key {
    #[serde(rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    x5c: Vec<String>,
}

impl BundleError {
    /// Whether there is no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(&self.fault, BundleFault::Read(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// When the root of a bundle's file is valid that ends last; `None` if it has none.
///
/// # Errors
/// When the bundle cannot be used.
pub fn validity(file: &Path) -> Result<Option<Validity>, BundleError> {
    Ok(Bundle::read(file)?.validity)
}

impl Bundle {
    pub(super) fn read(file: &Path) -> Result<Self, BundleError> {
        let read = || Self::parse(&files::read_now(file)?);
        read().map_err(|fault| BundleError {
            file: file.to_owned(),
            fault,
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, BundleFault> {
        let certificates = if bytes.trim_ascii_start().first() == Some(&b'{') {
            of_key_set(bytes)?
        } else {
            of_pem(bytes)?
        };
        Self::of(certificates)
    }

    /// A bundle of these roots.
    pub(super) fn of(certificates: Vec<CertificateDer<'static>>) -> Result<Self, BundleFault> {
        if certificates.len() > MAX_ROOTS {
            return Err(BundleFault::TooMany);
        }
        let validities = certificates.iter().filter_map(|root| Validity::of(root));
        let validity = validities.max_by_key(|validity| validity.not_after);
        let mut roots = RootCertStore::empty();
        for (index, certificate) in certificates.into_iter().enumerate() {
            roots
                .add(certificate)
                .map_err(|_| BundleFault::Root(index))?;
        }
        if roots.is_empty() {
            return Ok(Self {
                verifier: None,
                validity,
            });
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|_| BundleFault::Verifier)?;
        Ok(Self {
            verifier: Some(verifier),
            validity,
        })
    }

    /// Whether a path leads from the leaf to one of the roots.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<(), ChainFault> {
        let verifier = self.verifier.as_ref().ok_or(ChainFault::NoRoot)?;
        // Nothing is valid before 1970.
        let since_epoch = Duration::try_from(now.as_duration()).unwrap_or(Duration::ZERO);
        let now = UnixTime::since_unix_epoch(since_epoch);
        verifier.verify_client_cert(leaf, rest, now)?;
        Ok(())
    }
}

/// A file without any certificate is half written, or the wrong file.
fn of_pem(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, BundleFault> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|_| BundleFault::NoBundle)?;
    if certificates.is_empty() {
        return Err(BundleFault::NoBundle);
    }
    Ok(certificates)
}

fn of_key_set(json: &[u8]) -> Result<Vec<CertificateDer<'static>>, BundleFault> {
    let set: KeySet = from_json_object(json).ok_or(BundleFault::NoBundle)?;
    let mut certificates = Vec::new();
    for (index, key) in set.keys.into_iter().enumerate() {
        if key.usage.as_deref() != Some("x509-svid") {
            continue;
        }
        let [certificate] = &key.x5c[..] else {
            return Err(BundleFault::X5c(index));
        };
        let der = STANDARD.decode(certificate);
        certificates.push(der.map_err(|_| BundleFault::Base64(index))?.into());
    }
    Ok(certificates)
}

#[cfg(test)]
pub(super) fn parse(bytes: &[u8]) -> Result<Bundle, String> {
    Bundle::parse(bytes).map_err(|fault| fault.to_string())
}
