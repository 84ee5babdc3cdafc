//! The connection that one request is sent on.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use http::{Request, Response};

use super::{
    ConnectionInfo,
    body::RequestBody,
    endpoint::{Endpoint, PoolPermit, StreamPermit},
    http1::{self, Failed, Http1},
    http2,
    response::UpstreamBody,
    timer::Waits,
    tls::Protocol,
};

/// A connection, or a stream of one.
pub(super) enum UpstreamConnection {
    Http1(Box<Http1>, PoolPermit),
    Http2(StreamPermit),
}

impl UpstreamConnection {
    /// Sends a request and waits for the head of its response.
    pub(super) async fn exchange(
        self,
        endpoint: &Arc<Endpoint>,
        request: Request<RequestBody>,
        waits: Waits,
    ) -> Result<Response<UpstreamBody>, Failed> {
        match self {
            Self::Http1(mut connection, permit) => {
                let request = http1::prepare(request, endpoint.host());
                let (response, watch) = connection.send(request, waits).await?;
                let response = UpstreamBody::over_http1(connection, response, watch, permit);
                Ok(response)
            }
            Self::Http2(mut stream) => {
                let request = http2::prepare(request, endpoint.uri_authority())?;
                let (response, watch) = stream.send(request, waits).await?;
                Ok(UpstreamBody::over_http2(stream, response, watch))
            }
        }
    }
}

/// A stream of a shared connection.
pub(super) fn ready_stream(
    stream: StreamPermit,
    connect: Duration,
) -> (UpstreamConnection, ConnectionInfo) {
    let info = ConnectionInfo {
        address: stream.address(),
        reused: true,
        protocol: Protocol::Http2,
        connect,
    };
    (UpstreamConnection::Http2(stream), info)
}

/// The connection, unless it was closed while it was idle.
pub(super) async fn ready_http1(
    mut connection: Box<Http1>,
    permit: PoolPermit,
    connect: Duration,
) -> Option<(UpstreamConnection, ConnectionInfo)> {
    if !poll_fn(|cx| Poll::Ready(connection.poll_usable(cx))).await {
        return None;
    }
    let info = ConnectionInfo {
        address: connection.address(),
        reused: true,
        protocol: Protocol::Http1,
        connect,
    };
    Some((UpstreamConnection::Http1(connection, permit), info))
}
