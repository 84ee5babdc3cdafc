//! Who calls: tokens, certificates, and how long a proof stands.

pub(crate) mod issuers;
pub(crate) mod mtls;
mod token_life;
pub(crate) mod tokens;
mod withdrawn_keys;
