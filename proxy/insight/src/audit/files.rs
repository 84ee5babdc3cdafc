//! The files of an audit: logs, in the order in which they were written, and checkpoints.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use countersign_types::shown::io_error;

use crate::reader::{RawLines, raw_lines};

/// Why a log cannot be audited.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A log cannot be opened.
    #[error(transparent)]
    Open(#[from] crate::reader::OpenError),
    /// A file cannot be read to its end.
    #[error("{path} cannot be read to its end: {}", io_error(source))]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No line has the id.
    #[error("no line of the log has the id {0}")]
    NoSuchId(String),
    /// The line is not proven by a checkpoint.
    #[error("{0}")]
    Unproven(String),
}

/// A log to be audited.
#[derive(Debug)]
pub struct Sealed {
    path: PathBuf,
    /// Chain and place of its first sealed line: the names of chains follow each other in time.
    first: Option<(String, u64)>,
}

/// Signed checkpoints, with their files.
#[derive(Debug, Default)]
pub struct Checkpoints(pub(super) Vec<(String, String)>);

impl Sealed {
    /// The files of some paths, in the order in which they were written.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn files(paths: &[PathBuf]) -> Result<Vec<Self>, AuditError> {
        let mut files = Vec::new();
        for path in crate::reader::files(paths)? {
            let mut first = None;
            let mut file = Self { path, first: None };
            file.walk(|_, line| {
                if let Ok((integrity, _)) = countersign_audit::read(line) {
                    first = Some((integrity.chain, integrity.sequence));
                }
                first.is_none()
            })?;
            file.first = first;
            files.push(file);
        }
        files.sort_by(|one, other| (&one.first, &one.path).cmp(&(&other.first, &other.path)));
        Ok(files)
    }

    /// Gives each record of the file to `see`, with its place.
    pub(super) fn each(&self, mut see: impl FnMut((&str, u64), &[u8])) -> Result<(), AuditError> {
        self.walk(|place, line| {
            see(place, line);
            true
        })
    }

    fn walk(&self, mut see: impl FnMut((&str, u64), &[u8]) -> bool) -> Result<(), AuditError> {
        let mut lines: RawLines = raw_lines(&self.path)?;
        let name = self.path.display().to_string();
        let failed = |source| AuditError::Read {
            path: self.path.clone(),
            source,
        };
        while let Some((number, line)) = lines.advance().map_err(failed)? {
            if !see((&name, number), line) {
                break;
            }
        }
        Ok(())
    }
}

impl Checkpoints {
    /// All checkpoints of a directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let mut checkpoints = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "checkpoint")
            {
                checkpoints.push((path.display().to_string(), fs::read_to_string(&path)?));
            }
        }
        checkpoints.sort();
        Ok(Self(checkpoints))
    }

    /// The note of a chain.
    pub(super) fn of(&self, chain: &str) -> Option<&str> {
        let name = format!("{chain}.checkpoint");
        let mut all = self.0.iter();
        all.find(|(file, _)| file.ends_with(&name))
            .map(|(_, note)| note.as_str())
    }
}
