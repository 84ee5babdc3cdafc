//! One file or pipe: its lines, of which the next record waits for its turn.

use std::{io::Read, ops::Range};

use jiff::Timestamp;

use super::{
    Counts,
    lines::{Lines, Step},
    locate::{self, Located},
};

#[derive(Debug)]
pub(super) struct Stream {
    name: String,
    lines: Lines,
    head: Option<Head>,
    /// A record that had to be unwrapped.
    unwrapped: String,
    pod: String,
    /// The latest time so far, for records whose own cannot be read.
    latest: Timestamp,
}

/// The next record.
#[derive(Debug)]
struct Head {
    place: Place,
    time: Timestamp,
    /// Its line has no end: it may be cut.
    partial: bool,
}

#[derive(Debug)]
enum Place {
    Line(Range<usize>),
    Unwrapped,
}

impl Stream {
    pub(super) fn new(name: String, input: Box<dyn Read + Send>) -> Self {
        Self {
            name,
            lines: Lines::new(input),
            head: None,
            unwrapped: String::new(),
            pod: String::new(),
            latest: Timestamp::UNIX_EPOCH,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn number(&self) -> u64 {
        self.lines.number()
    }

    /// The pod that the current line's prefix names.
    pub(super) fn pod(&self) -> Option<&str> {
        Some(&*self.pod).filter(|pod| !pod.is_empty())
    }

    /// When the next record was.
    pub(super) fn head_time(&self) -> Option<Timestamp> {
        self.head.as_ref().map(|head| head.time)
    }

    pub(super) fn is_partial(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.partial)
    }

    /// The next record's JSON.
    pub(super) fn json(&self) -> &[u8] {
        match self.head.as_ref().map(|head| &head.place) {
            Some(Place::Line(range)) => &self.lines.line()[range.clone()],
            Some(Place::Unwrapped) => self.unwrapped.as_bytes(),
            None => &[],
        }
    }

    /// Goes to the next record, and counts what lies before it.
    pub(super) fn advance(&mut self, counts: &mut Counts) {
        let before = self.lines.bytes();
        self.head = None;
        loop {
            let step = match self.lines.advance() {
                Ok(step) => step,
                Err(error) => {
                    counts.interrupted(&self.name, self.lines.number(), &error.to_string());
                    continue;
                }
            };
            match step {
                Step::End => break,
                Step::TooLong => {
                    counts.lines += 1;
                    counts.foreign += 1;
                }
                Step::Whole | Step::Partial => {
                    counts.lines += 1;
                    if self.take(step == Step::Partial, counts) {
                        break;
                    }
                }
            }
        }
        counts.bytes += self.lines.bytes() - before;
    }

    /// Whether the current line has a record.
    fn take(&mut self, partial: bool, counts: &mut Counts) -> bool {
        let line = self.lines.line();
        let place = match locate::locate(line) {
            Located::At(range) => {
                self.pod.clear();
                if let Some(pod) = locate::pod(&line[..range.start]) {
                    self.pod.push_str(pod);
                }
                Place::Line(range)
            }
            Located::Wrapped(text) => {
                self.pod.clear();
                self.unwrapped = text;
                Place::Unwrapped
            }
            Located::Foreign => {
                if !line.is_empty() {
                    counts.foreign += 1;
                }
                return false;
            }
        };
        let json = match &place {
            Place::Line(range) => &line[range.clone()],
            Place::Unwrapped => self.unwrapped.as_bytes(),
        };
        let time = locate::time(json).unwrap_or(self.latest);
        self.latest = time;
        self.head = Some(Head {
            place,
            time,
            partial,
        });
        true
    }
}
