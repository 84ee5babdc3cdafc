//! That one line was in the log: a proof for somebody who has neither the log nor the gateway.

use countersign_audit::{Checkpoint, Hash, Proof, ProofError, VerifyingKey, inclusion_path, leaf};

use super::{AuditError, Checkpoints, Sealed};

/// A line, and the proof that it was logged.
#[derive(Debug, Clone)]
pub struct Proven {
    /// The line, as it was written.
    pub line: String,
    /// The proof, as a C2SP `tlog-proof`.
    pub proof: String,
}

/// Proves that the record of an id was logged.
///
/// # Errors
/// When no line has the id, or the lines around it are not those that were signed.
pub fn prove(
    id: &str,
    files: &[Sealed],
    checkpoints: &Checkpoints,
    key: &VerifyingKey,
) -> Result<Proven, AuditError> {
    let wanted = find(id, files)?;
    let unproven = |why: &str| AuditError::Unproven(why.to_owned());
    let (integrity, _) = countersign_audit::read(wanted.as_bytes())
        .map_err(|error| AuditError::Unproven(format!("the record cannot be proven: {error}")))?;
    let note = checkpoints
        .of(&integrity.chain)
        .ok_or_else(|| unproven("no checkpoint is for the chain of this record"))?;
    let checkpoint =
        Checkpoint::verify(note, key).map_err(|error| AuditError::Unproven(error.to_string()))?;
    if integrity.sequence >= checkpoint.size {
        return Err(unproven(
            "the record is newer than the last checkpoint; wait for the next one",
        ));
    }
    let mut leaves: Vec<Hash> = Vec::new();
    for file in files {
        file.each(|_, line| {
            if let Ok((other, hash)) = countersign_audit::read(line)
                && other.chain == integrity.chain
                && other.sequence == leaves.len() as u64
                && other.sequence < checkpoint.size
            {
                leaves.push(hash);
            }
        })?;
    }
    let complete = leaves.len() as u64 == checkpoint.size;
    let path = inclusion_path(&leaves, integrity.sequence).filter(|_| complete);
    let path = path.ok_or_else(|| {
        unproven("lines of its chain are missing or changed; `countersign audit verify` says which")
    })?;
    let proof = Proof {
        index: integrity.sequence,
        path,
        checkpoint: note.to_owned(),
    };
    check(&wanted, &proof.text(), key).map_err(|error| AuditError::Unproven(error.to_string()))?;
    Ok(Proven {
        line: wanted,
        proof: proof.text(),
    })
}

/// Checks a line and its proof, with nothing else.
///
/// # Errors
/// When it proves nothing.
pub fn check(line: &str, proof: &str, key: &VerifyingKey) -> Result<Checkpoint, ProofError> {
    let leaf = leaf(line.trim_end().as_bytes()).map_err(|_| ProofError::Mismatch)?;
    Proof::read(proof)?.verify(leaf, key)
}

fn find(id: &str, files: &[Sealed]) -> Result<String, AuditError> {
    let wanted = format!("\"id\":\"{id}\"");
    let mut found = None;
    for file in files {
        file.each(|_, line| {
            if found.is_none() && memchr::memmem::find(line, wanted.as_bytes()).is_some() {
                found = Some(String::from_utf8_lossy(line).into_owned());
            }
        })?;
    }
    found.ok_or_else(|| AuditError::NoSuchId(id.to_owned()))
}
