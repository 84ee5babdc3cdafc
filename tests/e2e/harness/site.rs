//! A world with one API more: `api.example.test`, which answers in every way that HTTP knows and
//! takes nothing but its own token; and a gateway before it.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use countersign_config::model;
use countersign_tests::{
    client::Client,
    fake::{Api, Body, Exchange, Protocol, Server, text},
    gateway::Gateway,
    world::{Options, World},
};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The host of the API.
pub(crate) const HOST: &str = "api.example.test";

/// A host that no target matches; the same server answers for it.
pub(crate) const UNMATCHED: &str = "unmatched.example.test";

/// What the API's token is; nobody but the gateway may know it.
pub(crate) const SECRET: &str = "example-4f1f7a2c90b3d5e6f708192a3b4c5d6e";

/// The longest that anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const POLICY: &str = r#"
apiVersion: countersign.dev/v1alpha1
kind: TargetService
metadata: { name: example }
spec:
  hosts: [api.example.test]
  slots: { default: token, names: [token] }
  routes:
    - paths: ["/**"]
      attach: { slot: token, header: Authorization, value: "Bearer {token}" }
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: example, namespace: qa }
spec: { target: example, static: { token: { file: {secrets}/example } } }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: dashboard-uses-example, namespace: qa }
spec:
  owner: qa-platform@example.com
  workloads: [nightly-dashboard]
  target: example
  credential: example
  allow:
    - methods: [GET, HEAD, POST, PUT, OPTIONS]
      paths: ["/**"]
"#;

/// A world with the API, a gateway, and a pod's token.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) api: Server,
    pub(crate) gateway: Gateway,
    pub(crate) token: String,
}

impl Site {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::with(Options::default(), |_, _| Ok(())).await
    }

    /// With changes to the gateway's configuration.
    pub(crate) async fn with(
        options: Options,
        change: impl FnOnce(&World, &mut model::Gateway) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let world = World::with(options).await?;
        let api = Server::start(&world.authority, &[HOST, UNMATCHED], Arc::new(Example)).await?;
        world.write_secret("example", SECRET)?;
        let secrets = world.secret_directory().display().to_string();
        world.write_policy("example.yaml", &POLICY.replace("{secrets}", &secrets))?;
        let mut changed = Ok(());
        let gateway = Gateway::start_with(&world, |gateway| {
            for host in [HOST, UNMATCHED] {
                let host = countersign_config::host::Host::parse(host).expect("a host");
                gateway.upstream.resolve.insert((host, 443), api.address());
            }
            changed = change(&world, gateway);
        })
        .await?;
        changed?;
        let token = world.token("qa", "nightly-dashboard");
        Ok(Self {
            world,
            api,
            gateway,
            token,
        })
    }

    /// A client that shows the pod's token.
    pub(crate) fn client(&self) -> Client {
        self.gateway.client(&self.world).bearer(&self.token)
    }

    /// The API speaks only this protocol to new connections.
    pub(crate) fn api_speaks(&self, protocol: Protocol) {
        self.api.set_only_http1(protocol == Protocol::Http1);
    }

    /// The next decision record.
    pub(crate) async fn record(&mut self) -> anyhow::Result<Value> {
        let next = self.gateway.decisions().next();
        tokio::time::timeout(PATIENCE, next)
            .await
            .map_err(|_| anyhow::anyhow!("no decision record came"))
    }
}

/// A request without a body to the API.
pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .uri(format!("https://{HOST}{path}"))
        .body(Full::default())
        .expect("the paths of tests are valid")
}

/// Fails a test that hangs instead of letting it hang.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .map_err(|_| anyhow::anyhow!("{what} did not happen in time"))
}

/// The API.
struct Example;

impl Api for Example {
    async fn answer(&self, exchange: Exchange) -> Response<Body> {
        let authorized = format!("Bearer {SECRET}");
        let shown: Vec<_> = exchange
            .head
            .headers
            .get_all(header::AUTHORIZATION)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        if exchange.host == HOST && shown != [authorized.as_bytes()] {
            exchange.read().await;
            return text(StatusCode::UNAUTHORIZED, "no\n");
        }
        let path = exchange.head.uri.path().to_owned();
        match path.as_str() {
            // What comes is sent back at once, piece by piece, trailers and all.
            "/echo" => {
                let trailer = exchange.head.headers.get(header::TRAILER).cloned();
                let mut response = Response::new(exchange.body.map_err(io::Error::other).boxed());
                if let Some(trailer) = trailer {
                    response.headers_mut().insert(header::TRAILER, trailer);
                }
                response
            }
            "/trailers" => {
                exchange.read().await;
                trailers()
            }
            leak if leak.starts_with("/leak/") => leaking(leak, exchange).await,
            "/socket" => socket(exchange).await,
            "/no-content" => status(StatusCode::NO_CONTENT, exchange).await,
            "/not-modified" => status(StatusCode::NOT_MODIFIED, exchange).await,
            "/redirect" => {
                let mut response = status(StatusCode::TEMPORARY_REDIRECT, exchange).await;
                let elsewhere = HeaderValue::from_static("https://unmatched.example.test/");
                response.headers_mut().insert(header::LOCATION, elsewhere);
                response
            }
            _ => {
                let received = exchange.read().await;
                let answer = format!("{} {path}", received.method);
                if received.method != http::Method::HEAD {
                    return text(StatusCode::OK, &answer);
                }
                let mut response = text(StatusCode::OK, "");
                let length = HeaderValue::from(answer.len());
                response
                    .headers_mut()
                    .insert(header::CONTENT_LENGTH, length);
                response
            }
        }
    }
}

/// Switches protocols for whoever asks as RFC 6455 wants it, and then sends back what comes.
async fn socket(mut exchange: Exchange) -> Response<Body> {
    let headers = &exchange.head.headers;
    let says = |name, value: &str| {
        let mut values = headers.get_all(name).iter();
        values.any(|shown: &HeaderValue| shown.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
    let correct = says(header::CONNECTION, "upgrade")
        && says(header::UPGRADE, "websocket")
        && says(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).cloned();
    let upgrade = exchange.upgrade();
    exchange.read().await;
    let (true, Some(key), Some(upgrade)) = (correct, key, upgrade) else {
        return text(StatusCode::BAD_REQUEST, "no handshake\n");
    };
    tokio::spawn(async move {
        // Whoever leaves before the answer wants nothing back.
        let Ok(upgraded) = upgrade.await else { return };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
        let _left = tokio::io::copy(&mut read, &mut write).await;
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.clear();
    for (name, value) in [
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (
            header::SEC_WEBSOCKET_ACCEPT,
            derive_accept_key(key.as_bytes()),
        ),
    ] {
        let value = HeaderValue::try_from(value).expect("a header value");
        headers.insert(name, value);
    }
    response
}

async fn status(status: StatusCode, exchange: Exchange) -> Response<Body> {
    exchange.read().await;
    let mut response = Response::new(Full::default().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    let etag = HeaderValue::from_static("\"v1\"");
    response.headers_mut().insert(header::ETAG, etag);
    response
}

/// Sends the token back in one way or another.
async fn leaking(how: &str, exchange: Exchange) -> Response<Body> {
    match how {
        "/leak/header" => {
            let mut response = status(StatusCode::OK, exchange).await;
            let value = HeaderValue::try_from(format!("key={SECRET}; again={SECRET}"));
            let value = value.expect("a header value");
            response.headers_mut().insert("x-debug", value);
            response
        }
        "/leak/error" => {
            let text = format!("{{\"error\":\"bad key {SECRET}\"}}");
            let mut response = pieces(exchange, &[&text]).await;
            *response.status_mut() = StatusCode::FORBIDDEN;
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        "/leak/split" => {
            let (begin, end) = SECRET.split_at(11);
            pieces(exchange, &["you are ", begin, end, "."]).await
        }
        "/leak/nearly" => pieces(exchange, &[&SECRET[1..], &SECRET[..SECRET.len() - 1]]).await,
        _ => pieces(exchange, &["you are ", SECRET, "."]).await,
    }
}

/// An answer that comes in these pieces.
async fn pieces(exchange: Exchange, pieces: &[&str]) -> Response<Body> {
    let frames: Vec<_> = pieces
        .iter()
        .map(|piece| Ok::<_, io::Error>(Frame::data(Bytes::copy_from_slice(piece.as_bytes()))))
        .collect();
    exchange.read().await;
    let frames = futures_util::stream::iter(frames);
    Response::new(BodyExt::boxed(StreamBody::new(frames)))
}

/// As a gRPC server answers.
fn trailers() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [
        Frame::data(Bytes::from_static(b"message")),
        Frame::trailers(trailers),
    ];
    let frames = futures_util::stream::iter(frames).map(Ok::<_, io::Error>);
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    let headers = response.headers_mut();
    headers.insert(header::TRAILER, HeaderValue::from_static("grpc-status"));
    response
}
