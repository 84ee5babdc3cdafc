//! A client's stream with the deadlines that hyper does not have: for a head that has begun, and for
//! bytes that the client does not read. It also follows the framing of HTTP/1.1 and HTTP/2, and hides
//! the end of a client's requests from hyper until they are answered.

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
    time::Sleep,
};

use super::{
    connection_state::ConnectionState,
    frames::Frames,
    framing::Framing,
    half_closed::HalfClosed,
    linger::{self, Linger},
    meter::{Meter, Overrun},
    writes::Writes,
};

/// How many bytes are read before other tasks have their turn: from a client, and from an unidentified
/// one.
const PIECE: usize = 128 * 1024;
const STRANGERS_PIECE: usize = 16 * 1024;

pin_project! {
    /// A client's stream that fails with `TimedOut` when a head is not complete in time, or when the
    /// client does not read what is written for too long. Its timers exist only while there is something
    /// to wait for, so usually not at all.
    pub struct ClientStream<IO> {
        #[pin]
        stream: IO,
        // What was read while the connection was idle, and is read again.
        ahead: Bytes,
        connection_state: Arc<ConnectionState>,
        heads: Option<Heads>,
        meter: Option<Meter>,
        // How much was read since other tasks had their turn.
        piece: usize,
        writes: Writes,
        // How many requests had begun when their responses were all sent.
        settled: u32,
        half_closed: Option<Box<HalfClosed>>,
        linger: Option<Box<Linger>>,
    }
}

/// The heads of requests.
struct Heads {
    place: Position,
    /// The time for a head to arrive, from its first byte to its last.
    limit: Duration,
    /// Whether anything was written since the last read.
    answered: bool,
    timer: Option<Due>,
}

/// The position in the client's bytes.
enum Position {
    Http1 {
        framing: Framing,
        /// Whether anything has come: the deadline of the first head starts with the connection.
        begun: bool,
    },
    Http2(Frames),
}

/// The deadline of a head.
struct Due {
    /// Which head it is: each has its own deadline.
    of: u64,
    sleep: Pin<Box<Sleep>>,
}

impl<IO> ClientStream<IO> {
    /// Watches writes to `stream`; each chunk may take `limit`.
    pub fn new(stream: IO, connection_state: Arc<ConnectionState>, limit: Duration) -> Self {
        Self {
            stream,
            ahead: Bytes::new(),
            connection_state,
            heads: None,
            meter: None,
            piece: 0,
            writes: Writes::new(limit),
            settled: 0,
            half_closed: None,
            linger: None,
        }
    }

    /// Also watches the heads of HTTP/1.1 requests: each may take `limit` to arrive, and no line may be
    /// longer than `longest_line` bytes.
    #[must_use]
    pub fn with_heads(self, limit: Duration, longest_line: usize) -> Self {
        let place = Position::Http1 {
            framing: Framing::new(longest_line),
            begun: false,
        };
        self.watch(place, limit)
    }

    /// Watches the preface and the header blocks of HTTP/2: each may take `limit` to arrive.
    #[must_use]
    pub fn with_frames(mut self, limit: Duration) -> Self {
        self.writes.follow_frames();
        self.watch(Position::Http2(Frames::of_client()), limit)
    }

    fn watch(mut self, place: Position, limit: Duration) -> Self {
        self.heads = Some(Heads {
            place,
            limit,
            answered: false,
            timer: None,
        });
        self
    }

    /// Charges for what is read.
    #[must_use]
    pub fn charged_by(mut self, meter: Meter) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Waits for the next request on an idle connection; false if there will be none. The bytes that
    /// were read are read again.
    pub async fn next_request(&mut self) -> bool
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        if let Some(meter) = &mut self.meter {
            meter.rests();
        }
        // Small, so that little memory is held while nothing comes.
        let mut first = [0; 16];
        let count = self.read(&mut first).await.unwrap_or_default();
        self.ahead = Bytes::copy_from_slice(&first[..count]);
        count > 0
    }

    /// The stream, after its last request.
    pub fn into_inner(self) -> IO {
        self.stream
    }
}

impl Heads {
    fn read(&mut self, bytes: &[u8], connection_state: &ConnectionState) {
        self.answered = false;
        match &mut self.place {
            Position::Http1 { framing, begun } => {
                *begun = true;
                if let Err(violation) = framing.follow(bytes) {
                    connection_state.violate(violation);
                }
                connection_state.read(framing.between_requests(), framing.within_body());
            }
            Position::Http2(frames) => {
                frames.follow(bytes);
                connection_state.streams.opened(frames.opened());
            }
        }
    }

    /// Whether the client, which has closed its side, waits for a response.
    fn awaits_answer(&self, connection_state: &ConnectionState) -> bool {
        let between_requests = match &self.place {
            Position::Http1 { framing, .. } => framing.between_requests(),
            Position::Http2(_) => false,
        };
        between_requests && connection_state.is_http() && !connection_state.is_idle()
    }

    /// Whether an interim response can be sent.
    fn takes_interim(&self) -> bool {
        match &self.place {
            Position::Http1 { framing, .. } => framing.takes_interim() && !self.answered,
            Position::Http2(_) => false,
        }
    }

    /// Which head is incomplete, if one is.
    fn due(&self, connection_state: &ConnectionState) -> Option<u64> {
        match &self.place {
            Position::Http1 { framing, begun } => {
                let due = connection_state.is_idle() && (!begun || framing.within_head());
                due.then(|| connection_state.rested_at())
            }
            // Whatever else is in progress: no other frame can come before the block is complete.
            Position::Http2(frames) => frames.within_head().then(|| frames.blocks()),
        }
    }

    /// Ready when a head is overdue.
    fn poll_overdue(
        &mut self,
        context: &mut Context<'_>,
        connection_state: &ConnectionState,
    ) -> Poll<()> {
        let Some(of) = self.due(connection_state) else {
            self.timer = None;
            return Poll::Pending;
        };
        let limit = self.limit;
        let anew = || Due {
            of,
            sleep: Box::pin(tokio::time::sleep(limit)),
        };
        let due = self.timer.get_or_insert_with(anew);
        if due.of != of {
            *due = anew();
        }
        due.sleep.as_mut().poll(context)
    }
}

/// Follows the new bytes, in a buffer with this much room left, and charges for them.
fn note(
    heads: Option<&mut Heads>,
    meter: Option<&mut Meter>,
    fresh: &[u8],
    room: usize,
    connection_state: &ConnectionState,
) -> Result<(), Overrun> {
    let Some(heads) = heads else { return Ok(()) };
    heads.read(fresh, connection_state);
    let Some(meter) = meter else { return Ok(()) };
    match &heads.place {
        Position::Http1 { framing, .. } => meter.read_head(framing.head_bytes(), room),
        Position::Http2(_) => meter.read(fresh.len(), connection_state.is_idle()),
    }
}

fn longest_piece(meter: Option<&Meter>) -> usize {
    match meter {
        Some(meter) if !meter.is_identified() => STRANGERS_PIECE,
        Some(_) | None => PIECE,
    }
}

impl<IO: AsyncWrite> ClientStream<IO> {
    /// For hyper such a client is silent until its last response has ended.
    fn poll_half_closed(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        this.connection_state.half_close(context.waker());
        match (this.heads, this.half_closed) {
            (Some(heads), Some(half_closed)) if heads.awaits_answer(this.connection_state) => {
                half_closed
                    .poll_left(this.stream, context, heads.takes_interim())
                    .map(Err)
            }
            (_, _) => Poll::Ready(Ok(())),
        }
    }

    /// Whether what is about to be written is a response of the library's own, to what it could not read: no request
    /// waits for one. It says nothing of why, so it is held back, and the connection's server answers instead.
    fn holds_back(self: Pin<&mut Self>) -> bool {
        let this = self.project();
        let http1 = this
            .heads
            .as_ref()
            .is_some_and(|heads| matches!(heads.place, Position::Http1 { .. }));
        let state = this.connection_state;
        let held = http1
            && state.is_http()
            && state.is_idle()
            && state.streams.begun() == *this.settled
            && this.half_closed.is_none();
        if held {
            state.owe();
        }
        held
    }

    /// Before any write: completes a partial interim response.
    fn poll_write_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        if let Some(half_closed) = this.half_closed {
            ready!(half_closed.poll_complete(this.stream, context))?;
        }
        if let Some(heads) = this.heads {
            heads.answered = true;
        }
        this.connection_state.wrote(false);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite> ClientStream<IO> {
    /// Before the end: reads the rest of a body, once the response has left.
    fn poll_rest(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        let Some(Position::Http1 { framing, .. }) =
            this.heads.as_mut().map(|heads| &mut heads.place)
        else {
            return Poll::Ready(Ok(()));
        };
        if !framing.within_body() {
            return Poll::Ready(Ok(()));
        }
        let flushed = this.stream.as_mut().poll_flush(context);
        ready!(this.writes.watch(context, this.connection_state, flushed))?;
        let identified = this.meter.as_ref().is_none_or(Meter::is_identified);
        let linger = this.linger.get_or_insert_with(|| {
            Box::new(Linger::new(if identified {
                linger::Bounds::IDENTIFIED
            } else {
                linger::Bounds::UNIDENTIFIED
            }))
        });
        linger.poll(this.stream, context, framing).map(Ok)
    }
}

impl<IO: AsyncRead + AsyncWrite> AsyncRead for ClientStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.half_closed.is_some() {
            return self.poll_half_closed(context);
        }
        let this = self.as_mut().project();
        if !this.ahead.is_empty() {
            let count = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead.split_to(count));
            return Poll::Ready(Ok(()));
        }
        if *this.piece >= STRANGERS_PIECE && *this.piece >= longest_piece(this.meter.as_ref()) {
            *this.piece = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = this.stream.poll_read(context, buffer);
        *this.piece += buffer.filled().len() - before;
        if polled.is_pending() {
            *this.piece = 0;
        }
        if polled.is_ready() {
            let fresh = buffer.filled().get(before..).unwrap_or_default();
            if fresh.is_empty() {
                this.connection_state.streams.left();
                if matches!(polled, Poll::Ready(Ok(())))
                    && let Some(heads) = this.heads
                    && heads.awaits_answer(this.connection_state)
                {
                    *this.half_closed = Some(Box::new(HalfClosed::new()));
                    return self.poll_half_closed(context);
                }
            } else {
                let (heads, meter) = (this.heads.as_mut(), this.meter.as_mut());
                let room = buffer.remaining();
                if let Err(overrun) = note(heads, meter, fresh, room, this.connection_state) {
                    this.connection_state.overrun(overrun);
                    return Poll::Ready(Err(overrun.into()));
                }
            }
            return polled;
        }
        let Some(heads) = this.heads else {
            return polled;
        };
        ready!(heads.poll_overdue(context, this.connection_state));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncRead + AsyncWrite> AsyncWrite for ClientStream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.as_mut().holds_back() {
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.as_mut().poll_write_ready(context))?;
        let this = self.project();
        let polled = this.stream.poll_write(context, bytes);
        let slice = [io::IoSlice::new(bytes)];
        this.writes.wrote(&slice, &polled, this.connection_state);
        this.writes.watch(context, this.connection_state, polled)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let polled = this.stream.poll_flush(context);
        if polled.is_ready() {
            this.connection_state.wrote(true);
            if this.connection_state.is_idle() {
                *this.settled = this.connection_state.streams.begun();
            }
        }
        this.writes.watch(context, this.connection_state, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.connection_state.is_owed() {
            return Poll::Ready(Ok(()));
        }
        // A connection that is being closed has no next request.
        ready!(self.as_mut().poll_write_ready(context))?;
        ready!(self.as_mut().poll_rest(context))?;
        let this = self.project();
        let polled = this.stream.poll_shutdown(context);
        this.writes.watch(context, this.connection_state, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.as_mut().holds_back() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        ready!(self.as_mut().poll_write_ready(context))?;
        let this = self.project();
        let polled = this.stream.poll_write_vectored(context, slices);
        this.writes.wrote(slices, &polled, this.connection_state);
        this.writes.watch(context, this.connection_state, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
