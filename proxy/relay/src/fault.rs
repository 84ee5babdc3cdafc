//! Why a gateway does not serve this pod: a sentence with its remedy, for `/readyz`, the log and the app.

#[cfg(test)]
mod tests;

use std::{error::Error as _, fmt, io, path::PathBuf, time::Duration};

use countersign_core::{chain::ChainError, http_error, reason::Reason};
use countersign_types::shown::{self, escaped};
use http::{HeaderValue, Response, StatusCode, header::HeaderName};
use rustls::{AlertDescription, CertificateError};

use super::proof::ProofError;

/// The timeout of TCP and TLS with a gateway, which is near. After it the next address is tried.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// A name server that does not respond must not stop the watch.
pub(super) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// The timeout of a response to CONNECT, for which the gateway may have to connect to the upstream first.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The most names of a certificate that are shown.
const MOST_NAMES: usize = 4;

/// The alerts by which a server refuses a client's certificate (RFC 8446, section 6.2).
const ABOUT_CERTIFICATES: &[AlertDescription] = &[
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
];

/// Why a gateway does not serve this pod. The text is a clause about the gateway, then its remedy.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Fault {
    #[error(
        "its name could not be resolved ({0}): check the spelling in --gateway, that the Service exists, and the pod's DNS"
    )]
    NameUnresolved(String),
    #[error(
        "the name servers did not answer within {LOOKUP_TIMEOUT:?}: check the pod's DNS, and that NetworkPolicies allow it"
    )]
    NameUnanswered,
    #[error(
        "its name has no address: check that the Service has endpoints, which it has when a gateway is ready"
    )]
    NameEmpty,
    #[error(
        "the connection was refused: check that a gateway runs and listens on this port, and the Service's targetPort"
    )]
    Refused,
    #[error("there is no way to its address ({0}): check the pod's routes and NetworkPolicies")]
    Unroutable(io::ErrorKind),
    #[error(
        "the connection was not answered within {DIAL_TIMEOUT:?}: check that the gateway runs, and that NetworkPolicies and firewalls let this pod reach it"
    )]
    Unanswered,
    #[error("connecting failed ({0}): check the network between this pod and the gateway")]
    Connect(io::ErrorKind),
    #[error(
        "it accepted the connection but did not answer in TLS within {DIAL_TIMEOUT:?}: check that this port is a listener with `tls`, and that the gateway is not overloaded"
    )]
    TlsUnanswered,
    #[error(
        "it ended the connection amid the TLS handshake ({0}): check that this port is a listener with `tls`, and what is between the pod and the gateway"
    )]
    TlsCut(io::ErrorKind),
    #[error(
        "it does not speak TLS on this port: name a port whose listener has `tls`, since the pod's proof is never sent in clear"
    )]
    NotTls,
    #[error(
        "its certificate was issued by a CA that is not in {ca}: give --gateway-ca the CA of the gateway's listener certificate"
    )]
    CaUnknown { ca: CaSource },
    #[error(
        "its certificate is signed with another key than the CA of that name in {ca} has: the CA was replaced, so mount the present one for --gateway-ca"
    )]
    CaReplaced { ca: CaSource },
    #[error(
        "its certificate is for {presented}, not for {expected}: use one of its names in --gateway, or issue it for this one too"
    )]
    NameMismatch { expected: String, presented: String },
    #[error(
        "its certificate has expired: renew the gateway's listener certificate, or correct this node's clock"
    )]
    CertificateExpired,
    #[error(
        "its certificate is not valid yet: compare the clocks of this node and of whoever issued it"
    )]
    CertificateEarly,
    #[error(
        "its certificate is a CA's (`CA:TRUE`, as `openssl req -x509` makes them): issue a server certificate from that CA for the gateway's listener"
    )]
    CertificateOfCa,
    #[error("its certificate was not accepted: {0}")]
    Chain(ChainError),
    #[error("its certificate was not accepted ({0}): check the gateway's listener certificate")]
    Certificate(String),
    #[error(
        "it wants a client certificate: give --certificate and --key, or use a listener that does not require one"
    )]
    CertificateWanted,
    #[error(
        "it did not accept the pod's certificate ({0}): check --certificate and --key, their expiry, and the trust domain that the gateway's listener accepts"
    )]
    CertificateRejected(String),
    #[error(
        "TLS could not be agreed on ({0}): check that this port is a gateway's, and which TLS versions both sides have"
    )]
    Tls(String),
    #[error("HTTP could not be begun ({0}): check that this port is a gateway's proxy listener")]
    Http(String),
    #[error("the connection broke ({0}): see the gateway's log")]
    Broken(String),
    #[error(
        "it closed the connection before it answered: see the gateway's log, and whether it is draining or full"
    )]
    Closed,
    #[error(
        "it did not answer a request within {ANSWER_TIMEOUT:?}: see the gateway's log, and whether it is overloaded"
    )]
    Silent,
    #[error("refuses this pod: {0}")]
    Rejected(Rejection),
    #[error(
        "the file of --gateway-ca, {}, {reason}: mount the CA of the gateway's listener certificate there",
        shown::path(path)
    )]
    Roots { path: PathBuf, reason: String },
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// Where the roots come from that a gateway's certificate is checked against.
#[derive(Debug, Clone)]
pub(super) enum CaSource {
    /// The file of `--gateway-ca`.
    File(PathBuf),
    /// The system's roots.
    System,
}

/// A gateway's refusal of the pod itself.
#[derive(Debug, Clone)]
pub(super) struct Rejection {
    pub(super) status: u16,
    /// The reason's code and the record's id, if it said them in `Proxy-Status`.
    pub(super) told: Option<(String, String)>,
}

impl Fault {
    /// Classifies a failed TLS handshake with `name`.
    pub(super) fn of_handshake(error: &io::Error, ca: &CaSource) -> Self {
        match tls_error(error) {
            Some(error) => Self::of_tls(error, ca),
            None => Self::TlsCut(error.kind()),
        }
    }

    fn of_tls(error: &rustls::Error, ca: &CaSource) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => Self::of_certificate(error, ca),
            rustls::Error::NoCertificatesPresented => Self::Certificate("it sent none".to_owned()),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            other => Self::Tls(bounded(&countersign_core::tls_error::sentence(other))),
        }
    }

    fn of_certificate(error: &CertificateError, ca: &CaSource) -> Self {
        if let Some(chain) = ChainError::in_handshake(error) {
            return Self::Chain(chain);
        }
        let ca = ca.clone();
        match error {
            CertificateError::UnknownIssuer => Self::CaUnknown { ca },
            CertificateError::BadSignature => Self::CaReplaced { ca },
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Self::CertificateExpired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::CertificateEarly
            }
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => Self::NameMismatch {
                expected: bounded(&expected.to_str()),
                presented: names(presented),
            },
            other => {
                let text = other.to_string();
                // The library gives this one no variant.
                if text.contains("CaUsedAsEndEntity") {
                    return Self::CertificateOfCa;
                }
                Self::Certificate(bounded(&text))
            }
        }
    }

    /// An alert is about what the relay sent: its certificate, or its offer.
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired => Self::CertificateWanted,
            other if ABOUT_CERTIFICATES.contains(&other) => {
                Self::CertificateRejected(format!("alert {other:?}"))
            }
            other => Self::Tls(format!("alert {other:?}")),
        }
    }

    /// Why a connection ended. A gateway's alert about the pod's certificate arrives only after the
    /// handshake (RFC 8446, section 4.4.2.4), and HTTP/2's library passes on only its text.
    pub(super) fn of_hyper(error: &hyper::Error) -> Self {
        let text = with_sources(error);
        if let Some((_, named)) = text.split_once("received fatal alert: ") {
            let about_ours = std::iter::once(&AlertDescription::CertificateRequired)
                .chain(ABOUT_CERTIFICATES)
                .find(|alert| named.starts_with(&format!("{alert:?}")));
            if let Some(alert) = about_ours {
                return Self::of_alert(*alert);
            }
        }
        Self::Broken(http_error::sentence(error))
    }

    /// A stable word for the kind of fault. Two faults of one kind are logged once.
    pub(super) fn cause(&self) -> &str {
        match self {
            Self::NameUnresolved(_) => "name-unresolved",
            Self::NameUnanswered => "name-servers-silent",
            Self::NameEmpty => "name-without-address",
            Self::Refused => "connection-refused",
            Self::Unroutable(_) => "no-route",
            Self::Unanswered => "connection-timeout",
            Self::Connect(_) => "connection-failed",
            Self::TlsUnanswered => "tls-timeout",
            Self::TlsCut(_) => "tls-cut",
            Self::NotTls => "not-tls",
            Self::CaUnknown { .. } => "ca-unknown",
            Self::CaReplaced { .. } => "ca-replaced",
            Self::NameMismatch { .. } => "certificate-name",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateEarly => "certificate-not-yet-valid",
            Self::CertificateOfCa => "certificate-of-ca",
            Self::Chain(_) => "certificate-chain",
            Self::Certificate(_) => "certificate-invalid",
            Self::CertificateWanted => "client-certificate-required",
            Self::CertificateRejected(_) => "client-certificate-rejected",
            Self::Tls(_) => "tls-failed",
            Self::Http(_) => "http-failed",
            Self::Broken(_) => "connection-broke",
            Self::Closed => "connection-closed",
            Self::Silent => "no-answer",
            Self::Rejected(rejection) => rejection.code().unwrap_or("rejected"),
            Self::Roots { .. } => "gateway-ca-unusable",
            Self::Proof(_) => "proof-unusable",
        }
    }

    /// Whether it says only that a connection has ended.
    pub(super) fn is_end(&self) -> bool {
        matches!(self, Self::Closed | Self::Broken(_))
    }

    /// Whether the gateway was reached, and refused the pod.
    pub(super) fn is_rejection(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }
}

/// How connecting failed.
impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Unanswered,
            kind @ (io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::AddrNotAvailable) => Self::Unroutable(kind),
            kind => Self::Connect(kind),
        }
    }
}

impl Rejection {
    /// Whether a gateway refused the pod itself, and not what it asked for. A gateway that is only full, or
    /// a proxy that does not know the request, still serves.
    pub(super) fn of<B>(answer: &Response<B>) -> Option<Self> {
        let status = answer.status();
        let told = answer.headers().get(PROXY_STATUS).and_then(told);
        let about_identity = |(code, _): &(String, String)| code.starts_with("identity_");
        // A refusal that follows inside the tunnel comes with a success.
        let rejects = status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
            || told.as_ref().is_some_and(about_identity);
        rejects.then_some(Self {
            status: status.as_u16(),
            told,
        })
    }

    fn code(&self) -> Option<&str> {
        self.told.as_ref().map(|(code, _)| &**code)
    }
}

/// The remedy is the gateway's own for this reason, which only its log has otherwise.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((code, id)) = &self.told else {
            return write!(
                f,
                "{} without a reason: check that this port is a gateway's, and see its log",
                self.status
            );
        };
        if !(200..300).contains(&self.status) {
            write!(f, "{} ", self.status)?;
        }
        write!(f, "{code} (record {id}): ")?;
        let known = Reason::ALL.iter().map(|reason| reason.facts());
        match known.into_iter().find(|facts| facts.code == code) {
            Some(facts) => write!(f, "{} {}", facts.caller, facts.remedy),
            None => f.write_str("see that record in the gateway's decision log"),
        }
    }
}

impl fmt::Display for CaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(&shown::path(path)),
            Self::System => f.write_str("the system's roots"),
        }
    }
}

/// The reason and the record in a gateway's `Proxy-Status`:
/// `countersign; error=http_request_denied; details="identity_audience; 0198..."`.
fn told(proxy_status: &HeaderValue) -> Option<(String, String)> {
    let own = proxy_status.to_str().ok()?.strip_prefix("countersign;")?;
    let (_, details) = own.split_once("details=\"")?;
    let (code, id) = details.strip_suffix('"')?.split_once("; ")?;
    let plain = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        text.len() <= 64 && text.bytes().all(plain)
    };
    (plain(code) && plain(id)).then(|| (code.to_owned(), id.to_owned()))
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// A foreign text for the middle of a line.
pub(super) fn bounded(text: &str) -> String {
    const MOST: usize = 160;
    let shown: String = text.chars().take(MOST).collect();
    let cut = if shown.len() < text.len() { "..." } else { "" };
    format!("{}{cut}", escaped(&shown))
}

/// The library's `DnsName("gateway.example")` and `IpAddress(192.0.2.1)`.
fn plain(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name (a common name alone does not count)".to_owned();
    }
    let shown: Vec<_> = presented
        .iter()
        .take(MOST_NAMES)
        .map(|it| bounded(plain(it)))
        .collect();
    let more = presented.len() - shown.len();
    match more {
        0 => shown.join(", "),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The library's message with those of its sources, which name the cause.
fn with_sources(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}
