//! Reads the lines of decision logs back, in order, in one pass and in bounded memory.
//!
//! Inputs may be files, rotated and compressed with gzip in any order, folders of them, and pipes. They are merged
//! by the time of their records, so that the logs of several gateways become one. Lines that are not a gateway's
//! are counted and skipped.
//!
//! ```
//! use countersign_insight::{reader::Reader, record::Entry};
//!
//! let log = concat!(
//!     "not ours\n",
//!     r#"[pod/gateway-0/countersign] {"schema":"countersign.decision/v1","time":"2026-11-23T05:10:03.412Z","#,
//!     r#""id":"0194f3c1-2a44-7000-8000-000000000001","outcome":"refused","reason":"identity_missing"}"#,
//!     "\n",
//! );
//! let mut reader = Reader::stream("-", log.as_bytes());
//! let mut refused = 0;
//! reader.each(|line| {
//!     if let Entry::Decision(decision) = &line.entry {
//!         assert_eq!((&*decision.reason, line.pod), ("identity_missing", Some("gateway-0")));
//!         refused += 1;
//!     }
//! });
//! assert_eq!((refused, reader.counts().foreign), (1, 1));
//! ```

mod counts;
mod lines;
mod locate;
mod open;
mod stream;
mod tail;

use std::{fmt, io::Read, path::PathBuf};

use jiff::{SignedDuration, Timestamp};

pub(crate) use self::open::{RawLines, files, raw_lines};
pub use self::{
    counts::{Counts, Place},
    open::OpenError,
    tail::Tail,
};
use self::{open::Pending, stream::Stream};
use crate::record::{self, Entry};

/// A step back in time that is no mere lateness.
const BACK: SignedDuration = SignedDuration::from_mins(1);

/// The records of some inputs, merged by time.
#[derive(Debug)]
pub struct Reader {
    open: Vec<Stream>,
    /// The earliest one last.
    pending: Vec<Pending>,
    current: usize,
    /// Whether the current stream's record was given out.
    given: bool,
    /// Until when the current stream may go on without looking at the others.
    until: Option<Timestamp>,
    /// The end of the latest record of an input, and which.
    latest: (usize, Timestamp),
    counts: Counts,
    progress: Option<Progress>,
}

/// Who is told how far it is.
struct Progress(Box<dyn FnMut(&Counts) + Send>);

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// After how many records somebody is told how far it is.
const TELL_EVERY: u64 = 8192;

/// A record, and where it was found.
#[derive(Debug)]
pub struct Line<'a> {
    /// The file, or `-`.
    pub file: &'a str,
    /// The line in it, counted from 1.
    pub number: u64,
    /// The gateway's pod, if a prefix names it.
    pub pod: Option<&'a str>,
    /// The record as it was written.
    pub json: &'a [u8],
    /// The record.
    pub entry: Entry<'a>,
}

impl Reader {
    /// Reads files and folders; `-` is standard input. Compressed files are recognised by their content.
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub fn open(paths: &[PathBuf]) -> Result<Self, OpenError> {
        let (stdin, paths): (Vec<_>, Vec<_>) = paths
            .iter()
            .cloned()
            .partition(|path| path.as_os_str() == "-");
        let mut reader = Self::of(Vec::new());
        let files = open::files(&paths)?;
        for path in files {
            reader.pending.push(open::peek(path)?);
        }
        // What has no record has nothing to wait for, and is opened first.
        reader
            .pending
            .sort_by(|one, other| (other.first, &other.path).cmp(&(one.first, &one.path)));
        if !stdin.is_empty() {
            let read = |source| OpenError::Read {
                path: "-".into(),
                source,
            };
            let (input, kind) = open::decompressed(Box::new(std::io::stdin())).map_err(read)?;
            if kind != open::Kind::Readable {
                return Err(read(std::io::Error::other(
                    "only gzip is decompressed here",
                )));
            }
            reader.add(Stream::new("-".to_owned(), input));
        }
        Ok(reader)
    }

    /// Reads one stream under this name.
    pub fn stream(name: &str, input: impl Read + Send + 'static) -> Self {
        Self::of(vec![Stream::new(name.to_owned(), Box::new(input))])
    }

    /// Reads several streams under their names, merged.
    pub fn streams(inputs: Vec<(String, Box<dyn Read + Send>)>) -> Self {
        let streams = inputs.into_iter();
        Self::of(
            streams
                .map(|(name, input)| Stream::new(name, input))
                .collect(),
        )
    }

    fn of(streams: Vec<Stream>) -> Self {
        let mut reader = Self {
            open: Vec::new(),
            pending: Vec::new(),
            current: 0,
            given: false,
            until: None,
            latest: (usize::MAX, Timestamp::UNIX_EPOCH),
            counts: Counts::default(),
            progress: None,
        };
        for stream in streams {
            reader.add(stream);
        }
        reader
    }

    /// What was read so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Tells now and then what was read so far.
    pub fn tell(&mut self, how_far: impl FnMut(&Counts) + Send + 'static) {
        self.progress = Some(Progress(Box::new(how_far)));
    }

    /// Gives each record to `see`, up to the end of all inputs.
    pub fn each(&mut self, mut see: impl FnMut(Line<'_>)) {
        while let Some(item) = self.read_next() {
            if let Some(line) = item {
                see(line);
            }
        }
    }

    /// Gives each record to `see`, until it fails.
    ///
    /// # Errors
    /// Those of `see`.
    pub fn try_each<E>(&mut self, mut see: impl FnMut(Line<'_>) -> Result<(), E>) -> Result<(), E> {
        while let Some(item) = self.read_next() {
            if let Some(line) = item {
                see(line)?;
            }
        }
        Ok(())
    }

    /// The next record; `Some(None)` for a line of ours that cannot be read and was counted. `None` at the end.
    #[allow(
        clippy::option_option,
        reason = "the end, and what cannot be read, are different"
    )]
    fn read_next(&mut self) -> Option<Option<Line<'_>>> {
        if self.given {
            self.given = false;
            self.step();
        }
        if !self.choose() {
            return None;
        }
        self.given = true;
        let stream = &self.open[self.current];
        let counts = &mut self.counts;
        let Some(entry) = parse(stream, counts) else {
            return Some(None);
        };
        counts.records += 1;
        if let Some(Progress(tell)) = &mut self.progress
            && counts.records.is_multiple_of(TELL_EVERY)
        {
            tell(counts);
        }
        look_back(&mut self.latest, self.current, &entry, counts);
        Some(Some(Line {
            file: stream.name(),
            number: stream.number(),
            pod: stream.pod(),
            json: stream.json(),
            entry,
        }))
    }

    fn add(&mut self, stream: Stream) {
        self.open.push(stream);
        self.current = self.open.len() - 1;
        self.step();
    }

    /// Takes the current stream to its next record, or closes it.
    fn step(&mut self) {
        let stream = &mut self.open[self.current];
        stream.advance(&mut self.counts);
        if stream.head_time().is_none() {
            self.open.swap_remove(self.current);
            self.latest.0 = usize::MAX;
            self.until = None;
        }
    }

    /// Makes the stream with the earliest record the current one; false if there is none.
    fn choose(&mut self) -> bool {
        let head = self.open.get(self.current).and_then(Stream::head_time);
        if let (Some(head), Some(until)) = (head, self.until)
            && head <= until
        {
            return true;
        }
        loop {
            let heads = self.open.iter().map(Stream::head_time).enumerate();
            let earliest = heads.min_by_key(|(_, head)| *head);
            let due = self.pending.last().map(|pending| pending.first);
            match (earliest, due) {
                (None, None) => return false,
                (Some((current, head)), Some(due)) if head < due => {
                    self.go_to(current, due);
                    return true;
                }
                (Some((current, _)), None) => {
                    self.go_to(current, None);
                    return true;
                }
                (_, Some(_)) => self.open_next(),
            }
        }
    }

    /// Makes a stream the current one, until another has an earlier record.
    fn go_to(&mut self, current: usize, due: Option<Timestamp>) {
        self.current = current;
        let others = self.open.iter().enumerate();
        let others = others.filter(|(index, _)| *index != current);
        let next = others.filter_map(|(_, stream)| stream.head_time()).min();
        self.until = match (next, due) {
            (Some(next), Some(due)) => Some(next.min(due)),
            (next, due) => next.or(due).or(Some(Timestamp::MAX)),
        };
    }

    fn open_next(&mut self) {
        let Some(pending) = self.pending.pop() else {
            return;
        };
        match open::open(&pending.path) {
            Ok(stream) => self.add(stream),
            Err(error) => {
                // It was there a moment ago; it may have been rotated away.
                let path = pending.path.display().to_string();
                self.counts.interrupted(&path, 0, &error.to_string());
            }
        }
    }
}

/// Reads the record that waits in a stream; `None` if it cannot be read, which is counted.
fn parse<'a>(stream: &'a Stream, counts: &mut Counts) -> Option<Entry<'a>> {
    let json = stream.json();
    let parsed = match locate::schema(json) {
        Some(record::DECISION) => {
            serde_json::from_slice(json).map(|decision| Entry::Decision(Box::new(decision)))
        }
        Some(record::EVENT) => serde_json::from_slice(json).map(Entry::Event),
        Some(record::SUMMARY) => serde_json::from_slice(json).map(Entry::Summary),
        Some(record::DROPPED) => serde_json::from_slice(json).map(Entry::Dropped),
        Some(record::SHED) => serde_json::from_slice(json).map(Entry::Shed),
        Some(other) if !stream.is_partial() => {
            counts.unknown(other);
            return None;
        }
        Some(_) | None => {
            counts.truncated += 1;
            return None;
        }
    };
    match parsed {
        Ok(entry) => Some(entry),
        Err(_) if stream.is_partial() => {
            counts.truncated += 1;
            None
        }
        Err(error) => {
            counts.broken(stream.name(), stream.number(), &error.to_string());
            None
        }
    }
}

/// Notes that time went back. A record has the time when its request was accepted, and is written when that has
/// ended; so it is the ends that follow each other.
fn look_back(
    latest: &mut (usize, Timestamp),
    current: usize,
    entry: &Entry<'_>,
    counts: &mut Counts,
) {
    let took = match entry {
        Entry::Decision(decision) => decision.timing_us.total,
        _ => 0,
    };
    let took = SignedDuration::from_micros(i64::try_from(took).unwrap_or(i64::MAX));
    let end = entry.time().saturating_add(took).unwrap_or(Timestamp::MAX);
    if latest.0 != current {
        *latest = (current, end);
        return;
    }
    let back = latest.1.duration_since(end);
    if back > BACK {
        counts.backwards += 1;
        let seconds = u64::try_from(back.as_secs()).unwrap_or_default();
        counts.backwards_s = counts.backwards_s.max(seconds);
        // Counted once, and not for every record until the old time is reached.
        latest.1 = end;
    }
    latest.1 = latest.1.max(end);
}

#[cfg(test)]
mod tests;
