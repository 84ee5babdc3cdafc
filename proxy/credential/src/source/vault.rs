//! Vault and `OpenBao`: fields that somebody wrote (KV version 2), and secrets that an engine makes
//! for us, with a lease.

use std::sync::Arc;

use countersign_core::secret::Secret;
use jiff::SignedDuration;

use super::{Form, Material, Recheck, SourceError, Wanted, kubernetes::listed};
use crate::{
    Issued,
    vault::{Lease, Leased, Vault, VaultError},
};

/// Less than this is no more time: a lease has reached the longest life it may have.
const GAIN: SignedDuration = SignedDuration::from_secs(1);

/// What an engine made for us, and its lease.
#[derive(Debug)]
pub(crate) struct Made {
    secret: Secret,
    pub(crate) lease: Arc<Lease>,
}

/// One field of one secret.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) mount: &'a str,
    pub(super) path: &'a str,
    pub(super) key: &'a str,
}

impl Field<'_> {
    /// What is written there now.
    pub(super) async fn read(
        self,
        vault: &Arc<Vault>,
        wanted: Wanted<'_>,
    ) -> Result<Material, SourceError> {
        let secret = vault.read(self.mount, self.path).await;
        let secret = secret.map_err(SourceError::Vault)?;
        let keys = || listed(secret.fields.keys().map(String::as_str));
        let text = self.text(secret.text(self.key), keys, wanted.form)?;
        Ok(Material::looked_up(text, Recheck::VAULT))
    }

    /// What is held, prolonged; or else one that is made anew.
    ///
    /// A lease ends with the login that it was made in, whatever Vault says of it besides, and one
    /// that an API has rejected is none to keep.
    pub(super) async fn made(
        self,
        vault: &Arc<Vault>,
        wanted: Wanted<'_>,
    ) -> Result<Material, SourceError> {
        let prolonged = match wanted.held.and_then(Issued::made) {
            Some((held, Made { secret, lease }))
                if lease.renewable && lease.login == vault.login_number() =>
            {
                match vault.renew(lease).await {
                    Ok(lease) if gained(held, &lease) => Some((secret.clone(), lease)),
                    // It has ended, or there is no more time for it.
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
        // Without a lease it is looked at like what somebody wrote.
        let Some(lease) = lease.map(Arc::new) else {
            return Ok(Material::looked_up(secret, Recheck::VAULT));
        };
        Ok(Material {
            secret: secret.clone(),
            expires_at: Some(lease.expires_at),
            recheck: None,
            made: Some(Arc::new(Made { secret, lease })),
        })
    }

    async fn make(
        self,
        vault: &Arc<Vault>,
        form: Form,
    ) -> Result<(Secret, Option<Lease>), SourceError> {
        let made = vault.make(self.mount, self.path).await;
        let Leased { fields, lease } = made.map_err(SourceError::Vault)?;
        let keys = || listed(fields.keys().map(String::as_str));
        let text = fields.get(self.key).and_then(crate::vault::Field::text);
        match self.text(text, keys, form) {
            Ok(secret) => Ok((secret, lease)),
            Err(error) => {
                // It is of no use; nobody shall find it alive.
                if let Some(lease) = lease
                    && let Err(error) = vault.revoke(&lease).await
                {
                    tracing::warn!(%error, "a secret that Vault made in vain was not ended");
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

/// Whether a renewal has brought more time.
fn gained(held: &Issued, lease: &Lease) -> bool {
    held.expires_at()
        .is_none_or(|end| lease.expires_at > end + GAIN)
}
