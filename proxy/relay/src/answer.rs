//! The relay's own responses, when there is no gateway's response to pass on.

use bytes::Bytes;
use countersign_core::{http_error, slots::NoPlace};
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use serde_json::json;

use super::{
    fault::{Fault, PROXY_STATUS},
    gateway::Gateway,
    proof::ProofError,
    settings::GatewayName,
};

/// Why the relay cannot tunnel or forward something.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum RelayError {
    /// There is no usable proof of the pod's identity.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// No gateway could be reached.
    #[error("no gateway answers: {0}")]
    Unreached(String),
    /// A gateway broke off.
    #[error("the gateway broke off: {0}")]
    Broken(String),
    /// The app's request is not a proxy request.
    #[error("{0}")]
    Malformed(&'static str),
    /// The relay's own traffic came back to it.
    #[error("the connection is to {0}, which is the relay's own: the redirection rules are wrong")]
    Loop(std::net::SocketAddr),
    /// A redirected connection has an invalid `ClientHello`, or its SNI is not a host name.
    #[error("{0}")]
    Hello(&'static str),
    /// The relay already tunnels as many connections as it may.
    #[error("as many connections are carried as `--connections` lets")]
    Full,
    /// The original destination of a redirected connection is unknown.
    #[error("the original destination is not known: {0}")]
    NoDestination(String),
}

impl RelayError {
    /// An exchange that had begun and broke.
    pub(super) fn broken(error: &hyper::Error) -> Self {
        Self::Broken(http_error::sentence(error))
    }

    /// A stable code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Proof(ProofError::Token { .. }) => "relay-token-unusable",
            Self::Proof(ProofError::Expired { .. }) => "relay-token-expired",
            Self::Proof(ProofError::Unreadable { .. } | ProofError::Pem { .. }) => {
                "relay-certificate-unusable"
            }
            Self::Proof(ProofError::NotValid { .. }) => "relay-certificate-not-valid",
            Self::Unreached(_) => "relay-gateway-unreachable",
            Self::Broken(_) => "relay-gateway-broke-off",
            Self::Malformed(_) => "relay-request-malformed",
            Self::Loop(_) => "relay-loop",
            Self::Hello(_) => "relay-client-tls",
            Self::Full => "relay-full",
            Self::NoDestination(_) => "relay-no-destination",
        }
    }

    /// The status and the nearest error type of RFC 9209, section 2.3.
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unreached(_) => (StatusCode::BAD_GATEWAY, "destination_unavailable"),
            Self::Broken(_) => (StatusCode::BAD_GATEWAY, "connection_terminated"),
            Self::Malformed(_) | Self::Hello(_) => (StatusCode::BAD_REQUEST, "http_request_error"),
            Self::Full => (StatusCode::SERVICE_UNAVAILABLE, "connection_limit_reached"),
            Self::Loop(_) => (StatusCode::LOOP_DETECTED, "proxy_loop_detected"),
            Self::Proof(_) | Self::NoDestination(_) => {
                (StatusCode::BAD_GATEWAY, "proxy_configuration_error")
            }
        }
    }

    /// The response to an HTTP client of the relay.
    pub(super) fn answer(&self) -> Response<Bytes> {
        let (status, kind) = self.status();
        let code = self.code();
        let body = json!({
            "type": format!("https://countersign.dev/reasons#{code}"),
            "title": self.to_string(),
            "status": status.as_u16(),
            "reason": code,
        });
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let proxy_status = format!("countersign-relay; error={kind}; details=\"{code}\"");
        headers.insert(
            PROXY_STATUS,
            HeaderValue::try_from(proxy_status).expect("codes are visible ASCII"),
        );
        response
    }
}

impl From<NoPlace> for RelayError {
    fn from(_: NoPlace) -> Self {
        Self::Full
    }
}

/// The gateways that could not be reached, and why.
#[derive(Debug, Default)]
pub(super) struct Unreached(Vec<String>);

impl Unreached {
    pub(super) fn add(&mut self, gateway: &Gateway, fault: &Fault) {
        let (name, address) = (gateway.name(), gateway.address());
        self.0.push(format!("{name} ({address}): {fault}"));
    }

    pub(super) fn add_name(&mut self, name: &GatewayName, fault: &Fault) {
        self.0.push(format!("{name}: {fault}"));
    }
}

impl From<Unreached> for RelayError {
    fn from(unreached: Unreached) -> Self {
        if unreached.0.is_empty() {
            return Self::Unreached("their names are being looked up".to_owned());
        }
        Self::Unreached(unreached.0.join("; "))
    }
}
