//! The bounded queue between code that logs and the thread that writes.
//!
//! Standard error may be a pipe that nobody reads. Code that logs never waits for it: a line that does
//! not fit is lost and counted, and the loss is reported as soon as there is room.

use std::{
    borrow::Cow,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use countersign_types::shown::without_numbers;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use crate::redact::redact;

/// The most lines in the queue.
const LINES: usize = 4096;

/// The most bytes in the queue.
const BYTES: usize = 1024 * 1024;

/// The longest line; container runtimes split lines at 16 KiB.
const LINE_BYTES: usize = 15 * 1024;

/// The shortest interval between two reports of lost lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The stack of the writing thread: lines are redacted on it.
const STACK: usize = 512 * 1024;

/// The sending side. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    messages: SyncSender<Message>,
    held: Arc<AtomicUsize>,
    lost: Counter,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Asks to write all earlier lines and then reply.
    Flush(SyncSender<()>),
}

impl Queue {
    /// A queue whose thread writes to `out`; lost lines are counted in `lost`. The thread regularly
    /// calls `tell` with the number of lines lost since the last call.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        lost: Counter,
        tell: impl FnMut(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, messages) = Self::new(lost);
        let writer = Writer {
            out,
            held: Arc::clone(&queue.held),
            lost: queue.lost.clone(),
            told: queue.lost.get(),
            told_at: None,
            tell,
        };
        thread::Builder::new()
            .name("log".into())
            .stack_size(STACK)
            .spawn(move || writer.run(&messages))?;
        Ok(queue)
    }

    fn new(lost: Counter) -> (Self, Receiver<Message>) {
        let (messages, receiver) = sync_channel(LINES);
        let held = Arc::default();
        let queue = Self {
            messages,
            held,
            lost,
        };
        (queue, receiver)
    }

    /// Queues a line, or loses it. Never waits.
    fn put(&self, line: &[u8]) {
        let line = cut(line);
        let before = self.held.fetch_add(line.len(), Ordering::Relaxed);
        let fits = before + line.len() <= BYTES;
        if !fits
            || self
                .messages
                .try_send(Message::Line(line.to_vec()))
                .is_err()
        {
            self.held.fetch_sub(line.len(), Ordering::Relaxed);
            self.lost.inc();
        }
    }

    /// Waits until all queued lines are written, at most for `within`.
    pub(super) fn flush(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let (done, answer) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(back)) = self.messages.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = back;
            thread::park_timeout(Duration::from_millis(5));
        }
        // The result does not matter: there is no one to report it to.
        let _ = answer.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// The line, shortened if it is too long.
fn cut(line: &[u8]) -> Cow<'_, [u8]> {
    if line.len() <= LINE_BYTES {
        return Cow::Borrowed(line);
    }
    let mut kept = line[..LINE_BYTES - 16].to_vec();
    kept.extend_from_slice(b" [cut]\n");
    Cow::Owned(kept)
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Writes one event: the subscriber writes each in one piece.
#[derive(Debug)]
pub(super) struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer<W, T> {
    out: W,
    held: Arc<AtomicUsize>,
    lost: Counter,
    /// How many lost lines were already reported.
    told: u64,
    told_at: Option<Instant>,
    tell: T,
}

impl<W: Write, T: FnMut(u64)> Writer<W, T> {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(REPORT_INTERVAL) {
                Ok(Message::Line(line)) => {
                    self.write(&line);
                    self.held.fetch_sub(line.len(), Ordering::Relaxed);
                }
                Ok(Message::Flush(done)) => {
                    // The requester may have stopped waiting.
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.report_lost();
        }
    }

    /// Writes a line after removing anything that looks like a credential, and the numbers of the system's errors.
    fn write(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let redacted = redact(&text);
        let written = self.out.write_all(without_numbers(&redacted).as_bytes());
        if written.and_then(|()| self.out.flush()).is_err() {
            self.lost.inc();
        }
    }

    /// The report also goes through the queue; if it is lost, it is repeated.
    fn report_lost(&mut self) {
        let due = self
            .told_at
            .is_none_or(|last| last.elapsed() >= REPORT_INTERVAL);
        if !due {
            return;
        }
        self.told_at = Some(Instant::now());
        let lost = self.lost.get();
        let untold = lost - std::mem::replace(&mut self.told, lost);
        (self.tell)(untold);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        sync::{Mutex, mpsc},
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Signals "full" when a line waits for room, and then accepts nothing until it is released.
    struct Stuck {
        entered: mpsc::Sender<()>,
        go: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stuck {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.entered.send(()).unwrap();
            // An error means that the test released it for good.
            let _ = self.go.recv();
            self.written.lock().unwrap().extend_from_slice(piece);
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_sink_that_takes_nothing_keeps_nobody_waiting() {
        let (entered, stuck) = mpsc::channel();
        let (let_go, go) = mpsc::channel();
        let (told, telling) = mpsc::channel();
        let written = Arc::default();
        let out = Stuck {
            entered,
            go,
            written: Arc::clone(&written),
        };
        let lost = Counter::default();
        let tell = move |count| {
            // An error means that the test has ended.
            let _ = told.send(count);
        };
        let queue = Queue::start(out, lost.clone(), tell).unwrap();
        queue.put(b"first\n");
        stuck.recv_timeout(SOON).unwrap();
        // The thread has taken the first line and is blocked; these lines fill the queue.
        for _ in 0..LINES {
            queue.put(b"queued\n");
        }
        assert_eq!(lost.get(), 0);
        for _ in 0..100_000 {
            queue.put(b"lost\n");
        }
        assert_eq!(lost.get(), 100_000);
        drop(let_go);
        queue.flush(SOON);
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(written.lines().count(), LINES + 1);
        assert!(!written.contains("lost"));
        assert_eq!(telling.recv_timeout(SOON), Ok(100_000));
    }

    #[test]
    fn bytes_are_bounded_as_lines_are() {
        let (queue, _nobody_reads) = Queue::new(Counter::default());
        let line = vec![b'x'; LINE_BYTES];
        for _ in 0..BYTES / LINE_BYTES {
            queue.put(&line);
        }
        assert_eq!(queue.lost.get(), 0);
        queue.put(&line);
        assert_eq!(queue.lost.get(), 1);
        assert!(queue.held.load(Ordering::Relaxed) <= BYTES);
        queue.flush(Duration::ZERO);
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let (mut reader, writer) = io::pipe().unwrap();
        let queue = Queue::start(writer, Counter::default(), |_| ()).unwrap();
        let mut line = vec![b'x'; 100 * 1024];
        line.push(b'\n');
        queue.put(&line);
        queue.put(b"sent xoxb-1234567890-canary\n");
        queue.flush(SOON);
        drop(queue);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].len() < LINE_BYTES && lines[0].ends_with("x [cut]"));
        assert_eq!(lines[1], "sent [redacted]");
    }

    #[test]
    fn a_closed_sink_is_counted() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let queue = Queue::start(writer, Counter::default(), |_| ()).unwrap();
        queue.put(b"nobody\n");
        queue.flush(SOON);
        assert_eq!(queue.lost.get(), 1);
    }
}
