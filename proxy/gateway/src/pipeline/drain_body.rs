//! Reads the rest of a refused request's body.

use std::{pin::pin, time::Duration};

use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// The most that is read of such a body, in bytes.
const MOST: u64 = 256 * 1024;

/// How long it may take to arrive.
const LONGEST: Duration = Duration::from_secs(2);

/// Reads and discards what is in flight, within bounds.
///
/// Some clients miss a response that arrives while they still send: the stream (HTTP/2) or the connection
/// (HTTP/1.1) is reset. A body that is announced as large, or that waits for `100 Continue`, is not read.
pub(super) async fn drain_body(body: Option<Incoming>) {
    let Some(body) = body.filter(|body| !body.is_end_stream()) else {
        return;
    };
    if body.size_hint().lower() > MOST {
        return;
    }
    let mut body = pin!(body);
    let read = async {
        let mut left = MOST;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, bytes::Bytes::len) as u64;
            let Some(rest) = left.checked_sub(length) else {
                return;
            };
            left = rest;
        }
    };
    // The response must not wait for a slow body.
    let _ = tokio::time::timeout(LONGEST, read).await;
}
