//! The thread that turns records into lines.

use std::{
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use countersign_core::metrics::Class;
use tokio::time::Instant;

use super::{
    Control, Counts, Inlet, LANE_RECORDS,
    digest::{Digest, Summary},
    document,
    event::Event,
    file::{self, RotatingFile},
    seal::Sealer,
    shed::Tally,
};

/// A batch is written when it has this many bytes, or when the queue is empty.
pub(super) const BATCH_BYTES: usize = 256 * 1024;

/// Records of unidentified callers that are taken before those of identified ones are again.
const STRANGERS: usize = 512;

/// How long the writer lets records gather before it writes them. Without this it would be woken for
/// every record, which at thousands a second costs more than writing them: a quarter of the
/// gateway's CPU time in our bench.
const GATHER: Duration = Duration::from_millis(10);

/// How long the writer sleeps without being woken; a summary may be due.
const REST: Duration = Duration::from_secs(1);

/// The shortest time between two log messages about a sink that cannot be written.
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
    /// Writes whole lines; to a file, all or none.
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

/// Where the records of the two classes go.
#[derive(Debug)]
pub(super) struct Outputs {
    /// Those of proven callers.
    pub(super) identified: Output,
    /// All others, if they have a file of their own.
    pub(super) unidentified: Option<Output>,
}

impl Outputs {
    /// Everything to one stream.
    pub(super) fn stream(stream: Box<dyn Write + Send>) -> Self {
        Self {
            identified: Output::Stream(stream),
            unidentified: None,
        }
    }

    /// Two files beside each other; or, if the path is not a regular file, everything there.
    pub(super) fn files(path: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let open = |path: PathBuf, bounds| match RotatingFile::open(&path, bounds) {
            Ok(file) => Ok(file),
            Err(error) => Err((path, error)),
        };
        let identified = open(path.to_owned(), file::IDENTIFIED)?;
        let unidentified = if identified.rotates() {
            let file = open(file::beside(path), file::UNIDENTIFIED)?;
            Some(Output::File(file))
        } else {
            None
        };
        Ok(Self {
            identified: Output::File(identified),
            unidentified,
        })
    }

    fn of(&mut self, class: Class) -> &mut Output {
        match (class, &mut self.unidentified) {
            (Class::Unidentified, Some(output)) => output,
            (Class::Identified, _) | (Class::Unidentified, None) => &mut self.identified,
        }
    }
}

/// Lines of one class to be written next.
#[derive(Debug)]
struct Batch {
    lines: Vec<u8>,
    /// How many records they are.
    records: u64,
}

impl Batch {
    fn with_room(room: usize) -> Self {
        Self {
            lines: Vec::with_capacity(room),
            records: 0,
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
    outputs: Outputs,
    sealer: Option<Sealer>,
    counts: Counts,
    digest: Digest,
    identified: Batch,
    unidentified: Batch,
    complained: Option<Instant>,
}

impl Writer {
    pub(super) fn new(outputs: Outputs, sealer: Option<Sealer>, counts: Counts) -> Self {
        Self {
            outputs,
            sealer,
            counts,
            digest: Digest::new(Instant::now()),
            identified: Batch::with_room(BATCH_BYTES + 16 * 1024),
            unidentified: Batch::with_room(0),
            complained: None,
        }
    }

    /// Writes until it is told to shut down or all logs are dropped.
    pub(super) fn run(mut self, inlet: &Inlet) {
        inlet.wake_me();
        loop {
            let closed = inlet.is_closed();
            let mut control = inlet.control.try_recv().ok();
            // What happened before what was recorded stands before it.
            let events = self.counts.0.events.take();
            let (last, events): (Vec<_>, Vec<_>) = events.into_iter().partition(Event::is_last);
            self.tell_events(&events);
            self.write_waiting(inlet);
            let now = Instant::now();
            let over = self.digest.over(now);
            self.summarize(over);
            let shed = self.counts.0.shed.due(now);
            self.tell_shed(&shed);
            if closed || matches!(control, Some(Control::Shutdown(_))) {
                let rest = self.digest.end();
                self.summarize(rest);
                let shed = self.counts.0.shed.end();
                self.tell_shed(&shed);
            }
            self.tell_events(&last);
            self.write_batches();
            match control.take() {
                Some(Control::Shutdown(done)) => {
                    self.sign();
                    // The caller may have stopped waiting.
                    let _ = done.send(());
                    return;
                }
                Some(Control::Reopen) => self.reopen(),
                None if closed => {
                    self.sign();
                    return;
                }
                None => {
                    thread::park_timeout(REST);
                    gather();
                }
            }
        }
    }

    /// Takes queued records: those of identified callers first, and others now and then, so that neither
    /// waits for all of the other.
    fn write_waiting(&mut self, inlet: &Inlet) {
        for _ in 0..LANE_RECORDS.div_ceil(STRANGERS) {
            let mut more = false;
            while !more && let Some(closed) = inlet.identified.next() {
                self.add(Class::Identified, &closed);
                more = self.identified.lines.len() >= BATCH_BYTES;
            }
            if more {
                self.write_batch(Class::Identified);
            }
            let mut strangers = 0;
            while strangers < STRANGERS
                && let Some(closed) = inlet.unidentified.next()
            {
                strangers += 1;
                self.add(Class::Unidentified, &closed);
            }
            if self.unidentified.lines.len() >= BATCH_BYTES {
                self.write_batch(Class::Unidentified);
            }
            if !more && strangers < STRANGERS {
                break;
            }
        }
    }

    /// Counts a record, and adds it to its batch or to a summary.
    fn add(&mut self, class: Class, closed: &super::Closed) {
        self.counts.record(closed);
        if !self.digest.admits(closed) {
            self.counts.summarized(class);
            return;
        }
        let batch = self.batch(class);
        document::write_line(closed, &mut batch.lines);
        batch.records += 1;
    }

    fn summarize(&mut self, summaries: Vec<Summary>) {
        let now = self.counts.now();
        for summary in summaries {
            let batch = self.batch(summary.class);
            document::write_summary(&summary, now, &mut batch.lines);
        }
    }

    /// With the records of identified callers, which are looked at first.
    fn tell_events(&mut self, events: &[Event]) {
        for event in events {
            event.write(&mut self.batch(Class::Identified).lines);
        }
    }

    fn tell_shed(&mut self, tallies: &[Tally]) {
        let now = self.counts.now();
        for tally in tallies {
            let batch = self.batch(tally.class);
            document::write_shed(tally, now, &mut batch.lines);
        }
    }

    fn batch(&mut self, class: Class) -> &mut Batch {
        match class {
            Class::Identified => &mut self.identified,
            Class::Unidentified => &mut self.unidentified,
        }
    }

    fn write_batches(&mut self) {
        for class in Class::ALL {
            self.write_batch(class);
        }
        if self.sealer.as_ref().is_some_and(Sealer::is_due) {
            self.sign();
        }
    }

    /// Signs what was written so far.
    fn sign(&mut self) {
        if let Some(sealer) = &mut self.sealer
            && let Err(error) = sealer.sign()
        {
            tracing::error!(%error, "a checkpoint of the decision log cannot be written; the next one comes in its time");
        }
    }

    /// Writes a batch, after a line for records lost before it.
    fn write_batch(&mut self, class: Class) {
        let dropped = self.counts.take_dropped(class);
        let now = self.counts.now();
        let batch = self.batch(class);
        if dropped > 0 {
            let records = std::mem::take(&mut batch.lines);
            document::write_dropped(dropped, class, now, &mut batch.lines);
            batch.lines.extend_from_slice(&records);
        }
        let lines = std::mem::take(&mut batch.lines);
        let records = std::mem::take(&mut batch.records);
        if !lines.is_empty() {
            let sealed = self
                .sealer
                .as_mut()
                .map(|sealer| sealer.seal(class, &lines));
            let written = sealed.as_ref().map_or(&lines, |(sealed, _)| sealed);
            match self.outputs.of(class).write(written) {
                Ok(()) => self.counts.0.recent.push(written),
                Err(error) => {
                    if let (Some(sealer), Some((_, before))) = (&mut self.sealer, sealed) {
                        sealer.take_back(class, before);
                    }
                    self.counts.untake_dropped(class, dropped);
                    self.counts.dropped(class, records);
                    self.counts.write_failed();
                    self.complain(&error);
                }
            }
        }
        let batch = self.batch(class);
        batch.lines = lines;
        batch.lines.clear();
    }

    fn reopen(&mut self) {
        for class in Class::ALL {
            if let Err(error) = self.outputs.of(class).reopen() {
                self.complain(&error);
            }
        }
    }

    /// Logs the error, at a limited rate.
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
