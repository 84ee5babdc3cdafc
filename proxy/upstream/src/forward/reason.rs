//! Why nothing came of a request to an upstream, in answers and records. No `_`: a new way to fail asks
//! for its reason here.

use super::ForwardError;
use countersign_core::reason::Reason;

impl ForwardError {
    /// Why, in answers, records and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            ForwardError::Resolve { .. } | ForwardError::NoAddress { .. } => {
                Reason::UpstreamResolve
            }
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
            ForwardError::Overloaded { .. } => Reason::Overloaded,
            ForwardError::PartTaken { .. } => Reason::UpstreamShareExceeded,
            ForwardError::ProxyRefused { .. } => Reason::UpstreamProxyRefused,
            ForwardError::TlsBadCertificate { .. } => Reason::UpstreamCertificate,
            ForwardError::TlsChain(_) => Reason::UpstreamChain,
            ForwardError::Reset { .. }
            | ForwardError::MalformedResponse { .. }
            | ForwardError::BodyIdle { .. } => Reason::UpstreamBroken,
            ForwardError::NotTaken { .. } => Reason::UpstreamNotTaken,
            ForwardError::ClientBody => Reason::ClientGone,
            ForwardError::ClientBodyIdle { .. } => Reason::BodyStalled,
            ForwardError::Unsendable { .. } => Reason::RequestMalformed,
        }
    }
}
