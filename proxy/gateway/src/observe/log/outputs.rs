//! Standard output and files, to which lines go.

use std::{
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
};

use countersign_core::metrics::Class;

use super::file::{self, RotatingFile};

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
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.write_all(lines).and_then(|()| stream.flush()),
            Self::File(file) => file.append(lines),
        }
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
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

    pub(super) fn of(&mut self, class: Class) -> &mut Output {
        match (class, &mut self.unidentified) {
            (Class::Unidentified, Some(output)) => output,
            (Class::Identified, _) | (Class::Unidentified, None) => &mut self.identified,
        }
    }
}
