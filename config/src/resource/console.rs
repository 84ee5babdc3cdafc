//! How the console at the admin endpoint is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::plaintext::Plaintext;

/// The console: pages at the admin endpoint, under `/console`, for people. Read-only.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsoleSpec {
    /// Whether there is a console. Default: `true`, for this machine alone.
    pub enabled: Option<bool>,
    /// A file with the token that whoever opens the console must have, at least 20 characters; read again for each login.
    /// Default: none is asked for.
    pub token_file: Option<String>,
    /// Names under which the console may be called from elsewhere. Needs `tokenFile` and `plaintext`. Default: none, so
    /// that it is shown to this machine alone, and through `kubectl port-forward`.
    pub hosts: Option<Vec<String>>,
    /// `allowed`: the admin endpoint has no TLS, and you know that token and pages reach it in clear. Only with `hosts`.
    pub plaintext: Option<Plaintext>,
}
