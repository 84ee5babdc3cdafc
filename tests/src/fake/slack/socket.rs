//! Socket Mode: a WebSocket behind a URL with a ticket that works once.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, handshake::derive_accept_key, protocol::Role},
};

use super::{SlackApi, methods::TEAM};
use crate::{
    fake::{Body, Exchange, Received, body, memory::fields},
    random,
};

/// Slack's bound for one app.
const CONNECTIONS: usize = 10;

pub(super) struct Sockets {
    tickets: Mutex<Vec<String>>,
    acknowledged: Mutex<Vec<String>>,
    open: AtomicUsize,
    /// Counts the calls of [`Sockets::disconnect`].
    disconnects: watch::Sender<u64>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            tickets: Mutex::default(),
            acknowledged: Mutex::default(),
            open: AtomicUsize::new(0),
            disconnects: watch::Sender::new(0),
        }
    }
}

impl Sockets {
    /// A URL that can be connected to once.
    pub(super) fn ticket(&self) -> String {
        let ticket = random::uuid();
        lock(&self.tickets).push(ticket.clone());
        format!("wss://wss-primary.slack.com/link/?ticket={ticket}&app_id=A0KRD7HC3")
    }

    pub(super) fn acknowledged(&self) -> Vec<String> {
        lock(&self.acknowledged).clone()
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn disconnect(&self) {
        self.disconnects.send_modify(|count| *count += 1);
    }

    fn redeem(&self, query: &str) -> bool {
        let Some((_, ticket)) = fields(query).into_iter().find(|(name, _)| name == "ticket") else {
            return false;
        };
        let mut tickets = lock(&self.tickets);
        let place = tickets.iter().position(|known| *known == ticket);
        place.map(|place| tickets.swap_remove(place)).is_some()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SlackApi {
    /// Answers at `wss*.slack.com`.
    pub(super) async fn socket(&self, mut exchange: Exchange) -> Response<Body> {
        let upgrade = exchange.upgrade();
        let received = exchange.read().await;
        let (Some(upgrade), Some(key)) = (upgrade, websocket_key(&received)) else {
            return body::text(StatusCode::BAD_REQUEST, "not a WebSocket handshake\n");
        };
        if received.path != "/link/" || self.sockets.open() >= CONNECTIONS {
            return body::text(StatusCode::NOT_FOUND, "not found\n");
        }
        if !self
            .sockets
            .redeem(received.query.as_deref().unwrap_or_default())
        {
            return body::text(StatusCode::UNAUTHORIZED, "unusable ticket\n");
        }
        tokio::spawn(session(upgrade, Arc::clone(&self.sockets)));
        let mut response = Response::new(body::full(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let accept = derive_accept_key(key.as_bytes());
        headers.insert(
            header::SEC_WEBSOCKET_ACCEPT,
            HeaderValue::from_str(&accept).expect("base64 is a header value"),
        );
        response
    }
}

/// The key of a correct handshake (RFC 6455, section 4.2.1).
fn websocket_key(received: &Received) -> Option<String> {
    let has = |name: &str, token: &str| {
        received
            .header_values(name)
            .iter()
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    let correct = received.method == Method::GET
        && has("upgrade", "websocket")
        && has("connection", "upgrade")
        && has("sec-websocket-version", "13");
    let key = received.header("sec-websocket-key")?;
    correct.then_some(key)
}

/// One connection, from `hello` to its close.
async fn session(upgrade: OnUpgrade, sockets: Arc<Sockets>) {
    // Each error below means that the client is gone, which ends the session as a close does.
    let Ok(upgraded) = upgrade.await else { return };
    let mut disconnects = sockets.disconnects.subscribe();
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    sockets.open.fetch_add(1, Ordering::AcqRel);
    let envelope = random::uuid();
    let greeted = greet(&mut socket, sockets.open(), &envelope).await;
    if greeted.is_ok() {
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(message)) => acknowledge(&sockets, &envelope, &message),
                    Some(Err(_)) | None => break,
                },
                _changed = disconnects.changed() => {
                    let goodbye = json!({"type": "disconnect", "reason": "refresh_requested"});
                    let _gone = socket.send(text(&goodbye)).await;
                    let _gone = socket.close(None).await;
                    break;
                }
            }
        }
    }
    sockets.open.fetch_sub(1, Ordering::AcqRel);
}

async fn greet<S>(
    socket: &mut WebSocketStream<S>,
    open: usize,
    envelope: &str,
) -> Result<(), tungstenite::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let hello = json!({
        "type": "hello",
        "num_connections": open,
        "debug_info": {"host": "applink-1", "approximate_connection_time": 18060},
        "connection_info": {"app_id": "A0KRD7HC3"},
    });
    socket.send(text(&hello)).await?;
    socket.send(Message::Ping("1".into())).await?;
    let event = json!({
        "envelope_id": envelope,
        "type": "events_api",
        "accepts_response_payload": false,
        "payload": {
            "type": "event_callback",
            "team_id": TEAM,
            "api_app_id": "A0KRD7HC3",
            "event": {
                "type": "app_mention",
                "user": "U061F7AUR",
                "text": "<@U0KRQLJ9H> is the build green?",
                "channel": "C0123456789",
                "ts": "1503435956.000247",
                "event_ts": "1503435956.000247",
            },
        },
    });
    socket.send(text(&event)).await
}

/// Notes an acknowledgement of the envelope that was sent; anything else is ignored.
fn acknowledge(sockets: &Sockets, envelope: &str, message: &Message) {
    if let Message::Text(text) = message
        && let Ok(Value::Object(members)) = serde_json::from_str(text)
        && let Some(Value::String(id)) = members.get("envelope_id")
        && id == envelope
    {
        lock(&sockets.acknowledged).push(id.clone());
    }
}

fn text(value: &Value) -> Message {
    Message::Text(value.to_string().into())
}
