//! Exchanges with those who issue credentials: the same checked addresses, roots and corporate
//! proxy as all that goes upstream, no redirects, and answers that are bounded.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use countersign_config::model::{Limits, ResourceName, TrustRoots, Upstream};
use countersign_core::destination::{Authority, AuthorityError};
use countersign_upstream::forward::{
    BodyMeter, ForwardError, Forwarder, Outbound, RequestBody, SetupError,
};
use http::{Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};

/// How long a whole exchange may take; requests wait for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer, in bytes.
const LARGEST_ANSWER: usize = 256 * 1024;

/// Why there is no answer. Never says what was sent.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum ExchangeError {
    /// The URL has no usable host.
    #[error("the URL cannot be used: {0}")]
    Url(#[from] AuthorityError),
    /// The roots for it cannot be had.
    #[error("{0}")]
    Setup(Arc<SetupError>),
    /// The exchange failed; whether anything was done is not known.
    #[error("{0}")]
    Forward(#[from] ForwardError),
    /// It took too long; whether anything was done is not known.
    #[error("no whole answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The answer is too large.
    #[error("the answer is larger than {} KiB", LARGEST_ANSWER / 1024)]
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

    /// Sends a request, whose URI is a whole `https` URL, and reads the whole answer. `roots` are
    /// trusted instead of the gateway's own. Answers of all statuses are answers; connections are
    /// shared within one credential only.
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

    /// Exchanges are rare, and so the file is read afresh for each.
    fn trusting(&self, roots: &Path) -> Result<Forwarder, ExchangeError> {
        let upstream = Upstream {
            roots: TrustRoots::Only(roots.to_owned()),
            ..self.upstream.clone()
        };
        Forwarder::new(&upstream, &self.limits, self.forwarder.own_addresses())
            .map_err(|error| ExchangeError::Setup(Arc::new(error)))
    }
}
