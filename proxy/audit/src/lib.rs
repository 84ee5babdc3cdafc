//! What makes a decision log tamper-evident. The gateway's log seals each line; whoever reads the log checks it.
//!
//! Each line gets an `integrity`: the chain it belongs to, its sequence number there, the fingerprint of the line
//! before it, and its own. A fingerprint is the SHA-256 of the line as canonical JSON (RFC 8785) without it. The
//! lines of a chain are also the leaves of a Merkle tree (RFC 6962), whose root is signed from time to time in a
//! checkpoint (C2SP `tlog-checkpoint`, a `signed-note`). So a line that was changed, removed, added or moved is
//! found, and one line can be proven to have been in the log without showing the others (C2SP `tlog-proof`).
//!
//! The same records as events of OCSF, with attestations of their own, are in [`ocsf`].
//!
//! Pure: no files, no clock.

mod checkpoint;
mod jcs;
mod note;
pub mod ocsf;
mod proof;
mod seal;
mod tree;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use jcs::{NotCanonical, canonical};
pub use note::{KeyError, NoteError, SigningKey, VerifyingKey};
pub use proof::{Proof, ProofError};
pub use seal::{Chain, Integrity, SealError, claimed, leaf, read};
pub use tree::{Frontier, Hash, inclusion_path, leaf_hash, root_from_path};

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String does not fail");
            text
        })
}
