//! How much of a peer's certificate chain is looked at, in both directions.
//!
//! A path to a root is looked for among all that a peer sends, in any order: with certificates that
//! share a name the ways multiply, and each is tried at the cost of signatures. So a chain is counted
//! and weighed first, before anything but its names is read.

mod roots;
mod server;
#[cfg(test)]
mod tests;

pub use roots::{of_pem, system};
pub use server::trusting;

use std::{fmt, sync::Arc};

use rustls::{CertificateError, OtherError};
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The most certificates, the leaf's among them. Public APIs send two to four.
pub const MOST_CERTIFICATES: usize = 6;

/// The most bytes of DER in all. Public APIs send three to six thousand.
pub const MOST_BYTES: usize = 16 * 1024;

/// The most issuers of one name: an authority that is changing its key sends two.
pub const MOST_OF_ONE_NAME: usize = 2;

/// Why a chain is not looked at.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// There are too many certificates.
    #[error("the chain has {0} certificates, more than {MOST_CERTIFICATES}")]
    TooMany(usize),
    /// They are too large.
    #[error("the chain has {0} bytes, more than {MOST_BYTES}")]
    TooLarge(usize),
    /// Too many are of one name.
    #[error("the chain has {0} issuers of one name, more than {MOST_OF_ONE_NAME}")]
    LookAlikes(usize),
}

/// Whether a chain is small enough to be looked at. `rest` is all but the leaf.
///
/// # Errors
/// When it is not.
pub fn bounded(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), ChainError> {
    let certificates = rest.len() + 1;
    if certificates > MOST_CERTIFICATES {
        return Err(ChainError::TooMany(certificates));
    }
    let bytes = rest.iter().map(|it| it.len()).sum::<usize>() + leaf.len();
    if bytes > MOST_BYTES {
        return Err(ChainError::TooLarge(bytes));
    }
    if rest.len() <= MOST_OF_ONE_NAME {
        return Ok(());
    }
    // What cannot be parsed is on no path.
    let issuers = rest
        .iter()
        .filter_map(|it| EndEntityCert::try_from(it).ok());
    let issuers: Vec<_> = issuers.collect();
    let alike = |name: &[u8]| issuers.iter().filter(|it| it.subject() == name).count();
    let most = issuers.iter().map(|it| alike(it.subject())).max();
    match most {
        Some(alike) if alike > MOST_OF_ONE_NAME => Err(ChainError::LookAlikes(alike)),
        Some(_) | None => Ok(()),
    }
}

/// The TLS library shows the errors of others by this alone.
impl fmt::Debug for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ChainError {
    /// The same, if that is why a handshake failed.
    pub fn in_handshake(error: &CertificateError) -> Option<Self> {
        match error {
            CertificateError::Other(OtherError(error)) => error.downcast_ref().copied(),
            _ => None,
        }
    }
}

/// As the TLS library takes it: the peer gets the alert `certificate_unknown`.
impl From<ChainError> for CertificateError {
    fn from(error: ChainError) -> Self {
        Self::Other(OtherError(Arc::new(error)))
    }
}
