//! A credential that is used as it is stored.

use std::time::Duration;

use countersign_config::model::SecretSource;

use super::{Asking, Fetched, Recheck};
use crate::credential::{CredentialError, Tools, source::Form};

/// The source is looked at again every second while it is used. After a pause the look comes
/// before the use, so that a value that was replaced or removed is never used more than two
/// seconds later.
pub(super) const RECHECK: Recheck = Recheck {
    due: Duration::from_secs(1),
    overdue: Duration::from_secs(2),
};

pub(super) async fn fetch(
    asking: &Asking<'_>,
    token: &SecretSource,
    tools: &Tools,
) -> Result<Fetched, CredentialError> {
    let material = tools
        .sources
        .read(asking.credential, token, Form::Token)
        .await?;
    Ok(Fetched {
        secret: material.secret,
        expires_at: material.expires_at,
        revocation: None,
        renew_at: None,
    })
}
