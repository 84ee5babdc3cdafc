//! The thread that turns records into lines.

use std::{
    fmt,
    io::{self, Write},
    sync::mpsc::Receiver,
    thread,
    time::Duration,
};

use tokio::time::Instant;

use super::{super::document, Counts, Message, file::RotatingFile};

/// A batch is written when it has this many bytes, or when the queue is empty.
const BATCH_BYTES: usize = 256 * 1024;

/// How long the writer lets records gather before it writes them. Without this it would be woken for
/// every record, which at thousands a second costs more than writing them: a quarter of the
/// gateway's CPU time in our bench.
const GATHER: Duration = Duration::from_millis(10);

/// The least time between two complaints about a sink that cannot be written.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Where lines go.
pub(super) enum Output {
    /// Standard output, or whatever else takes bytes.
    Stream(Box<dyn Write + Send>),
    /// A file, rotated by size.
    File(RotatingFile),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream(_) => "Stream",
            Self::File(_) => "File",
        })
    }
}

impl Output {
    /// Writes whole lines, all or, for a file, none of them.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.write_all(lines).and_then(|()| stream.flush()),
            Self::File(file) => file.append(lines),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(_) => Ok(()),
            Self::File(file) => file.reopen(),
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the writer's own thread: nothing else runs on it, and no request waits for it"
)]
fn gather() {
    thread::sleep(GATHER);
}

/// The writing end of a decision log.
#[derive(Debug)]
pub(super) struct Writer {
    output: Output,
    counts: Counts,
    /// The lines of the current batch.
    lines: Vec<u8>,
    /// How many records they are.
    records: u64,
    complained: Option<Instant>,
}

impl Writer {
    pub(super) fn new(output: Output, counts: Counts) -> Self {
        Self {
            output,
            counts,
            lines: Vec::with_capacity(BATCH_BYTES + 8 * 1024),
            records: 0,
            complained: None,
        }
    }

    /// Writes until it is told to shut down or all logs are dropped.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            gather();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Record(closed) => self.add(&closed),
                    Message::Reopen => {
                        self.write_batch();
                        if let Err(error) = self.output.reopen() {
                            self.complain(&error);
                        }
                    }
                    Message::Shutdown(done) => {
                        self.write_batch();
                        // Whoever asked may have stopped waiting.
                        let _ = done.send(());
                        return;
                    }
                }
                if self.lines.len() >= BATCH_BYTES {
                    self.write_batch();
                }
                // Empty or closed: either way this was the last for now.
                next = messages.try_recv().ok();
            }
            self.write_batch();
        }
    }

    /// Adds a record to the batch and counts it.
    fn add(&mut self, closed: &super::Closed) {
        self.counts.record(closed);
        document::write_line(closed, &mut self.lines);
        self.records += 1;
    }

    /// Writes the batch, preceded by a line for what was lost before it.
    fn write_batch(&mut self) {
        let dropped = self.counts.take_dropped();
        if dropped > 0 {
            let records = std::mem::take(&mut self.lines);
            document::write_dropped(dropped, self.counts.now(), &mut self.lines);
            self.lines.extend_from_slice(&records);
        }
        if self.lines.is_empty() {
            return;
        }
        if let Err(error) = self.output.write(&self.lines) {
            self.counts.untake_dropped(dropped);
            self.counts.dropped(self.records);
            self.counts.write_failed();
            self.complain(&error);
        }
        self.lines.clear();
        self.records = 0;
    }

    /// Says so in the process log, but not for every record.
    fn complain(&mut self, error: &io::Error) {
        let due = self
            .complained
            .is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY);
        if due {
            self.complained = Some(Instant::now());
            tracing::error!(%error, "the decision log cannot be written; records are being lost");
        }
    }
}
