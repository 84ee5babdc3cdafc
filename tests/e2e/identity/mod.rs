//! Who calls: tokens, certificates, and how long a proof stands.

mod api_server;
mod issuers;
pub(crate) mod mtls;
mod named;
mod own_token;
mod token_life;
pub(crate) mod tokens;
pub(crate) mod told_inside;
mod withdrawn_keys;
