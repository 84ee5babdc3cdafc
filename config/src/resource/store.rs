//! Where a gateway keeps rotated secret material, and the Vault that it reads from.

use schemars::JsonSchema;
use serde::Deserialize;

/// Where rotated secret material is kept: exactly one of `directory`, `kubernetes`, `vault`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateSpec {
    /// Files in a directory.
    pub directory: Option<String>,
    /// With `directory`: the file with the key that encrypts them, 32 bytes in base64.
    pub key_file: Option<String>,
    /// Secrets in a namespace.
    pub kubernetes: Option<KubernetesStateSpec>,
    /// KV v2 in Vault or `OpenBao`.
    pub vault: Option<VaultStateSpec>,
}

/// Secrets in a namespace.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesStateSpec {
    /// The namespace.
    pub namespace: String,
}

/// KV v2 in Vault or `OpenBao`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultStateSpec {
    /// The secrets engine's mount.
    pub mount: String,
    /// The path beneath it.
    pub path: String,
}

/// A Vault or `OpenBao` server.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VaultSpec {
    /// Its base URL: `https`, or `http` on loopback.
    pub address: String,
    /// PEM roots for its certificates instead of the system's.
    pub ca_file: Option<String>,
    /// The value of `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// How the gateway authenticates.
    pub auth: VaultAuthSpec,
}

/// How a gateway authenticates to Vault.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum VaultAuthSpec {
    /// By its own service-account token (the `kubernetes` and `jwt` methods).
    Kubernetes(VaultKubernetesSpec),
    /// By a Vault token in a file, read again when it changes.
    TokenFile(String),
}

/// By the gateway's own service-account token.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VaultKubernetesSpec {
    /// The role to ask for.
    pub role: String,
    /// Where the method is mounted. Default: `kubernetes`.
    pub mount: Option<String>,
    /// The token's file. Default: the pod's own service-account token.
    pub token_file: Option<String>,
}
