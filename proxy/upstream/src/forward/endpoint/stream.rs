//! Permits for the streams of shared connections.

use std::{net::SocketAddr, sync::Arc};

use countersign_core::wire::timer::LazyTimer;
use http::{Request, Response};
use hyper::body::Incoming;

use super::{
    super::{
        body::RequestBody,
        fair_queue::CallerId,
        http1::Failed,
        http2::Http2,
        timer::{Waits, Watch},
    },
    Endpoint,
};

/// The permit for one stream; given back when it is dropped.
pub(in crate::forward) struct StreamPermit {
    connection: Arc<Http2>,
    endpoint: Arc<Endpoint>,
    caller: CallerId,
    pub(in crate::forward) timer: LazyTimer,
}

impl StreamPermit {
    /// Takes one more stream if the upstream allows it. Called only while the endpoint is locked, so that
    /// no two callers take the last one.
    pub(super) fn reserve(
        connection: &Arc<Http2>,
        endpoint: &Arc<Endpoint>,
        caller: CallerId,
    ) -> Option<Self> {
        (connection.room() > 0).then(|| Self::first(connection, endpoint, caller))
    }

    /// Takes a stream of a connection that was just opened, which has one whatever the upstream says (a
    /// server that allows none is asked anyway, once).
    pub(super) fn first(
        connection: &Arc<Http2>,
        endpoint: &Arc<Endpoint>,
        caller: CallerId,
    ) -> Self {
        Self {
            timer: connection.begin_stream(),
            connection: Arc::clone(connection),
            endpoint: Arc::clone(endpoint),
            caller,
        }
    }

    /// The address the connection was dialled at.
    pub(in crate::forward) fn address(&self) -> SocketAddr {
        self.connection.address()
    }

    /// The connection that it is a stream of.
    pub(in crate::forward) fn connection(&self) -> &Http2 {
        &self.connection
    }

    /// Sends a request and waits for the head of its response.
    pub(in crate::forward) async fn send(
        &mut self,
        request: Request<RequestBody>,
        waits: Waits,
    ) -> Result<(Response<Incoming>, Watch), Failed> {
        self.connection.send(&mut self.timer, request, waits).await
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.connection.end_stream(std::mem::take(&mut self.timer));
        self.endpoint.stream_ended(self.caller);
    }
}
