//! When an API rejects a credential: it is renewed once, the request is sent once more, and the record
//! tells it; or the client gets the API's own answer, and the API is left alone.

mod answers;
mod limits;
mod slack;

use std::{
    io::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use countersign_tests::{
    client::{Answer, Client},
    fake::{Api, Body, Exchange, Protocol, Received, Server},
    gateway::Gateway,
    world::World,
};
use futures_util::StreamExt as _;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use crate::harness::site::PATIENCE;

pub(crate) const HOST: &str = "rejects.example.test";

/// An API that tells failure as Slack does, and by 401 at `/status`.
const POLICY: &str = r#"
apiVersion: countersign.dev/v1alpha1
kind: TargetService
metadata: { name: rejects }
spec:
  hosts: [rejects.example.test]
  routes:
    - paths: ["/files/**"]
      attach: { header: Authorization, value: "Bearer {token}" }
      inspectBody: false
    - attach: { header: Authorization, value: "Bearer {token}" }
  authFailure:
    - json: { ok: false, error: [token_expired] }
      then: refreshAndReplay
    - json: { ok: false, error: [missing_scope] }
      then: report
    - json: { ok: false, error: [not_authed] }
      then: report
      blame: gateway
    - status: [401]
      then: rereadSource
  refusal: { status: 200, body: { ok: false, error: "{reason}" } }
  rateLimit: { per: path }
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: rejects, namespace: qa }
spec: { target: rejects, static: { token: { file: {secrets}/rejects } } }
---
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: other, namespace: qa }
spec:
  owner: qa-platform@example.com
  purpose: Shares the credential
  reviewBy: 2099-06-30
  match: [{ cluster: prod-eu, serviceAccount: other }]
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: uses-rejects, namespace: qa }
spec:
  owner: qa-platform@example.com
  workloads: [nightly-dashboard, other]
  target: rejects
  credential: rejects
  allow:
    - methods: [GET, POST]
      paths: ["/**"]
"#;

/// How the API answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// In one piece.
    Plain,
    /// Encoded: `gzip`, `br` or `zstd`.
    Encoded(&'static str),
    /// A byte at a time.
    Pieces,
    /// With this many bytes before what says so.
    Padded(usize),
    /// The head and the first half at once, the rest never.
    Stalled,
    /// With this error, although all is right.
    Error(&'static str),
    /// 429 with this `Retry-After`.
    Limited(&'static str),
}

#[derive(Debug)]
struct Rejects {
    token: Mutex<String>,
    how: Mutex<How>,
}

impl Rejects {
    fn how(&self) -> MutexGuard<'_, How> {
        self.how.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self) -> MutexGuard<'_, String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Api for Rejects {
    async fn answer(&self, exchange: Exchange) -> Response<Body> {
        let path = exchange.head.uri.path().to_owned();
        let shown = exchange.head.headers.get(header::AUTHORIZATION).cloned();
        let right = shown == HeaderValue::from_str(&format!("Bearer {}", self.token())).ok();
        let how = *self.how();
        let received = exchange.read().await;
        if let How::Limited(after) = how {
            let mut response = respond(r#"{"ok":false,"error":"ratelimited"}"#, How::Plain);
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            let after = HeaderValue::from_static(after);
            response.headers_mut().insert(header::RETRY_AFTER, after);
            return response;
        }
        if let How::Error(code) = how {
            let body = format!(
                r#"{{"ok":false,"error":"{code}","needed":"chat:write","provided":"files:read"}}"#
            );
            return respond(&body, How::Plain);
        }
        match (right, path.as_str()) {
            // Whatever is right, as what only some may ask for.
            (true, "/never") => respond(r#"{"ok":false,"error":"token_expired"}"#, how),
            (true, "/limited") => {
                let mut response = respond(r#"{"ok":false,"error":"ratelimited"}"#, how);
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                let after = HeaderValue::from_static("86400");
                response.headers_mut().insert(header::RETRY_AFTER, after);
                response
            }
            (true, _) => respond(&accepted(&received), how),
            (false, "/status") => {
                let mut response = respond("no", How::Plain);
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                response
            }
            (false, _) => respond(r#"{"ok":false,"error":"token_expired"}"#, how),
        }
    }
}

fn accepted(received: &Received) -> String {
    format!(
        r#"{{"ok":true,"length":{},"sha256":"{}"}}"#,
        received.body_length, received.body_sha256
    )
}

fn respond(text: &str, how: How) -> Response<Body> {
    let mut encoding = None;
    let body: Vec<Bytes> = match how {
        How::Plain | How::Error(_) | How::Limited(_) => vec![text.to_owned().into()],
        How::Encoded(name) => {
            encoding = Some(name);
            vec![encode(name, text.as_bytes()).into()]
        }
        How::Pieces => text.bytes().map(|byte| vec![byte].into()).collect(),
        How::Padded(length) => {
            let pad = "x".repeat(length);
            vec![
                text.replacen('{', &format!("{{\"pad\":\"{pad}\","), 1)
                    .into(),
            ]
        }
        How::Stalled => vec![text[..text.len() / 2].to_owned().into()],
    };
    let frames = futures_util::stream::iter(body).map(|piece| Ok(Frame::data(piece)));
    let body = match how {
        How::Stalled => {
            let never = futures_util::stream::pending();
            BodyExt::boxed(StreamBody::new(frames.chain(never)))
        }
        _ => BodyExt::boxed(StreamBody::new(frames)),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    if let Some(encoding) = encoding {
        let encoding = HeaderValue::from_static(encoding);
        headers.insert(header::CONTENT_ENCODING, encoding);
    }
    response
}

fn encode(name: &str, text: &[u8]) -> Vec<u8> {
    match name {
        "gzip" => {
            let level = flate2::Compression::best();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(text).expect("writes to memory");
            encoder.finish().expect("writes to memory")
        }
        "br" => {
            let mut encoded = Vec::new();
            let params = brotli::enc::BrotliEncoderParams::default();
            brotli::BrotliCompress(&mut &*text, &mut encoded, &params).expect("writes to memory");
            encoded
        }
        "zstd" => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            ruzstd::encoding::compress_to_vec(text, level)
        }
        other => panic!("{other}"),
    }
}

/// A world with the API, and a gateway before it.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) server: Server,
    api: Arc<Rejects>,
    pub(crate) gateway: Gateway,
    token: String,
}

impl Scene {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::with(|policy| policy, |_| {}).await
    }

    pub(crate) async fn with(
        policy: impl FnOnce(String) -> String,
        change: impl FnOnce(&mut countersign_config::model::Gateway),
    ) -> anyhow::Result<Self> {
        let world = World::start().await?;
        let api = Arc::new(Rejects {
            token: Mutex::new("first-5b1d2c3e4f".to_owned()),
            how: Mutex::new(How::Plain),
        });
        let server = Server::start(&world.authority, &[HOST], Arc::clone(&api)).await?;
        world.write_secret("rejects", &api.token())?;
        let secrets = world.secret_directory().display().to_string();
        world.write_policy(
            "rejects.yaml",
            &policy(POLICY.replace("{secrets}", &secrets)),
        )?;
        let gateway = Gateway::start_with(&world, |gateway| {
            let host = countersign_config::host::Host::parse(HOST).expect("a host");
            gateway
                .upstream
                .resolve
                .insert((host, 443), server.address());
            change(gateway);
        })
        .await?;
        let token = world.token("qa", "nightly-dashboard");
        Ok(Self {
            world,
            server,
            api,
            gateway,
            token,
        })
    }

    pub(crate) fn client(&self) -> Client {
        self.gateway.client(&self.world).bearer(&self.token)
    }

    fn upstream_speaks(&self, protocol: Protocol) {
        self.server.set_only_http1(protocol == Protocol::Http1);
    }

    pub(crate) fn set(&self, how: How) {
        *self.api.how() = how;
    }

    /// The API takes another token from now on, and the operator has it.
    pub(crate) fn replace(&self, token: &str) -> anyhow::Result<()> {
        self.expire(token);
        self.world.write_secret("rejects", token)?;
        Ok(())
    }

    /// The API takes another token from now on.
    pub(crate) fn expire(&self, token: &str) {
        token.clone_into(&mut self.api.token());
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        Ok(self.client().send(get(path)).await?)
    }

    pub(crate) async fn record(&mut self) -> anyhow::Result<Value> {
        let next = self.gateway.decisions().next();
        tokio::time::timeout(PATIENCE, next)
            .await
            .map_err(|_| anyhow::anyhow!("no decision record came"))
    }

    pub(crate) fn calls(&self) -> usize {
        self.server.memory().count()
    }
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://{HOST}{path}"))
        .body(Full::default())
        .expect("the paths of tests are valid")
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("https://{HOST}{path}"))
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(Full::new(body.into()))
        .expect("the paths of tests are valid")
}
