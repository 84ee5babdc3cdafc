//! WebSockets: the handshake is a request like any other; what follows a `101` is carried unread.

use std::sync::Arc;

use countersign_config::memory::CARRIED;
use countersign_core::{slots::Slot, wire::activity::Busy};
use countersign_upstream::{
    forward::{BodyMeter, RequestBody, UpgradeAnswer, Upgraded, asks_for_websocket},
    inject,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header, request::Parts};
use http_body::Body as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;

use super::{
    Answer,
    aftermath::{Aftermath, Carried},
    answer::{Opened, Streamed},
    echo::Echo,
    held::Resumed,
    recover::Armed,
};
use crate::{
    accept::{Lease, Received, Session, pump},
    app::Tasks,
    authorize::{Asked, Permit},
    observe::{Outcome, Record},
    refusal::Refusal,
};

/// A client's wish to speak WebSocket.
pub(super) struct Upgrade(OnUpgrade);

/// Whether a request asks for a WebSocket: by `GET`, without a body, and with what the handshake
/// needs (RFC 6455, section 4.1). Every other upgrade, h2c above all, is stripped like any hop-by-hop header, which is what
/// RFC 9110 lets a server do, and the request goes on as an ordinary one.
pub(super) fn wanted(request: &mut Request<Incoming>) -> Option<Upgrade> {
    let websocket = request.headers().contains_key(header::UPGRADE)
        && request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && request.body().is_end_stream()
        && asks_for_websocket(request.headers());
    websocket.then(|| Upgrade(hyper::upgrade::on(request)))
}

impl Upgrade {
    /// Sends the handshake on. `101` makes a tunnel; any other answer is an ordinary one.
    pub(super) async fn forward(
        self,
        session: &Arc<Session>,
        mut parts: Parts,
        received: Received,
        permit: &Permit<'_>,
        armed: Option<Armed<'_>>,
        record: &mut Record,
    ) -> Result<Opened, Refusal> {
        let room = session.rooms.open_for(&session.caller, CARRIED)?;
        ask(&mut parts.headers);
        let request = Request::from_parts(parts, RequestBody::empty());
        let answer = session
            .rooms
            .forwarder
            .upgrade(session.requester(), permit.outbound(), request)
            .await;
        match answer.map_err(|error| Refusal::from(error).at(permit.grant().target()))? {
            UpgradeAnswer::Refused(sent) => {
                record.answered(&sent);
                let (held, mut room) = (session.purse.charge(), session.purse.charge());
                room.set(sent.response.body().most_held())
                    .map_err(|short| Refusal::from(short).at(permit.grant().target()))?;
                let response = sent.response;
                let response = response.map(|body| Resumed::from(body).charged(held, room));
                let carried = armed.as_ref().map(Carried::of);
                let aftermath = Aftermath::new(session, permit, &response, carried, None);
                let meter = Arc::new(BodyMeter::default());
                Ok(Opened::Streamed(Streamed::new(response, aftermath, meter)))
            }
            UpgradeAnswer::Switched {
                mut response,
                stream,
                connection,
            } => {
                record.switched(&connection);
                inject::strip_response(response.headers_mut());
                // A 101 has none (RFC 9110, section 8.6).
                response.headers_mut().remove(header::CONTENT_LENGTH);
                let issued = armed.map(|armed| armed.issued);
                let echo = Echo::of(issued, response.headers_mut());
                if let (Some(upstream), Some(echo)) = (&mut record.upstream, echo) {
                    upstream.echoed = echo.found();
                }
                ask(response.headers_mut());
                let bounds = pump::Bounds {
                    lease: Lease::new(
                        Arc::clone(&session.rooms),
                        Arc::clone(&session.caller),
                        Asked::WebSocket {
                            handshake: received,
                            credential: permit
                                .credential()
                                .map(|(_, credential)| credential.name.clone()),
                        },
                    ),
                    room,
                    idle: session.rooms.limits.body_idle_timeout,
                    closing: session.closing.clone(),
                };
                Ok(Opened::Switched(Switched {
                    response,
                    client: self.0,
                    upstream: stream,
                    bounds,
                    slot: Arc::clone(&session.entrance.slot),
                    tasks: session.rooms.tasks.clone(),
                }))
            }
        }
    }
}

/// Both sides have agreed; what follows is theirs alone.
pub(super) struct Switched {
    response: Response<()>,
    client: OnUpgrade,
    upstream: Upgraded,
    bounds: pump::Bounds,
    slot: Arc<Slot>,
    tasks: Tasks,
}

impl Switched {
    /// The `101` for the client; the stream runs with its record until it ends.
    pub(super) fn answer(self, record: Record, busy: Busy) -> Response<Answer> {
        let Self {
            response,
            client,
            upstream,
            bounds,
            slot,
            tasks,
        } = self;
        busy.switch();
        let carried = async move {
            let _busy = busy;
            // The client left before it had our answer: the record says so when it is dropped.
            let Ok(client) = client.await else { return };
            let client = TokioIo::new(client);
            pump::pump(client, upstream, record, bounds, Outcome::Permitted).await;
        };
        tasks.spawn(async move { slot.within(carried).await });
        response.map(|()| Answer::empty())
    }
}

/// The hop-by-hop headers of a WebSocket handshake (RFC 6455, section 4), which are ours to set.
fn ask(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}
