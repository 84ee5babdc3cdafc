//! What is read for a page: the newest records, in bounded bytes and time; kept revisions; last uses.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use countersign_config::history::LastUse;
use countersign_core::clock::Clock;
use countersign_insight::{
    history::History,
    reader::{Reader, Tail},
    survey::Survey,
};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::source::Source;

/// How many bytes of the newest records are read: the first that can be read in [`READ_TIME`]. The last takes what it
/// takes.
const WINDOWS: [u64; 3] = [48 << 20, 8 << 20, 1 << 20];

/// How long one attempt at reading may take.
const READ_TIME: Duration = Duration::from_secs(2);

/// For how long what was read serves for further pages.
const FRESH: Duration = Duration::from_secs(5);

/// The largest file of last uses that is read.
const LARGEST_LAST_USE: u64 = 64 << 20;

/// Where pages are made, one at a time.
pub(crate) struct Room {
    pub(crate) source: Arc<dyn Source>,
    clock: Clock,
    read: Option<(Instant, Arc<Reading>)>,
}

/// The newest records, and which they are.
pub(crate) struct Reading {
    pub(crate) survey: Survey,
    /// In one sentence which records were read.
    pub(crate) coverage: String,
    tail: Option<Tail>,
}

impl Room {
    pub(crate) fn new(source: Arc<dyn Source>, clock: Clock) -> Self {
        Self {
            source,
            clock,
            read: None,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The newest records, as of some seconds ago at most.
    pub(crate) fn reading(&mut self) -> Arc<Reading> {
        if let Some((at, read)) = &self.read
            && at.elapsed() < FRESH
        {
            return Arc::clone(read);
        }
        // Forgotten first, so that there are never two.
        self.read = None;
        let read = Arc::new(self.read());
        self.read = Some((Instant::now(), Arc::clone(&read)));
        read
    }

    fn read(&self) -> Reading {
        let now = self.now();
        let logs = self.source.logs();
        if logs.is_empty() {
            return self.read_memory(now);
        }
        let [windows @ .., least] = WINDOWS;
        for most in windows {
            let tail = Tail::of(&logs, most);
            let begun = Instant::now();
            let is_over = || begun.elapsed() > READ_TIME;
            if let Ok(survey) = Survey::within(&mut tail.open(), now, is_over) {
                return Reading::of(survey, tail);
            }
        }
        let tail = Tail::of(&logs, least);
        Reading::of(Survey::whole(&mut tail.open(), now), tail)
    }

    fn read_memory(&self, now: Timestamp) -> Reading {
        let records = io::Cursor::new(self.source.records());
        let mut reader = Reader::stream("records", records);
        Reading {
            survey: Survey::whole(&mut reader, now),
            coverage: "The records are the latest that this gateway keeps in memory, 2 MiB at most; a decision log in a file (observe.decisions) would reach further back."
                .to_owned(),
            tail: None,
        }
    }

    /// The record of an id, as it was written.
    pub(crate) fn record(&mut self, id: &str) -> Option<Vec<u8>> {
        let reading = self.reading();
        let line = reading.tail.as_ref().and_then(|tail| tail.find(id));
        line.or_else(|| {
            let wanted = format!("\"id\":\"{id}\"");
            let records = self.source.records();
            let mut lines = records.split(|byte| *byte == b'\n').rev();
            let has =
                |line: &&[u8]| std::str::from_utf8(line).is_ok_and(|line| line.contains(&wanted));
            lines.find(has).map(<[u8]>::to_vec)
        })
    }

    /// The kept revisions; `None` if none are kept.
    ///
    /// # Errors
    /// When their directory cannot be read.
    pub(crate) fn history(&self) -> io::Result<Option<History>> {
        let Some(directory) = self.source.revisions() else {
            return Ok(None);
        };
        match History::of_directory(&directory) {
            Ok(history) => Ok(Some(history).filter(|history| !history.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What was used before the records that were read.
    pub(crate) fn last_use(&self) -> Option<LastUse> {
        let file = self.source.last_use().filter(|file| file.exists())?;
        let read = read_bounded(&file, LARGEST_LAST_USE).and_then(|text| LastUse::read(&text));
        if read.is_none() {
            tracing::warn!(file = %file.display(), "the file of last uses cannot be read or is damaged; a review knows the records' uses alone");
        }
        read
    }
}

impl Reading {
    fn of(survey: Survey, tail: Tail) -> Self {
        Self {
            survey,
            coverage: coverage(&tail),
            tail: Some(tail),
        }
    }
}

fn read_bounded(file: &Path, most: u64) -> Option<Vec<u8>> {
    let length = fs::metadata(file).ok()?.len();
    if length > most {
        return None;
    }
    fs::read(file).ok()
}

fn coverage(tail: &Tail) -> String {
    let mib = |bytes: u64| {
        let tenths = bytes.saturating_mul(10) / (1 << 20);
        format!("{}.{} MiB", tenths / 10, tenths % 10)
    };
    let read = mib(tail.bytes);
    if tail.left_out == 0 {
        return format!("All {read} of the decision log were read.");
    }
    format!(
        "The newest {read} of the decision log were read; {} older ones were not: ask `countersign triage` for them.",
        mib(tail.left_out)
    )
}
