//! Response bodies: texts, JSON, long streams, and ones that break.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use serde_json::Value;

/// A response body.
pub type Body = BoxBody<Bytes, io::Error>;

/// A JSON answer.
pub fn json(status: StatusCode, value: &Value) -> Response<Body> {
    answer(status, "application/json; charset=utf-8", value.to_string())
}

/// A plain-text answer.
pub fn text(status: StatusCode, text: &str) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", text.to_owned())
}

/// A file's content.
pub fn file(content: Vec<u8>) -> Response<Body> {
    answer(StatusCode::OK, "application/octet-stream", content)
}

pub(crate) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// `length` bytes of [`pattern`], never all in memory.
pub(crate) fn long(length: u64) -> Body {
    Patterned {
        next: 0,
        length,
        stop_at: length,
        then: Then::End,
        turns: 0,
    }
    .boxed()
}

/// How a broken body ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    End,
    Fail,
    Stall,
}

/// A body that announces 128 KiB, sends half of it, and then breaks.
pub(crate) fn broken(then: Then) -> Body {
    Patterned {
        next: 0,
        length: 128 * 1024,
        stop_at: 64 * 1024,
        then,
        turns: TURNS,
    }
    .boxed()
}

/// The byte at a place of a long body: no two neighbouring chunks are alike.
pub(crate) fn pattern(place: u64) -> u8 {
    u8::try_from((place ^ (place >> 8) ^ (place >> 16)) & 0xff).expect("masked to a byte")
}

struct Patterned {
    next: u64,
    length: u64,
    stop_at: u64,
    then: Then,
    /// How often others have their turn before it breaks.
    turns: u32,
}

/// Enough for the connection to send the head and what came before the break.
const TURNS: u32 = 16;

impl http_body::Body for Patterned {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        const CHUNK: u64 = 32 * 1024;
        if self.next == self.stop_at && self.turns > 0 {
            self.turns -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.next == self.stop_at {
            return match self.then {
                Then::End => Poll::Ready(None),
                Then::Fail => Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into()))),
                Then::Stall => Poll::Pending,
            };
        }
        let end = (self.next + CHUNK).min(self.stop_at);
        let chunk: Bytes = (self.next..end).map(pattern).collect();
        self.next = end;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.length
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length - self.next)
    }
}
