//! The thread that turns records into lines.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use countersign_core::{files, metrics::Class};
use tokio::time::Instant;

use super::{
    super::trace::Tracer,
    COMPLAIN_EVERY, Control, Inlet, LANE_RECORDS,
    counts::Counts,
    digest::{Digest, Summary},
    document,
    event::Event,
    outputs::Outputs,
    seal::Sealer,
    shed::Tally,
    sink::{self, Destination, Lines, Sink},
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

/// How lines reach their sinks.
#[derive(Debug)]
pub(super) enum Delivery {
    /// One sink that may lose records, on this thread: while it takes nothing, records wait in the lanes, which share
    /// their room among callers.
    Inline(Box<SingleSink>),
    /// Several, or one that must not lose records: each on a thread of its own.
    Sinks(Vec<(Arc<Sink>, Destination)>),
}

/// The only sink.
#[derive(Debug)]
pub(super) struct SingleSink {
    /// Where lines go.
    pub(super) outputs: Outputs,
    /// What makes them tamper-evident.
    pub(super) sealer: Option<Sealer>,
    /// Where its state is shown; `None` in tests.
    pub(super) sink: Option<Arc<Sink>>,
}

/// The same as [`Delivery`], once the threads run.
#[derive(Debug)]
enum Started {
    Inline(Box<SingleSink>),
    Sinks(Vec<(Arc<Sink>, JoinHandle<()>)>),
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

impl SingleSink {
    /// Seals lines and writes them, or takes their seals back; returns them as they were written.
    fn write(&mut self, class: Class, lines: &[u8]) -> io::Result<Vec<u8>> {
        let Some(sealer) = &mut self.sealer else {
            self.outputs.of(class).write(lines)?;
            return Ok(lines.to_vec());
        };
        let (sealed, before) = sealer.seal(class, lines);
        match self.outputs.of(class).write(&sealed) {
            Ok(()) => Ok(sealed),
            Err(error) => {
                sealer.take_back(class, before);
                Err(error)
            }
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
    delivery: Started,
    counts: Counts,
    digest: Digest,
    identified: Batch,
    unidentified: Batch,
    /// Where sampled requests go, to become spans.
    tracer: Option<Tracer>,
    complained: Option<Instant>,
}

impl Writer {
    /// For a single sink, on the thread that runs it.
    #[cfg(test)]
    pub(super) fn new(outputs: Outputs, sealer: Option<Sealer>, counts: Counts) -> Self {
        let single = SingleSink {
            outputs,
            sealer,
            sink: None,
        };
        Self::with(Started::Inline(Box::new(single)), counts, None)
    }

    /// Starts the threads of the sinks, if they have their own.
    ///
    /// # Errors
    /// When the system gives none.
    pub(super) fn start(
        delivery: Delivery,
        counts: Counts,
        tracer: Option<Tracer>,
    ) -> io::Result<Self> {
        let delivery = match delivery {
            Delivery::Inline(single) => Started::Inline(single),
            Delivery::Sinks(sinks) => {
                let start = |(sink, destination): (Arc<Sink>, Destination)| {
                    let thread = sink::start(Arc::clone(&sink), destination, counts.clone())?;
                    Ok((sink, thread))
                };
                Started::Sinks(sinks.into_iter().map(start).collect::<io::Result<_>>()?)
            }
        };
        Ok(Self::with(delivery, counts, tracer))
    }

    fn with(delivery: Started, counts: Counts, tracer: Option<Tracer>) -> Self {
        Self {
            delivery,
            counts,
            digest: Digest::new(Instant::now()),
            identified: Batch::with_room(BATCH_BYTES + 16 * 1024),
            unidentified: Batch::with_room(0),
            tracer,
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
                    self.end();
                    // The caller may have stopped waiting.
                    let _ = done.send(());
                    return;
                }
                Some(Control::Reopen) => self.reopen(),
                None if closed => {
                    self.end();
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
        for closed in inlet.overflow() {
            self.add(Class::Identified, &closed);
        }
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
        let batch = match class {
            Class::Identified => &mut self.identified,
            Class::Unidentified => &mut self.unidentified,
        };
        let start = batch.lines.len();
        document::write_line(closed, &mut batch.lines);
        batch.records += 1;
        if let Some(tracer) = &self.tracer {
            tracer.add(closed, &batch.lines[start..], self.counts.metrics());
        }
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
        if let Started::Inline(single) = &self.delivery
            && single.sealer.as_ref().is_some_and(Sealer::is_due)
        {
            self.sign();
        }
    }

    /// Signs what was written so far, or waits until every sink has written it.
    fn end(&mut self) {
        self.sign();
        if let Some(tracer) = &mut self.tracer {
            tracer.end();
        }
        if let Started::Sinks(sinks) = &mut self.delivery {
            for (sink, _) in &*sinks {
                sink.close();
            }
            for (_, thread) in sinks.drain(..) {
                if thread.join().is_err() {
                    tracing::error!("the thread of a sink of decision records failed");
                }
            }
        }
    }

    /// Signs what was written so far.
    fn sign(&mut self) {
        if let Started::Inline(single) = &mut self.delivery
            && let Some(sealer) = &mut single.sealer
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
            match &mut self.delivery {
                Started::Inline(single) => {
                    let written = single.write(class, &lines);
                    let sink = single.sink.clone();
                    self.wrote(class, (records, dropped), written, sink.as_deref());
                }
                Started::Sinks(sinks) => {
                    let bytes = Bytes::from(lines);
                    self.counts.0.recent.push(bytes.clone());
                    let lines = Arc::new(Lines {
                        class,
                        bytes,
                        records,
                    });
                    for (sink, _) in sinks {
                        sink.put(&lines, &self.counts);
                    }
                    return;
                }
            }
        }
        let batch = self.batch(class);
        batch.lines = lines;
        batch.lines.clear();
    }

    /// Notes what became of a batch of so many records, and so many lost ones before it.
    fn wrote(
        &mut self,
        class: Class,
        (records, dropped): (u64, u64),
        written: io::Result<Vec<u8>>,
        sink: Option<&Sink>,
    ) {
        let lost = match written {
            Ok(written) => {
                self.counts.0.recent.push(written.into());
                None
            }
            Err(error) => {
                self.counts.untake_dropped(class, dropped);
                self.counts.dropped(class, records);
                self.counts.write_failed();
                self.complain(&error);
                Some(files::reason(&error))
            }
        };
        if let Some(sink) = sink {
            self.counts.sink_works(sink.name(), lost.is_none());
            if lost.is_some() {
                self.counts.sink_lost(sink.name(), records);
            }
            sink.written(lost.map(|error| (records, error)));
        }
    }

    fn reopen(&mut self) {
        let errors: Vec<io::Error> = match &mut self.delivery {
            Started::Inline(single) => Class::ALL
                .into_iter()
                .filter_map(|class| single.outputs.of(class).reopen().err())
                .collect(),
            Started::Sinks(sinks) => {
                for (sink, _) in sinks {
                    sink.reopen();
                }
                Vec::new()
            }
        };
        for error in errors {
            self.complain(&error);
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
