//! Opening what is to be read: files, folders of rotated files, gzip, standard input.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;

use super::{Counts, stream::Stream};

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or folder cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder has no files.
    #[error("{0} has no files; name the folder of observe.decisions, or the files themselves")]
    Empty(PathBuf),
    /// A file is compressed in another way.
    #[error(
        "{0} is compressed with {1}; decompress it first, for example: {2} {0} | countersign triage -"
    )]
    Compressed(PathBuf, &'static str, &'static str),
}

/// A file that is opened when its first record is due.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) path: PathBuf,
    pub(super) first: Option<Timestamp>,
}

/// All files of the paths, folders expanded, each once.
pub(crate) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, OpenError> {
    let mut files = Vec::new();
    for path in paths {
        let failed = |source| OpenError::Read {
            path: path.clone(),
            source,
        };
        if !fs::metadata(path).map_err(failed)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?.path();
            // One that was rotated away meanwhile is no mistake.
            if fs::metadata(&entry).is_ok_and(|metadata| metadata.is_file()) {
                inside.push(entry);
            }
        }
        if inside.is_empty() {
            return Err(OpenError::Empty(path.clone()));
        }
        inside.sort();
        files.extend(inside);
    }
    let mut seen = HashSet::new();
    files.retain(|path| match fs::metadata(path) {
        // A pipe of the shell's own (`<(...)`) may share its numbers with another.
        Ok(metadata) if metadata.is_file() => seen.insert((metadata.dev(), metadata.ino())),
        Ok(_) | Err(_) => true,
    });
    Ok(files)
}

/// The records of one file as they were written, in its order.
#[derive(Debug)]
pub(crate) struct RawLines(Stream, Counts);

impl RawLines {
    /// The next record with the number of its line; `None` at the end.
    ///
    /// # Errors
    /// When the file cannot be read to its end.
    pub(crate) fn advance(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        self.0.advance(&mut self.1);
        if self.1.interrupted > 0 {
            let what = self.1.places.first().map(|place| place.what.clone());
            return Err(io::Error::other(what.unwrap_or_default()));
        }
        if self.0.head_time().is_none() {
            return Ok(None);
        }
        Ok(Some((self.0.number(), self.0.json())))
    }
}

/// The records of a file, one after another.
pub(crate) fn raw_lines(path: &Path) -> Result<RawLines, OpenError> {
    Ok(RawLines(open(path)?, Counts::default()))
}

/// When the first record of a file was; a pipe is not asked, because what it gives it gives once.
pub(super) fn peek(path: PathBuf) -> Result<Pending, OpenError> {
    let regular = fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
    let first = if regular {
        let mut stream = open(&path)?;
        stream.advance(&mut Counts::default());
        stream.head_time()
    } else {
        None
    };
    Ok(Pending { path, first })
}

/// Opens a file, decompressed.
pub(super) fn open(path: &Path) -> Result<Stream, OpenError> {
    let failed = |source| OpenError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let name = path.display().to_string();
    let (input, kind) = decompressed(Box::new(file)).map_err(failed)?;
    let refused = |what, how| Err(OpenError::Compressed(path.to_owned(), what, how));
    match kind {
        Kind::Readable => Ok(Stream::new(name, input)),
        Kind::Zstd => refused("zstd", "zstdcat"),
        Kind::Xz => refused("xz", "xzcat"),
        Kind::Bzip2 => refused("bzip2", "bzcat"),
    }
}

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Readable,
    Zstd,
    Xz,
    Bzip2,
}

/// Decompresses gzip, whatever the name is.
pub(super) fn decompressed(
    mut input: Box<dyn Read + Send>,
) -> io::Result<(Box<dyn Read + Send>, Kind)> {
    let mut first = Vec::new();
    (&mut input).take(6).read_to_end(&mut first)?;
    let kind = match &first[..] {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Kind::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Kind::Xz,
        [b'B', b'Z', b'h', ..] => Kind::Bzip2,
        _ => Kind::Readable,
    };
    let gzip = first.starts_with(&[0x1f, 0x8b]);
    let whole = io::Cursor::new(first).chain(input);
    let whole: Box<dyn Read + Send> = if gzip {
        Box::new(MultiGzDecoder::new(whole))
    } else {
        Box::new(whole)
    };
    Ok((whole, kind))
}
