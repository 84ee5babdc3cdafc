//! Reads the rest of a refused request's body before the response.

use std::time::Duration;

use bytes::Bytes;
use countersign_core::wire::linger::Bounds;
use http::Version;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

/// The most that is read of a body over HTTP/1.1, in bytes: so much that its connection can be used again. After
/// the response the connection itself reads the rest ([`countersign_core::wire::linger`]).
const SMALL: u64 = 256 * 1024;

/// How long a body may stand still: the response must not wait for a client that waits for it.
const IDLE: Duration = Duration::from_secs(2);

/// Reads and discards what is in flight, within bounds. Over HTTP/2 some clients miss a response that comes while
/// they still send: their stream is reset after it (RFC 9113, section 8.1), or they read nothing more.
pub(super) async fn drain_body(body: Option<Incoming>, version: Version) {
    let (most, longest) = if version == Version::HTTP_2 {
        (Bounds::IDENTIFIED.bytes, Bounds::IDENTIFIED.total)
    } else {
        (SMALL, IDLE)
    };
    let Some(mut body) = body.filter(|body| !body.is_end_stream()) else {
        return;
    };
    if body.size_hint().lower() > most {
        return;
    }
    let read = async {
        let mut left = most;
        while let Ok(Some(Ok(frame))) = timeout(IDLE, body.frame()).await {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            let Some(rest) = left.checked_sub(length) else {
                return;
            };
            left = rest;
        }
    };
    // What is left over does not matter.
    drop(timeout(longest, read).await);
}
