//! The rest of a refused request's body.

use std::{pin::pin, time::Duration};

use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// The most that is read of a body nobody wants, in bytes.
const MOST: u64 = 256 * 1024;

/// How long it may take to arrive.
const LONGEST: Duration = Duration::from_secs(2);

/// Reads what is on its way already, within bounds, and forgets it.
///
/// Answering while the client still sends makes some clients miss the answer: over HTTP/2 the
/// stream is reset, over HTTP/1.1 the connection. A body announced to be large, or one that waits
/// for our word to be sent, is not asked for.
pub(super) async fn of(body: Option<Incoming>) {
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
    // Too slow is as good as too large: the answer must not wait for it.
    let _ = tokio::time::timeout(LONGEST, read).await;
}
