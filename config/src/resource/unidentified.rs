//! `limits.unidentified`.

use schemars::JsonSchema;
use serde::Deserialize;

/// The bounds of unidentified client connections; see [`crate::model::Unidentified`].
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnidentifiedSpec {
    /// Open at one listener.
    pub connections: Option<u64>,
    /// Of these, from one address, or from one /64 of IPv6.
    pub per_source: Option<u64>,
    /// The idle time without a request, at most a minute.
    pub rest: Option<String>,
}
