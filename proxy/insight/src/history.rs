//! The revisions that a gateway has kept, and what each of them changed.

mod change;
#[cfg(test)]
pub(crate) mod fixture;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::Path,
    rc::Rc,
};

use countersign_config::{
    history::{Head, KeptError, KeptFile, KeptRevision, LARGEST},
    load::Loaded,
};
use countersign_types::shown::io_error;
use flate2::read::GzDecoder;
use jiff::Timestamp;

pub use change::{ChangedResource, RevisionChange};

/// Why a kept revision cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It cannot be had.
    #[error("the kept revision {revision} cannot be read: {}", io_error(source))]
    Read {
        /// Its name.
        revision: String,
        /// Why.
        source: io::Error,
    },
    /// It cannot be used.
    #[error("the kept revision {revision} cannot be used: {source}")]
    Kept {
        /// Its name.
        revision: String,
        /// Why.
        source: KeptError,
    },
}

/// Brings the compressed document of a revision.
type Fetch = Box<dyn Fn(&Head) -> io::Result<Vec<u8>>>;

/// The revisions that were in force, the oldest first.
pub struct History {
    heads: Vec<Head>,
    fetch: Fetch,
    read: RefCell<BTreeMap<usize, Rc<Revision>>>,
}

/// A revision, ready to decide by.
#[derive(Debug)]
pub struct Revision {
    /// Its name in records.
    pub name: String,
    /// From when on it was in force; `None` if that is not known.
    pub since: Option<Timestamp>,
    /// Whether its texts are not exactly those that were in force.
    pub redacted: bool,
    /// Its resources.
    pub loaded: Loaded,
    /// Its texts.
    pub files: Vec<KeptFile>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History")
            .field("heads", &self.heads)
            .finish_non_exhaustive()
    }
}

impl History {
    /// Those of which `heads` tells, and whose compressed documents `fetch` brings.
    pub fn new(
        mut heads: Vec<Head>,
        fetch: impl Fn(&Head) -> io::Result<Vec<u8>> + 'static,
    ) -> Self {
        heads.sort();
        Self {
            heads,
            fetch: Box::new(fetch),
            read: RefCell::default(),
        }
    }

    /// Those in a directory. Files that are no revisions are passed over.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_directory(directory: &Path) -> io::Result<Self> {
        let mut heads = Vec::new();
        for entry in fs::read_dir(directory)? {
            heads.extend(entry?.file_name().to_str().and_then(Head::of_file));
        }
        let directory = directory.to_owned();
        Ok(Self::new(heads, move |head| {
            fs::read(directory.join(head.file_name()))
        }))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// All of them, the oldest first.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The place of the revision with this name that was in force at a time; or, of a gateway whose clock differs,
    /// the nearest one with this name.
    pub fn of_record(&self, revision: &str, at: Timestamp) -> Option<usize> {
        let mut named = self.places(revision);
        let before = named.clone().rfind(|place| self.heads[*place].since <= at);
        before.or_else(|| named.next())
    }

    /// The place of the revision that was in force at a time.
    pub fn in_force(&self, at: Timestamp) -> Option<usize> {
        self.heads.iter().rposition(|head| head.since <= at)
    }

    fn places(&self, revision: &str) -> impl DoubleEndedIterator<Item = usize> + Clone {
        let all = self.heads.iter().enumerate();
        all.filter(move |(_, head)| head.revision == revision)
            .map(|(place, _)| place)
    }

    /// The revision in a place.
    ///
    /// # Errors
    /// When it cannot be read or used.
    pub fn revision(&self, place: usize) -> Result<Rc<Revision>, HistoryError> {
        if let Some(read) = self.read.borrow().get(&place) {
            return Ok(Rc::clone(read));
        }
        let head = &self.heads[place];
        let content = (self.fetch)(head).and_then(|compressed| unpack(&compressed));
        let content = content.map_err(|source| HistoryError::Read {
            revision: head.revision.clone(),
            source,
        })?;
        let unusable = |source| HistoryError::Kept {
            revision: head.revision.clone(),
            source,
        };
        let kept = KeptRevision::read(head, &content).map_err(unusable)?;
        let read = Rc::new(Revision {
            loaded: kept.load().map_err(unusable)?,
            name: kept.revision,
            since: Some(kept.since),
            redacted: kept.redacted,
            files: kept.files,
        });
        self.read.borrow_mut().insert(place, Rc::clone(&read));
        Ok(read)
    }
}

impl Revision {
    /// Resources that were read from files now.
    pub fn current(loaded: Loaded) -> Self {
        let files = loaded.texts.iter().map(|one| KeptFile {
            path: one.path.clone(),
            text: one.text.clone(),
        });
        Self {
            name: loaded.policies.revision().to_owned(),
            since: None,
            redacted: false,
            files: files.collect(),
            loaded,
        }
    }
}

fn unpack(compressed: &[u8]) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    GzDecoder::new(compressed)
        .take(LARGEST)
        .read_to_end(&mut content)?;
    Ok(content)
}
