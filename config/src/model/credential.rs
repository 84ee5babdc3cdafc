//! With what: where secret material lives and how it becomes a credential.

use std::{path::PathBuf, time::Duration};

use jiff::civil::Date;

use super::ResourceName;

/// Secret material and how it becomes what is put on a request. Holds no secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// `namespace/name`.
    pub name: ResourceName,
    /// The target it is for; it is never sent anywhere else.
    pub target: ResourceName,
    /// How it is obtained.
    pub provider: Provider,
    /// The namespaces whose policies may use it; never empty.
    pub allowed_namespaces: Vec<String>,
    /// The day by which a person must have replaced it.
    pub rotate_by: Option<Date>,
    /// The longest time one obtained value may be used, whatever its issuer says.
    pub max_age: Option<Duration>,
}

/// How a credential is obtained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// Used as it is stored.
    Static {
        /// Where the token lives.
        token: SecretSource,
    },
    /// Slack's token rotation (`oauth.v2.access`).
    SlackRotation {
        /// The app's client id; public.
        client_id: String,
        /// Where the app's client secret lives.
        client_secret: SecretSource,
        /// Where the first refresh token lives; later ones are kept in the state store.
        refresh_token: SecretSource,
    },
}

impl Provider {
    /// The provider's key in YAML.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Static { .. } => "static",
            Self::SlackRotation { .. } => "slackRotation",
        }
    }
}

/// Where a secret lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file, read again when it changes.
    File(PathBuf),
    /// A key of a Kubernetes Secret in the credential's namespace.
    KubernetesSecret {
        /// The Secret's name.
        name: String,
        /// The key within it.
        key: String,
    },
    /// A field of a KV v2 secret in Vault or `OpenBao`.
    Vault {
        /// The secret's path.
        path: String,
        /// The field within it.
        key: String,
    },
}
