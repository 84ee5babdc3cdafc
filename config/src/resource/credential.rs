//! `Credential`: with what.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::or_default;

/// Where secret material lives and how it becomes a credential. Exactly one of the providers
/// (`static`, `basic`, `slackRotation`, `oauth2ClientCredentials`, `tokenExchange`, `jwt`) is
/// given.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialSpec {
    /// The `TargetService` it is for.
    pub target: String,
    /// A token that is used as it is stored.
    #[serde(rename = "static")]
    pub static_token: Option<StaticSpec>,
    /// A user's name and password.
    pub basic: Option<BasicSpec>,
    /// Slack's token rotation.
    pub slack_rotation: Option<SlackRotationSpec>,
    /// An access token for the gateway itself (RFC 6749, section 4.4).
    #[serde(rename = "oauth2ClientCredentials")]
    pub client_credentials: Option<ClientCredentialsSpec>,
    /// The pod's own token, exchanged (RFC 8693).
    pub token_exchange: Option<TokenExchangeSpec>,
    /// A token that the gateway mints and signs.
    pub jwt: Option<JwtSpec>,
    /// The namespaces whose policies may use it; its own only unless given.
    pub allowed_namespaces: Option<Vec<String>>,
    /// The day by which a person must have replaced it: `2027-03-31`.
    pub rotate_by: Option<String>,
    /// The longest time one obtained value may be used, whatever its issuer says: `12h`.
    pub max_age: Option<String>,
    /// After this time without use it is dropped; `10m` unless given.
    pub idle_after: Option<String>,
    /// That its issuer is told when it is dropped, so that it ends there too.
    #[serde(default, deserialize_with = "or_default")]
    pub revoke_when_idle: bool,
}

/// A token that is used as it is stored.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticSpec {
    /// Where the token lives.
    pub token: SecretReference,
}

/// A user's name and password.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicSpec {
    /// The user's name.
    pub username: String,
    /// Where the password lives.
    pub password: SecretReference,
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
    pub refresh_token: Option<SecretReference>,
    /// Instead: where a long-lived token lives, which is exchanged for a rotating pair, once.
    pub long_lived_token: Option<SecretReference>,
}

/// An access token for the gateway itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientCredentialsSpec {
    /// The token endpoint.
    pub token_url: String,
    /// Where a token is revoked (RFC 7009).
    pub revoke_url: Option<String>,
    /// PEM roots to trust for both instead of those of `upstream.roots`.
    pub ca_file: Option<String>,
    /// As whom the endpoint is asked.
    pub client: OauthClientSpec,
    /// The scopes to ask for.
    #[serde(default, deserialize_with = "or_default")]
    pub scopes: Vec<String>,
    /// The `audience` to ask for.
    pub audience: Option<String>,
}

/// The pod's own token, exchanged.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenExchangeSpec {
    /// The token endpoint.
    pub token_url: String,
    /// Where a token is revoked (RFC 7009).
    pub revoke_url: Option<String>,
    /// PEM roots to trust for both instead of those of `upstream.roots`.
    pub ca_file: Option<String>,
    /// As whom the endpoint is asked; the pod's token alone unless given.
    pub client: Option<OauthClientSpec>,
    /// The scopes to ask for.
    #[serde(default, deserialize_with = "or_default")]
    pub scopes: Vec<String>,
    /// The logical name of the service it is for.
    pub audience: Option<String>,
    /// The URI of the service it is for.
    pub resource: Option<String>,
}

/// As whom a token endpoint is asked: `id`, and `secret` or `key`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OauthClientSpec {
    /// The client id; public.
    pub id: String,
    /// Where the client secret lives.
    pub secret: Option<SecretReference>,
    /// How the secret is sent; `basic` unless given.
    pub secret_by: Option<SecretBySpec>,
    /// The key of `private_key_jwt`.
    pub key: Option<SigningKeySpec>,
}

/// How a client secret is sent.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SecretBySpec {
    /// As HTTP Basic (`client_secret_basic`).
    Basic,
    /// In the form (`client_secret_post`).
    Post,
}

/// What a JWT is signed with.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigningKeySpec {
    /// Where the PEM private key lives.
    pub private_key: SecretReference,
    /// The `kid` header.
    pub key_id: Option<String>,
    /// The `alg` header: `RS256` unless given.
    pub algorithm: Option<SigningAlgorithmSpec>,
}

/// The algorithms a JWT can be signed with.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub enum SigningAlgorithmSpec {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSASSA-PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// A token that the gateway mints and signs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtSpec {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
    /// From `iat` to `exp`: 1 hour at most, `10m` unless given.
    pub lifetime: Option<String>,
    /// Further claims.
    #[serde(default, deserialize_with = "or_default")]
    pub claims: BTreeMap<String, serde_json::Value>,
    /// What it is signed with.
    pub key: SigningKeySpec,
    /// Hand it in for an access token (RFC 7523, section 2.1).
    pub grant: Option<JwtGrantSpec>,
    /// Hand it in for a GitHub App's installation token.
    pub installation: Option<InstallationSpec>,
}

/// Where a minted JWT is handed in for an access token.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtGrantSpec {
    /// The token endpoint.
    pub token_url: String,
    /// Where a token is revoked (RFC 7009).
    pub revoke_url: Option<String>,
    /// PEM roots to trust for both instead of those of `upstream.roots`.
    pub ca_file: Option<String>,
    /// The scopes to ask for.
    #[serde(default, deserialize_with = "or_default")]
    pub scopes: Vec<String>,
}

/// Where a minted JWT is handed in for a GitHub App's installation token.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstallationSpec {
    /// Such as `https://api.github.com/app/installations/1/access_tokens`.
    pub url: String,
    /// PEM roots to trust for it instead of those of `upstream.roots`.
    pub ca_file: Option<String>,
}

/// Where a secret lives; never the secret itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum SecretReference {
    /// A file, read again when it changes.
    File(String),
    /// A key of a Kubernetes Secret in the resource's namespace.
    KubernetesSecret(KubernetesSecretKey),
    /// A field of a secret in Vault or `OpenBao`.
    Vault(VaultKey),
    /// What an operator's helper prints.
    Exec(ExecSpec),
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

/// A field of a secret in Vault or `OpenBao`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultKey {
    /// The secrets engine's mount; `secret` unless given.
    pub mount: Option<String>,
    /// The secret's path beneath the mount.
    pub path: String,
    /// The field within it.
    pub key: String,
    /// What kind of engine it is; `kv2` unless given.
    pub engine: Option<VaultEngineSpec>,
}

/// A secrets engine.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum VaultEngineSpec {
    /// Key and value, version 2.
    Kv2,
    /// One that makes a secret for us with a lease, such as `database`.
    Dynamic,
}

/// What an operator's helper prints.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecSpec {
    /// The program, by its absolute path, and its arguments.
    pub command: Vec<String>,
    /// The time it may take; `10s` unless given.
    pub timeout: Option<String>,
}
