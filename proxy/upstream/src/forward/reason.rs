//! The reasons of failed upstream requests, in responses and records. There is no `_`: a new error needs a
//! reason here.

use super::{ForwardError, corporate::ProxyFault};
use crate::inject::FormFault;
use countersign_core::reason::Reason;

impl ForwardError {
    /// The reason, in responses, records and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            ForwardError::Resolve { .. } | ForwardError::NoAddress { .. } => {
                Reason::UpstreamResolve
            }
            ForwardError::ResolverDown { .. } => Reason::ResolverUnavailable,
            ForwardError::Unreachable { .. } => Reason::NetworkUnreachable,
            ForwardError::AddressForbidden { .. } | ForwardError::OwnAddress { .. } => {
                Reason::UpstreamAddress
            }
            ForwardError::Connect { .. } | ForwardError::TlsHandshake { .. } => {
                Reason::UpstreamConnect
            }
            ForwardError::ConnectTimeout { .. } | ForwardError::ResponseTimeout { .. } => {
                Reason::UpstreamTimeout
            }
            ForwardError::Memory(short) => short.reason(),
            ForwardError::Overloaded { .. } | ForwardError::NoSocket { .. } => Reason::Overloaded,
            ForwardError::PartTaken { .. } => Reason::UpstreamShareExceeded,
            ForwardError::Proxy(error) => error.fault.reason(),
            ForwardError::TlsBadCertificate { .. } => Reason::UpstreamCertificate,
            ForwardError::TlsChain(_) => Reason::UpstreamChain,
            ForwardError::Reset { .. }
            | ForwardError::MalformedResponse { .. }
            | ForwardError::BodyIdle { .. } => Reason::UpstreamBroken,
            ForwardError::NotTaken { .. } => Reason::UpstreamNotTaken,
            ForwardError::OverBound { .. } => Reason::ResponseTooLarge,
            ForwardError::Form(FormFault::Field { .. }) => Reason::FormCredential,
            ForwardError::Form(FormFault::Method { .. }) => Reason::MethodOverride,
            ForwardError::Form(FormFault::Ambiguous(_)) => Reason::FormUnreadable,
            ForwardError::ClientBody => Reason::ClientGone,
            ForwardError::ClientBodyMalformed => Reason::RequestMalformed,
            ForwardError::ClientBodyIdle { .. } => Reason::BodyStalled,
            ForwardError::Unsendable { .. } => Reason::Internal,
        }
    }
}

impl ProxyFault {
    fn reason(&self) -> Reason {
        match self {
            Self::Unreachable(_) | Self::Silent { .. } | Self::NotTls => {
                Reason::UpstreamProxyUnreachable
            }
            Self::Certificate(_) => Reason::UpstreamProxyCertificate,
            Self::Unauthenticated { .. } | Self::Password { .. } => {
                Reason::UpstreamProxyAuthentication
            }
            Self::Refused(_) => Reason::UpstreamProxyRefused,
            Self::Failed(_) => Reason::UpstreamProxyFailed,
        }
    }
}
