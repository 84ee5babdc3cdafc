//! C2SP `tlog-checkpoint`: how long a chain was at some time, and its root; signed as a note.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{
    note::{NoteError, SigningKey, VerifyingKey},
    tree::Hash,
};

/// The state of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which chain of which gateway: the key's name, a slash, and the chain.
    pub origin: String,
    /// How many lines it has.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Its note cannot be trusted.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Its text is not that of a checkpoint.
    #[error("this is no checkpoint")]
    Malformed,
}

impl Checkpoint {
    /// The text, without a signature.
    pub fn text(&self) -> String {
        let root = BASE64_STANDARD.encode(self.root);
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    /// The signed note.
    pub fn sign(&self, key: &SigningKey) -> String {
        key.sign(&self.text())
    }

    /// Reads a note, and verifies its signature.
    ///
    /// # Errors
    /// When it is not signed by this key, or no checkpoint.
    pub fn verify(note: &str, key: &VerifyingKey) -> Result<Self, CheckpointError> {
        let text = key.verify(note)?;
        let mut lines = text.lines();
        let mut line = || {
            lines
                .next()
                .filter(|line| !line.is_empty())
                .ok_or(CheckpointError::Malformed)
        };
        let (origin, size, root) = (line()?, line()?, line()?);
        let digits = size == "0"
            || (!size.starts_with('0') && size.bytes().all(|byte| byte.is_ascii_digit()));
        let size = size.parse().ok().filter(|_| digits);
        let root = BASE64_STANDARD
            .decode(root)
            .ok()
            .and_then(|root| root.try_into().ok());
        match (size, root) {
            (Some(size), Some(root)) => Ok(Self {
                origin: origin.to_owned(),
                size,
                root,
            }),
            _ => Err(CheckpointError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_and_no_changed_one_does() {
        let key = SigningKey::new("gateway", &SigningKey::generate().unwrap()).unwrap();
        let checkpoint = Checkpoint {
            origin: "gateway/0194f3c1".into(),
            size: 20_852_163,
            root: [7; 32],
        };
        let note = checkpoint.sign(&key);
        assert_eq!(
            Checkpoint::verify(&note, key.verifying_key()),
            Ok(checkpoint)
        );
        let longer = note.replace("20852163", "20852164");
        assert_eq!(
            Checkpoint::verify(&longer, key.verifying_key()),
            Err(CheckpointError::Note(NoteError::Forged))
        );
        for text in [
            "origin\n",
            "origin\n01\nAAAA\n",
            "origin\n1\nAAAA\n",
            "origin\n-1\nAAAA\n",
        ] {
            let note = key.sign(text);
            assert_eq!(
                Checkpoint::verify(&note, key.verifying_key()),
                Err(CheckpointError::Malformed),
                "{text}"
            );
        }
    }
}
