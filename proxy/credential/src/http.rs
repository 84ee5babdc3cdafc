//! Exchanges with issuers: the same checked addresses, roots and corporate proxy as for upstreams, no
//! redirects, and bounded responses.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use countersign_config::model::{Limits, ResourceName, TrustRoots, Upstream};
use countersign_core::destination::{Authority, AuthorityError};
use countersign_upstream::forward::{
    BodyMeter, ForwardError, Forwarder, Outbound, RequestBody, SetupError,
};
use http::{Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};

/// The timeout of a whole exchange; requests wait for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest response, in bytes.
const LARGEST_ANSWER: usize = 256 * 1024;

/// Why there is no response. Never contains what was sent.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum ExchangeError {
    /// The URL has no usable host.
    #[error("the URL cannot be used: {0}")]
    Url(#[from] AuthorityError),
    /// The roots for it cannot be loaded.
    #[error("{0}")]
    Setup(Arc<SetupError>),
    /// The exchange failed; it may have taken effect.
    #[error("{0}")]
    Forward(#[from] ForwardError),
    /// It took too long; it may have taken effect.
    #[error("no complete response within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The response is too large.
    #[error("the response is larger than {} KiB", LARGEST_ANSWER / 1024)]
    TooLarge,
}

/// Exchanges with issuers.
#[derive(Debug)]
pub(super) struct Http {
    forwarder: Arc<Forwarder>,
    upstream: Upstream,
    limits: Limits,
}

impl Http {
    pub(super) fn new(forwarder: Arc<Forwarder>, upstream: Upstream, limits: Limits) -> Self {
        Self {
            forwarder,
            upstream,
            limits,
        }
    }

    /// Sends a request, whose URI is a complete `https` URL, and reads the complete response. `roots`
    /// replaces the gateway's own roots. A response of any status is a success here; connections are
    /// shared only within one credential.
    pub(super) async fn send(
        &self,
        credential: &ResourceName,
        request: Request<Bytes>,
        roots: Option<&Path>,
    ) -> Result<Response<Bytes>, ExchangeError> {
        let exchange = self.exchange(credential, request, roots);
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .unwrap_or(Err(ExchangeError::Timeout))
    }

    async fn exchange(
        &self,
        credential: &ResourceName,
        request: Request<Bytes>,
        roots: Option<&Path>,
    ) -> Result<Response<Bytes>, ExchangeError> {
        let authority = request.uri().authority().map_or("", |a| a.as_str());
        let authority = Authority::with_default_port(authority, 443)?;
        let outbound = Outbound::issuer(authority, credential);
        let request = request.map(|body| RequestBody::full(body, Arc::new(BodyMeter::default())));
        let sent = match roots {
            None => self.forwarder.send(&outbound, request).await?,
            Some(file) => self.trusting(file)?.send(&outbound, request).await?,
        };
        let (head, body) = sent.response.into_parts();
        match Limited::new(body, LARGEST_ANSWER).collect().await {
            Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
            Err(error) => Err(match error.downcast::<ForwardError>() {
                Ok(error) => ExchangeError::Forward(*error),
                Err(error) if error.is::<LengthLimitError>() => ExchangeError::TooLarge,
                Err(error) => ExchangeError::Forward(ForwardError::Reset {
                    reason: error.to_string(),
                }),
            }),
        }
    }

    /// Exchanges are rare, so the file is read for each.
    fn trusting(&self, roots: &Path) -> Result<Forwarder, ExchangeError> {
        let upstream = Upstream {
            roots: TrustRoots::Only(roots.to_owned()),
            ..self.upstream.clone()
        };
        Forwarder::new(&upstream, &self.limits, self.forwarder.own_addresses())
            .map_err(|error| ExchangeError::Setup(Arc::new(error)))
    }
}
