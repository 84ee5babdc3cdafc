//! How to revoke a value at its issuer.

use std::sync::Arc;

use crate::vault::Lease;

/// How to revoke a value at its issuer. Contains no secret.
#[derive(Debug, Clone)]
pub(super) enum Revocation {
    /// At the token endpoint's revocation URL (RFC 7009), as the client that requested it.
    Oauth,
    /// By Slack's `auth.revoke`, after removing it from the state store.
    Slack,
    /// At the Vault that made it.
    Lease(Arc<Lease>),
}
