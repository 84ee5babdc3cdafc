//! The newest part of logs that are still written: a bounded number of bytes, whatever lies there.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use super::{Reader, lines::LONGEST};

/// The most rotated files of one log that are looked for: `PATH.1` to `PATH.9`.
const ROTATED: u32 = 9;

/// Which bytes of which files are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    parts: Vec<Part>,
    /// How many bytes are read at most.
    pub bytes: u64,
    /// How many older bytes there are that are not read.
    pub left_out: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    path: PathBuf,
    from: u64,
    length: u64,
}

impl Tail {
    /// The newest `most` bytes of these logs and of their rotated files, shared equally among the logs. What is
    /// missing or is no regular file is passed over.
    pub fn of(logs: &[PathBuf], most: u64) -> Self {
        let mut tail = Self::default();
        let logs_of = u64::try_from(logs.len()).unwrap_or(u64::MAX).max(1);
        for log in logs {
            tail.add(log, most / logs_of);
        }
        tail
    }

    fn add(&mut self, log: &Path, most: u64) {
        let mut room = most;
        let rotated = (1..=ROTATED).map(|number| numbered(log, number));
        for path in std::iter::once(log.to_owned()).chain(rotated) {
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            if !metadata.is_file() {
                continue;
            }
            let read = metadata.len().min(room);
            room -= read;
            self.bytes += read;
            self.left_out += metadata.len() - read;
            if read > 0 {
                self.parts.push(Part {
                    path,
                    from: metadata.len() - read,
                    length: read,
                });
            }
        }
    }

    /// Reads them, merged by time. A file that was rotated away meanwhile is passed over.
    pub fn open(&self) -> Reader {
        let inputs = self.parts.iter().filter_map(|part| {
            let name = part.path.display().to_string();
            Some((name, part.open().ok()?))
        });
        Reader::streams(inputs.collect())
    }

    /// The line of a record, by its id; the newest one if several have it.
    pub fn find(&self, id: &str) -> Option<Vec<u8>> {
        let wanted = format!("\"id\":\"{id}\"");
        let wanted = memchr::memmem::Finder::new(wanted.as_bytes());
        self.parts.iter().find_map(|part| {
            let mut input = BufReader::new(part.open().ok()?);
            let mut line = Vec::new();
            loop {
                line.clear();
                let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX);
                let read = (&mut input).take(limit).read_until(b'\n', &mut line).ok()?;
                if read == 0 {
                    return None;
                }
                if wanted.find(&line).is_some() {
                    return Some(line);
                }
            }
        })
    }
}

impl Part {
    /// From the first whole line on.
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path)?;
        let mut length = self.length;
        if self.from > 0 {
            // The byte before tells whether a line begins here.
            file.seek(SeekFrom::Start(self.from - 1))?;
            length += 1;
        }
        let mut input = BufReader::new(file.take(length));
        if self.from > 0 {
            input.skip_until(b'\n')?;
        }
        Ok(Box::new(input))
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Entry;

    fn line(number: u32) -> String {
        format!(
            r#"{{"schema":"countersign.decision/v1","time":"2026-11-23T05:00:{number:02}Z","id":"id-{number:02}","outcome":"permitted","reason":"permitted"}}"#
        ) + "\n"
    }

    fn ids(tail: &Tail) -> Vec<String> {
        let mut ids = Vec::new();
        tail.open().each(|line| {
            if let Entry::Decision(decision) = &line.entry {
                ids.push(decision.id.to_string());
            }
        });
        ids
    }

    #[test]
    fn the_newest_whole_lines_are_read_and_the_rest_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("decisions.jsonl");
        let lines: Vec<String> = (0..6).map(line).collect();
        fs::write(numbered(&log, 2), lines[..2].concat()).unwrap();
        fs::write(numbered(&log, 1), lines[2..4].concat()).unwrap();
        fs::write(&log, lines[4..].concat()).unwrap();
        let each = lines[0].len() as u64;
        let logs = [log];

        let all = Tail::of(&logs, 100 * each);
        assert_eq!((all.bytes, all.left_out), (6 * each, 0));
        assert_eq!(ids(&all).len(), 6);

        let three = Tail::of(&logs, 3 * each);
        assert_eq!((three.bytes, three.left_out), (3 * each, 3 * each));
        assert_eq!(ids(&three), ["id-03", "id-04", "id-05"]);

        // A line that is not read whole is not read at all.
        let cut = Tail::of(&logs, 3 * each - 1);
        assert_eq!(ids(&cut), ["id-04", "id-05"]);
        assert_eq!(cut.find("id-04").unwrap(), lines[4].as_bytes());
        assert_eq!(cut.find("id-01"), None);
        assert_eq!(ids(&Tail::of(&[], 100)), [""; 0]);
    }
}
