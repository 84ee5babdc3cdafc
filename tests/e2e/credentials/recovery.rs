//! When an API rejects a credential: it is renewed once, the request is sent once more, and the record
//! tells it; or the client gets the API's own answer, and the API is left alone.

mod answers;
mod limits;
mod slack;
mod told;

use std::{
    io::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use countersign_tests::{
    environment::DASHBOARD,
    fake::{Api, Body, Exchange, Received},
    resources::{Resource, Resources},
};
use futures_util::StreamExt as _;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::json;

use crate::harness::{ApiUnderTest, TestBed};

pub(crate) const HOST: &str = "rejects.example.test";

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
    /// 500, which says nothing about the credential.
    Failing,
    /// With this error, although all is right.
    Error(&'static str),
    /// 429 with this `Retry-After`.
    Limited(&'static str),
}

/// An API that tells failure as Slack does, and by 401 at `/status`.
#[derive(Debug)]
pub(crate) struct RejectingApi {
    token: Mutex<String>,
    how: Mutex<How>,
}

impl RejectingApi {
    pub(crate) fn new() -> Self {
        Self {
            token: Mutex::new("first-5b1d2c3e4f".to_owned()),
            how: Mutex::new(How::Plain),
        }
    }

    /// It answers like this from now on.
    pub(crate) fn set(&self, how: How) {
        *self.how() = how;
    }

    /// It takes another token from now on.
    pub(crate) fn expire(&self, token: &str) {
        token.clone_into(&mut self.token());
    }

    fn how(&self) -> MutexGuard<'_, How> {
        self.how.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self) -> MutexGuard<'_, String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ApiUnderTest for RejectingApi {
    const HOSTS: &'static [&'static str] = &[HOST];

    fn resources(&self) -> Resources {
        let attach = json!({"header": "Authorization", "value": "Bearer {token}"});
        let on = |error: &str, then: &str| json!({"json": {"ok": false, "error": [error]}, "then": then});
        let mut unseen = on("not_authed", "report");
        unseen["blame"] = json!("gateway");
        let target = Resource::target("rejects", &[HOST])
            .with(
                "routes",
                json!([
                    {"paths": ["/files/**"], "attach": attach, "inspectBody": false},
                    {"attach": attach},
                ]),
            )
            .with(
                "authFailure",
                json!([
                    on("token_expired", "refreshAndReplay"),
                    on("missing_scope", "report"),
                    unseen,
                    {"status": [401], "then": "rereadSource"},
                ]),
            )
            .with(
                "refusal",
                json!({"status": 200, "body": {"ok": false, "error": "{reason}"}}),
            )
            .with("rateLimit", json!({"per": "path"}));
        Resources::from([
            target,
            Resource::credential("rejects", "rejects").token_file("example"),
            Resource::workload("other"),
            Resource::access("uses-rejects", DASHBOARD, "rejects")
                .with("workloads", json!([DASHBOARD, "other"]))
                .credential_named("rejects")
                .allow(json!({"methods": ["GET", "POST"], "paths": ["/**"]})),
        ])
    }

    fn secret(&self) -> String {
        self.token().clone()
    }
}

impl Api for RejectingApi {
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
        if how == How::Failing {
            let mut response = respond("failed", How::Plain);
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
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
        How::Plain | How::Failing | How::Error(_) | How::Limited(_) => vec![text.to_owned().into()],
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

async fn start() -> anyhow::Result<TestBed<RejectingApi>> {
    TestBed::with_api(RejectingApi::new()).start().await
}

/// The API takes another token from now on, and the operator has it.
pub(crate) fn replace_token(bed: &TestBed<RejectingApi>, token: &str) -> std::io::Result<()> {
    bed.api.expire(token);
    bed.env.write_secret("example", token)
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
