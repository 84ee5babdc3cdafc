//! Vault and `OpenBao`: static fields (KV version 2), and dynamic secrets, which an engine makes for us
//! with a lease.

use std::sync::Arc;

use countersign_core::secret::Secret;
use jiff::SignedDuration;

use super::{Form, Material, Recheck, SourceError, SourceRequest, kubernetes::listed};
use crate::{
    Issued,
    vault::{Lease, Leased, Vault, VaultError},
};

/// A smaller gain means that the lease has reached its longest lifetime.
const GAIN: SignedDuration = SignedDuration::from_secs(1);

/// A dynamic secret, and its lease.
#[derive(Debug)]
pub(crate) struct DynamicSecret {
    secret: Secret,
    pub(crate) lease: Arc<Lease>,
}

/// One field of one secret.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldRef<'a> {
    pub(super) mount: &'a str,
    pub(super) path: &'a str,
    pub(super) key: &'a str,
}

impl FieldRef<'_> {
    /// Reads the current version.
    pub(super) async fn read(
        self,
        vault: &Arc<Vault>,
        wanted: SourceRequest<'_>,
    ) -> Result<Material, SourceError> {
        let secret = vault.read(self.mount, self.path).await;
        let secret = secret.map_err(SourceError::Vault)?;
        let keys = || listed(secret.fields.keys().map(String::as_str));
        let text = self.text(secret.text(self.key), keys, wanted.form)?;
        Ok(Material::looked_up(text, Recheck::VAULT))
    }

    /// The current dynamic secret with a renewed lease; otherwise a new one.
    ///
    /// A lease ends with the login that made it, whatever Vault reports, and one whose secret an API has
    /// rejected is not renewed.
    pub(super) async fn dynamic_secret(
        self,
        vault: &Arc<Vault>,
        wanted: SourceRequest<'_>,
    ) -> Result<Material, SourceError> {
        let prolonged = match wanted.held.and_then(Issued::dynamic_secret) {
            Some((held, DynamicSecret { secret, lease }))
                if lease.renewable && lease.login == vault.login_number() =>
            {
                match vault.renew(lease).await {
                    Ok(lease) if gained(held, &lease) => Some((secret.clone(), lease)),
                    // It has ended, or cannot be extended.
                    Ok(_) | Err(VaultError::NoLease) => None,
                    Err(error) => return Err(SourceError::Vault(error)),
                }
            }
            Some(_) | None => None,
        };
        let (secret, lease) = match prolonged {
            Some((secret, lease)) => (secret, Some(lease)),
            None => self.make(vault, wanted.form).await?,
        };
        // Without a lease it is read again like a static field.
        let Some(lease) = lease.map(Arc::new) else {
            return Ok(Material::looked_up(secret, Recheck::VAULT));
        };
        Ok(Material {
            secret: secret.clone(),
            expires_at: Some(lease.expires_at),
            recheck: None,
            dynamic_secret: Some(Arc::new(DynamicSecret { secret, lease })),
        })
    }

    async fn make(
        self,
        vault: &Arc<Vault>,
        form: Form,
    ) -> Result<(Secret, Option<Lease>), SourceError> {
        let dynamic_secret = vault.make(self.mount, self.path).await;
        let Leased { fields, lease } = dynamic_secret.map_err(SourceError::Vault)?;
        let keys = || listed(fields.keys().map(String::as_str));
        let text = fields.get(self.key).and_then(crate::vault::Field::text);
        match self.text(text, keys, form) {
            Ok(secret) => Ok((secret, lease)),
            Err(error) => {
                // It is of no use; no one else should find it valid.
                if let Some(lease) = lease
                    && let Err(error) = vault.revoke(&lease).await
                {
                    tracing::warn!(%error, "an unused dynamic secret of Vault was not revoked");
                }
                Err(error)
            }
        }
    }

    fn text(
        self,
        text: Option<&Secret>,
        fields: impl FnOnce() -> Arc<str>,
        form: Form,
    ) -> Result<Secret, SourceError> {
        let Self { mount, path, key } = self;
        let Some(text) = text else {
            return Err(SourceError::NoField {
                mount: mount.into(),
                path: path.into(),
                key: key.into(),
                fields: fields(),
            });
        };
        form.of(text.expose().as_bytes(), || {
            format!("the field `{key}` of {path:?} in Vault at {mount:?}")
        })
    }
}

/// Whether a renewal has extended the lease.
fn gained(held: &Issued, lease: &Lease) -> bool {
    held.expires_at()
        .is_none_or(|end| lease.expires_at > end + GAIN)
}
