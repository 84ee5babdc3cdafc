//! Remembers under which root the gateway issues, to notice that one replaced another: a pod that still trusts
//! the one before must be told so, not that it trusts none.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use aws_lc_rs::digest;
use countersign_config::model::{Gateway, StateStore};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

/// Below the state directory.
const FILE: &str = "known-root.json";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KnownRoot {
    /// SHA-256 of the certificate, in hex.
    root: String,
    /// When it replaced another; `None` for the first.
    replaced_another_at: Option<Timestamp>,
}

/// When `root` replaced another, as far as is known here. Remembers it.
pub(super) fn replaced_another_at(
    gateway: &Gateway,
    root: &CertificateDer<'_>,
    now: Timestamp,
) -> Option<Timestamp> {
    let StateStore::Directory { path, .. } = &gateway.state else {
        return None;
    };
    if !gateway.continues_earlier_runs {
        return None;
    }
    remember(path, root, now).unwrap_or_else(|error| {
        tracing::warn!(%error, directory = %path.display(), "which root was used before is not known");
        None
    })
}

fn remember(
    directory: &Path,
    root: &CertificateDer<'_>,
    now: Timestamp,
) -> io::Result<Option<Timestamp>> {
    let file = directory.join(FILE);
    let known: Option<KnownRoot> = match fs::read(&file) {
        // A damaged file is as good as none.
        Ok(content) => serde_json::from_slice(&content).ok(),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let root = hex(digest::digest(&digest::SHA256, root).as_ref());
    let current = match known {
        Some(known) if known.root == root => return Ok(known.replaced_another_at),
        Some(_) => KnownRoot {
            root,
            replaced_another_at: Some(now),
        },
        None => KnownRoot {
            root,
            replaced_another_at: None,
        },
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut staged = tempfile::Builder::new()
        .prefix(".countersign-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    staged.write_all(&serde_json::to_vec(&current)?)?;
    staged.persist(&file).map_err(|error| error.error)?;
    Ok(current.replaced_another_at)
}

/// Bytes in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(hex, "{byte:02x}").expect("a string takes all");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_replaced_another_is_known_until_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let [first, second] = [&b"first"[..], b"second"].map(CertificateDer::from);
        let [early, late, later] = [1, 2, 3].map(|second| Timestamp::new(second, 0).unwrap());
        assert_eq!(remember(&state, &first, early).unwrap(), None);
        assert_eq!(remember(&state, &first, late).unwrap(), None);
        assert_eq!(remember(&state, &second, late).unwrap(), Some(late));
        assert_eq!(remember(&state, &second, later).unwrap(), Some(late));
        fs::write(state.join(FILE), "{").unwrap();
        assert_eq!(remember(&state, &first, later).unwrap(), None);
    }
}
