//! A file that is rotated by size, and reopened after a tool has moved it. What is not a file (a pipe, a
//! device) is only written to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::time::Instant;

/// How large a file may grow, and how many are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotation {
    /// A file is rotated before it grows beyond this.
    bytes: u64,
    /// Rotated files that are kept: `PATH.1` is the newest of them.
    keep: u32,
}

/// The files of proven callers.
pub(super) const IDENTIFIED: Rotation = Rotation {
    bytes: 64 * 1024 * 1024,
    keep: 5,
};

/// The files of all others.
pub(super) const UNIDENTIFIED: Rotation = Rotation {
    bytes: 16 * 1024 * 1024,
    keep: 2,
};

/// How often the path is compared with the open file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An append-only file, readable by its owner only.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    /// Its length up to the last whole line.
    length: u64,
    /// Whether it is a regular file.
    regular: bool,
    rotation: Rotation,
    looked: Instant,
}

/// The file for unidentified callers' records: `decisions.unidentified.jsonl` beside `decisions.jsonl`.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(".unidentified");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

impl RotatingFile {
    /// Opens the file for appending, and creates it if it is missing. Does not wait: a pipe without a
    /// reader is an error.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let (file, length, regular) = open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            regular,
            rotation,
            looked: Instant::now(),
        })
    }

    /// Whether it is a regular file, not a pipe or a device.
    pub(super) fn rotates(&self) -> bool {
        self.regular
    }

    /// Appends whole lines, all or none: a partial write is cut off again, so that no line is half a
    /// record.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            if self.was_moved() {
                self.reopen()?;
            }
        }
        let added = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let full = self.length.saturating_add(added) > self.rotation.bytes;
        if self.regular && self.length > 0 && full {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(lines) {
            if self.regular {
                // The first error is the more useful one.
                let _ = self.file.set_len(self.length);
            }
            return Err(error);
        }
        self.length += added;
        Ok(())
    }

    /// Opens the path again.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.length, self.regular) = open(&self.path)?;
        Ok(())
    }

    /// Shifts `PATH.1` to `PATH.2`, and so on, and starts a new file.
    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.rotation.keep).rev() {
            rename_if_there(&self.numbered(number), &self.numbered(number + 1))?;
        }
        rename_if_there(&self.path, &self.numbered(1))?;
        self.reopen()
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// Whether the path is no longer the open file. If that is unknown it counts as moved; reopening it
    /// reports why.
    fn was_moved(&self) -> bool {
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(ours)) => (there.dev(), there.ino()) != (ours.dev(), ours.ino()),
            (Err(_), _) | (_, Err(_)) => true,
        }
    }
}

fn open(path: &Path) -> io::Result<(File, u64, bool)> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    // Writing may block: the writer has a thread of its own.
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok((file, metadata.len(), metadata.is_file()))
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::unix::fs::PermissionsExt};

    use rstest::rstest;

    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    fn open_with(path: &Path, bytes: u64, keep: u32) -> RotatingFile {
        RotatingFile::open(path, Rotation { bytes, keep }).unwrap()
    }

    #[test]
    fn rotates_by_size_and_keeps_five() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("decisions.jsonl");
        let mut file = open_with(&path, 10, IDENTIFIED.keep);
        for number in 0..8 {
            file.append(format!("line-{number}\n").as_bytes()).unwrap();
        }
        assert_eq!(read(&path), "line-7\n");
        for (number, line) in [(1, "line-6\n"), (5, "line-2\n")] {
            assert_eq!(read(&file.numbered(number)), line);
        }
        assert!(!file.numbered(6).exists());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn counts_what_was_there_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("decisions.jsonl");
        fs::write(&path, "12345678\n").unwrap();
        let mut file = open_with(&path, 10, 5);
        file.append(b"ab\n").unwrap();
        assert_eq!(read(&file.numbered(1)), "12345678\n");
        assert_eq!(read(&path), "ab\n");
    }

    #[test]
    fn a_batch_larger_than_the_limit_still_goes_to_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("decisions.jsonl");
        let mut file = open_with(&path, 4, 5);
        file.append(b"a long line\n").unwrap();
        assert_eq!(read(&path), "a long line\n");
        assert!(!file.numbered(1).exists());
    }

    #[rstest]
    #[case("/var/log/decisions.jsonl", "/var/log/decisions.unidentified.jsonl")]
    #[case("decisions", "decisions.unidentified")]
    #[case("a.b/decisions.2026.json", "a.b/decisions.2026.unidentified.json")]
    fn strangers_have_a_file_beside(#[case] path: &str, #[case] expected: &str) {
        assert_eq!(beside(Path::new(path)), Path::new(expected));
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_an_error_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        make_pipe(&path);
        let error = RotatingFile::open(&path, IDENTIFIED).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(6), "{error}");
    }

    #[test]
    fn a_pipe_that_is_read_is_written_to_and_never_rotated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        make_pipe(&path);
        // Opened for both, so that neither end waits for the other.
        let mut reader = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let mut file = open_with(&path, 4, 5);
        assert!(!file.rotates());
        for line in [b"one\n", b"two\n"] {
            file.append(line).unwrap();
        }
        let mut both = [0; 8];
        reader.read_exact(&mut both).unwrap();
        assert_eq!(&both, b"one\ntwo\n");
        assert!(!file.numbered(1).exists());
    }

    fn make_pipe(path: &Path) {
        use rustix::fs::{CWD, FileType, Mode};
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn follows_a_file_that_was_moved_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("decisions.jsonl");
        let moved = directory.path().join("moved");
        let mut file = open_with(&path, 1000, 5);
        file.append(b"one\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        file.append(b"two\n").unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        file.append(b"three\n").unwrap();
        assert_eq!(read(&moved), "one\ntwo\n");
        assert_eq!(read(&path), "three\n");
    }

    /// `/dev/full` fails every write as a full disk does.
    #[test]
    fn a_full_disk_is_an_error_and_not_the_end() {
        let mut file = RotatingFile::open(Path::new("/dev/full"), IDENTIFIED).unwrap();
        let error = file.append(b"line\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        file.append(b"line\n").unwrap_err();
    }
}
