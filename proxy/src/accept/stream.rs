//! A client's stream with the deadlines that hyper does not have: for a head that has begun, and
//! for bytes that the client does not take. It also follows the framing of HTTP/1.1.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::{activity::Activity, framing::Framing};
use crate::forward::LazyTimer;

pin_project! {
    /// A client's stream that fails with `TimedOut` when a head that has begun is not complete in
    /// time, or when the client takes nothing of what is written for too long. Its timers exist
    /// only while there is something to wait for, so usually never.
    pub struct ClientStream<IO> {
        #[pin]
        stream: IO,
        // What was read while the connection rested, and is read again.
        ahead: Bytes,
        activity: Arc<Activity>,
        heads: Option<Heads>,
        writes: Writes,
    }
}

/// The heads of HTTP/1.1 requests.
struct Heads {
    framing: Framing,
    /// The time for a head to arrive.
    limit: Duration,
    /// Whether anything has come: the first head is due from the beginning.
    begun: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The progress of writing.
struct Writes {
    limit: Duration,
    waiting_since: Option<Instant>,
    timer: LazyTimer,
}

impl<IO> ClientStream<IO> {
    /// Watches the writing to `stream`, of which a piece may take `limit`.
    pub fn new(stream: IO, activity: Arc<Activity>, limit: Duration) -> Self {
        Self {
            stream,
            ahead: Bytes::new(),
            activity,
            heads: None,
            writes: Writes {
                limit,
                waiting_since: None,
                timer: LazyTimer::default(),
            },
        }
    }

    /// Watches the heads of HTTP/1.1 requests too: each may take `limit` to arrive, and no line of
    /// it may be longer than `longest_line` bytes.
    #[must_use]
    pub fn with_heads(mut self, limit: Duration, longest_line: usize) -> Self {
        self.heads = Some(Heads {
            framing: Framing::new(longest_line),
            limit,
            begun: false,
            timer: None,
        });
        self
    }

    /// Waits for the next request of a connection that rests; false if there will be none. What was
    /// read of it is read again.
    pub(super) async fn next_request(&mut self) -> bool
    where
        IO: AsyncRead + Unpin,
    {
        // Little, so that little is held while nothing comes.
        let mut first = [0; 16];
        let count = self.read(&mut first).await.unwrap_or_default();
        self.ahead = Bytes::copy_from_slice(&first[..count]);
        count > 0
    }

    /// The stream, for when its requests are over.
    pub fn into_inner(self) -> IO {
        self.stream
    }
}

impl Heads {
    fn read(&mut self, bytes: &[u8], activity: &Activity) {
        self.begun = true;
        if let Err(violation) = self.framing.follow(bytes) {
            activity.violate(violation);
        }
        activity.read(self.framing.between_requests());
    }

    /// Ready once a head is overdue.
    fn poll_overdue(&mut self, context: &mut Context<'_>, activity: &Activity) -> Poll<()> {
        let due = activity.is_idle() && (!self.begun || self.framing.within_head());
        if !due {
            self.timer = None;
            return Poll::Pending;
        }
        self.timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limit)))
            .as_mut()
            .poll(context)
    }
}

impl Writes {
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        activity: &Activity,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting_since = None;
            return polled;
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        ready!(self.timer.poll_until(context, since + self.limit));
        activity.stall();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncRead> AsyncRead for ClientStream<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        if !this.ahead.is_empty() {
            let count = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = this.stream.poll_read(context, buffer);
        let Some(heads) = this.heads else {
            return polled;
        };
        if polled.is_ready() {
            let fresh = buffer.filled().get(before..).unwrap_or_default();
            if !fresh.is_empty() {
                heads.read(fresh, this.activity);
            }
            return polled;
        }
        ready!(heads.poll_overdue(context, this.activity));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncWrite> AsyncWrite for ClientStream<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        this.activity.wrote(false);
        let polled = this.stream.poll_write(context, bytes);
        this.writes.watch(context, this.activity, polled)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let polled = this.stream.poll_flush(context);
        if polled.is_ready() {
            this.activity.wrote(true);
        }
        this.writes.watch(context, this.activity, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        // What is being closed has no next request.
        this.activity.wrote(false);
        let polled = this.stream.poll_shutdown(context);
        this.writes.watch(context, this.activity, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        this.activity.wrote(false);
        let polled = this.stream.poll_write_vectored(context, slices);
        this.writes.watch(context, this.activity, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_given_up() {
        let (_client, server) = tokio::io::duplex(16);
        let activity = Activity::new();
        let mut stream = ClientStream::new(server, Arc::clone(&activity), LIMIT);
        let start = Instant::now();
        let error = stream.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), LIMIT.as_secs());
        assert!(activity.has_stalled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_is_not() {
        let (mut client, server) = tokio::io::duplex(16);
        let activity = Activity::new();
        let mut stream = ClientStream::new(server, Arc::clone(&activity), LIMIT);
        let read = async {
            for _ in 0..4 {
                tokio::time::sleep(LIMIT / 2).await;
                client.read_exact(&mut [0; 16]).await.unwrap();
            }
        };
        let (written, ()) = futures_util::join!(stream.write_all(&[0; 64]), read);
        written.unwrap();
        assert!(!activity.has_stalled());
    }

    async fn read_after(sent: &str, busy: bool) -> Result<io::Result<usize>, ()> {
        let (mut client, server) = tokio::io::duplex(256);
        let activity = Activity::new();
        let _busy = busy.then(|| activity.begin());
        let mut stream =
            ClientStream::new(server, Arc::clone(&activity), 100 * LIMIT).with_heads(LIMIT, 100);
        client.write_all(sent.as_bytes()).await.unwrap();
        if !sent.is_empty() {
            stream.read_exact(&mut vec![0; sent.len()]).await.unwrap();
        }
        tokio::time::timeout(2 * LIMIT, stream.read(&mut [0; 8]))
            .await
            .map_err(drop)
    }

    #[rstest::rstest]
    #[case::nothing_yet("", false, true)]
    #[case::half_a_head("GET / HTTP/1.1\r\n", false, true)]
    #[case::half_a_second_head("GET / HTTP/1.1\r\n\r\nGET", false, true)]
    #[case::resting("GET / HTTP/1.1\r\n\r\n", false, false)]
    #[case::in_progress("GET / HTTP/1.1\r\n\r\nGET", true, false)]
    #[case::a_tunnel("", true, false)]
    #[tokio::test(start_paused = true)]
    async fn only_a_head_that_is_due_has_a_deadline(
        #[case] sent: &str,
        #[case] busy: bool,
        #[case] overdue: bool,
    ) {
        let read = read_after(sent, busy).await;
        let timed_out = matches!(&read, Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut);
        assert_eq!(timed_out, overdue, "{read:?}");
    }
}
