//! C2SP `tlog-proof`: that one line was in the log, for somebody who has neither the log nor a network.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    note::VerifyingKey,
    tree::{Hash, root_from_path},
};

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// The most hashes: a tree of 2^63 leaves has no longer path.
const LONGEST: usize = 63;

/// A proof, with the signed checkpoint that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The place of the line in its chain.
    pub index: u64,
    /// The hashes from the leaf to the root.
    pub path: Vec<Hash>,
    /// The signed checkpoint.
    pub checkpoint: String,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It is not in the format.
    #[error("this is no proof (c2sp.org/tlog-proof@v1)")]
    Malformed,
    /// Its checkpoint cannot be trusted.
    #[error("its checkpoint cannot be used: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The line does not lead to the checkpoint's root.
    #[error("the line is not the one that was logged there")]
    Mismatch,
}

impl Proof {
    /// The text.
    pub fn text(&self) -> String {
        let mut text = format!("{HEADER}\nindex {}\n", self.index);
        for hash in &self.path {
            text.push_str(&BASE64_STANDARD.encode(hash));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads the text.
    ///
    /// # Errors
    /// When it has another form.
    pub fn read(text: &str) -> Result<Self, ProofError> {
        let (proof, checkpoint) = text.split_once("\n\n").ok_or(ProofError::Malformed)?;
        let mut lines = proof.lines();
        if lines.next() != Some(HEADER) {
            return Err(ProofError::Malformed);
        }
        let mut next = lines.next();
        // What an application adds means nothing here.
        if next.is_some_and(|line| line.starts_with("extra ")) {
            next = lines.next();
        }
        let index = next.and_then(|line| line.strip_prefix("index ")?.parse().ok());
        let index = index.ok_or(ProofError::Malformed)?;
        let mut path = Vec::new();
        for line in lines {
            let hash = BASE64_STANDARD
                .decode(line)
                .map_err(|_| ProofError::Malformed)?;
            path.push(hash.try_into().map_err(|_| ProofError::Malformed)?);
        }
        if path.len() > LONGEST {
            return Err(ProofError::Malformed);
        }
        Ok(Self {
            index,
            path,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// Checks that a leaf is where the proof says, in a tree that the key has signed.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(&self, leaf: Hash, key: &VerifyingKey) -> Result<Checkpoint, ProofError> {
        let checkpoint = Checkpoint::verify(&self.checkpoint, key)?;
        let root = root_from_path(leaf, self.index, checkpoint.size, &self.path);
        if root == Some(checkpoint.root) {
            Ok(checkpoint)
        } else {
            Err(ProofError::Mismatch)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Frontier, SigningKey, inclusion_path, leaf_hash};

    #[test]
    fn a_line_is_proven_and_a_changed_one_is_not() {
        let key = SigningKey::new("gateway", &SigningKey::generate().unwrap()).unwrap();
        let leaves: Vec<_> = (0..11_u8).map(|number| leaf_hash(&[number])).collect();
        let mut frontier = Frontier::default();
        for leaf in &leaves {
            frontier.push(*leaf);
        }
        let checkpoint = Checkpoint {
            origin: "gateway/x".into(),
            size: 11,
            root: frontier.root(),
        };
        let proof = Proof {
            index: 6,
            path: inclusion_path(&leaves, 6).unwrap(),
            checkpoint: checkpoint.sign(&key),
        };
        let read = Proof::read(&proof.text()).unwrap();
        assert_eq!(read, proof);
        assert_eq!(read.verify(leaves[6], key.verifying_key()), Ok(checkpoint));
        assert_eq!(
            read.verify(leaves[7], key.verifying_key()),
            Err(ProofError::Mismatch)
        );
        let elsewhere = Proof {
            index: 7,
            ..proof.clone()
        };
        assert_eq!(
            elsewhere.verify(leaves[6], key.verifying_key()),
            Err(ProofError::Mismatch)
        );
        let with_more = proof.text().replacen("index", "extra YQ==\nindex", 1);
        assert_eq!(Proof::read(&with_more), Ok(proof));
        for text in [
            "",
            "c2sp.org/tlog-proof@v1\n\n",
            "c2sp.org/tlog-proof@v1\nindex x\n\nnote",
            "other\nindex 1\n\nnote",
        ] {
            assert_eq!(Proof::read(text), Err(ProofError::Malformed), "{text}");
        }
    }
}
