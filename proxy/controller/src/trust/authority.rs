//! The two authorities, and how they are kept in one Secret.
//!
//! The interception root signs gateways' intermediates: apps trust it. The gateways' root signs the gateways' serving
//! certificates and the webhook's: relays and the API server trust it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use countersign_pki::{CaKey, NewRoot, ParsedRoot, Validity, fingerprint, pem};
use jiff::Timestamp;
use rcgen::Issuer;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use super::{
    TrustError,
    names::{AuthorityName, ROOTS_SECRET},
    rotation::Position,
    secret::{KeySecret, Value},
};

/// A root that can sign.
#[derive(Clone)]
pub(super) struct Root {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) validity: Validity,
    pub(super) issuer: Arc<Issuer<'static, CaKey>>,
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

impl Root {
    /// Makes one.
    pub(super) fn generate(name: AuthorityName, now: Timestamp) -> Result<Self, TrustError> {
        let root = NewRoot::generate(name.common_name(), now)?;
        Self::of_pem(&[root.to_pem().as_bytes()])
            .map_err(|reason| TrustError::Internal(reason.to_owned()))
    }

    /// Certificate and key, in one text or in several.
    pub(super) fn of_pem(parts: &[&[u8]]) -> Result<Self, &'static str> {
        let mut whole = zeroize::Zeroizing::new(Vec::with_capacity(64 * 1024));
        for part in parts {
            whole.extend_from_slice(part);
            whole.push(b'\n');
        }
        let ParsedRoot {
            certificate,
            validity,
            key,
        } = ParsedRoot::of_pem(&whole)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|_| "its certificate cannot be an issuer's")?;
        Ok(Self {
            certificate,
            validity,
            issuer: Arc::new(issuer),
        })
    }

    pub(super) fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }
}

/// A root in force, and those that are trusted beside it while it is rotated.
#[derive(Debug, Clone)]
pub(super) struct Authority {
    /// What signs.
    pub(super) current: Root,
    /// What will sign: distributed already, or about to be.
    pub(super) next: Option<Root>,
    /// What signed before, and is still trusted.
    pub(super) previous: Vec<CertificateDer<'static>>,
    /// How far its rotation is.
    pub(super) position: Position,
    /// Whether the controller goes on by itself.
    pub(super) automatic: bool,
    /// When the root that signs replaced another.
    pub(super) replaced_another_at: Option<Timestamp>,
}

impl Authority {
    pub(super) fn new(current: Root) -> Self {
        Self {
            current,
            next: None,
            previous: Vec::new(),
            position: Position::Steady,
            automatic: false,
            replaced_another_at: None,
        }
    }

    /// All roots that clients must trust now.
    pub(super) fn trusted(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(&self.current.certificate)
            .chain(self.next.iter().map(|next| &next.certificate))
            .chain(&self.previous)
    }

    /// The same, PEM.
    pub(super) fn trusted_pem(&self) -> String {
        self.trusted().map(|root| pem(root)).collect()
    }
}

/// Both authorities, and the Secret that they were read from.
#[derive(Debug, Clone)]
pub(super) struct Authorities {
    pub(super) interception: Authority,
    pub(super) gateways: Authority,
}

/// What is kept beside the roots: no secret, but it must change together with them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    position: Position,
    automatic: bool,
    #[serde(default)]
    replaced_another_at: Option<Timestamp>,
}

impl Authorities {
    pub(super) fn get(&self, name: AuthorityName) -> &Authority {
        match name {
            AuthorityName::Interception => &self.interception,
            AuthorityName::Gateways => &self.gateways,
        }
    }

    pub(super) fn get_mut(&mut self, name: AuthorityName) -> &mut Authority {
        match name {
            AuthorityName::Interception => &mut self.interception,
            AuthorityName::Gateways => &mut self.gateways,
        }
    }

    /// Reads both from their Secret.
    pub(super) fn of_secret(secret: &KeySecret, now: Timestamp) -> Result<Self, TrustError> {
        Ok(Self {
            interception: read(secret, AuthorityName::Interception, now)?,
            gateways: read(secret, AuthorityName::Gateways, now)?,
        })
    }

    /// The content of their Secret.
    pub(super) fn to_data(&self) -> BTreeMap<String, Value> {
        let mut data = BTreeMap::new();
        for name in AuthorityName::ALL {
            let authority = self.get(name);
            let mut put = |what: &str, value: &str| {
                data.insert(format!("{name}{what}"), Value::from(value));
            };
            let roots = [
                ("", Some(&authority.current)),
                (".next", authority.next.as_ref()),
            ];
            for (suffix, root) in roots {
                if let Some(root) = root {
                    put(&format!("{suffix}.crt"), &pem(&root.certificate));
                    put(&format!("{suffix}.key"), &root.issuer.key().to_pem());
                }
            }
            if !authority.previous.is_empty() {
                let previous: String = authority.previous.iter().map(|root| pem(root)).collect();
                put(".previous.crt", &previous);
            }
            let kept = Kept {
                position: authority.position,
                automatic: authority.automatic,
                replaced_another_at: authority.replaced_another_at,
            };
            put(
                ".rotation.json",
                &serde_json::to_string(&kept).unwrap_or_default(),
            );
        }
        data
    }
}

fn read(secret: &KeySecret, name: AuthorityName, now: Timestamp) -> Result<Authority, TrustError> {
    let broken = |key: String, reason: &str| TrustError::Broken {
        secret: ROOTS_SECRET.to_owned(),
        key,
        reason: reason.to_owned(),
    };
    let root = |suffix: &str| -> Result<Option<Root>, TrustError> {
        let [certificate, key] = ["crt", "key"].map(|what| format!("{name}{suffix}.{what}"));
        match (secret.get(&certificate), secret.get(&key)) {
            (None, None) => Ok(None),
            (Some(crt), Some(pem)) => Root::of_pem(&[crt, pem])
                .map(Some)
                .map_err(|reason| broken(certificate, reason)),
            (None, Some(_)) => Err(broken(certificate, "it is missing, and its key is there")),
            (Some(_), None) => Err(broken(key, "it is missing, and its certificate is there")),
        }
    };
    let current = root("")?.ok_or_else(|| broken(format!("{name}.crt"), "it is missing"))?;
    if !current.validity.covers(now) {
        let Validity {
            not_before,
            not_after,
        } = current.validity;
        return Err(TrustError::NotValid {
            secret: ROOTS_SECRET.to_owned(),
            key: format!("{name}.crt"),
            not_before,
            not_after,
        });
    }
    let previous = secret.get(&format!("{name}.previous.crt"));
    let previous = CertificateDer::pem_slice_iter(previous.unwrap_or_default()).collect();
    let previous: Vec<_> = Result::map_err(previous, |_: rustls_pki_types::pem::Error| {
        broken(format!("{name}.previous.crt"), "it is no PEM")
    })?;
    let key = format!("{name}.rotation.json");
    let kept: Kept = match secret.get(&key) {
        None => Kept::default(),
        Some(text) => serde_json::from_slice(text).map_err(|_| broken(key, "it cannot be read"))?,
    };
    Ok(Authority {
        current,
        next: root(".next")?,
        previous,
        position: kept.position,
        automatic: kept.automatic,
        replaced_another_at: kept.replaced_another_at,
    })
}
