//! What one request is sent on.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use http::{Request, Response};

use super::{
    ConnectionInfo,
    body::RequestBody,
    endpoint::{Endpoint, Lease},
    http1::{self, Failed, Http1},
    http2::{self, Stream},
    response::UpstreamBody,
    timer::Waits,
    tls::Protocol,
};

/// A connection, or a stream of one.
pub(super) enum Line {
    Http1(Box<Http1>, Lease),
    Http2(Stream),
}

impl Line {
    /// Sends a request and waits for the head of its response.
    pub(super) async fn exchange(
        self,
        endpoint: &Arc<Endpoint>,
        request: Request<RequestBody>,
        waits: Waits,
    ) -> Result<Response<UpstreamBody>, Failed> {
        match self {
            Self::Http1(line, lease) => {
                let request = http1::prepare(request, endpoint);
                line.exchange(lease, request, waits).await
            }
            Self::Http2(stream) => {
                let request = http2::prepare(request, endpoint)?;
                stream.exchange(request, waits).await
            }
        }
    }
}

/// A stream of a connection that others share.
pub(super) fn ready_stream(stream: Stream, connect: Duration) -> (Line, ConnectionInfo) {
    let connection = ConnectionInfo {
        address: stream.address(),
        reused: true,
        protocol: Protocol::Http2,
        connect,
    };
    (Line::Http2(stream), connection)
}

/// The connection, unless it was closed while it was at rest.
pub(super) async fn ready_line(
    mut line: Box<Http1>,
    lease: Lease,
    connect: Duration,
) -> Option<(Line, ConnectionInfo)> {
    if !poll_fn(|cx| Poll::Ready(line.poll_usable(cx))).await {
        return None;
    }
    let connection = ConnectionInfo {
        address: line.address(),
        reused: true,
        protocol: Protocol::Http1,
        connect,
    };
    Some((Line::Http1(line, lease), connection))
}
