//! A file that is rotated by size, and opened again when a tool has moved it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

/// A file is rotated before it grows beyond this.
const ROTATE_BYTES: u64 = 64 * 1024 * 1024;

/// Rotated files that are kept: `PATH.1` is the newest of them.
const KEEP: u32 = 5;

/// How often the path is compared with the open file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An append-only file, readable by its owner only.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    /// Its length as far as whole lines go.
    length: u64,
    rotate_bytes: u64,
    looked: Instant,
}

impl RotatingFile {
    /// Opens the file for appending, and makes it if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, ROTATE_BYTES)
    }

    fn open_with(path: &Path, rotate_bytes: u64) -> io::Result<Self> {
        let (file, length) = open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            rotate_bytes,
            looked: Instant::now(),
        })
    }

    /// Appends whole lines, all or none: what a failed write left behind is cut off again, so
    /// that no line is ever half a record.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            if self.was_moved() {
                self.reopen()?;
            }
        }
        let added = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if self.length > 0 && self.length.saturating_add(added) > self.rotate_bytes {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(lines) {
            // A pipe or device cannot be cut; the first error says more than this one would.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += added;
        Ok(())
    }

    /// Opens the path again.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.length) = open(&self.path)?;
        Ok(())
    }

    /// Shifts `PATH.4` to `PATH.5`, and so on, and starts a new file.
    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..KEEP).rev() {
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

    /// Whether the path is no longer the open file. If that cannot be told, it counts as moved:
    /// opening it again says why.
    fn was_moved(&self) -> bool {
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(ours)) => (there.dev(), there.ino()) != (ours.dev(), ours.ino()),
            (Err(_), _) | (_, Err(_)) => true,
        }
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn rotates_by_size_and_keeps_five() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("decisions.jsonl");
        let mut file = RotatingFile::open_with(&path, 10).unwrap();
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
        let mut file = RotatingFile::open_with(&path, 10).unwrap();
        file.append(b"ab\n").unwrap();
        assert_eq!(read(&file.numbered(1)), "12345678\n");
        assert_eq!(read(&path), "ab\n");
    }

    #[test]
    fn a_batch_larger_than_the_limit_still_goes_to_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("decisions.jsonl");
        let mut file = RotatingFile::open_with(&path, 4).unwrap();
        file.append(b"a long line\n").unwrap();
        assert_eq!(read(&path), "a long line\n");
        assert!(!file.numbered(1).exists());
    }

    #[tokio::test(start_paused = true)]
    async fn follows_a_file_that_was_moved_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("decisions.jsonl");
        let moved = directory.path().join("moved");
        let mut file = RotatingFile::open_with(&path, 1000).unwrap();
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
        let mut file = RotatingFile::open(Path::new("/dev/full")).unwrap();
        let error = file.append(b"line\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        file.append(b"line\n").unwrap_err();
    }
}
