//! Errors on the way to an upstream, and whose fault they are.

use std::{
    error::Error as _,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::{address::Forbidden, body::BodyMeter, certificate, corporate::ProxyError};
use crate::inject::FormFault;
use countersign_core::{budget::Short, chain::ChainError, http_error, tls_error};

/// Why a request, or the rest of its response, failed. The text is for the operator and contains no secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ForwardError {
    /// The name service did not answer, or said that there is no such name.
    #[error("{name} could not be resolved: {reason}")]
    Resolve {
        /// The name asked for.
        name: String,
        /// What the resolver said.
        reason: String,
    },
    /// The name servers cannot be asked, or do not answer.
    #[error("{name} could not be resolved: {reason}")]
    ResolverDown {
        /// The name asked for.
        name: String,
        /// What was observed.
        reason: String,
    },
    /// The name exists but has no address.
    #[error("{name} has no address")]
    NoAddress {
        /// The name asked for.
        name: String,
    },
    /// Every address of the host is forbidden.
    #[error("the address {address} must not be dialled: it is {reason}")]
    AddressForbidden {
        /// The first such address.
        address: IpAddr,
        /// What kind of address it is.
        reason: Forbidden,
    },
    /// The request would have returned to this gateway.
    #[error("{address} is this proxy itself")]
    OwnAddress {
        /// The address that would have been dialled.
        address: SocketAddr,
    },
    /// This machine's own network, routes or firewall refused the connection: nothing was sent.
    #[error("no connection to {address}: this machine does not let it out ({reason})")]
    Unreachable {
        /// The last address tried.
        address: SocketAddr,
        /// What the system said.
        reason: io::ErrorKind,
    },
    /// The process has no socket or port left.
    #[error("no connection to {address}: this process has used up its {what}")]
    NoSocket {
        /// The last address tried.
        address: SocketAddr,
        /// What it has none of.
        what: &'static str,
    },
    /// No address accepted a connection.
    #[error("no connection to {address}: {reason}")]
    Connect {
        /// The last address tried.
        address: SocketAddr,
        /// What the system said.
        reason: io::ErrorKind,
    },
    /// Dialling and the TLS handshake together took too long.
    #[error(
        "no connection and TLS handshake within {limit:?} (limits.connectTimeout); a firewall that drops what is sent looks the same as a server that does not answer"
    )]
    ConnectTimeout {
        /// The time allowed.
        limit: Duration,
    },
    /// All permitted connections of one authority and credential were busy, for too long.
    #[error("all {connections} connections to this upstream were busy for {limit:?}")]
    Overloaded {
        /// The bound.
        connections: usize,
        /// How long the request waited.
        limit: Duration,
    },
    /// The caller held its full part of its workload's connections, for too long.
    #[error(
        "this caller held its part of the {connections} connections to this upstream for {limit:?}"
    )]
    PartTaken {
        /// The bound for all callers.
        connections: usize,
        /// How long the request waited.
        limit: Duration,
    },
    /// There is no memory for one more connection.
    #[error(transparent)]
    Memory(#[from] Short),
    /// The corporate proxy did not open a tunnel, or something went wrong on the way to it.
    #[error(transparent)]
    Proxy(Box<ProxyError>),
    /// The upstream's certificate does not prove that it is the host asked for.
    #[error("the upstream's certificate was not accepted: {reason}")]
    TlsBadCertificate {
        /// What is wrong with it.
        reason: String,
    },
    /// The upstream's certificate chain is too large.
    #[error("the upstream's certificate was not looked at: {0}")]
    TlsChain(ChainError),
    /// The TLS handshake failed for another reason.
    #[error("no TLS with the upstream: {reason}")]
    TlsHandshake {
        /// What went wrong.
        reason: String,
    },
    /// The response head did not arrive in time after the request was sent.
    #[error("no answer within {limit:?} (limits.responseTimeout)")]
    ResponseTimeout {
        /// The time allowed.
        limit: Duration,
    },
    /// The upstream closed or reset the connection or the stream before the response was complete.
    #[error("the upstream broke off: {reason}")]
    Reset {
        /// What was observed.
        reason: String,
    },
    /// The upstream did not act on the request, and it was not, or could not be, sent again.
    #[error("the upstream did not take the request: {reason}")]
    NotTaken {
        /// What was observed, and why it was not sent again.
        reason: String,
    },
    /// The upstream's response is not valid HTTP.
    #[error("the upstream's answer is malformed: {reason}")]
    MalformedResponse {
        /// What was observed.
        reason: String,
    },
    /// The upstream's response exceeds a bound of this gateway's.
    #[error("the upstream's answer exceeds a bound of this gateway: {reason}")]
    OverBound {
        /// Which.
        reason: String,
    },
    /// The upstream neither read nor sent any of a body for too long.
    #[error("the upstream stood still for {limit:?} (limits.bodyIdleTimeout) amid a body")]
    BodyIdle {
        /// The time allowed.
        limit: Duration,
    },
    /// The client's form must not be sent: the request was broken off.
    #[error("the form {0}")]
    Form(FormFault),
    /// The client broke off its request body.
    #[error("the client broke off its request body")]
    ClientBody,
    /// The client's request body is not valid HTTP.
    #[error(
        "the client's request body is malformed: it does not fit its Content-Length, or its trailers are invalid"
    )]
    ClientBodyMalformed,
    /// The client sent nothing of its request body for too long.
    #[error("the client sent nothing of its request body for {limit:?} (limits.bodyIdleTimeout)")]
    ClientBodyIdle {
        /// The time allowed.
        limit: Duration,
    },
    /// The request that this gateway made cannot be sent.
    #[error("the request cannot be sent as it is: {reason}")]
    Unsendable {
        /// The obstacle.
        reason: String,
    },
}

/// Why a [`Forwarder`](super::Forwarder) could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file with further roots cannot be read.
    #[error("cannot read the roots of {key} in {}: {reason}", path.display())]
    RootsFile {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no root to check upstream certificates against.
    #[error("no root certificates were found on this system: {reason}")]
    NoRoots {
        /// The error of the search.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {}", tls_error::sentence(.0))]
    Tls(#[from] rustls::Error),
    /// There is no Tokio runtime.
    #[error("the upstream client must be made within a Tokio runtime")]
    NoRuntime,
}

impl ForwardError {
    /// Classifies a failed TLS handshake.
    pub(super) fn from_handshake(error: &io::Error) -> Self {
        let reason = error.get_ref().and_then(|inner| inner.downcast_ref());
        match reason {
            Some(rustls::Error::InvalidCertificate(reason)) => {
                match ChainError::in_handshake(reason) {
                    Some(error) => Self::TlsChain(error),
                    None => Self::TlsBadCertificate {
                        reason: certificate::describe(reason),
                    },
                }
            }
            Some(error @ rustls::Error::NoCertificatesPresented) => Self::TlsBadCertificate {
                reason: tls_error::sentence(error),
            },
            Some(_) | None => Self::TlsHandshake {
                reason: tls_error::of_handshake(error),
            },
        }
    }

    /// Classifies an error of hyper's. If the client's body failed, that ends the upstream connection too,
    /// so the body's own error counts most.
    pub fn from_hyper(error: &hyper::Error, meter: Option<&BodyMeter>) -> Self {
        if let Some(fault) = meter.and_then(BodyMeter::refused) {
            return Self::Form(fault.clone());
        }
        if let Some(meter) = meter.filter(|meter| meter.failed()) {
            return if meter.malformed() {
                Self::ClientBodyMalformed
            } else {
                Self::ClientBody
            };
        }
        if let Some(reason) = over_bound(error) {
            return Self::OverBound { reason };
        }
        let reason = http_error::sentence(error);
        if error.is_parse() || malformed_body(error) {
            Self::MalformedResponse { reason }
        } else if error.is_user() {
            Self::Unsendable { reason }
        } else {
            Self::Reset { reason }
        }
    }
}

/// What a response has too much of.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct OverBound(pub(super) &'static str);

/// hyper's own bounds of a chunked body.
const LIBRARY_BOUNDS: [(&str, &str); 3] = [
    (
        "chunk trailers bytes over limit",
        "its trailers are larger than limits.headBytes",
    ),
    (
        "chunk trailers count overflow",
        "it has more than 100 trailers",
    ),
    (
        "chunk extensions over limit",
        "its chunk extensions have more than 16 KiB",
    ),
];

/// The bound of ours that a response exceeds, if that is what is wrong with it.
fn over_bound(error: &hyper::Error) -> Option<String> {
    if error.is_parse_too_large() {
        return Some(
            "its head is larger than limits.headBytes, or has more than 100 headers".into(),
        );
    }
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return h2_bound(error).map(str::to_owned);
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let inner = error.get_ref()?;
            if let Some(bound) = inner.downcast_ref::<OverBound>() {
                return Some(bound.to_string());
            }
            let text = inner.to_string();
            let known = LIBRARY_BOUNDS.iter().find(|(said, _)| *said == text);
            return known.map(|(_, what)| (*what).to_owned());
        }
        source = error.source();
    }
    None
}

/// h2 ends a connection on which a head is much larger than its bound. It tells the cause by its text alone.
fn h2_bound(error: &h2::Error) -> Option<&'static str> {
    if !error.is_library() || !error.is_go_away() {
        return None;
    }
    let text = error.to_string();
    let large = ["header_list_way_too_large", "too_many_continuations"];
    let too_large = large.iter().any(|known| text.contains(known))
        || error.reason() == Some(h2::Reason::COMPRESSION_ERROR);
    too_large.then_some("a head on its connection is many times as large as limits.headBytes")
}

/// Broken framing is an io error of these kinds, or an error of the library.
fn malformed_body(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_library() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR);
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
            );
        }
        source = error.source();
    }
    false
}
