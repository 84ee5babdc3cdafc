//! A credential that is used as it is stored.

use std::time::Duration;

use countersign_config::model::SecretSource;

use super::{Fetched, Recheck};
use crate::credential::{CredentialError, source};

/// The source is looked at again every second while it is used. After a pause the look comes
/// before the use, so that a value that was replaced or removed is never used more than two
/// seconds later.
pub(super) const RECHECK: Recheck = Recheck {
    due: Duration::from_secs(1),
    overdue: Duration::from_secs(2),
};

pub(super) async fn fetch(token: &SecretSource) -> Result<Fetched, CredentialError> {
    Ok(Fetched {
        secret: source::read(token).await?,
        expires_at: None,
    })
}
