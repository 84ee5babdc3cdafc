//! Requests in absolute form for hosts that no target matches, if `unmatched: tunnel` lets them pass:
//! hop-by-hop headers are removed, nothing is added.

use std::{sync::Arc, time::Duration};

use countersign_authorize::{Passage, Received};
use countersign_config::{memory, model::Strip};
use countersign_core::{
    budget::narrow,
    destination::Authority,
    wire::{connection_state::InFlightGuard, meter::in_progress},
};
use countersign_upstream::{
    forward::{self, BodyMeter, ForwardError, Outbound, RequestBody, Requester},
    inject,
};
use http::{HeaderValue, Request, Response, Uri, Version, header::HOST, request::Parts};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;

use super::AcceptContext;
use crate::{
    observe::Record,
    pipeline::{self, AnswerBody, UpstreamAnswer},
    session::{ConnectionMeta, caller_id},
};

/// A checked request that no target matches.
pub(super) struct UnmatchedRequest<'r> {
    pub(super) context: &'r AcceptContext,
    pub(super) meta: &'r ConnectionMeta,
    pub(super) passage: Passage<'r>,
    pub(super) received: Received,
}

impl UnmatchedRequest<'_> {
    /// Forwards it over verified TLS, or in clear text if its scheme is `http`.
    pub(super) async fn forward(
        self,
        mut parts: Parts,
        body: Incoming,
        mut in_flight: InFlightGuard,
    ) -> Response<AnswerBody> {
        let mut record = self.context.recorder.open();
        record.entered(self.meta);
        record.called_by(self.passage.caller());
        record.passing(&self.received, &parts);
        record.join(&parts.headers);
        if let Err(full) = self.context.recorder.room().await {
            return pipeline::refused(record, full.into(), in_flight);
        }
        let mut room = match in_progress(&self.meta.purse, &parts, &body.size_hint()) {
            Ok(room) => room.unwrap_or_else(|| self.meta.purse.charge()),
            Err(short) => return pipeline::refused(record, short.into(), in_flight),
        };
        let meter = Arc::new(BodyMeter::default());
        let secure = parts.uri.scheme_str() == Some("https");
        inject::pass(&mut parts, self.received.authority(), self.received.path());
        record.carry_on(&mut parts.headers, &Strip::default());
        let request = Request::from_parts(parts, RequestBody::streaming(body, Arc::clone(&meter)));
        let sent = if secure {
            self.over_tls(request, &mut record).await
        } else {
            self.in_clear(request, &meter, &mut record).await
        };
        match sent {
            Ok(response) => {
                // Memory for what the client has not read yet.
                let answer = response.body().most_held();
                if let Err(short) = room.set(room.bytes() + answer) {
                    return pipeline::refused(record, short.into(), in_flight);
                }
                in_flight.holds(Some(room));
                AnswerBody::passed(response, record, meter, in_flight)
            }
            Err(error) => pipeline::refused(record, error.into(), in_flight),
        }
    }

    async fn over_tls(
        &self,
        request: Request<RequestBody>,
        record: &mut Record,
    ) -> Result<Response<UpstreamAnswer>, ForwardError> {
        let outbound = Outbound::unmatched(&self.passage);
        let requester = Requester::new(caller_id(self.passage.caller()), &self.meta.purse);
        let forwarder = &self.context.forwarder;
        let sent = forwarder.send_for(requester, &outbound, request).await?;
        record.answered(&sent);
        Ok(sent
            .response
            .map(|body| UpstreamAnswer::Pooled(body.into())))
    }

    async fn in_clear(
        &self,
        mut request: Request<RequestBody>,
        meter: &BodyMeter,
        record: &mut Record,
    ) -> Result<Response<UpstreamAnswer>, ForwardError> {
        let authority = self.received.authority();
        let outbound = Outbound::unmatched(&self.passage);
        let (stream, address) = self.context.forwarder.tunnel(&outbound).await?;
        record.dialled(address);
        let head_bytes = self.context.limits.head_bytes;
        let stream = forward::follow(stream, request.method(), head_bytes);
        let failed = |error: hyper::Error| ForwardError::from_hyper(&error, Some(meter));
        let (mut sender, connection) = http1::Builder::new()
            .max_header_size(head_bytes)
            // Otherwise a piece of a response may have 400 KiB.
            .max_buf_size(narrow(memory::PIECE).max(head_bytes))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        // It ends with the exchange, which reports its errors.
        self.context
            .lifecycle
            .tasks
            .spawn(async move { drop(connection.await) });
        // In origin form, whichever version the client used.
        let origin = request.uri().path_and_query().cloned();
        *request.uri_mut() = origin.map_or_else(|| Uri::from_static("/"), Uri::from);
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(HOST, host_in_clear(authority));
        let limits = &self.context.limits;
        let mut response = tokio::select! {
            response = sender.send_request(request) => response.map_err(failed)?,
            () = quiet(meter, limits.response_timeout) => {
                return Err(ForwardError::ResponseTimeout { limit: limits.response_timeout });
            }
        };
        forward::settle(&mut response);
        record.status(response.status());
        let idle = limits.body_idle_timeout;
        Ok(response.map(|body| UpstreamAnswer::plain(body, idle)))
    }
}

/// Completes when nothing of the request was sent for `limit` (at most twice that) and there is no
/// response.
async fn quiet(meter: &BodyMeter, limit: Duration) {
    loop {
        let sent = meter.bytes();
        tokio::time::sleep(limit).await;
        if meter.bytes() == sent {
            return;
        }
    }
}

/// The value of `Host` (RFC 9112, section 3.2.2: from the URI, not from the client's header).
fn host_in_clear(authority: &Authority) -> HeaderValue {
    let text = match authority.port() {
        80 => authority.host().to_string(),
        _ => authority.to_string(),
    };
    HeaderValue::try_from(text).expect("a canonical host and a port are a header value")
}
