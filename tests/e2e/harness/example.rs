//! The example API, `api.example.test`, which answers in every way that HTTP knows and takes nothing but
//! its own token.

use std::io;

use bytes::Bytes;
use countersign_tests::{
    environment::DASHBOARD,
    fake::{Api, Body, Exchange, text},
    resources::{Resource, Resources},
};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::ApiUnderTest;

/// The host of the API.
pub(crate) const HOST: &str = "api.example.test";

/// A host that no target matches; the same server answers for it.
pub(crate) const UNMATCHED: &str = "unmatched.example.test";

/// What the API's token is; nobody but the gateway may know it.
pub(crate) const SECRET: &str = "example-4f1f7a2c90b3d5e6f708192a3b4c5d6e";

/// The access policy by which the dashboard may use it.
pub(crate) const EXAMPLE: &str = "dashboard-uses-example";

/// The API.
pub(crate) struct ExampleApi;

impl ApiUnderTest for ExampleApi {
    const HOSTS: &'static [&'static str] = &[HOST, UNMATCHED];

    fn resources(&self) -> Resources {
        let methods = ["GET", "HEAD", "POST", "PUT", "OPTIONS"];
        Resources::from([
            Resource::target("example", &[HOST]).bearer(),
            Resource::credential("example", "example").token_file("example"),
            Resource::access(EXAMPLE, DASHBOARD, "example")
                .credential_named("example")
                .allow(json!({"methods": methods, "paths": ["/**"]})),
        ])
    }

    fn secret(&self) -> String {
        SECRET.to_owned()
    }
}

impl Api for ExampleApi {
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
            says if says.starts_with("/says/") => {
                let code: u16 = says["/says/".len()..].parse().expect("a status");
                let mut response = pieces(exchange, &["{\"error\":\"as_asked\"}"]).await;
                *response.status_mut() = StatusCode::from_u16(code).expect("a status");
                let headers = response.headers_mut();
                headers.insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/json"),
                );
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
                response
            }
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
