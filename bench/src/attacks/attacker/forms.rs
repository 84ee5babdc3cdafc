//! Bodies that the gateway holds while they do not end.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::{Plan, side_by_side};
use crate::client::{Protocol, Route};

/// Connections, and streams of each.
const CONNECTIONS: usize = 4;
const STREAMS: usize = 128;

/// What is sent.
pub(super) struct Sent {
    path: &'static str,
    content_type: &'static str,
    bytes: usize,
}

/// Nearly the largest form.
pub(super) const FORM: Sent = Sent {
    path: "/upload",
    content_type: "application/x-www-form-urlencoded",
    bytes: 900_000,
};

/// Nearly the largest body that is kept for a replay.
pub(super) const KEPT: Sent = Sent {
    path: "/json",
    content_type: "application/json",
    bytes: 60_000,
};

/// So many bytes, and then nothing for ever.
pub(crate) struct Endless {
    left: usize,
    piece: Bytes,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Pending;
        }
        let length = self.left.min(self.piece.len());
        self.left -= length;
        Poll::Ready(Some(Ok(Frame::data(self.piece.slice(..length)))))
    }
}

/// Sends such bodies on all streams of some connections; a stream that is refused is opened again.
pub(super) async fn run(plan: &'static Plan, what: &'static Sent) -> anyhow::Result<()> {
    let roots = plan.directory.join("ca").join("root.pem");
    let route = Route::gateway(plan.proxy, &roots, &plan.token)?;
    let piece = Bytes::from(vec![b'x'; 16 * 1024]);
    side_by_side(plan, CONNECTIONS, |_| {
        let (route, piece) = (route.clone(), piece.clone());
        async move {
            while !plan.is_over() {
                let Ok(connection) = route.open(Protocol::H2).await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let streams = (0..STREAMS).filter_map(|_| connection.share().ok());
                let mut set = tokio::task::JoinSet::new();
                for mut stream in streams {
                    let piece = piece.clone();
                    set.spawn(async move {
                        for _ in 0..10_000 {
                            let left = what.bytes;
                            let body = Endless {
                                left,
                                piece: piece.clone(),
                            };
                            if stream
                                .endless(what.path, what.content_type, body)
                                .await
                                .is_err()
                            {
                                return;
                            }
                            tokio::task::yield_now().await;
                        }
                    });
                }
                set.join_all().await;
            }
        }
    })
    .await;
    Ok(())
}
