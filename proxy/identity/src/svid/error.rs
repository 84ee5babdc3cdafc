//! Which rule a certificate breaks.

use countersign_config::spiffe::{SpiffeId, SpiffeIdError};
use countersign_core::{chain::ChainError, tls_error};
use jiff::Timestamp;
use rustls::CertificateError;

/// Why a certificate is not a trusted X.509-SVID, as a sentence about it. An error may contain an ID,
/// but that ID is not proven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// Its chain is larger than the bounds.
    #[error(transparent)]
    Bounds(#[from] ChainError),
    /// It is not DER, or an important extension is broken or duplicate.
    #[error("it cannot be parsed")]
    Unreadable,
    /// None or several URI SANs (X.509-SVID, section 2).
    #[error("it has {0} URI SANs; an X.509-SVID has exactly one")]
    UriNames(usize),
    /// The URI is not the SPIFFE ID of a workload.
    #[error("its URI SAN is not the SPIFFE ID of a workload: {0}")]
    SpiffeId(#[from] SpiffeIdError),
    /// A CA's certificate does not identify a workload (section 4.1).
    #[error("it is a CA certificate; only a leaf identifies a workload")]
    Authority,
    /// There is no key usage (section 4.3).
    #[error("it has no key usage; an X.509-SVID needs digitalSignature")]
    NoKeyUsage,
    /// The key may not sign handshakes.
    #[error("its key usage lacks digitalSignature")]
    NoDigitalSignature,
    /// The key may sign certificates or revocation lists.
    #[error("its key usage has {0}, which is only for CAs")]
    SigningKeyUsage(&'static str),
    /// Its trust domain is not configured.
    #[error("{id} is of the trust domain {named}")]
    UntrustedDomain {
        /// Who it says it is.
        id: SpiffeId,
        /// Its trust domain, and the nearest that is configured.
        named: Box<str>,
    },
    /// The agent gives no bundle for its trust domain.
    #[error(
        "{id}: the SPIFFE Workload API gives no bundle for its trust domain; check that the agent runs and that the gateway is registered"
    )]
    NoBundle {
        /// Who it says it is.
        id: SpiffeId,
    },
    /// Its `notAfter` has passed.
    #[error("{id} expired at {not_after}; by this gateway's clock it is {now}")]
    Expired {
        /// Who it says it is.
        id: SpiffeId,
        /// When it ended.
        not_after: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// Its `notBefore` is in the future.
    #[error(
        "{id} is not valid before {not_before}, and by this gateway's clock it is {now}; compare the clocks"
    )]
    NotYetValid {
        /// Who it says it is.
        id: SpiffeId,
        /// When it begins.
        not_before: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// It was not issued by its trust domain.
    #[error("{id}: {fault}")]
    Chain {
        /// Who it says it is.
        id: SpiffeId,
        /// What is wrong.
        fault: ChainFault,
    },
}

/// What is wrong with a chain (RFC 5280, section 6).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// No path leads to a root of the bundle.
    #[error("no root in the bundle of its trust domain verifies it")]
    NoRoot,
    /// An intermediate has expired or is not valid yet.
    #[error("a certificate of its chain has expired or is not valid yet")]
    Lifetime,
    /// An extended key usage without `clientAuth`.
    #[error("its extended key usage is not for TLS clients")]
    Purpose,
    /// Anything else.
    #[error("its chain is not valid: {0}")]
    Other(Box<str>),
}

impl SvidError {
    /// The error for the client: the TLS library turns it into an alert (RFC 8446, section 6.2).
    pub(super) fn alert(&self) -> CertificateError {
        match self {
            Self::Bounds(error) => (*error).into(),
            Self::Unreadable => CertificateError::BadEncoding,
            Self::UriNames(_)
            | Self::SpiffeId(_)
            | Self::Authority
            | Self::NoKeyUsage
            | Self::NoDigitalSignature
            | Self::SigningKeyUsage(_) => CertificateError::InvalidPurpose,
            Self::UntrustedDomain { .. } | Self::NoBundle { .. } => CertificateError::UnknownIssuer,
            Self::Expired { .. } => CertificateError::Expired,
            Self::NotYetValid { .. } => CertificateError::NotValidYet,
            Self::Chain { fault, .. } => match fault {
                ChainFault::NoRoot => CertificateError::UnknownIssuer,
                ChainFault::Lifetime => CertificateError::Expired,
                ChainFault::Purpose => CertificateError::InvalidPurpose,
                ChainFault::Other(_) => CertificateError::BadEncoding,
            },
        }
    }
}

impl From<rustls::Error> for ChainFault {
    fn from(error: rustls::Error) -> Self {
        // The library's enums are non-exhaustive: other variants are described in its own words.
        match error {
            // A root with the right name and another key, as after a renewal of the root.
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => Self::NoRoot,
            rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => Self::Lifetime,
            rustls::Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            ) => Self::Purpose,
            rustls::Error::InvalidCertificate(error) => {
                Self::Other(tls_error::certificate(&error).into())
            }
            other => Self::Other(tls_error::sentence(&other).into()),
        }
    }
}
