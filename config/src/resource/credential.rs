//! `Credential`: with what.

use schemars::JsonSchema;
use serde::Deserialize;

/// Where secret material lives and how it becomes a credential. Exactly one of the providers
/// (`static`, `slackRotation`) is given.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialSpec {
    /// The `TargetService` it is for.
    pub target: String,
    /// A token that is used as it is stored.
    #[serde(rename = "static")]
    pub static_token: Option<StaticSpec>,
    /// Slack's token rotation.
    pub slack_rotation: Option<SlackRotationSpec>,
    /// The namespaces whose policies may use it; its own only unless given.
    pub allowed_namespaces: Option<Vec<String>>,
    /// The day by which a person must have replaced it: `2027-03-31`.
    pub rotate_by: Option<String>,
    /// The longest time one obtained value may be used, whatever its issuer says: `12h`.
    pub max_age: Option<String>,
}

/// A token that is used as it is stored.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticSpec {
    /// Where the token lives.
    pub token: SecretReference,
}

/// Slack's token rotation.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlackRotationSpec {
    /// The app's client id; public.
    pub client_id: String,
    /// Where the app's client secret lives.
    pub client_secret: SecretReference,
    /// Where the first refresh token lives; later ones are kept in the state store.
    pub refresh_token: SecretReference,
}

/// Where a secret lives; never the secret itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum SecretReference {
    /// A file, read again when it changes.
    File(String),
    /// A key of a Kubernetes Secret in the resource's namespace.
    KubernetesSecret(KubernetesSecretKey),
    /// A field of a KV v2 secret in Vault or `OpenBao`.
    Vault(VaultKey),
}

/// A key of a Kubernetes Secret.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSecretKey {
    /// The Secret's name.
    pub name: String,
    /// The key within it.
    pub key: String,
}

/// A field of a KV v2 secret.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultKey {
    /// The secret's path.
    pub path: String,
    /// The field within it.
    pub key: String,
}
