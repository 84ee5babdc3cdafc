//! Copies bytes between an app and its tunnel. The gateway decides how long either may be silent, and
//! closes the tunnel then.
//!
//! Most connections of a pod are idle, and there may be a thousand. So a direction has no buffer of its
//! own: all directions of a thread read into one, and a direction keeps only what the other side has not
//! accepted yet.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::pool::Tunnel;

/// The most that is read at once, and so the most that a direction keeps, in bytes.
const BUFFER: usize = 8 * 1024;

thread_local! {
    static READ: RefCell<Box<[u8; BUFFER]>> = RefCell::new(Box::new([0; BUFFER]));
}

/// Copies bytes until both sides have ended, one breaks, or `cut` ends the time to drain.
pub(super) async fn carry<C>(client: C, tunnel: Tunnel, cut: CancellationToken)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let Tunnel { stream, lease } = tunnel;
    tokio::select! {
        ended = both_ways(client, stream) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a tunnel broke");
            }
        }
        () = cut.cancelled() => {}
    }
    drop(lease);
}

async fn both_ways<A, B>(mut one: A, mut other: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut there, mut back) = (Direction::default(), Direction::default());
    poll_fn(|context| {
        let there = there.poll(context, &mut one, &mut other)?;
        let back = back.poll(context, &mut other, &mut one)?;
        match (there, back) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    })
    .await
}

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    state: State,
    /// What was read and the writer has not accepted yet. Not allocated while it is empty.
    left: Vec<u8>,
    /// How much of `left` was accepted since.
    taken: usize,
    unflushed: bool,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Open,
    /// The reader has ended, and the writer's side is still open.
    Ending,
    Ended,
}

impl Direction {
    /// Copies what is there; ready when the reader's end was passed on.
    fn poll<R, W>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_left(context, writer))?;
            match self.state {
                State::Open => ready!(self.poll_read(context, reader, writer))?,
                State::Ending => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(context))?;
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes the rest of earlier reads.
    fn poll_left<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.taken < self.left.len() {
            let left = &self.left[self.taken..];
            let taken = ready!(Pin::new(&mut *writer).poll_write(context, left))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken += taken;
            self.unflushed = true;
        }
        self.left = Vec::new();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }

    /// Reads once, and writes as much as the writer accepts at once.
    fn poll_read<R, W>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        READ.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(&mut buffer[..]);
            if Pin::new(reader).poll_read(context, &mut read)?.is_pending() {
                return self.poll_flush(context, writer);
            }
            let read = read.filled();
            if read.is_empty() {
                self.state = State::Ending;
                return Poll::Ready(Ok(()));
            }
            let taken = match Pin::new(writer).poll_write(context, read)? {
                Poll::Ready(taken) => taken,
                Poll::Pending => 0,
            };
            self.unflushed = true;
            self.left.extend_from_slice(&read[taken..]);
            Poll::Ready(Ok(()))
        })
    }

    /// Flushes, so that written bytes do not wait for later ones. Ready only with an error: the reader
    /// has nothing.
    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(writer).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// An app, its server, and the copying between them over pipes of this size.
    fn carried(
        room: usize,
    ) -> (
        DuplexStream,
        DuplexStream,
        tokio::task::JoinHandle<io::Result<()>>,
    ) {
        let (app, one) = duplex(room);
        let (server, other) = duplex(room);
        (app, server, tokio::spawn(both_ways(one, other)))
    }

    #[tokio::test]
    async fn each_end_is_passed_on_and_the_other_way_stays_open() {
        let (mut app, mut server, carrying) = carried(64);
        app.write_all(b"ping").await.unwrap();
        app.shutdown().await.unwrap();
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "ping");
        server.write_all(b"pong").await.unwrap();
        server.shutdown().await.unwrap();
        heard.clear();
        app.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "pong");
        carrying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn one_who_takes_little_at_a_time_gets_everything() {
        let (mut app, mut server, carrying) = carried(7);
        let said: Vec<u8> = (0..=u8::MAX).cycle().take(5 * BUFFER + 3).collect();
        let saying = said.clone();
        let app = tokio::spawn(async move {
            app.write_all(&saying).await.unwrap();
            app.shutdown().await.unwrap();
            app
        });
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.unwrap();
        assert!(heard == said);
        drop((app.await.unwrap(), server));
        carrying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn one_who_is_gone_ends_it() {
        let (mut app, server, carrying) = carried(64);
        drop(server);
        app.write_all(b"is anyone there").await.unwrap();
        let error = carrying.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    /// The memory of an idle connection.
    #[tokio::test]
    async fn a_direction_keeps_only_what_was_not_taken() {
        let (mut app, mut reader) = duplex(64);
        let (mut server, mut writer) = duplex(4);
        let mut direction = Direction::default();
        app.write_all(b"0123456789").await.unwrap();
        poll_fn(|context| {
            assert!(
                direction
                    .poll(context, &mut reader, &mut writer)
                    .is_pending()
            );
            Poll::Ready(())
        })
        .await;
        assert_eq!(direction.left, b"456789");
        let mut heard = [0; 10];
        for part in heard.chunks_mut(4) {
            server.read_exact(part).await.unwrap();
            poll_fn(|context| {
                assert!(
                    direction
                        .poll(context, &mut reader, &mut writer)
                        .is_pending()
                );
                Poll::Ready(())
            })
            .await;
        }
        assert_eq!(&heard, b"0123456789");
        assert_eq!(direction.left.capacity(), 0);
    }
}
