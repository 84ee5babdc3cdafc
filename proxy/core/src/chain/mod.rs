//! Bounds on a peer's certificate chain, in both directions.
//!
//! Path building considers all certificates that a peer sends, in any order. If several share a name,
//! the number of paths multiplies, and each costs signature checks. So a chain's certificates are
//! counted and measured first, and only their names are parsed before that.

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

/// The most certificates, including the leaf. Public APIs send two to four.
pub const MOST_CERTIFICATES: usize = 6;

/// The most bytes of DER in total. Public APIs send three to six thousand.
pub const MOST_BYTES: usize = 16 * 1024;

/// The most issuers with one name: a CA that is changing its key sends two.
pub const MOST_OF_ONE_NAME: usize = 2;

/// Why a chain is refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// There are too many certificates.
    #[error("the chain has {0} certificates, more than {MOST_CERTIFICATES}")]
    TooMany(usize),
    /// They are too large.
    #[error("the chain has {0} bytes, more than {MOST_BYTES}")]
    TooLarge(usize),
    /// Too many have the same name.
    #[error("the chain has {0} issuers with the same name, more than {MOST_OF_ONE_NAME}")]
    LookAlikes(usize),
}

/// Checks that a chain is small enough for path building. `rest` is all but the leaf.
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
    // A certificate that cannot be parsed is on no path.
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

/// The TLS library shows other crates' errors only by `Debug`.
impl fmt::Debug for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ChainError {
    /// The same, if it is why a handshake failed.
    pub fn in_handshake(error: &CertificateError) -> Option<Self> {
        match error {
            CertificateError::Other(OtherError(error)) => error.downcast_ref().copied(),
            _ => None,
        }
    }
}

/// As an error of the TLS library: the peer gets the alert `certificate_unknown`.
impl From<ChainError> for CertificateError {
    fn from(error: ChainError) -> Self {
        Self::Other(OtherError(Arc::new(error)))
    }
}
