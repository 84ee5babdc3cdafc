//! What a gateway keeps of its resources: the revisions that were in force, with their texts, and when each grant was
//! last used.
//!
//! A revision is one document, whose name has the hash of its content. Whoever keeps it compresses it.

mod last_use;

use std::path::PathBuf;

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    load::{self, Loaded, ResourceText},
    problem::Problems,
    setting::Setting,
};

pub use last_use::{CredentialUse, FILE as LAST_USE, GrantUse, LastUse, Used};

/// The directory below the state directory.
pub const DIRECTORY: &str = "revisions";

/// The name and version of the document.
const SCHEMA: &str = "countersign.revision/v1";

/// The ending of a kept revision's name.
const ENDING: &str = ".json.gz";

/// The longest document, in bytes before it is compressed: the texts have 64 MiB at most, and JSON escapes some
/// of them.
pub const LARGEST: u64 = 160 * 1024 * 1024;

/// A revision that was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRevision {
    /// `countersign.revision/v1`.
    pub schema: String,
    /// Its name in records.
    pub revision: String,
    /// From when on it was in force.
    pub since: Timestamp,
    /// Whether something in its texts looked like a secret, and was replaced. The texts may say something else then
    /// than what was in force.
    pub redacted: bool,
    /// Its texts, in the order in which they were read.
    pub files: Vec<KeptFile>,
}

/// One file of a kept revision. Each object of a cluster is a file too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Where it was read.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// What the name of a kept revision says, so that not every document must be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Head {
    /// From when on it was in force.
    pub since: Timestamp,
    /// Its name in records.
    pub revision: String,
    /// SHA-256 of the document before it is compressed, in hexadecimal.
    pub digest: String,
}

/// Why a kept revision cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// Its content is not what its name says.
    #[error("it was changed or cut off since it was kept")]
    Changed,
    /// It is no document of this version.
    #[error("it is no kept revision of this version")]
    Unreadable,
    /// This version refuses the resources.
    #[error("this version cannot use its resources: {}", .0.errors())]
    Unusable(Problems),
}

impl KeptRevision {
    /// A revision with its texts, from each of which `redact` takes what looks like a secret.
    pub fn new<'t>(
        revision: &str,
        since: Timestamp,
        texts: impl IntoIterator<Item = &'t ResourceText>,
        redact: impl Fn(&str) -> String,
    ) -> Self {
        let mut redacted = false;
        let files = texts.into_iter().map(|one| {
            let text = redact(&one.text);
            redacted |= text != one.text;
            KeptFile {
                path: one.path.clone(),
                text,
            }
        });
        let files = files.collect();
        Self {
            schema: SCHEMA.to_owned(),
            revision: revision.to_owned(),
            since,
            redacted,
            files,
        }
    }

    /// The document, and what its name says.
    ///
    /// # Panics
    /// Never: texts, times and names can be written.
    pub fn document(&self) -> (Head, Vec<u8>) {
        let content = serde_json::to_vec(self).expect("texts, times and names can be written");
        let head = Head {
            since: self.since,
            revision: self.revision.clone(),
            digest: hash(&content),
        };
        (head, content)
    }

    /// Reads a document, which must be the one that its name says.
    ///
    /// # Errors
    /// When it is another one, or cannot be read.
    pub fn read(head: &Head, content: &[u8]) -> Result<Self, KeptError> {
        if hash(content) != head.digest {
            return Err(KeptError::Changed);
        }
        let kept: Self = serde_json::from_slice(content).map_err(|_| KeptError::Unreadable)?;
        if kept.schema == SCHEMA {
            Ok(kept)
        } else {
            Err(KeptError::Unreadable)
        }
    }

    /// The resources as they were. What `governance` asks for today is not asked of them.
    ///
    /// # Errors
    /// When this version refuses them.
    pub fn load(&self) -> Result<Loaded, KeptError> {
        let texts = self.files.iter().map(|file| ResourceText {
            path: file.path.clone(),
            text: file.text.clone(),
        });
        load::resources_of(texts.collect(), &Setting::default()).map_err(KeptError::Unusable)
    }
}

impl Head {
    /// The name of the file, by which files are in the order of their times.
    pub fn file_name(&self) -> String {
        let Self {
            since,
            revision,
            digest,
        } = self;
        format!("{:015}-{revision}-{digest}{ENDING}", since.as_millisecond())
    }

    /// Reads the name of a file; `None` if it is of something else.
    pub fn of_file(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(ENDING)?.splitn(3, '-');
        let since = parts.next()?.parse().ok()?;
        let (revision, digest) = (parts.next()?, parts.next()?);
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_hex(digest) && digest.len() == 64).then_some(())?;
        Some(Self {
            since: Timestamp::from_millisecond(since).ok()?,
            revision: revision.to_owned(),
            digest: digest.to_owned(),
        })
    }
}

fn hash(content: &[u8]) -> String {
    use std::fmt::Write as _;
    let hash = digest::digest(&digest::SHA256, content);
    hash.as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: countersign.dev/v1alpha1\nkind: Workload\nmetadata: { name: one, namespace: qa }\n\
                        spec: { owner: qa, match: [{ serviceAccount: one }] }\n";

    fn kept() -> KeptRevision {
        let text = ResourceText {
            path: "/policy/one.yaml".into(),
            text: format!("{TEXT}# old: hush\n"),
        };
        let since = "2026-11-23T05:10:03.412Z".parse().expect("a time");
        KeptRevision::new("9f2c1a", since, [&text], |text| text.replace("hush", "…"))
    }

    #[test]
    fn what_is_kept_is_read_again_and_holds_no_secret() {
        let kept = kept();
        assert!(kept.redacted && !kept.files[0].text.contains("hush"));
        let (head, content) = kept.document();
        assert_eq!(Head::of_file(&head.file_name()).as_ref(), Some(&head));
        let read = KeptRevision::read(&head, &content).expect("it is as it was");
        assert_eq!(read, kept);
        let loaded = read.load().expect("the resources are sound");
        assert_eq!(loaded.policies.workloads()[0].name.as_str(), "qa/one");
    }

    #[test]
    fn what_was_changed_is_refused() {
        let (head, mut content) = kept().document();
        content.truncate(content.len() - 1);
        let read = KeptRevision::read(&head, &content);
        assert!(matches!(read, Err(KeptError::Changed)), "{read:?}");
        let other = br#"{"schema":"countersign.revision/v2"}"#;
        let head = Head {
            digest: hash(other),
            ..head
        };
        let read = KeptRevision::read(&head, other);
        assert!(matches!(read, Err(KeptError::Unreadable)), "{read:?}");
    }

    #[test]
    fn other_files_are_no_revisions() {
        let (head, _) = kept().document();
        let name = head.file_name();
        for name in [
            "9f2c1a.json",
            ".countersign-x",
            &name[1..20],
            &name.replace("json", "yaml"),
        ] {
            assert_eq!(Head::of_file(name), None, "{name}");
        }
    }
}
