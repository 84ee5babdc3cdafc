//! WebSockets: the handshake is a request like any other; what follows a `101` is not inspected.

use std::sync::Arc;

use countersign_authorize::{OpenConnection, Permit, Received};
use countersign_config::memory::CARRIED;
use countersign_upstream::{
    forward::{BodyMeter, RequestBody, Sent, UpgradeAnswer, asks_for_websocket},
    inject,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header, request::Parts};
use http_body::Body as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};

use super::{
    RequestHandler,
    answer::Streamed,
    credential::{BoundCredential, UsedCredential},
    echo::Echo,
    opened::Opened,
    peek::PeekedBody,
    recover::Exchange,
    response_observer::ResponseObserver,
    switched::Switched,
};
use crate::{
    observe::Record,
    refusal::Refusal,
    session::{AccessGuard, open_for, pump},
};

/// A client's request to switch to WebSocket.
pub(super) struct Upgrade(OnUpgrade);

/// The upgrade of a request for a WebSocket: `GET`, without a body, and with a complete handshake (RFC
/// 6455, section 4.1). Any other upgrade, such as h2c, is stripped as hop-by-hop, which RFC 9110 allows,
/// and the request is forwarded as an ordinary one.
pub(super) fn wanted(request: &mut Request<Incoming>) -> Option<Upgrade> {
    let websocket = request.headers().contains_key(header::UPGRADE)
        && request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && request.body().is_end_stream()
        && asks_for_websocket(request.headers());
    websocket.then(|| Upgrade(hyper::upgrade::on(request)))
}

impl Upgrade {
    /// Forwards the handshake. After `101` there is a tunnel; any other response is an ordinary one.
    pub(super) async fn forward(
        self,
        exchange: Exchange<'_, '_>,
        mut parts: Parts,
        received: &Received,
        record: &mut Record,
    ) -> Result<Opened, Refusal> {
        let Exchange {
            handler,
            permit,
            outbound,
            bound,
            ..
        } = exchange;
        let RequestHandler { services, session } = handler;
        let room = open_for(&services.budget, &session.caller, CARRIED)?;
        set_upgrade(&mut parts.headers);
        let request = Request::from_parts(parts, RequestBody::empty());
        let answer = services
            .forwarder
            .upgrade(session.requester(), outbound, request)
            .await;
        match answer.map_err(|error| Refusal::from(error).at(permit.grant().target()))? {
            UpgradeAnswer::Refused(sent) => {
                record.answered(&sent);
                refused(handler, permit, sent, bound.as_ref())
            }
            UpgradeAnswer::Switched {
                mut response,
                stream,
                connection,
            } => {
                record.switched(&connection);
                switch(&mut response, bound, record);
                let open = OpenConnection::WebSocket {
                    handshake: received.clone(),
                    credential: permit
                        .credential()
                        .map(|(_, credential)| credential.name.clone()),
                };
                let guard = AccessGuard::new(
                    Arc::clone(&services.access),
                    services.lifecycle.drain.clone(),
                    Arc::clone(&session.caller),
                    open,
                );
                Ok(Opened::Switched(Switched {
                    response,
                    client: self.0,
                    upstream: stream,
                    bounds: pump::Bounds {
                        guard,
                        room,
                        idle: services.limits.body_idle_timeout,
                        closing: session.closing.clone(),
                    },
                    slot: Arc::clone(&session.meta.slot),
                    tasks: services.lifecycle.tasks.clone(),
                }))
            }
        }
    }
}

/// The upstream's response if it does not switch.
fn refused(
    handler: &RequestHandler,
    permit: &Permit<'_>,
    sent: Sent,
    bound: Option<&BoundCredential<'_>>,
) -> Result<Opened, Refusal> {
    let purse = &handler.session.purse;
    let (held, mut room) = (purse.charge(), purse.charge());
    room.set(sent.response.body().most_held())
        .map_err(|short| Refusal::from(short).at(permit.grant().target()))?;
    let response = sent.response;
    let response = response.map(|body| PeekedBody::from(body).charged(held, room));
    let used = bound.map(UsedCredential::of);
    let observer = ResponseObserver::new(handler, permit, &response, used, None);
    let meter = Arc::new(BodyMeter::default());
    Ok(Opened::Streamed(Streamed::new(response, observer, meter)))
}

/// Prepares the upstream's `101` for the client.
fn switch(response: &mut Response<()>, bound: Option<BoundCredential<'_>>, record: &mut Record) {
    inject::strip_response(response.headers_mut());
    // A 101 has none (RFC 9110, section 8.6).
    response.headers_mut().remove(header::CONTENT_LENGTH);
    let issued = bound.map(|bound| bound.issued);
    let echo = Echo::of(issued, response.headers_mut());
    if let (Some(upstream), Some(echo)) = (&mut record.upstream, echo) {
        upstream.echoed = echo.found();
    }
    set_upgrade(response.headers_mut());
}

/// Sets the hop-by-hop headers of a WebSocket handshake (RFC 6455, section 4).
fn set_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}
