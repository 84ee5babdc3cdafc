//! How clear text is allowed where it would be an error.

use schemars::JsonSchema;
use serde::Deserialize;

/// Allows clear text beyond loopback.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Plaintext {
    /// Tokens may cross the network in clear text.
    Allowed,
}
