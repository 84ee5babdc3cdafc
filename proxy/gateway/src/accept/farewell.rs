//! The last response to an HTTP/1.1 client whose request is not read any further. hyper would close the
//! connection without one, or with one that does not say why.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use countersign_core::{reason::Reason, wire::meter::Overrun};
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::refusal::Refusal;

/// How long the gateway reads on, and how many bytes, so that the client can read the response: closing a
/// connection with unread bytes resets it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

/// The response if the record of another request says why the connection ends.
pub(super) fn unrecorded(overrun: Option<Overrun>) -> Response<Bytes> {
    let reason = overrun.map_or(Reason::RequestMalformed, |overrun| {
        Refusal::from(overrun).reason
    });
    let facts = reason.facts();
    let kind = match facts.status {
        400 | 431 => "http_request_error",
        _ => "proxy_internal_error",
    };
    let mut response = Response::new(Bytes::new());
    *response.status_mut() =
        StatusCode::from_u16(facts.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let headers = response.headers_mut();
    let text = format!("countersign; error={kind}; details=\"{}\"", facts.code);
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(HeaderName::from_static("proxy-status"), value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Sends the response and closes the connection.
pub(super) async fn tell<IO>(mut stream: IO, mut response: Response<Bytes>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let length = HeaderValue::from(response.body().len());
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let message = [&*head(&response), response.body()].concat();
    let told = async {
        stream.write_all(&message).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // The connection ends in any case.
    drop(timeout(LINGER, told).await);
}

fn head(response: &Response<Bytes>) -> Vec<u8> {
    let status = response.status();
    let mut head = String::new();
    let phrase = status.canonical_reason().unwrap_or_default();
    let _ = write!(head, "HTTP/1.1 {} {phrase}\r\n", status.as_str());
    let mut head = head.into_bytes();
    for (name, value) in response.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}
