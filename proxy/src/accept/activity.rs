//! What a client connection is doing, so that each phase has its own deadline: waiting for a head
//! that has begun, busy with requests, or resting between them.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// The state of one client connection, shared by its stream and its requests.
#[derive(Debug)]
pub struct Activity {
    opened: Instant,
    /// Requests whose answer has not ended.
    active: AtomicU32,
    /// Whether bytes of a head have come (or are due) that is not complete.
    head_due: AtomicBool,
    /// When the last request ended, in milliseconds after `opened`.
    rested_at: AtomicU64,
}

impl Activity {
    /// A connection that was just opened: a first head is due.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            active: AtomicU32::new(0),
            head_due: AtomicBool::new(true),
            rested_at: AtomicU64::new(0),
        })
    }

    /// A request begins; it ends when the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.head_due.store(false, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Completes once the connection has rested for `limit`.
    pub async fn rested(&self, limit: Duration) {
        loop {
            let since = Duration::from_millis(self.rested_at.load(Ordering::Relaxed));
            let due = self.opened + since + limit;
            let idle = self.active.load(Ordering::Relaxed) == 0;
            match (idle, due <= Instant::now()) {
                (true, true) => return,
                (true, false) => tokio::time::sleep_until(due).await,
                // Looked at again after a whole period: cheaper than a timer for each request.
                (false, _) => tokio::time::sleep(limit).await,
            }
        }
    }

    fn awaits_head(&self) -> bool {
        self.head_due.load(Ordering::Relaxed) && self.active.load(Ordering::Relaxed) == 0
    }
}

/// A request in progress.
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let now = self.0.opened.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.0.rested_at.store(now, Ordering::Relaxed);
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

pin_project! {
    /// A client's stream that fails with `TimedOut` when a head that was begun is not complete in
    /// time. The timer exists only while a head is incomplete, so usually never.
    pub struct HeadDeadline<IO> {
        #[pin]
        stream: IO,
        activity: Arc<Activity>,
        limit: Duration,
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<IO> HeadDeadline<IO> {
    /// Watches `stream`.
    pub fn new(stream: IO, activity: Arc<Activity>, limit: Duration) -> Self {
        Self {
            stream,
            activity,
            limit,
            timer: None,
        }
    }

    /// The stream, for when its requests are over.
    pub fn into_inner(self) -> IO {
        self.stream
    }
}

impl<IO: AsyncRead> AsyncRead for HeadDeadline<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buffer.filled().len();
        if let Poll::Ready(result) = this.stream.poll_read(context, buffer) {
            let resting = this.activity.active.load(Ordering::Relaxed) == 0;
            if resting && buffer.filled().len() > before {
                this.activity.head_due.store(true, Ordering::Relaxed);
            }
            return Poll::Ready(result);
        }
        if !this.activity.awaits_head() {
            *this.timer = None;
            return Poll::Pending;
        }
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(*this.limit)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncWrite> AsyncWrite for HeadDeadline<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
