//! The root, which clients trust for ten years. It signs intermediates only.

use std::path::{Path, PathBuf};

use countersign_pki::{CaKey, NewRoot, ParsedRoot, Validity};
use jiff::Timestamp;
use rcgen::Issuer;
use rustls_pki_types::CertificateDer;

use super::{CaError, store};

/// What the common name of a root begins with.
const NAME: &str = "Countersign root";

/// The root's certificate, and where its key lies.
pub(super) struct Root {
    path: PathBuf,
    certificate: CertificateDer<'static>,
    validity: Validity,
}

impl Root {
    /// The root in `directory`, made now if there is none.
    pub(super) fn load_or_create(directory: &Path, now: Timestamp) -> Result<Self, CaError> {
        let path = directory.join(store::ROOT_FILE);
        if store::read_private(&path)?.is_none() {
            // Another process may have made it first; read what is there.
            let root = NewRoot::generate(NAME, now)?;
            store::create(&path, root.to_pem().as_bytes())?;
        }
        Self::load(directory, now)
    }

    /// The root in `directory`.
    pub(super) fn load(directory: &Path, now: Timestamp) -> Result<Self, CaError> {
        store::check_directory(directory)?;
        let path = directory.join(store::ROOT_FILE);
        let ParsedRoot {
            certificate,
            validity,
            ..
        } = read(&path)?;
        if !validity.covers(now) {
            return Err(CaError::Expired {
                path,
                not_before: validity.not_before,
                not_after: validity.not_after,
            });
        }
        Ok(Self {
            path,
            certificate,
            validity,
        })
    }

    /// The certificate, DER.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The file with its certificate and key.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its validity.
    pub(super) fn validity(&self) -> Validity {
        self.validity
    }

    /// An issuer, with the key read from its file; drop it soon.
    pub(super) fn issuer(&self) -> Result<Issuer<'static, CaKey>, CaError> {
        let ParsedRoot {
            certificate, key, ..
        } = read(&self.path)?;
        if certificate != self.certificate {
            return Err(CaError::RootChanged(self.path.clone()));
        }
        Ok(Issuer::from_ca_cert_der(&certificate, key)?)
    }
}

fn read(path: &Path) -> Result<ParsedRoot, CaError> {
    let contents = store::read_private(path)?.ok_or_else(|| CaError::Missing(path.to_owned()))?;
    ParsedRoot::of_pem(&contents).map_err(|reason| CaError::Damaged {
        path: path.to_owned(),
        reason,
    })
}
