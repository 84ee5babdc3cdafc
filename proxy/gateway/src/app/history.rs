//! The revisions that were in force, kept in the state directory: so that a refusal of last week can be decided again
//! as it was decided then, and the change that caused it named.
//!
//! Each is one compressed document, named by when it came in force and by the hash of its content. Texts of resources
//! name secrets and never hold any; if somebody pasted one all the same, it is not kept.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use countersign_config::{
    history::{self, Head, KeptRevision},
    load::ResourceText,
    model::{Gateway, StateStore},
};
use countersign_core::redact::redact;
use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;

/// The most revisions that are kept.
const MOST: usize = 100;

/// The most bytes that they may take. The newest is kept whatever it takes.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Where the revisions are kept.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// `None` if the state is not in a directory.
    directory: Option<PathBuf>,
}

impl History {
    pub(super) fn of(gateway: &Gateway) -> Self {
        let directory = match &gateway.state {
            StateStore::Directory { path, .. } if gateway.continues_earlier_runs => {
                Some(path.join(history::DIRECTORY))
            }
            StateStore::Directory { .. }
            | StateStore::Kubernetes { .. }
            | StateStore::Vault { .. } => None,
        };
        Self { directory }
    }

    pub(super) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Keeps the texts of a revision that is in force from now on, unless it is the newest one already. A failure is
    /// logged: the gateway works without.
    pub(super) fn keep(&self, revision: &str, texts: &[ResourceText], now: Timestamp) {
        let Some(directory) = &self.directory else {
            return;
        };
        if let Err(error) = keep(directory, revision, texts, now) {
            tracing::warn!(
                %error,
                directory = %directory.display(),
                "the revision cannot be added to those that are kept; `countersign explain ID` will not know it"
            );
        }
    }
}

fn keep(
    directory: &Path,
    revision: &str,
    texts: &[ResourceText],
    now: Timestamp,
) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let newest = kept(directory)?.pop();
    if newest.is_some_and(|(head, _)| head.revision == revision) {
        return Ok(());
    }
    let (head, content) = KeptRevision::new(revision, now, texts, without_secrets).document();
    let mut file = tempfile::Builder::new()
        .prefix(".countersign-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    let mut compressed = GzEncoder::new(&mut file, Compression::default());
    compressed.write_all(&content)?;
    compressed.finish()?;
    file.as_file().sync_all()?;
    file.persist(directory.join(head.file_name()))
        .map_err(|error| error.error)?;
    File::open(directory)?.sync_all()?;
    forget_oldest(directory)
}

/// The revisions of a directory, the oldest first, with their sizes.
fn kept(directory: &Path) -> io::Result<Vec<(Head, u64)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let head = entry.file_name().to_str().and_then(Head::of_file);
        // It may be gone already.
        if let (Some(head), Ok(metadata)) = (head, entry.metadata()) {
            all.push((head, metadata.len()));
        }
    }
    all.sort();
    Ok(all)
}

fn forget_oldest(directory: &Path) -> io::Result<()> {
    let all = kept(directory)?;
    let mut bytes = 0;
    for (position, (head, size)) in all.iter().rev().enumerate() {
        bytes += size;
        if position == 0 || (position < MOST && bytes <= MOST_BYTES) {
            continue;
        }
        match fs::remove_file(directory.join(head.file_name())) {
            // Another gateway that shares the directory was first.
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Without what looks like a secret. The digest of an image looks like one, and is none.
fn without_secrets(text: &str) -> String {
    const DIGEST: &str = "sha256:";
    const LENGTH: usize = 64;
    let mut pieces = text.split(DIGEST);
    let mut clean = redact(pieces.next().unwrap_or_default()).into_owned();
    for piece in pieces {
        let digits = piece
            .bytes()
            .take(LENGTH)
            .take_while(u8::is_ascii_hexdigit)
            .count();
        let (digest, rest) = piece.split_at(digits);
        clean.push_str(DIGEST);
        clean.push_str(digest);
        clean.push_str(&redact(rest));
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    fn text(text: &str) -> Vec<ResourceText> {
        vec![ResourceText {
            path: "/policy/one.yaml".into(),
            text: text.to_owned(),
        }]
    }

    fn within(directory: &Path) -> History {
        History {
            directory: Some(directory.join("state/revisions")),
        }
    }

    fn revisions(history: &History) -> Vec<String> {
        let kept = kept(history.directory().unwrap()).unwrap();
        kept.into_iter().map(|(head, _)| head.revision).collect()
    }

    fn read(history: &History, position: usize) -> KeptRevision {
        let directory = history.directory().unwrap();
        let (head, _) = kept(directory).unwrap().swap_remove(position);
        let file = File::open(directory.join(head.file_name())).unwrap();
        let mut content = Vec::new();
        GzDecoder::new(file).read_to_end(&mut content).unwrap();
        KeptRevision::read(&head, &content).unwrap()
    }

    #[test]
    fn each_change_is_kept_once_in_its_order_and_privately() {
        let directory = tempfile::tempdir().unwrap();
        let history = within(directory.path());
        history.keep("a", &text("one"), at(0));
        // A restart with the same revision.
        history.keep("a", &text("one"), at(5));
        history.keep("b", &text("two"), at(10));
        history.keep("a", &text("one"), at(20));
        assert_eq!(revisions(&history), ["a", "b", "a"]);
        assert_eq!(read(&history, 1).files[0].text, "two");
        let path = history.directory().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path), 0o700);
        for entry in fs::read_dir(path).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
    }

    #[test]
    fn they_are_bounded_and_the_oldest_go_first() {
        let directory = tempfile::tempdir().unwrap();
        let history = within(directory.path());
        for number in 0..i64::try_from(MOST).unwrap() + 5 {
            history.keep(&number.to_string(), &text("text"), at(number));
        }
        let kept = revisions(&history);
        assert_eq!(kept.len(), MOST);
        assert_eq!(kept[0], "5");
    }

    #[test]
    fn a_secret_that_somebody_pasted_is_not_kept_and_digests_are() {
        let digest = "9f".repeat(32);
        let written =
            format!("images: [\"app@sha256:{digest}\"] # xoxb-1234567890-abcdef\n# {digest}\n");
        let clean = without_secrets(&written);
        assert_eq!(
            clean,
            format!("images: [\"app@sha256:{digest}\"] # [redacted]\n# [redacted]\n")
        );
        let directory = tempfile::tempdir().unwrap();
        let history = within(directory.path());
        history.keep("a", &text(&written), at(0));
        assert!(read(&history, 0).redacted);
    }

    #[test]
    fn a_directory_that_cannot_be_made_stops_nothing() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("state"), "a file").unwrap();
        within(directory.path()).keep("a", &text("one"), at(0));
    }
}
