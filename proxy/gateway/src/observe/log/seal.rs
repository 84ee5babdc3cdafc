//! Tamper evidence: each line is sealed as part of a chain, and the chains' roots are signed from time to time.
//!
//! All of it happens on the log's own thread, with lines that are finished. Each class of records has a chain of its
//! own, because it may have a file of its own. A process begins new chains: what the last one wrote after its last
//! checkpoint is unknown to the next.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use countersign_audit::{Chain, Checkpoint, SigningKey};
use countersign_config::model::Audit;
use countersign_core::metrics::Class;
use tempfile::NamedTempFile;
use tokio::time::Instant;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The secret that signs, PKCS#8.
const KEY: &str = "audit.key";

/// The key that verifies, for everybody.
const PUBLIC: &str = "audit.pub";

/// Seals lines, and signs what was written.
#[derive(Debug)]
pub(super) struct Sealer {
    key: SigningKey,
    directory: PathBuf,
    every: Duration,
    identified: Sealed,
    unidentified: Sealed,
    signed: Instant,
}

/// The chain of a class, and how much of it is signed.
#[derive(Debug)]
struct Sealed {
    class: Class,
    chain: Chain,
    signed: u64,
}

impl Sealer {
    /// Opens the directory, and makes a key at the first start.
    pub(super) fn open(audit: &Audit, gateway: &str) -> io::Result<Self> {
        let directory = audit.directory.clone();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        let pkcs8 = key(&directory)?;
        let key = SigningKey::new(gateway, &pkcs8).map_err(io::Error::other)?;
        write(
            &directory,
            PUBLIC,
            format!("{}\n", key.verifying_key().encode()).as_bytes(),
            0o644,
        )?;
        let begin = |class: Class| {
            let previous = match fs::read_to_string(directory.join(last(class))) {
                Ok(previous) => Some(previous.trim().to_owned()),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            Ok(Sealed {
                class,
                chain: Chain::new(Uuid::now_v7().to_string(), previous),
                signed: 0,
            })
        };
        Ok(Self {
            identified: begin(Class::Identified)?,
            unidentified: begin(Class::Unidentified)?,
            key,
            every: audit.checkpoint_every,
            signed: Instant::now(),
            directory,
        })
    }

    /// The lines, sealed; and the chain as it was, for [`Self::take_back`].
    pub(super) fn seal(&mut self, class: Class, lines: &[u8]) -> (Vec<u8>, Chain) {
        let before = self.of(class).chain.clone();
        // An `integrity` has some 300 bytes, and a record of a kilobyte is common.
        let mut sealed = Vec::with_capacity(lines.len() + lines.len() / 2);
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            if let Err(error) = self.of(class).chain.seal(line, &mut sealed) {
                // Better a line that is not sealed than none; whoever verifies is told.
                tracing::error!(%error, "a line of the decision log cannot be sealed");
                sealed.extend_from_slice(line);
                sealed.push(b'\n');
            }
        }
        (sealed, before)
    }

    /// What was sealed last could not be written.
    pub(super) fn take_back(&mut self, class: Class, before: Chain) {
        self.of(class).chain = before;
    }

    /// Whether a checkpoint is due.
    pub(super) fn is_due(&self) -> bool {
        self.signed.elapsed() >= self.every
    }

    /// Signs the chains that have grown.
    pub(super) fn sign(&mut self) -> io::Result<()> {
        self.signed = Instant::now();
        for sealed in [&mut self.identified, &mut self.unidentified] {
            let tree = sealed.chain.tree();
            if tree.size() == sealed.signed {
                continue;
            }
            let name = sealed.chain.name();
            let checkpoint = Checkpoint {
                origin: format!("{}/{name}", self.key.verifying_key().name()),
                size: tree.size(),
                root: tree.root(),
            };
            let note = checkpoint.sign(&self.key);
            write(
                &self.directory,
                &format!("{name}.checkpoint"),
                note.as_bytes(),
                0o644,
            )?;
            let fingerprint = sealed.chain.last().unwrap_or_default();
            write(
                &self.directory,
                &last(sealed.class),
                fingerprint.as_bytes(),
                0o644,
            )?;
            sealed.signed = checkpoint.size;
        }
        Ok(())
    }

    fn of(&mut self, class: Class) -> &mut Sealed {
        match class {
            Class::Identified => &mut self.identified,
            Class::Unidentified => &mut self.unidentified,
        }
    }
}

/// The file with the last fingerprint of a class that was signed.
fn last(class: Class) -> String {
    format!("{}.last", class.name())
}

/// The key of the directory, which is made if there is none.
fn key(directory: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let path = directory.join(KEY);
    match fs::read(&path) {
        Ok(key) => return Ok(Zeroizing::new(key)),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key = Zeroizing::new(SigningKey::generate().map_err(io::Error::other)?);
    match written(directory, &key, 0o600)?.persist_noclobber(&path) {
        Ok(_) => {
            File::open(directory)?.sync_all()?;
            Ok(key)
        }
        // Another gateway that started at the same moment has made it.
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
            fs::read(&path).map(Zeroizing::new)
        }
        Err(error) => Err(error.error),
    }
}

/// Replaces a file, whole or not at all.
fn write(directory: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
    written(directory, content, mode)?
        .persist(directory.join(name))
        .map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// A file without a name yet, whose content is on disk.
fn written(directory: &Path, content: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(".countersign-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use countersign_audit::{VerifyingKey, read};

    use super::*;

    fn audit(directory: &Path) -> Audit {
        Audit {
            directory: directory.to_owned(),
            checkpoint_every: Duration::from_mins(1),
        }
    }

    fn lines(sealed: &[u8]) -> Vec<countersign_audit::Integrity> {
        let lines = sealed
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines.map(|line| read(line).unwrap().0).collect()
    }

    /// Lines that one of them signed would not be proven by the key that the other wrote.
    #[test]
    fn gateways_that_start_at_the_same_moment_have_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let begin = std::sync::Barrier::new(8);
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        begin.wait();
                        key(directory.path()).unwrap()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(fs::read(directory.path().join(KEY)).unwrap(), *keys[0]);
        let mode = fs::metadata(directory.path().join(KEY))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_is_signed_and_the_next_process_follows_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut sealer = Sealer::open(&audit(directory.path()), "gateway").unwrap();
        let (sealed, _) = sealer.seal(Class::Identified, b"{\"a\":1}\n{\"a\":2}\n");
        let first = lines(&sealed);
        assert_eq!((first[0].sequence, first[1].sequence), (0, 1));
        // What could not be written leaves no gap.
        let (_, before) = sealer.seal(Class::Identified, b"{\"lost\":1}\n");
        sealer.take_back(Class::Identified, before);
        let (other, _) = sealer.seal(Class::Unidentified, b"{\"b\":1}\n");
        assert_ne!(lines(&other)[0].chain, first[0].chain);
        assert!(!sealer.is_due());
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(sealer.is_due());
        sealer.sign().unwrap();
        assert!(!sealer.is_due());

        let path = |name: &str| directory.path().join(name);
        let key = VerifyingKey::decode(&fs::read_to_string(path(PUBLIC)).unwrap()).unwrap();
        let note = fs::read_to_string(path(&format!("{}.checkpoint", first[0].chain))).unwrap();
        let checkpoint = Checkpoint::verify(&note, &key).unwrap();
        assert_eq!(checkpoint.size, 2);
        assert_eq!(checkpoint.origin, format!("gateway/{}", first[0].chain));
        let mode = fs::metadata(path(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let mut next = Sealer::open(&audit(directory.path()), "gateway").unwrap();
        assert_eq!(next.key.verifying_key(), &key, "the key stays");
        let (sealed, _) = next.seal(Class::Identified, b"{\"a\":3}\n");
        let next = lines(&sealed);
        assert_eq!(next[0].previous.as_ref(), Some(&first[1].fingerprint));
        assert!(
            next[0].chain > first[0].chain,
            "later chains have later names"
        );
    }
}
