//! Absolute-form requests for hosts that no target matches, where `unmatched: tunnel` lets them
//! pass: hop-by-hop headers go, nothing is added.

use std::{sync::Arc, time::Duration};

use countersign_config::memory;
use countersign_core::{
    budget::narrow,
    destination::Authority,
    wire::{activity::Busy, meter::in_progress},
};
use countersign_identity::Caller;
use countersign_upstream::{
    forward::{self, BodyMeter, ForwardError, Outbound, RequestBody, Requester},
    inject,
};
use http::{HeaderValue, Request, Response, Uri, Version, header::HOST, request::Parts};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;

use super::{Entrance, Received, session::caller_id};
use crate::{
    app::Rooms,
    observe::Record,
    pipeline::{self, Answer},
};

/// A checked request that no target matches.
pub(super) struct Passing<'r> {
    pub(super) rooms: &'r Rooms,
    pub(super) entrance: &'r Entrance,
    pub(super) caller: &'r Caller,
    pub(super) received: Received,
}

impl Passing<'_> {
    /// Sends it on over verified TLS, or in clear if it asked for `http`.
    pub(super) async fn forward(
        self,
        mut parts: Parts,
        body: Incoming,
        mut busy: Busy,
    ) -> Response<Answer> {
        let mut record = self.rooms.recorder.open();
        record.entered(self.entrance);
        record.called_by(self.caller);
        record.passing(&self.received, &parts);
        let mut room = match in_progress(&self.entrance.purse, &parts, &body.size_hint()) {
            Ok(room) => room.unwrap_or_else(|| self.entrance.purse.charge()),
            Err(short) => return pipeline::refused(record, short.into(), busy),
        };
        let meter = Arc::new(BodyMeter::default());
        let secure = parts.uri.scheme_str() == Some("https");
        inject::pass(&mut parts, self.received.authority(), self.received.path());
        let request = Request::from_parts(parts, RequestBody::streaming(body, Arc::clone(&meter)));
        let sent = if secure {
            self.over_tls(request, &mut record).await
        } else {
            self.in_clear(request, &meter, &mut record).await
        };
        match sent {
            Ok(response) => {
                // What the client does not take of it waits here.
                let answer = response.body().most_held();
                if let Err(short) = room.set(room.bytes() + answer) {
                    return pipeline::refused(record, short.into(), busy);
                }
                busy.holds(Some(room));
                Answer::passed(response, record, meter, busy)
            }
            Err(error) => pipeline::refused(record, error.into(), busy),
        }
    }

    async fn over_tls(
        &self,
        request: Request<RequestBody>,
        record: &mut Record,
    ) -> Result<Response<pipeline::Upstream>, ForwardError> {
        let outbound = Outbound::unmatched(self.received.authority(), &self.caller.full_name());
        let requester = Requester::new(caller_id(self.caller), &self.entrance.purse);
        let forwarder = &self.rooms.forwarder;
        let sent = forwarder.send_for(requester, &outbound, request).await?;
        record.answered(&sent);
        Ok(sent
            .response
            .map(|body| pipeline::Upstream::Pooled(body.into())))
    }

    async fn in_clear(
        &self,
        mut request: Request<RequestBody>,
        meter: &BodyMeter,
        record: &mut Record,
    ) -> Result<Response<pipeline::Upstream>, ForwardError> {
        let authority = self.received.authority();
        let (stream, address) = self.rooms.forwarder.tunnel(authority).await?;
        record.dialled(address);
        let head_bytes = self.rooms.limits.head_bytes;
        let stream = forward::follow(stream, request.method(), head_bytes);
        let failed = |error: hyper::Error| ForwardError::from_hyper(&error, Some(meter));
        let (mut sender, connection) = http1::Builder::new()
            .max_header_size(head_bytes)
            // Else a piece of an answer may be 400 KiB.
            .max_buf_size(narrow(memory::PIECE).max(head_bytes))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        // It ends with the exchange; what goes wrong in it, the exchange reports.
        self.rooms
            .tasks
            .spawn(async move { drop(connection.await) });
        // As HTTP/1.1 wants it, whatever the client spoke.
        *request.version_mut() = Version::HTTP_11;
        if !request.headers().contains_key(HOST) {
            let host = HeaderValue::from_str(self.received.authority().as_uri_authority().as_str());
            let host = host.expect("an authority is a header value");
            request.headers_mut().insert(HOST, host);
        }
        let origin = request.uri().path_and_query().cloned();
        *request.uri_mut() = origin.map_or_else(|| Uri::from_static("/"), Uri::from);
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(HOST, host_in_clear(authority));
        let limits = &self.rooms.limits;
        let mut response = tokio::select! {
            response = sender.send_request(request) => response.map_err(failed)?,
            () = quiet(meter, limits.response_timeout) => {
                return Err(ForwardError::ResponseTimeout { limit: limits.response_timeout });
            }
        };
        forward::settle(&mut response);
        record.status(response.status());
        let idle = limits.body_idle_timeout;
        Ok(response.map(|body| pipeline::Upstream::plain(body, idle)))
    }
}

/// Completes when nothing of the request was sent for `limit` (at most twice that), and there is
/// no answer either.
async fn quiet(meter: &BodyMeter, limit: Duration) {
    loop {
        let sent = meter.bytes();
        tokio::time::sleep(limit).await;
        if meter.bytes() == sent {
            return;
        }
    }
}

/// `Host` as a request in clear carries it (RFC 9112, section 3.2.2: the URI's, not the client's).
fn host_in_clear(authority: &Authority) -> HeaderValue {
    let text = match authority.port() {
        80 => authority.host().to_string(),
        _ => authority.to_string(),
    };
    HeaderValue::try_from(text).expect("a canonical host and a port are a header value")
}
