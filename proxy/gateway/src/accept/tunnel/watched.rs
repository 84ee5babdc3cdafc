//! A client's stream from which only inspected bytes can be read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use countersign_authorize::Verdict;
use countersign_config::model::Limits;
use countersign_core::{
    budget::Purse, destination::Authority, reason::Reason, wire::rewound::Rewound,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::{held::Held, look::Look, name_check::NameCheck, watch::Watch};
use crate::{observe::ByteCounts, refusal::Refusal};

/// Why a stream is not carried any further.
#[derive(Debug)]
pub(super) enum Stop {
    /// Its destination may not be reached.
    Refused(Refusal),
    /// It is decrypted instead, by this name.
    Intercept(Authority),
}

/// Holds back a request head or a `ClientHello` until it is complete and checked, and nothing else. After a
/// stop, reads fail.
#[derive(Debug)]
pub(super) struct Watched<IO> {
    stream: IO,
    names: NameCheck,
    watch: Watch,
    bytes: Arc<ByteCounts>,
    held: Held,
    /// How many of the bytes that are held back may pass.
    passed: usize,
    /// Inspection has ended.
    free: bool,
    /// The bytes that are held back were inspected and are not enough.
    waiting: bool,
    limit: Duration,
    overdue: Option<Pin<Box<Sleep>>>,
    stop: Option<Stop>,
}

impl<IO> Watched<IO> {
    /// Inspects `stream`. A head or `ClientHello` must be complete within the time for a handshake; its
    /// bytes are charged to `room`.
    pub(super) fn new(
        stream: IO,
        names: NameCheck,
        limits: &Limits,
        bytes: Arc<ByteCounts>,
        room: &Arc<Purse>,
    ) -> Self {
        Self {
            stream,
            watch: Watch::new(limits.head_bytes),
            names,
            bytes,
            held: Held::new(room),
            passed: 0,
            free: false,
            waiting: false,
            limit: limits.handshake_timeout,
            overdue: None,
            stop: None,
        }
    }

    /// Why it was stopped, if it was.
    pub(super) fn stopped(&mut self) -> Option<Stop> {
        self.stop.take()
    }

    /// Whether the bytes that are held back begin as TLS.
    pub(super) fn greets(&self) -> bool {
        self.held.first() == Some(&22)
    }

    /// The stream, preceded by the bytes that are held back.
    pub(super) fn into_rewound(self) -> Rewound<IO> {
        Rewound::new(self.held.into_bytes().into(), self.stream)
    }

    fn refuse(&mut self, refusal: Refusal) -> io::Error {
        self.stop = Some(Stop::Refused(refusal));
        stopped()
    }

    /// Acts on the result of an inspection.
    fn follow(&mut self, look: Look) -> io::Result<()> {
        match look {
            Look::More => self.waiting = true,
            Look::Pass(count) => self.passed = count,
            Look::Free => {
                self.free = true;
                self.passed = self.held.len();
            }
            Look::Refuse(refusal) => return Err(self.refuse(refusal)),
            Look::Names(shown, count) => {
                match self.names.check(&shown, self.bytes.response() == 0) {
                    Ok(Verdict::Carry) => self.passed = count,
                    Ok(Verdict::Intercept(authority)) => {
                        self.stop = Some(Stop::Intercept(authority));
                        return Err(stopped());
                    }
                    Err(refusal) => return Err(self.refuse(refusal)),
                }
            }
        }
        Ok(())
    }

    /// Passes on what may pass.
    fn hand_out(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.passed.min(buffer.remaining());
        self.held.pass(count, buffer);
        self.passed -= count;
        self.overdue = None;
    }

    fn poll_overdue(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let limit = self.limit;
        let overdue = self
            .overdue
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if overdue.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        let detail = format!("the client did not finish what it began within {limit:?}");
        Err(self.refuse(Refusal::new(Reason::HeadTimeout, detail)))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.stop.is_some() {
                return Poll::Ready(Err(stopped()));
            }
            if this.passed > 0 {
                this.hand_out(buffer);
                return Poll::Ready(Ok(()));
            }
            if this.free {
                return Pin::new(&mut this.stream).poll_read(context, buffer);
            }
            if !this.held.is_empty() && !this.waiting {
                let look = this.watch.look(&this.held);
                this.follow(look)?;
                continue;
            }
            if !this.held.is_empty() {
                this.poll_overdue(context)?;
            }
            let before = this.held.len();
            let held = match this.held.with_room() {
                Ok(held) => held,
                Err(short) => return Poll::Ready(Err(this.refuse(short.into()))),
            };
            ready!(poll_more(&mut this.stream, held, context))?;
            this.waiting = false;
            if this.held.len() == before {
                if this.held.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                let look = this.watch.ended(&this.held);
                this.follow(look)?;
            }
        }
    }
}

/// Reads once; reads nothing at the end of the stream.
fn poll_more(
    stream: &mut (impl AsyncRead + Unpin),
    held: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut read = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(stream, held));
    read.as_mut().poll(context)
}

fn stopped() -> io::Error {
    io::Error::other("the tunnel is not carried any further")
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
